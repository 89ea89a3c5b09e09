//! The only module with SQL: one file per table, and `queue` for the protocol of the queue. Converts rows to domain types.
//!
//! A function that takes `&Db` uses its own transactions. A function that takes `&mut Tx` runs in the caller's transaction.

pub mod accept;
pub mod agents;
pub mod clocks;
pub mod connection;
pub mod deliveries;
pub mod endpoint_tests;
pub mod events;
mod failure;
pub mod operation_log;
pub mod operations;
pub mod partitions;
mod pool;
pub mod pruning;
pub mod push_config_history;
pub mod push_configs;
pub mod push_pauses;
pub mod push_registration;
pub mod push_renewal;
pub mod push_subscriptions;
pub mod queue;
pub mod replays;
pub mod rotation;
pub mod schema;
mod sealed;
pub mod server_settings;
pub mod signing_secrets;
pub mod stats;
pub mod stream_tickets;
pub mod tokens;
pub mod webhooks;
pub mod workspace;

use std::str::FromStr;

pub use connection::with_timeout;
pub use failure::{FailureKind, failure_kind, is_of_what_is_stored, sqlstate};
pub use pool::{Connection, Db, Tx};
pub use sealed::SealedError;

/// SQLSTATE of a statement that did not get a lock in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// SQLSTATE of a canceled statement.
const QUERY_CANCELED: &str = "57014";

/// True if the database refused a statement with this SQLSTATE.
fn has_code(error: &sqlx::Error, code: &str) -> bool {
    sqlstate(error).is_some_and(|found| found == code)
}

/// Parses a stored name of a closed set. `problem` describes an unknown name, such as "a delivery has the unknown channel".
fn known<T: FromStr>(name: &str, problem: &str) -> Result<T, sqlx::Error> {
    name.parse().map_err(|_unknown| sqlx::Error::Decode(format!("{problem} {name}").into()))
}
