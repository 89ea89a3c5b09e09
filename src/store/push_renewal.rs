//! Replaces a browser's push subscription after its push service has expired it.

use sqlx::Error;

use super::push_registration::lock;
use super::sealed::{open_subscription, seal_subscription};
use super::{Db, SealedError, Tx};
use crate::domain::ids::EndpointId;
use crate::domain::names::{TenantId, UserId};
use crate::domain::push_subscription::{PushSubscription, Renewal};
use crate::secrets::Keyring;

/// A row of `push_subscriptions` that was found by its endpoint.
struct Found {
    tenant: TenantId,
    user: UserId,
    id: EndpointId,
    version: i32,
}

/// Replaces the old subscription in its row. Returns false if no row has the old endpoint, or if the secrets differ.
///
/// Searches all tenants, because without an open page a browser can send only the endpoint and the secret. The endpoint is
/// random and unique across tenants. The owner stays the same. The time when the row was last seen also stays the same, because
/// no user has signed in. If a page has already registered the new subscription, the old row is only removed.
pub async fn renew(db: &Db, keyring: &Keyring, renewal: &Renewal) -> Result<bool, SealedError> {
    let Some(found) = find(db, keyring, &renewal.old).await? else { return Ok(false) };
    let mut tx = db.begin().await?;
    // Uses the same locks as registrations, so that a browser never has two rows.
    lock(&mut tx, &found.tenant, &found.user, &renewal.new).await?;
    let done = if is_registered(&mut tx, &renewal.new).await? {
        remove(&mut tx, &found).await?
    } else {
        replace(&mut tx, keyring, &found, &renewal.new).await?
    };
    tx.commit().await?;
    Ok(done)
}

/// The row of the subscription, if its endpoint and secret match.
async fn find(db: &Db, keyring: &Keyring, old: &PushSubscription) -> Result<Option<Found>, SealedError> {
    let hash = old.endpoint.hash();
    let row = sqlx::query!(
        "-- push_renewal::find
        SELECT tenant_id, user_id, id, version, ciphertext
        FROM flametree.push_subscriptions
        WHERE endpoint_hash = $1",
        hash.as_slice(),
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let (tenant, user) = (TenantId::from_stored(row.tenant_id), UserId::from_stored(row.user_id));
    let id = EndpointId::from_uuid(row.id);
    let stored = open_subscription(keyring, &tenant, &user, id, &row.ciphertext)?;
    Ok(stored.keys.has_same_secret(&old.keys).then_some(Found { tenant, user, id, version: row.version }))
}

async fn is_registered(tx: &mut Tx, new: &PushSubscription) -> Result<bool, Error> {
    let hash = new.endpoint.hash();
    let row = sqlx::query!(
        "-- push_renewal::is_registered
        SELECT id
        FROM flametree.push_subscriptions
        WHERE endpoint_hash = $1",
        hash.as_slice(),
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.is_some())
}

/// Replaces the subscription of the row. Returns false if the row was removed or changed meanwhile.
async fn replace(tx: &mut Tx, keyring: &Keyring, found: &Found, new: &PushSubscription) -> Result<bool, Error> {
    let Found { tenant, user, id, version } = found;
    let hash = new.endpoint.hash();
    let result = sqlx::query!(
        "-- push_renewal::replace
        UPDATE flametree.push_subscriptions
        SET endpoint_hash = $4, host = $5, ciphertext = $6, version = version + 1,
            was_accepted = false, paused_until = NULL
        WHERE tenant_id = $1 AND id = $2 AND version = $3",
        tenant.as_str(),
        id.uuid(),
        version,
        hash.as_slice(),
        new.endpoint.host(),
        seal_subscription(keyring, tenant, user, *id, new),
    )
    .execute(&mut **tx)
    .await?;
    Ok(result.rows_affected() == 1)
}

async fn remove(tx: &mut Tx, found: &Found) -> Result<bool, Error> {
    let result = sqlx::query!(
        "-- push_renewal::remove
        DELETE FROM flametree.push_subscriptions
        WHERE tenant_id = $1 AND id = $2 AND version = $3",
        found.tenant.as_str(),
        found.id.uuid(),
        found.version,
    )
    .execute(&mut **tx)
    .await?;
    Ok(result.rows_affected() == 1)
}
