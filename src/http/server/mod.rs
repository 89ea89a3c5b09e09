//! Connections, limits of requests, health, request ids and traces.

pub(crate) mod bounded_writes;
pub(crate) mod client_address;
pub(crate) mod docs;
pub(crate) mod edge;
pub(crate) mod health;
pub(crate) mod request_id;
pub(crate) mod request_trace;
pub(crate) mod serve;
pub(crate) mod shares;
