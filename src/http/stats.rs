//! Statistics of an agent's deliveries.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::now;
use super::parameter_docs::{OfAgent, OfTenant};
use super::parameters::Parameters;
use super::problem::Problem;
use super::push_configs::AgentPath;
use super::state::ApiState;
use crate::domain::delivery::Outcome;
use crate::domain::endpoint::Channel;
use crate::domain::fault::FaultCode;
use crate::domain::stats::{RELATIVE_ERROR, Range, attempts, quantile_ms};
use crate::store::stats;

/// What became of an agent's deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StatsView {
    agent_id: String,
    /// The first minute.
    from: DateTime<Utc>,
    /// The end of the last minute.
    to: DateTime<Utc>,
    /// Finished deliveries.
    total: u64,
    /// Finished deliveries by outcome; every outcome is there.
    outcomes: BTreeMap<&'static str, u64>,
    duration_ms: DurationView,
}

/// How long attempts took; null where nothing was sent.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DurationView {
    /// Deliveries of which something was sent.
    attempts: u64,
    p50: Option<f64>,
    p95: Option<f64>,
    /// The most that p50 and p95 may be wrong, as a part of themselves.
    #[schema(example = 0.045)]
    relative_error: f64,
}

/// Counts by outcome and durations of the deliveries of events that were accepted from `from` to `to`, to the minute.
/// What has no outcome yet is not in it.
#[utoipa::path(
    get,
    path = "/v1/agents/{agent_id}/stats",
    operation_id = "get_agent_stats",
    tag = "Deliveries",
    params(
        OfAgent,
        ("from" = Option<DateTime<Utc>>, Query, description = "Without it, a day before `to`."),
        ("to" = Option<DateTime<Utc>>, Query, description = "Without it, now."),
        ("channel" = Option<Channel>, Query, description = "Without it, all channels."),
        OfTenant,
    ),
    responses(
        (status = 200, description = "The statistics", body = StatsView),
    ),
)]
pub(super) async fn read(
    State(state): State<ApiState>,
    caller: Caller,
    AgentPath(agent): AgentPath,
    mut parameters: Parameters,
) -> Result<Json<StatsView>, Problem> {
    let to = parameters.time("to").unwrap_or_else(now);
    let from = parameters.time("from").unwrap_or(to - TimeDelta::days(1));
    let channel = parameters.one_of("channel", Channel::ALL, Channel::as_str);
    let range = Range::new(from, to);
    if range.is_none() {
        parameters.fault("to", FaultCode::InvalidValue, "must be after from");
    }
    parameters.finish()?;
    // Without a range there was a fault.
    let range = range.ok_or_else(|| Problem::invalid(Vec::new()))?;
    let counts = stats::read(&state.db, caller.own_tenant()?, &agent, range, channel).await?;
    let mut outcomes: BTreeMap<_, _> = Outcome::ALL.map(|outcome| (outcome.as_str(), 0)).into();
    for count in &counts {
        *outcomes.entry(count.outcome.as_str()).or_default() += count.deliveries;
    }
    Ok(Json(StatsView {
        agent_id: agent.as_str().to_owned(),
        from: range.from(),
        to: range.to(),
        total: outcomes.values().sum(),
        outcomes,
        duration_ms: DurationView {
            attempts: attempts(&counts),
            p50: quantile_ms(&counts, 0.5),
            p95: quantile_ms(&counts, 0.95),
            relative_error: RELATIVE_ERROR,
        },
    }))
}
