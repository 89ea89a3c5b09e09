//! Who the caller is, what the caller may do, and how often.

pub mod access;
pub(crate) mod authorized;
pub(crate) mod caller;
pub(crate) mod own_origin;
pub(crate) mod tenant_rates;
pub(crate) mod throttle;
pub(crate) mod token_cache;
