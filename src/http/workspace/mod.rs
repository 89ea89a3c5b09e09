//! The operator workspaces that the streams of this process show.
//!
//! One task per process (`hub.rs`) reads changes from the database for all streams. Each stream sends the latest view and occupies
//! one of a limited number of slots (`stream_slots.rs`).

pub(crate) mod documents;
pub(crate) mod hub;
pub(crate) mod stream_slots;

use std::time::Duration;

use self::hub::Hub;
use self::stream_slots::StreamSlots;
use crate::domain::event::NewEvent;
use crate::domain::names::TenantId;
use crate::store::Db;
use crate::supervision::Stage;
use crate::telemetry::metrics::{Metrics, TaskName};

/// The limits of streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Maximum number of streams of this process. A tenant may open a stream while it has fewer streams than are free,
    /// so it has at most half of all streams.
    pub max_streams: usize,
    /// Maximum number of streams of one caller in this process.
    pub max_streams_per_caller: usize,
    /// Maximum time between two messages of a stream.
    pub heartbeat: Duration,
    /// Poll interval while there are streams. A stream shows changes by other processes with at most this delay.
    pub poll_every: Duration,
    /// How long an unused ticket stays valid.
    pub ticket_life: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_streams: 10_000,
            max_streams_per_caller: 100,
            heartbeat: Duration::from_secs(20),
            poll_every: Duration::from_millis(200),
            ticket_life: Duration::from_mins(1),
        }
    }
}

/// State that the streams of this process share.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    pub(crate) hub: Hub,
    pub(crate) slots: StreamSlots,
}

impl Workspace {
    /// Starts the tasks that watch workspaces and streams until the process stops.
    pub(crate) fn start(db: &Db, metrics: &Metrics, settings: &Settings, stage: &Stage) -> Self {
        let hub = Hub::new(db.clone());
        let slots = StreamSlots::new(settings, metrics.clone(), stage.stop.clone());
        stage.spawn(TaskName::WorkspaceHub, |stop| hub.clone().run(settings.poll_every, stop));
        stage.spawn(TaskName::StreamSlots, |stop| slots.clone().keep(db.clone(), stop));
        Self { hub, slots }
    }

    /// Notifies the streams of this process that the process has accepted events of these tenants.
    pub(crate) fn moved(&self, tenants: &[TenantId]) {
        for tenant in tenants {
            self.hub.changed(tenant);
        }
    }
}

/// The tenants whose workspace these events may change, without duplicates.
pub(crate) fn concerned(events: &[NewEvent]) -> Vec<TenantId> {
    let mut tenants = Vec::new();
    for event in events.iter().filter(|event| event.event_type.moves_session()) {
        if !tenants.contains(&event.tenant_id) {
            tenants.push(event.tenant_id.clone());
        }
    }
    tenants
}
