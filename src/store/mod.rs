//! The only place for SQL: a file per table, and the queue's protocol in `queue`. Rows become domain types here.
//!
//! `&Db` means that the function stands alone; `&mut Tx` means that it is atomic with what the caller does.

pub mod accept;
pub mod queue;

/// A pool of connections.
pub type Db = sqlx::PgPool;
/// A transaction of a caller.
pub type Tx = sqlx::Transaction<'static, sqlx::Postgres>;

/// The schema's versions, compiled in.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();
