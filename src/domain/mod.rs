//! Domain types and their rules.
//!
//! Contains only values and pure functions: no HTTP framework, database, queue or runtime, and no clock. Functions that need
//! the time take `now`.

pub(crate) mod closed_set;
pub mod delivery;
pub mod delivery_record;
pub mod endpoint;
pub mod event;
pub mod fault;
pub mod ids;
pub mod names;
pub mod operation;
pub mod page;
#[cfg(any(test, fuzzing))]
pub mod properties;
pub mod push_config;
pub mod push_endpoint;
pub mod push_hosts;
pub mod push_subscription;
pub mod random_secret;
pub mod replay;
pub mod role;
pub mod schedule;
pub mod secret_text;
pub mod stats;
pub mod stream_ticket;
pub mod timestamp;
pub mod token;
pub mod trace;
pub mod webhook_url;
pub mod workspace;
