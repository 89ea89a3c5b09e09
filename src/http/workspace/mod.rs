//! The operator workspace of a tenant: its current contents, and a stream of changes.
//!
//! One task per process (`hub.rs`) reads changes from the database for all streams. Each stream (`stream.rs`) sends the latest
//! view and occupies one of a limited number of slots (`stream_slots.rs`).

mod documents;
mod hub;
mod stream;
mod stream_slots;
mod tickets;

use std::time::Duration;

use axum::Json;
use axum::extract::State;

use self::documents::ActiveConversationsDocument;
use self::hub::Hub;
use self::stream_slots::StreamSlots;
use super::auth::Caller;
use super::parameters::NoParameters;
use super::problem::Problem;
use super::state::{ApiState, Dependencies};
use crate::domain::event::NewEvent;
use crate::domain::names::TenantId;
use crate::http::parameter_docs::OfTenant;
use crate::store::workspace;
use crate::telemetry::metrics::TaskName;

pub(super) use self::stream::{__path_stream, stream};
pub(super) use self::tickets::{__path_create_ticket, TICKET_PARAMETER, create_ticket};

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
pub(super) struct Workspace {
    hub: Hub,
    slots: StreamSlots,
}

impl Workspace {
    /// Starts the tasks that watch workspaces and streams until the process stops.
    pub(super) fn start(dependencies: &Dependencies) -> Self {
        let Dependencies { db, metrics, settings, stage, .. } = dependencies;
        let hub = Hub::new(db.clone());
        let slots = StreamSlots::new(&settings.workspace, metrics.clone(), stage.stop.clone());
        stage.spawn(TaskName::WorkspaceHub, |stop| hub.clone().run(settings.workspace.poll_every, stop));
        stage.spawn(TaskName::StreamSlots, |stop| slots.clone().keep(db.clone(), stop));
        Self { hub, slots }
    }

    /// Notifies the streams of this process that the process has accepted events of these tenants.
    pub(super) fn moved(&self, tenants: &[TenantId]) {
        for tenant in tenants {
            self.hub.changed(tenant);
        }
    }
}

/// The tenants whose workspace these events may change, without duplicates.
pub(super) fn concerned(events: &[NewEvent]) -> Vec<TenantId> {
    let mut tenants = Vec::new();
    for event in events.iter().filter(|event| event.event_type.moves_session()) {
        if !tenants.contains(&event.tenant_id) {
            tenants.push(event.tenant_id.clone());
        }
    }
    tenants
}

/// Returns the conversations that wait for an operator or that an operator handles: their number and the latest 100.
#[utoipa::path(
    get,
    path = "/v1/workspace/active-conversations",
    operation_id = "list_active_conversations",
    tag = "Operator workspace",
    params(OfTenant),
    responses(
        (status = 200, description = "The workspace", body = ActiveConversationsDocument),
    ),
)]
pub(super) async fn active_conversations(
    State(state): State<ApiState>,
    caller: Caller,
    _: NoParameters,
) -> Result<Json<ActiveConversationsDocument>, Problem> {
    let active = workspace::active_of(&state.db, caller.own_tenant()?).await?;
    Ok(Json(active.into()))
}
