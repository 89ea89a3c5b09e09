//! flametree-notify turns session events into notifications. It stores each event, fans it out to endpoints, attempts each
//! delivery once, and records the outcome.

// Domain types and rules.
pub mod domain;

// Used by all modules.
pub mod secrets;

pub mod telemetry;

pub mod tls;

// Long-lived tasks.
pub mod supervision;

// All SQL.
pub mod store;

// The HTTP client for the operator's URLs.
pub mod operator_client;

// Sends one message to one endpoint.
pub mod channels;

// The modules that process an event: accept it, queue its deliveries, attempt them.
pub mod queue;

pub mod ingest;

pub mod worker;

// The HTTP API, the portal and the portal's users.
pub mod users;

pub mod portal;

pub mod http;

// The embedded database.
pub mod postgres;

// Settings and composition.
pub mod config;

pub mod app;

// Properties of all parsers of external input.
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
