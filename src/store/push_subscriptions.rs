//! The table `push_subscriptions`: one row per browser, owned by the user who registered the browser last.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Error;
use uuid::Uuid;

use super::sealed::open_subscription;
use super::{Db, SealedError};
use crate::domain::ids::{EndpointId, PushSubscriptionId};
use crate::domain::names::{TenantId, UserId};
use crate::domain::push_subscription::PushSubscription;
use crate::secrets::Keyring;

/// Why a subscription is disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum DisabledReason {
    /// The push service reports that the browser has subscribed with another VAPID key.
    VapidKeyMismatch,
}

/// A push subscription without its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedSubscription {
    pub id: PushSubscriptionId,
    /// The host of the endpoint URL.
    pub host: String,
    /// The hash of the endpoint, by which a page recognizes its own browser.
    pub endpoint_hash: Vec<u8>,
    pub label: Option<String>,
    /// Why the subscription is disabled; `None` if it is active.
    pub disabled_reason: Option<String>,
    pub created_at: DateTime<Utc>,
    pub last_seen_at: DateTime<Utc>,
}

/// The data of a subscription that a sender needs. It is valid while the row has this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSubscription {
    pub id: EndpointId,
    pub user: UserId,
    pub version: i32,
    pub active: bool,
    pub subscription: PushSubscription,
    pub vapid_key_id: String,
    /// True if the push service has accepted a message for the subscription.
    pub was_accepted: bool,
    /// How long the subscription is still paused; `None` if it is not paused.
    pub pause_left: Option<Duration>,
}

pub(super) struct ListedRow {
    pub(super) id: Uuid,
    pub(super) host: String,
    pub(super) endpoint_hash: Vec<u8>,
    pub(super) label: Option<String>,
    pub(super) disabled_reason: Option<String>,
    pub(super) created_at: DateTime<Utc>,
    pub(super) last_seen_at: DateTime<Utc>,
}

impl From<ListedRow> for ListedSubscription {
    fn from(row: ListedRow) -> Self {
        let ListedRow { id, host, endpoint_hash, label, disabled_reason, created_at, last_seen_at } = row;
        let id = PushSubscriptionId::from_uuid(id);
        Self { id, host, endpoint_hash, label, disabled_reason, created_at, last_seen_at }
    }
}

/// Lists a user's subscriptions, the most recently seen first. The number per user is limited, so the list has no pages.
pub async fn list(db: &Db, tenant: &TenantId, user: &UserId) -> Result<Vec<ListedSubscription>, Error> {
    let rows = sqlx::query_as!(
        ListedRow,
        "-- push_subscriptions::list
        SELECT id, host, endpoint_hash, label, disabled_reason, created_at, last_seen_at
        FROM flametree.push_subscriptions
        WHERE tenant_id = $1 AND user_id = $2
        ORDER BY last_seen_at DESC, id DESC",
        tenant.as_str(),
        user.as_str(),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(ListedSubscription::from).collect())
}

/// Finds the subscription with this endpoint id. If `user` is `Some`, finds only a subscription of this user. Returns `None` if
/// no such subscription exists.
pub async fn find(
    db: &Db,
    keyring: &Keyring,
    tenant: &TenantId,
    user: Option<&UserId>,
    id: EndpointId,
) -> Result<Option<StoredSubscription>, SealedError> {
    let row = sqlx::query!(
        r#"-- push_subscriptions::find
        SELECT user_id, version, active, ciphertext, vapid_key_id, was_accepted,
               extract(epoch FROM paused_until - flametree.clock())::float8 AS "pause_left"
        FROM flametree.push_subscriptions
        WHERE id = $1 AND tenant_id = $2 AND ($3::text IS NULL OR user_id = $3)"#,
        id.uuid(),
        tenant.as_str(),
        user.map(UserId::as_str),
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let user = UserId::from_stored(row.user_id);
    let subscription = open_subscription(keyring, tenant, &user, id, &row.ciphertext)?;
    Ok(Some(StoredSubscription {
        id,
        user,
        version: row.version,
        active: row.active,
        subscription,
        vapid_key_id: row.vapid_key_id,
        was_accepted: row.was_accepted,
        // A negative value means that the pause is over.
        pause_left: row.pause_left.and_then(|left| Duration::try_from_secs_f64(left).ok()),
    }))
}

/// Removes a user's subscription. Returns false if it does not exist.
pub async fn remove(db: &Db, tenant: &TenantId, user: &UserId, id: PushSubscriptionId) -> Result<bool, Error> {
    let result = sqlx::query!(
        "-- push_subscriptions::remove
        DELETE FROM flametree.push_subscriptions
        WHERE tenant_id = $1 AND user_id = $2 AND id = $3",
        tenant.as_str(),
        user.as_str(),
        id.uuid(),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Removes a subscription that its push service reported as gone. Returns false if the row was removed or changed meanwhile.
///
/// Only for messages that are not deliveries. For a delivery, `finish_deliveries` removes the row in the transaction that
/// records the outcome.
pub async fn remove_gone(db: &Db, tenant: &TenantId, id: EndpointId, version: i32) -> Result<bool, Error> {
    let result = sqlx::query!(
        "-- push_subscriptions::remove_gone
        DELETE FROM flametree.push_subscriptions
        WHERE id = $1 AND tenant_id = $2 AND version = $3",
        id.uuid(),
        tenant.as_str(),
        version,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Disables a subscription but keeps its row. Returns false if the row was removed or changed meanwhile, or is already disabled.
pub async fn disable(
    db: &Db,
    tenant: &TenantId,
    id: EndpointId,
    version: i32,
    reason: DisabledReason,
) -> Result<bool, Error> {
    let result = sqlx::query!(
        "-- push_subscriptions::disable
        UPDATE flametree.push_subscriptions
        SET active = false, disabled_reason = $4, version = version + 1
        WHERE id = $1 AND tenant_id = $2 AND version = $3 AND active",
        id.uuid(),
        tenant.as_str(),
        version,
        <&str>::from(reason),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// Records a test message before it is sent. Returns false if the last test message was less than five seconds ago.
pub async fn note_test(db: &Db, tenant: &TenantId, user: &UserId, id: PushSubscriptionId) -> Result<bool, Error> {
    let result = sqlx::query!(
        "-- push_subscriptions::note_test
        UPDATE flametree.push_subscriptions
        SET tested_at = flametree.clock()
        WHERE tenant_id = $1 AND user_id = $2 AND id = $3
          AND (tested_at IS NULL OR tested_at <= (SELECT flametree.clock()) - interval '5 seconds')",
        tenant.as_str(),
        user.as_str(),
        id.uuid(),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected() == 1)
}

/// The number of active subscriptions across all tenants.
pub async fn count_active(db: &Db) -> Result<i64, Error> {
    sqlx::query_scalar!(
        r#"-- push_subscriptions::count_active
        SELECT count(*) AS "count!" FROM flametree.push_subscriptions WHERE active"#
    )
    .fetch_one(db)
    .await
}

/// The ids of the VAPID keys of active subscriptions, each with its number of subscriptions.
pub async fn vapid_keys_in_use(db: &Db) -> Result<Vec<(String, i64)>, Error> {
    let rows = sqlx::query!(
        r#"-- push_subscriptions::vapid_keys_in_use
        SELECT vapid_key_id, count(*) AS "subscriptions!"
        FROM flametree.push_subscriptions
        WHERE active
        GROUP BY vapid_key_id
        ORDER BY vapid_key_id"#
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.vapid_key_id, row.subscriptions)).collect())
}
