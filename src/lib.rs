//! flametree-notify turns session events into notifications: each is stored, fanned out, attempted once, and recorded.

// The words and rules.
pub mod domain;

// What everybody may use.
pub mod telemetry;

// SQL, and nowhere else.
pub mod store;

// One message to one endpoint.
pub mod channels;

// The way of an event: accepted, queued, attempted.
pub mod queue;

pub mod ingest;

pub mod worker;

// The embedded default: a private server.
pub mod postgres;

// The settings, for the composition root alone.
pub mod config;
