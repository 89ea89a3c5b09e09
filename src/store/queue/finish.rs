//! Records outcomes in `deliveries`, and releases deliveries that were not started.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::Error;
use uuid::Uuid;

use crate::domain::delivery::{Attempt, Outcome};
use crate::domain::endpoint::Channel;
use crate::domain::ids::{ClaimId, DeliveryId, EndpointId, EventId};
use crate::domain::names::TenantId;
use crate::store::Db;

/// One outcome to record.
#[derive(Debug, Clone)]
pub struct FinishedDelivery {
    pub id: DeliveryId,
    pub event_id: EventId,
    pub tenant_id: TenantId,
    pub endpoint_id: EndpointId,
    pub endpoint_version: Option<i32>,
    pub claimed_at: DateTime<Utc>,
    pub attempt: Attempt,
}

/// Records outcomes and deletes the claims in `complete`, in one transaction. If the reaper had already recorded an outcome,
/// that outcome stays and its delivery is returned. Idempotent: safe to repeat after a lost response.
pub async fn finish(
    db: &Db,
    channel: Channel,
    complete: &[ClaimId],
    finished: &[impl Borrow<FinishedDelivery>],
) -> Result<Vec<DeliveryId>, Error> {
    let finished: Vec<&FinishedDelivery> = finished.iter().map(Borrow::borrow).collect();
    let complete: Vec<Uuid> = complete.iter().map(|claim| claim.uuid()).collect();
    let tenants: Vec<&str> = finished.iter().map(|one| one.tenant_id.as_str()).collect();
    let ids: Vec<Uuid> = finished.iter().map(|one| one.id.uuid()).collect();
    let endpoints: Vec<Uuid> = finished.iter().map(|one| one.endpoint_id.uuid()).collect();
    let events: Vec<Uuid> = finished.iter().map(|one| one.event_id.uuid()).collect();
    let claimed: Vec<DateTime<Utc>> = finished.iter().map(|one| one.claimed_at).collect();
    let outcomes: Vec<&str> = finished.iter().map(|one| one.attempt.outcome.as_str()).collect();
    let versions: Vec<Option<i32>> = finished.iter().map(|one| one.endpoint_version).collect();
    let durations: Vec<i32> = finished.iter().map(|one| microseconds(one.attempt.duration)).collect();
    let statuses: Vec<Option<i16>> = finished.iter().map(|one| status(one.attempt.http_status)).collect();
    let details: Vec<Option<String>> = finished.iter().map(|one| detail(&one.attempt)).collect::<Result<_, _>>()?;
    let late = sqlx::query_scalar!(
        r#"-- queue::finish
        SELECT flametree.finish_deliveries($1, $2::text::flametree.channel, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12,
            $13, $14) AS "late!""#,
        &complete,
        channel.as_str(),
        &tenants as &[&str],
        &ids,
        &endpoints,
        &events,
        &claimed,
        &outcomes as &[&str],
        &versions as &[Option<i32>],
        &durations,
        &statuses as &[Option<i16>],
        &details as &[Option<String>],
        ids.iter().min(),
        ids.iter().max(),
    )
    .fetch_one(db)
    .await?;
    Ok(late.into_iter().map(DeliveryId::from_uuid).collect())
}

/// A lock that recording an outcome needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lock {
    /// The lock of the table that stores the deliveries of this UTC day. Newer days sort first.
    Day(Reverse<NaiveDate>),
    /// The lock of an endpoint's row: the outcome `gone` disables or deletes the row.
    Endpoint(EndpointId),
    /// The lock of a claim's row. The last outcomes of the claim delete the row.
    Claim(ClaimId),
}

/// The locks that recording this outcome needs, if it is not the last outcome of its claim.
pub fn locks(finished: &FinishedDelivery) -> impl Iterator<Item = Lock> {
    let endpoint = (finished.attempt.outcome == Outcome::Gone).then_some(Lock::Endpoint(finished.endpoint_id));
    endpoint.into_iter().chain(finished.id.accepted_at().map(|at| Lock::Day(Reverse(at.date_naive()))))
}

/// The locks that these outcomes and the deletion of the claims in `complete` need, and that other sessions hold now. Does not
/// wait for any of them.
pub async fn taken_locks<'a>(
    db: &Db,
    channel: Channel,
    complete: &[ClaimId],
    finished: impl Iterator<Item = &'a FinishedDelivery>,
) -> Result<BTreeSet<Lock>, Error> {
    let (mut days, mut endpoints) = (BTreeSet::new(), BTreeMap::new());
    for one in finished {
        for lock in locks(one) {
            match lock {
                Lock::Day(Reverse(day)) => drop(days.insert(day)),
                Lock::Endpoint(endpoint) => drop(endpoints.insert(endpoint.uuid(), one.tenant_id.as_str())),
                Lock::Claim(_) => {}
            }
        }
    }
    let days: Vec<NaiveDate> = days.into_iter().collect();
    let (endpoints, tenants): (Vec<Uuid>, Vec<&str>) = endpoints.into_iter().unzip();
    let complete: Vec<Uuid> = complete.iter().map(|claim| claim.uuid()).collect();
    let taken = sqlx::query!(
        r#"-- queue::taken_locks
        SELECT day, endpoint_id, claim_id FROM flametree.taken_locks($1::text::flametree.channel, $2, $3, $4, $5)"#,
        channel.as_str(),
        &days,
        &tenants as &[&str],
        &endpoints,
        &complete,
    )
    .fetch_all(db)
    .await?;
    let lock = |day: Option<NaiveDate>| day.map(|day| Lock::Day(Reverse(day)));
    let endpoint = |id: Option<Uuid>| id.map(|id| Lock::Endpoint(EndpointId::from_uuid(id)));
    let claim = |id: Option<Uuid>| id.map(|id| Lock::Claim(ClaimId::from_uuid(id)));
    Ok(taken
        .into_iter()
        .filter_map(|row| lock(row.day).or(endpoint(row.endpoint_id)).or(claim(row.claim_id)))
        .collect())
}

/// Releases deliveries of a claim that were not started, at their old positions. If `is_last` is true, all other deliveries of
/// the claim are recorded, and the claim is deleted. Returns the number of released deliveries. Returns 0 if the reaper has
/// already handled the claim, or if the call is a repetition. Safe to repeat after a lost response.
pub async fn release(db: &Db, claim: ClaimId, deliveries: &[DeliveryId], is_last: bool) -> Result<u32, Error> {
    let ids: Vec<Uuid> = deliveries.iter().map(|id| id.uuid()).collect();
    let released = sqlx::query_scalar!(
        r#"-- queue::release
        SELECT flametree.release_deliveries($1, $2, $3) AS "released!""#,
        claim.uuid(),
        &ids,
        is_last,
    )
    .fetch_one(db)
    .await?;
    Ok(released.unsigned_abs())
}

fn microseconds(duration: std::time::Duration) -> i32 {
    i32::try_from(duration.as_micros()).unwrap_or(i32::MAX)
}

fn status(status: Option<u16>) -> Option<i16> {
    status.and_then(|status| i16::try_from(status).ok())
}

fn detail(attempt: &Attempt) -> Result<Option<String>, Error> {
    attempt.detail.as_ref().map(serde_json::to_string).transpose().map_err(|error| Error::Encode(error.into()))
}
