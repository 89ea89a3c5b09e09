//! The only place for SQL: a file per table, and the queue's protocol in `queue`. Rows become domain types here.
//!
//! `&Db` means that the function stands alone; `&mut Tx` means that it is atomic with what the caller does.

pub mod accept;
pub mod agents;
pub mod connection;
pub mod deliveries;
pub mod endpoint_tests;
pub mod events;
mod failure;
pub mod operation_log;
pub mod operations;
pub mod partitions;
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

pub use connection::with_timeout;
pub use failure::{FailureKind, failure_kind, is_of_what_is_stored, sqlstate};
pub use sealed::SealedError;

/// A pool of connections.
pub type Db = sqlx::PgPool;
/// A transaction of a caller.
pub type Tx = sqlx::Transaction<'static, sqlx::Postgres>;

/// SQLSTATE of a statement that has waited for a lock for as long as it may.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Whether the database refused a statement with this SQLSTATE.
fn has_code(error: &sqlx::Error, code: &str) -> bool {
    sqlstate(error).is_some_and(|found| found == code)
}
