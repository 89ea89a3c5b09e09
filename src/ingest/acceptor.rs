//! Accepts the events of several callers in one transaction.

use std::sync::Arc;
use std::time::Duration;

use super::job::Job;
use super::shared::Shared;
use crate::domain::event::NewEvent;
use crate::queue::Wakeup;
use crate::store::accept::{self, Acceptance};
use crate::store::{Db, with_timeout};

/// The database, the notifier and the queue that committers and retriers use. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Acceptor {
    db: Db,
    wakeup: Wakeup,
    default_expiry_seconds: u32,
    pub(super) shared: Arc<Shared>,
}

impl Acceptor {
    pub(super) fn new(db: &Db, default_expiry: Duration, wakeup: &Wakeup, shared: &Arc<Shared>) -> Self {
        let default_expiry_seconds = u32::try_from(default_expiry.as_secs()).unwrap_or(u32::MAX);
        Self { db: db.clone(), wakeup: wakeup.clone(), default_expiry_seconds, shared: Arc::clone(shared) }
    }

    /// Accepts the events of all jobs in one transaction, and notifies the claimers.
    pub(super) async fn accept<'a>(
        &self,
        jobs: impl Iterator<Item = &'a Job>,
        lock_timeout: Duration,
    ) -> Result<Vec<Acceptance>, sqlx::Error> {
        let events: Vec<&NewEvent> = jobs.flat_map(Job::events).collect();
        let accepting = accept::accept(&self.db, &events, self.default_expiry_seconds, lock_timeout);
        let accepted = with_timeout(accepting).await?;
        self.wakeup.ready(&accepted.ready);
        Ok(accepted.answers)
    }
}

/// True if the database refused the statement. Smaller groups might then succeed.
pub(super) fn is_about_the_events(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some()
}
