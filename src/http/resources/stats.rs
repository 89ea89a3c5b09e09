//! Statistics of an agent's deliveries.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::delivery::Outcome;
use crate::domain::endpoint::Channel;
use crate::domain::fault::FaultCode;
use crate::domain::role::permissions::ReadDeliveries;
use crate::domain::stats::{RELATIVE_ERROR, Range, attempts, quantile_ms};
use crate::http::auth::authorized::Authorized;
use crate::http::clock::now;
use crate::http::openapi::parameter_docs::{OfAgent, OfTenant};
use crate::http::request::parameters::Parameters;
use crate::http::request::path::AgentPath;
use crate::http::request::problem::Problem;
use crate::http::state::ApiState;
use crate::store::stats;

/// Statistics of an agent's deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatsView {
    agent_id: String,
    /// The start of the first minute that is counted.
    from: DateTime<Utc>,
    /// The end of the last minute that is counted.
    to: DateTime<Utc>,
    /// Finished deliveries.
    total: u64,
    /// The number of finished deliveries by outcome, including outcomes with 0 deliveries.
    outcomes: BTreeMap<&'static str, u64>,
    duration_ms: DurationView,
}

/// Durations of attempts. The quantiles `p50` and `p95` are null if no request was sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DurationView {
    /// The number of deliveries for which a request was sent.
    attempts: u64,
    p50: Option<f64>,
    p95: Option<f64>,
    /// The maximum relative error of p50 and p95, as a fraction.
    #[schema(example = 0.045)]
    relative_error: f64,
}

/// Counts deliveries by outcome and summarizes their durations, for events accepted in the requested minutes.
/// Excludes deliveries without an outcome.
#[utoipa::path(
    get,
    path = "/v1/agents/{agent_id}/stats",
    operation_id = "get_agent_stats",
    tag = "Deliveries",
    params(
        OfAgent,
        ("from" = Option<DateTime<Utc>>, Query, description = "Default: a day before `to`."),
        ("to" = Option<DateTime<Utc>>, Query, description = "Default: now."),
        ("channel" = Option<Channel>, Query, description = "Default: all channels."),
        OfTenant,
    ),
    responses(
        (status = 200, description = "The statistics", body = StatsView),
    ),
)]
pub(crate) async fn read(
    caller: Authorized<ReadDeliveries>,
    State(state): State<ApiState>,
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
    // An invalid range has already been reported as a fault.
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
