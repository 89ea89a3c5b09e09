//! flametree-notify turns session events into notifications: each is stored, fanned out, attempted once, and recorded.

pub mod domain;
pub mod http;
pub mod ingest;
pub mod store;
pub mod telemetry;
