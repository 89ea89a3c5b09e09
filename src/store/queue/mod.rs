//! The queue's protocol: each function is one call of a database function of `migrations/functions/queue_*.sql`, one transaction.

pub mod claim;
mod claim_row;
pub mod finish;
pub mod hints;
pub mod lanes;
pub mod lease;
pub mod reap;
pub mod workers;
