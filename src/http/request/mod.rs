//! Reads bodies, parameters and headers, and reports what is wrong with them.

pub(crate) mod body;
pub(crate) mod parameters;
pub(crate) mod path;
pub(crate) mod preconditions;
pub(crate) mod problem;
