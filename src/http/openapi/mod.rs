//! The OpenAPI document.

pub(crate) mod document;
pub(crate) mod examples;
pub(crate) mod objects;
pub(crate) mod parameter_docs;
pub(crate) mod refusals;
pub(crate) mod schemas;
