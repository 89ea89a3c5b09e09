//! Reads bodies, parameters and headers, and reports what is wrong with them.

pub(crate) mod body;
pub(crate) mod fields;
pub(crate) mod merge_patch;
pub(crate) mod parameters;
pub(crate) mod path;
pub(crate) mod preconditions;
pub(crate) mod problem;
pub(crate) mod request_body;
pub(crate) mod values;
