//! Acceptance of events for callers inside the process.

use crate::domain::event::NewEvent;
pub use crate::store::accept::Acceptance;
use crate::store::{Db, accept};

/// Why events were not accepted; none of them was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IngestError {
    /// As many events as may wait are waiting.
    #[error("too many events are waiting")]
    Overloaded,
    /// The database did not answer; whether the events were accepted is not known.
    #[error("the database did not answer")]
    Unavailable,
}

/// The way in for events.
#[derive(Debug, Clone)]
pub struct Ingest {
    db: Db,
}

impl Ingest {
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// Accepts `events` all together, in their order; answers in the same order.
    pub async fn accept(&self, events: Vec<NewEvent>) -> Result<Vec<Acceptance>, IngestError> {
        let events: Vec<&NewEvent> = events.iter().collect();
        match accept::accept(&self.db, &events, 86_400).await {
            Ok(accepted) => Ok(accepted.into_iter().map(|accepted| accepted.result).collect()),
            Err(error) => {
                tracing::warn!(%error, "events were not accepted");
                Err(IngestError::Unavailable)
            }
        }
    }
}
