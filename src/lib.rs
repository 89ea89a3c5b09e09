//! flametree-notify turns session events into notifications: each is stored, fanned out, attempted once, and recorded.

// The words and rules.
pub mod domain;

// What everybody may use.
pub mod secrets;

pub mod telemetry;

pub mod tls;

// Every long-lived task.
pub mod supervision;

// SQL, and nowhere else.
pub mod store;

// Whom the operator names.
pub mod operator_client;

// One message to one endpoint.
pub mod channels;

// The way of an event: accepted, queued, attempted.
pub mod queue;

pub mod ingest;

pub mod worker;

// What users and services ask.
pub mod users;

// What they see.
pub mod portal;

pub mod http;

// The database that needs no administrator.
pub mod postgres;

// The settings, and everything put together.
pub mod config;

pub mod app;

// What must hold of every parser, whatever it is given.
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
