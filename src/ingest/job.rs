//! The waiting events of one caller, and the channel for its response.

use tokio::sync::oneshot;

use super::IngestError;
use crate::domain::event::NewEvent;
use crate::domain::names::TenantId;
use crate::store::accept::Acceptance;

/// The response to a caller.
pub(super) type Answer = Result<Vec<Acceptance>, IngestError>;

/// The events of one caller. A dropped job responds with [`IngestError::Unavailable`].
#[derive(Debug)]
pub(super) struct Job {
    events: Vec<NewEvent>,
    answer: oneshot::Sender<Answer>,
}

impl Job {
    /// `events` must not be empty.
    pub(super) fn new(events: Vec<NewEvent>) -> (Self, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        (Self { events, answer }, answered)
    }

    pub(super) fn events(&self) -> &[NewEvent] {
        &self.events
    }

    /// The tenant of the first event. The round-robin counts the whole job for this tenant.
    pub(super) fn tenant(&self) -> &TenantId {
        &self.events[0].tenant_id
    }

    pub(super) fn answer(self, answer: Answer) {
        // If the caller has disconnected, its events stay accepted.
        drop(self.answer.send(answer));
    }
}

/// For each run of consecutive events of one tenant, the tenant and the number of events.
pub(super) fn by_tenant(events: &[NewEvent]) -> impl Iterator<Item = (&TenantId, usize)> + Clone {
    runs(events).map(|run| (&run[0].tenant_id, run.len()))
}

/// Splits events into runs of consecutive events of one tenant.
pub(super) fn runs(events: &[NewEvent]) -> impl Iterator<Item = &[NewEvent]> + Clone {
    events.chunk_by(|one, next| one.tenant_id == next.tenant_id)
}
