//! Reads everything that a webhook sender needs, the push config and its signing secrets, in one round trip.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::push_configs::{stored_timeout, stored_url};
use super::sealed::{HeaderColumns, open_signing_secret};
use super::{Db, SealedError};
use crate::domain::ids::EndpointId;
use crate::domain::names::{AgentId, TenantId};
use crate::domain::push_config::Header;
use crate::domain::secret_text::SecretText;
use crate::domain::webhook_url::WebhookUrl;
use crate::secrets::Keyring;

/// An agent's webhook with its signing secrets. It is valid while the push config has this version, but a secret can expire
/// earlier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredWebhook {
    pub version: i32,
    pub enabled: bool,
    pub url: Option<WebhookUrl>,
    pub headers: Vec<Header>,
    /// The secrets that were valid when they were read: the current secret first, then from newest to oldest.
    pub secrets: Vec<StoredSigningSecret>,
    /// `None` means the default timeout of the deployment.
    pub timeout: Option<Duration>,
    /// True if messages are signed.
    pub signing: bool,
}

/// A signing secret as text: `whsec_` and base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSigningSecret {
    pub secret: SecretText,
    /// The time when the secret expires. `None` if this is the current secret.
    pub expires_at: Option<DateTime<Utc>>,
}

impl StoredWebhook {
    /// The secrets that sign a message at `now`, the current secret first. Empty if messages are not signed.
    pub fn live_secrets(&self, now: DateTime<Utc>) -> impl Iterator<Item = &SecretText> {
        self.secrets
            .iter()
            .filter(move |stored| self.signing && stored.expires_at.is_none_or(|expires_at| now < expires_at))
            .map(|stored| &stored.secret)
    }
}

/// The webhook of an endpoint; `None` if its push config was removed.
pub async fn webhook_endpoint(
    db: &Db,
    keyring: &Keyring,
    tenant: &TenantId,
    endpoint_id: EndpointId,
) -> Result<Option<StoredWebhook>, SealedError> {
    let row = sqlx::query!(
        r#"-- webhooks::webhook_endpoint
        SELECT c.agent_id, c.version, c.enabled, c.url, c.timeout_ms, c.signing,
               c.header_names, c.header_values, c.header_secrets,
               s.ids AS "secret_ids!", s.ciphertexts AS "secret_ciphertexts!",
               s.expiries AS "secret_expiries!: Vec<Option<DateTime<Utc>>>"
        FROM flametree.push_configs AS c
        CROSS JOIN LATERAL (
            SELECT coalesce(array_agg(s.id ORDER BY s.expires_at IS NOT NULL, s.created_at DESC, s.id DESC), '{}')
                       AS ids,
                   coalesce(array_agg(s.ciphertext ORDER BY s.expires_at IS NOT NULL, s.created_at DESC, s.id DESC),
                       '{}') AS ciphertexts,
                   coalesce(array_agg(s.expires_at ORDER BY s.expires_at IS NOT NULL, s.created_at DESC, s.id DESC),
                       '{}') AS expiries
            FROM flametree.signing_secrets AS s
            WHERE s.tenant_id = c.tenant_id
              AND s.endpoint_id = c.endpoint_id
              AND (s.expires_at IS NULL OR s.expires_at > (SELECT flametree.clock()))
        ) AS s
        WHERE c.tenant_id = $1
          AND c.endpoint_id = $2"#,
        tenant.as_str(),
        endpoint_id.uuid(),
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let columns = HeaderColumns { names: row.header_names, values: row.header_values, secrets: row.header_secrets };
    let secrets = row.secret_ids.into_iter().zip(row.secret_ciphertexts).zip(row.secret_expiries);
    let secrets = secrets.map(|((id, sealed), expires_at)| {
        let secret = open_signing_secret(keyring, tenant, endpoint_id, id, &sealed)?;
        Ok(StoredSigningSecret { secret, expires_at })
    });
    Ok(Some(StoredWebhook {
        version: row.version,
        enabled: row.enabled,
        url: row.url.map(|url| stored_url(&url)).transpose()?,
        headers: columns.open(keyring, tenant, &AgentId::from_stored(row.agent_id), endpoint_id)?,
        secrets: secrets.collect::<Result<_, SealedError>>()?,
        timeout: row.timeout_ms.map(stored_timeout),
        signing: row.signing,
    }))
}
