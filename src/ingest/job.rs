//! The waiting events of one caller, and the channel for their answer.

use tokio::sync::oneshot;

use super::IngestError;
use crate::domain::event::NewEvent;
use crate::domain::names::TenantId;
use crate::store::accept::Acceptance;

/// The answer to a caller.
pub(super) type Answer = Result<Vec<Acceptance>, IngestError>;

/// The events of one caller. Dropping it answers [`IngestError::Unavailable`].
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

    /// The tenant in whose turn the job comes: the first event's, where a caller for all tenants mixes them.
    pub(super) fn tenant(&self) -> &TenantId {
        &self.events[0].tenant_id
    }

    pub(super) fn answer(self, answer: Answer) {
        // A caller that has gone away does not undo what is accepted.
        drop(self.answer.send(answer));
    }
}

/// The tenants of these events in runs: each with the number of its events that follow each other.
pub(super) fn by_tenant(events: &[NewEvent]) -> impl Iterator<Item = (&TenantId, usize)> + Clone {
    runs(events).map(|run| (&run[0].tenant_id, run.len()))
}

/// Events of one tenant that follow each other.
pub(super) fn runs(events: &[NewEvent]) -> impl Iterator<Item = &[NewEvent]> + Clone {
    events.chunk_by(|one, next| one.tenant_id == next.tenant_id)
}
