//! flametree-notify turns session events into notifications: each is stored, fanned out, attempted once, and recorded.

pub mod domain;
pub mod secrets;
pub mod telemetry;

pub mod store;

pub mod channels;
pub mod http;
pub mod ingest;
