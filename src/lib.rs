//! flametree-notify turns session events into notifications: each is stored, fanned out, attempted once, and recorded.

pub mod channels;
pub mod config;
pub mod domain;
pub mod http;
pub mod ingest;
pub mod queue;
pub mod secrets;
pub mod store;
pub mod telemetry;
pub mod worker;
