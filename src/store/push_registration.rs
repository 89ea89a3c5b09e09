//! How a browser's subscription comes into `push_subscriptions`: one row for each endpoint, of the user who is signed in there.
//!
//! An endpoint alone proves nothing: its push service and proxies know it. A row moves to another user only with the `auth`
//! secret that it was registered with, which only the browser and this service know.

use sqlx::Error;
use uuid::Uuid;

use super::push_subscriptions::{ListedRow, ListedSubscription};
use super::sealed::{open_subscription, seal_subscription};
use super::{Db, SealedError, Tx};
use crate::domain::ids::EndpointId;
use crate::domain::names::{TenantId, UserId};
use crate::domain::push_subscription::{MAX_PER_PERSON, NewSubscription};
use crate::secrets::Keyring;

/// Attempts when the same endpoint is being registered by somebody else in the same instant.
const ATTEMPTS: usize = 5;

/// What a registration has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    pub subscription: ListedSubscription,
    /// Whether the person had it not before.
    pub is_new: bool,
    /// Whether it was another person's, who has it no more.
    pub moved: bool,
    /// How many of the person's went because there were too many.
    pub evicted: u64,
}

/// Why a registration has changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// Another user has the endpoint, with another secret or one that cannot be decrypted.
    #[error("another user has registered this endpoint with another secret")]
    OwnedByOther,
}

impl From<Error> for RegistrationError {
    fn from(error: Error) -> Self {
        Self::Sealed(error.into())
    }
}

/// Whose subscription it is to be, and by which key it is signed for if it is a new one.
#[derive(Debug, Clone, Copy)]
pub struct Registrant<'a> {
    pub tenant: &'a TenantId,
    pub user: &'a UserId,
    pub vapid_key_id: &'a str,
}

/// Registers a subscription, or shows that it is still there.
///
/// The same person's row stays, with its id. It keeps its VAPID key too, unless it was disabled: then it is tried again
/// with the current one. Another user's row with the same secret goes, in whatever tenant it is: the browser is this user's
/// now, and deliveries that wait for the other one must not reach it.
pub async fn register(
    db: &Db,
    keyring: &Keyring,
    registrant: Registrant<'_>,
    new: &NewSubscription,
) -> Result<Registered, RegistrationError> {
    for _ in 0..ATTEMPTS {
        let mut tx = db.begin().await?;
        lock_person(&mut tx, registrant.tenant, registrant.user).await?;
        let registered = match renew(&mut tx, keyring, registrant, new).await? {
            Some(subscription) => Some((subscription, false, false)),
            None => insert(&mut tx, keyring, registrant, new).await?.map(|(row, moved)| (row, true, moved)),
        };
        let Some((subscription, is_new, moved)) = registered else {
            tx.rollback().await?;
            continue;
        };
        let evicted = evict(&mut tx, registrant).await?;
        tx.commit().await?;
        return Ok(Registered { subscription, is_new, moved, evicted });
    }
    Err(Error::Protocol("an endpoint is being registered by too many at once".to_owned()).into())
}

/// One registration of a person at a time, or two could each see room for one more. Ends with the transaction, so that
/// it holds through a pooler.
pub(super) async fn lock_person(tx: &mut Tx, tenant: &TenantId, user: &UserId) -> Result<(), Error> {
    sqlx::query!(
        "-- push_registration::lock_person
        SELECT FROM pg_advisory_xact_lock(hashtextextended($1::text || E'\\n' || $2::text, 0))",
        tenant.as_str(),
        user.as_str(),
    )
    .execute(&mut **tx)
    .await
    .map(|_| ())
}

/// The person's own row of this endpoint, seen again; `None`: the person has none.
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
    // What does not open any more, for its key was lost, is written anew.
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

/// Removes another user's row of the endpoint if the secrets match, and returns its VAPID key if it was active. The outer
/// `None` means that no row exists.
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

/// A new row, and whether another user's went for it; `None`: another registration was faster.
async fn insert(
    tx: &mut Tx,
    keyring: &Keyring,
    Registrant { tenant, user, vapid_key_id }: Registrant<'_>,
    new: &NewSubscription,
) -> Result<Option<(ListedSubscription, bool)>, RegistrationError> {
    let endpoint = &new.subscription.endpoint;
    let hash = endpoint.hash();
    let taken = take_over(tx, keyring, new).await?;
    // The browser did not subscribe again, so its key is the one that worked.
    let proven_key = taken.as_ref().and_then(Option::as_deref);
    let id = EndpointId::from_uuid(Uuid::now_v7());
    let inserted = sqlx::query_as!(
        ListedRow,
        "-- push_registration::insert
        INSERT INTO flametree.push_subscriptions (tenant_id, id, user_id, version, active, ciphertext, created_at,
            last_seen_at, endpoint_hash, host, vapid_key_id, label)
        VALUES ($1, $2, $3, 1, true, $4, flametree.clock(), flametree.clock(), $5, $6, $7, $8)
        ON CONFLICT (endpoint_hash) DO NOTHING
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
    .fetch_optional(&mut **tx)
    .await?;
    Ok(inserted.map(|row| (row.into(), taken.is_some())))
}

/// Removes what a person has more than may be, those first that were unseen longest.
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
