//! Claims are committed records of the deliveries that a worker will attempt.

use chrono::{DateTime, Utc};
use sqlx::Error;
use uuid::Uuid;

use super::claim_row::ClaimRow;
pub use super::claim_row::{ClaimedDelivery, NoEvent};
use crate::domain::endpoint::Channel;
use crate::domain::ids::{ClaimId, EndpointId, WorkerId};
use crate::domain::names::TenantId;
use crate::store::{Db, FailureKind, failure_kind, has_code};

/// How many deliveries to claim from one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneQuota {
    pub tenant_id: TenantId,
    pub endpoint_id: EndpointId,
    /// The claim skips deliveries at and before this position.
    pub after: i64,
    pub quota: u32,
}

/// Why a claim failed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// The worker was fenced and must register again.
    #[error("the worker is fenced")]
    Fenced,
    /// The database refused the claim, so nothing was claimed.
    #[error("the claim was refused: {0}")]
    Refused(Error),
    /// The deliveries may have been claimed. Query the status of the claim with [`resolve`].
    #[error("the claim got no response: {0}")]
    Unknown(#[from] Error),
}

/// SQLSTATE of a claim by a fenced worker.
const FENCED: &str = "FT001";

/// Claims deliveries of each lane up to its quota, in one statement. The result may be empty.
pub async fn claim(
    db: &Db,
    claim_id: ClaimId,
    worker_id: WorkerId,
    channel: Channel,
    lanes: &[LaneQuota],
) -> Result<Vec<ClaimedDelivery>, ClaimError> {
    let tenants: Vec<&str> = lanes.iter().map(|lane| lane.tenant_id.as_str()).collect();
    let endpoints: Vec<Uuid> = lanes.iter().map(|lane| lane.endpoint_id.uuid()).collect();
    let after: Vec<i64> = lanes.iter().map(|lane| lane.after).collect();
    let quotas: Vec<i32> = lanes.iter().map(|lane| i32::try_from(lane.quota).unwrap_or(i32::MAX)).collect();
    let row = sqlx::query_as!(
        ClaimRow,
        r#"-- queue::claim
        SELECT claimed_at, lane_tenants, lane_endpoints, lane_versions AS "lane_versions: Vec<Option<i32>>",
               lanes, positions, delivery_ids, event_ids, expiries,
               event_types AS "event_types: Vec<Option<String>>", agents AS "agents: Vec<Option<String>>",
               sessions AS "sessions: Vec<Option<String>>", customers AS "customers: Vec<Option<String>>",
               assignees AS "assignees: Vec<Option<String>>", occurred AS "occurred: Vec<Option<DateTime<Utc>>>",
               texts AS "texts: Vec<Option<String>>", metadata AS "metadata: Vec<Option<String>>",
               traces AS "traces: Vec<Option<Vec<u8>>>"
        FROM flametree.claim_deliveries($1, $2, $3::text::flametree.channel, $4, $5, $6, $7)"#,
        claim_id.uuid(),
        worker_id.uuid(),
        channel.as_str(),
        &tenants as &[&str],
        &endpoints,
        &after,
        &quotas,
    )
    .fetch_one(db)
    .await
    .map_err(claim_error)?;
    fail::fail_point!("claim::answer_lost", |_| Err(ClaimError::Unknown(Error::Io(
        std::io::ErrorKind::ConnectionReset.into()
    ))));
    row.deliveries(channel).map_err(ClaimError::Unknown)
}

/// Determines the outcome of a claim after a lost response. If the claim was committed, returns its deliveries. If the claim
/// was not committed, returns no deliveries and prevents the claim, even if the lost statement arrives later. Idempotent.
pub async fn resolve(
    db: &Db,
    claim_id: ClaimId,
    worker_id: WorkerId,
    channel: Channel,
) -> Result<Vec<ClaimedDelivery>, Error> {
    let row = sqlx::query_as!(
        ClaimRow,
        r#"-- queue::resolve_claim
        SELECT claimed_at, lane_tenants, lane_endpoints, lane_versions AS "lane_versions: Vec<Option<i32>>",
               lanes, positions, delivery_ids, event_ids, expiries,
               event_types AS "event_types: Vec<Option<String>>", agents AS "agents: Vec<Option<String>>",
               sessions AS "sessions: Vec<Option<String>>", customers AS "customers: Vec<Option<String>>",
               assignees AS "assignees: Vec<Option<String>>", occurred AS "occurred: Vec<Option<DateTime<Utc>>>",
               texts AS "texts: Vec<Option<String>>", metadata AS "metadata: Vec<Option<String>>",
               traces AS "traces: Vec<Option<Vec<u8>>>"
        FROM flametree.resolve_claim($1, $2)"#,
        claim_id.uuid(),
        worker_id.uuid(),
    )
    .fetch_one(db)
    .await?;
    row.deliveries(channel)
}

fn claim_error(error: Error) -> ClaimError {
    if has_code(&error, FENCED) {
        return ClaimError::Fenced;
    }
    // If the database returned an error, it has rolled back the claim, because the statement is its own transaction. If a
    // response cannot be decoded, the claim may have been committed.
    let is_answer = error.as_database_error().is_some();
    if is_answer && failure_kind(&error) == FailureKind::Refusal {
        ClaimError::Refused(error)
    } else {
        ClaimError::Unknown(error)
    }
}
