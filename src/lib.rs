//! flametree-notify turns session events into notifications: each is stored, fanned out, attempted once, and recorded.

pub mod channels;
pub mod config;
pub mod domain;
pub mod ingest;
pub mod postgres;
pub mod queue;
pub mod store;
pub mod telemetry;
pub mod worker;
