//! Registers browsers' push subscriptions in `push_subscriptions`. Each endpoint has one row, which belongs to the signed-in
//! user.
//!
//! The endpoint URL alone does not identify the browser, because the push service and proxies also know the URL. A row moves to
//! another user only with the `auth` secret of the subscription, which only the browser and this service know.

use sqlx::Error;
use uuid::Uuid;

use super::push_subscriptions::{ListedRow, ListedSubscription};
use super::sealed::{open_subscription, seal_subscription};
use super::{Db, SealedError, Tx};
use crate::domain::ids::EndpointId;
use crate::domain::names::{TenantId, UserId};
use crate::domain::push_subscription::{MAX_PER_PERSON, NewSubscription, PushSubscription};
use crate::secrets::Keyring;

/// The result of a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    pub subscription: ListedSubscription,
    /// True if the subscription is new for this user.
    pub is_new: bool,
    /// True if the subscription belonged to another user before.
    pub moved: bool,
    /// The number of the user's subscriptions that were removed because the user had too many.
    pub evicted: u64,
}

/// Why a registration changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// Another user has registered the endpoint with another secret, or with a secret that cannot be decrypted.
    #[error("another user has registered this endpoint with another secret")]
    OwnedByOther,
}

impl From<Error> for RegistrationError {
    fn from(error: Error) -> Self {
        Self::Sealed(error.into())
    }
}

/// The user who owns the subscription, and the VAPID key to store with a new subscription.
#[derive(Debug, Clone, Copy)]
pub struct Registrant<'a> {
    pub tenant: &'a TenantId,
    pub user: &'a UserId,
    pub vapid_key_id: &'a str,
}

/// Registers a subscription. If the user already has it, updates the time when it was last seen.
///
/// An existing row of the user keeps its id. An active row also keeps its VAPID key. A disabled row gets the current key. If
/// another user in any tenant has a row with the same secret, that row is removed, because the browser now belongs to this user
/// and must not receive waiting deliveries for the other user.
pub async fn register(
    db: &Db,
    keyring: &Keyring,
    registrant: Registrant<'_>,
    new: &NewSubscription,
) -> Result<Registered, RegistrationError> {
    let mut tx = db.begin().await?;
    lock(&mut tx, registrant.tenant, registrant.user, &new.subscription).await?;
    let (subscription, is_new, moved) = match renew(&mut tx, keyring, registrant, new).await? {
        Some(subscription) => (subscription, false, false),
        None => insert(&mut tx, keyring, registrant, new).await.map(|(row, moved)| (row, true, moved))?,
    };
    let evicted = evict(&mut tx, registrant).await?;
    tx.commit().await?;
    Ok(Registered { subscription, is_new, moved, evicted })
}

/// Serializes the registrations of a user and of an endpoint. Otherwise two concurrent registrations of the user could together
/// exceed the user's limit, and two users could both insert a row for the endpoint. The locks end with the transaction, so they
/// work through a pooler.
pub(super) async fn lock(
    tx: &mut Tx,
    tenant: &TenantId,
    user: &UserId,
    subscription: &PushSubscription,
) -> Result<(), Error> {
    let endpoint = subscription.endpoint.hash();
    sqlx::query!(
        "-- push_registration::lock
        SELECT pg_advisory_xact_lock(hashtextextended($1::text || E'\\n' || $2::text, 0))::text AS of_user,
            pg_advisory_xact_lock(hashtextextended(encode($3::bytea, 'hex'), 1))::text AS of_endpoint",
        tenant.as_str(),
        user.as_str(),
        endpoint.as_slice(),
    )
    .fetch_one(&mut **tx)
    .await
    .map(|_| ())
}

/// Updates the user's existing row for this endpoint. Returns `None` if there is no such row.
async fn renew(
    tx: &mut Tx,
    keyring: &Keyring,
    Registrant { tenant, user, vapid_key_id }: Registrant<'_>,
    new: &NewSubscription,
) -> Result<Option<ListedSubscription>, SealedError> {
    let hash = new.subscription.endpoint.hash();
    let row = sqlx::query!(
        "-- push_registration::renew
        SELECT id, ciphertext
        FROM flametree.push_subscriptions
        WHERE endpoint_hash = $1 AND tenant_id = $2 AND user_id = $3
        FOR UPDATE",
        hash.as_slice(),
        tenant.as_str(),
        user.as_str(),
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let id = EndpointId::from_uuid(row.id);
    // If the stored value cannot be decrypted because its key was lost, the new value replaces the stored value.
    let is_same =
        open_subscription(keyring, tenant, user, id, &row.ciphertext).is_ok_and(|stored| stored == new.subscription);
    let ciphertext = (!is_same).then(|| seal_subscription(keyring, tenant, user, id, &new.subscription));
    let renewed = sqlx::query_as!(
        ListedRow,
        "-- push_registration::renewed
        UPDATE flametree.push_subscriptions
        SET last_seen_at = flametree.clock(),
            label = coalesce($4, label),
            ciphertext = coalesce($5, ciphertext),
            version = version + CASE WHEN active AND $5::bytea IS NULL THEN 0 ELSE 1 END,
            vapid_key_id = CASE WHEN active THEN vapid_key_id ELSE $6 END,
            active = true,
            disabled_reason = NULL
        WHERE tenant_id = $1 AND user_id = $2 AND id = $3
        RETURNING id, host, endpoint_hash, label, disabled_reason, created_at, last_seen_at",
        tenant.as_str(),
        user.as_str(),
        row.id,
        new.label.as_deref(),
        ciphertext.as_deref(),
        vapid_key_id,
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(Some(renewed.into()))
}

/// If the secrets match, removes another user's row for the endpoint, and returns the row's VAPID key if the row was active.
/// The outer `None` means that there is no such row.
async fn take_over(
    tx: &mut Tx,
    keyring: &Keyring,
    new: &NewSubscription,
) -> Result<Option<Option<String>>, RegistrationError> {
    let hash = new.subscription.endpoint.hash();
    let row = sqlx::query!(
        "-- push_registration::owner
        SELECT tenant_id, user_id, id, active, vapid_key_id, ciphertext
        FROM flametree.push_subscriptions
        WHERE endpoint_hash = $1
        FOR UPDATE",
        hash.as_slice(),
    )
    .fetch_optional(&mut **tx)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (tenant, user) = (TenantId::from_stored(row.tenant_id), UserId::from_stored(row.user_id));
    let id = EndpointId::from_uuid(row.id);
    let stored = open_subscription(keyring, &tenant, &user, id, &row.ciphertext);
    if !stored.is_ok_and(|stored| stored.keys.has_same_secret(&new.subscription.keys)) {
        return Err(RegistrationError::OwnedByOther);
    }
    sqlx::query!(
        "-- push_registration::take_over
        DELETE FROM flametree.push_subscriptions
        WHERE id = $1 AND tenant_id = $2",
        id.uuid(),
        tenant.as_str(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(Some(row.active.then_some(row.vapid_key_id)))
}

/// Inserts a row, and returns whether it replaced another user's row.
async fn insert(
    tx: &mut Tx,
    keyring: &Keyring,
    Registrant { tenant, user, vapid_key_id }: Registrant<'_>,
    new: &NewSubscription,
) -> Result<(ListedSubscription, bool), RegistrationError> {
    let endpoint = &new.subscription.endpoint;
    let hash = endpoint.hash();
    let taken = take_over(tx, keyring, new).await?;
    // The browser did not subscribe again, so its subscription still needs the VAPID key of the removed row.
    let proven_key = taken.as_ref().and_then(Option::as_deref);
    let id = EndpointId::from_uuid(Uuid::now_v7());
    let inserted = sqlx::query_as!(
        ListedRow,
        "-- push_registration::insert
        INSERT INTO flametree.push_subscriptions (tenant_id, id, user_id, version, active, ciphertext, created_at,
            last_seen_at, endpoint_hash, host, vapid_key_id, label)
        VALUES ($1, $2, $3, 1, true, $4, flametree.clock(), flametree.clock(), $5, $6, $7, $8)
        RETURNING id, host, endpoint_hash, label, disabled_reason, created_at, last_seen_at",
        tenant.as_str(),
        id.uuid(),
        user.as_str(),
        seal_subscription(keyring, tenant, user, id, &new.subscription),
        hash.as_slice(),
        endpoint.host(),
        proven_key.unwrap_or(vapid_key_id),
        new.label.as_deref(),
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok((inserted.into(), taken.is_some()))
}

/// If the user has more subscriptions than the limit, removes those that were seen longest ago.
async fn evict(tx: &mut Tx, registrant: Registrant<'_>) -> Result<u64, Error> {
    let result = sqlx::query!(
        "-- push_registration::evict
        DELETE FROM flametree.push_subscriptions AS s
        USING (
            SELECT id
            FROM flametree.push_subscriptions
            WHERE tenant_id = $1 AND user_id = $2
            ORDER BY last_seen_at DESC, id DESC
            OFFSET $3
        ) AS old
        WHERE s.tenant_id = $1 AND s.user_id = $2 AND s.id = old.id",
        registrant.tenant.as_str(),
        registrant.user.as_str(),
        MAX_PER_PERSON,
    )
    .execute(&mut **tx)
    .await?;
    Ok(result.rows_affected())
}
