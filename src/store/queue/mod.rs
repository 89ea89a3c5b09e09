//! The protocol of the queue. Each function calls one database function of `migrations/functions/queue_*.sql`, in one
//! transaction.

pub mod claim;
mod claim_row;
pub mod finish;
pub mod hints;
pub mod lanes;
pub mod lease;
pub mod reap;
pub mod workers;
