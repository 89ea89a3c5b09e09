//! The table `signing_secrets`. The database's clock decides when a secret expires, so that all nodes agree.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::Error;
use uuid::Uuid;

use super::{Db, Tx};
use crate::domain::ids::{EndpointId, SigningSecretId};
use crate::domain::names::{AgentId, TenantId};
use crate::domain::secret_text::SecretText;
use crate::secrets::{AssociatedData, Keyring};

/// A signing secret without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningSecretInfo {
    pub id: SigningSecretId,
    pub created_at: DateTime<Utc>,
    /// The time when the secret expires. `None` if this is the current secret.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Makes `secret` the current secret of an endpoint. The caller must retire the previous secret first.
pub async fn create(
    tx: &mut Tx,
    keyring: &Keyring,
    tenant: &TenantId,
    endpoint: EndpointId,
    secret: &SecretText,
) -> Result<SigningSecretInfo, Error> {
    let id = SigningSecretId::from_uuid(Uuid::now_v7());
    let place = AssociatedData::signing_secret(tenant, endpoint, id);
    let row = sqlx::query!(
        "-- signing_secrets::create
        INSERT INTO flametree.signing_secrets (tenant_id, endpoint_id, id, ciphertext, created_at)
        VALUES ($1, $2, $3, $4, flametree.clock())
        RETURNING created_at",
        tenant.as_str(),
        endpoint.uuid(),
        id.uuid(),
        keyring.seal(secret.expose().as_bytes(), &place),
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(SigningSecretInfo { id, created_at: row.created_at, expires_at: None })
}

/// Limits the remaining life of an endpoint's secrets to `grace`, deletes expired secrets, and returns the number of secrets
/// that still sign.
pub async fn retire(tx: &mut Tx, tenant: &TenantId, endpoint: EndpointId, grace: Duration) -> Result<usize, Error> {
    // The expiry of the current secret is NULL, which `LEAST` ignores.
    sqlx::query!(
        "-- signing_secrets::retire
        UPDATE flametree.signing_secrets
        SET expires_at = LEAST(expires_at, flametree.clock() + make_interval(secs => $3))
        WHERE tenant_id = $1
          AND endpoint_id = $2",
        tenant.as_str(),
        endpoint.uuid(),
        grace.as_secs_f64(),
    )
    .execute(&mut **tx)
    .await?;
    sqlx::query!(
        "-- signing_secrets::remove_expired
        DELETE FROM flametree.signing_secrets
        WHERE tenant_id = $1
          AND endpoint_id = $2
          AND expires_at <= (SELECT flametree.clock())",
        tenant.as_str(),
        endpoint.uuid(),
    )
    .execute(&mut **tx)
    .await?;
    let row = sqlx::query!(
        r#"-- signing_secrets::count
        SELECT count(*) AS "count!"
        FROM flametree.signing_secrets
        WHERE tenant_id = $1
          AND endpoint_id = $2"#,
        tenant.as_str(),
        endpoint.uuid(),
    )
    .fetch_one(&mut **tx)
    .await?;
    Ok(usize::try_from(row.count).unwrap_or(usize::MAX))
}

/// The valid secrets of an agent, the current secret first; `None` if the agent has no push config.
pub async fn list(db: &Db, tenant: &TenantId, agent: &AgentId) -> Result<Option<Vec<SigningSecretInfo>>, Error> {
    let rows = sqlx::query!(
        r#"-- signing_secrets::list
        SELECT s.id AS "id?", s.created_at AS "created_at?", s.expires_at
        FROM flametree.push_configs AS c
        LEFT JOIN flametree.signing_secrets AS s
            ON s.tenant_id = c.tenant_id
            AND s.endpoint_id = c.endpoint_id
            AND (s.expires_at IS NULL OR s.expires_at > (SELECT flametree.clock()))
        WHERE c.tenant_id = $1
          AND c.agent_id = $2
        ORDER BY s.expires_at IS NOT NULL, s.created_at DESC, s.id DESC"#,
        tenant.as_str(),
        agent.as_str(),
    )
    .fetch_all(db)
    .await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let secrets = rows.into_iter().filter_map(|row| {
        let (id, created_at) = row.id.zip(row.created_at)?;
        Some(SigningSecretInfo { id: SigningSecretId::from_uuid(id), created_at, expires_at: row.expires_at })
    });
    Ok(Some(secrets.collect()))
}
