//! The table `push_configs`.
//!
//! Each write except a removal names the revision that it replaces. If another write has replaced that revision, nothing is
//! written. So the first of two concurrent writes succeeds, and no write overwrites a change that its author has not read.

use std::time::Duration;

use sqlx::Error;
use uuid::Uuid;

use super::sealed::HeaderColumns;
use super::{Db, SealedError, Tx, known};
use crate::domain::endpoint::WebhookEvent;
use crate::domain::ids::EndpointId;
use crate::domain::names::{AgentId, TenantId};
use crate::domain::push_config::{DisabledReason, PushConfig};
use crate::domain::webhook_url::WebhookUrl;
use crate::secrets::Keyring;

/// One revision of an agent's push config. A revision is unique, even after the config is removed and created again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// Constant while the config exists. A config that is created again has a new endpoint id.
    pub endpoint_id: EndpointId,
    /// The number of changes of the config and of its signing secrets, counted from 1.
    pub version: i32,
}

/// A stored config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPushConfig {
    pub revision: Revision,
    pub config: PushConfig,
}

/// The push config of an agent; `None` if the agent has no config.
pub async fn read(
    db: &Db,
    keyring: &Keyring,
    tenant: &TenantId,
    agent: &AgentId,
) -> Result<Option<StoredPushConfig>, SealedError> {
    let row = sqlx::query!(
        r#"-- push_configs::read
        SELECT endpoint_id, version, enabled, disabled_reason, url, timeout_ms, signing,
               events::text[] AS "events!", header_names, header_values, header_secrets
        FROM flametree.push_configs
        WHERE tenant_id = $1
          AND agent_id = $2"#,
        tenant.as_str(),
        agent.as_str(),
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let endpoint_id = EndpointId::from_uuid(row.endpoint_id);
    let headers = HeaderColumns { names: row.header_names, values: row.header_values, secrets: row.header_secrets };
    let config = PushConfig {
        enabled: row.enabled,
        disabled_reason: row.disabled_reason.map(|name| disabled_reason(&name)).transpose()?,
        url: row.url.map(|url| stored_url(&url)).transpose()?,
        timeout: row.timeout_ms.map(stored_timeout),
        signing: row.signing,
        headers: headers.open(keyring, tenant, agent, endpoint_id)?,
        events: row.events.iter().map(|name| webhook_event(name)).collect::<Result<_, Error>>()?,
    };
    Ok(Some(StoredPushConfig { revision: Revision { endpoint_id, version: row.version }, config }))
}

/// Stores the first push config of an agent with a new endpoint id. Returns `None` and writes nothing if the agent already
/// has a config.
pub async fn create(
    tx: &mut Tx,
    keyring: &Keyring,
    tenant: &TenantId,
    agent: &AgentId,
    config: &PushConfig,
) -> Result<Option<Revision>, Error> {
    let columns = HeaderColumns::seal(keyring, tenant, agent, &config.headers);
    let row = sqlx::query!(
        "-- push_configs::create
        INSERT INTO flametree.push_configs (tenant_id, agent_id, endpoint_id, version, enabled, disabled_reason, url,
            timeout_ms, signing, events, header_names, header_values, header_secrets, created_at, updated_at)
        VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9::text[]::flametree.event_type[], $10, $11, $12, flametree.clock(), flametree.clock())
        ON CONFLICT (tenant_id, agent_id) DO NOTHING
        RETURNING endpoint_id, version",
        tenant.as_str(),
        agent.as_str(),
        Uuid::now_v7(),
        config.enabled,
        config.disabled_reason.map(DisabledReason::as_str),
        config.url.as_ref().map(WebhookUrl::as_str),
        config.timeout.and_then(timeout_ms),
        config.signing,
        &event_names(config) as &[&str],
        &columns.names,
        &columns.values,
        &columns.secrets,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Revision { endpoint_id: EndpointId::from_uuid(row.endpoint_id), version: row.version }))
}

/// Replaces the push config at `revision`. Returns `None` and writes nothing if it is not the current revision.
pub async fn update(
    tx: &mut Tx,
    keyring: &Keyring,
    tenant: &TenantId,
    agent: &AgentId,
    revision: Revision,
    config: &PushConfig,
) -> Result<Option<Revision>, Error> {
    let columns = HeaderColumns::seal(keyring, tenant, agent, &config.headers);
    let row = sqlx::query!(
        "-- push_configs::update
        UPDATE flametree.push_configs
        SET version = version + 1, enabled = $5, disabled_reason = $6, url = $7, timeout_ms = $8, signing = $9,
            events = $10::text[]::flametree.event_type[], header_names = $11, header_values = $12,
            header_secrets = $13, updated_at = flametree.clock()
        WHERE tenant_id = $1
          AND agent_id = $2
          AND endpoint_id = $3
          AND version = $4
        RETURNING version",
        tenant.as_str(),
        agent.as_str(),
        revision.endpoint_id.uuid(),
        revision.version,
        config.enabled,
        config.disabled_reason.map(DisabledReason::as_str),
        config.url.as_ref().map(WebhookUrl::as_str),
        config.timeout.and_then(timeout_ms),
        config.signing,
        &event_names(config) as &[&str],
        &columns.names,
        &columns.values,
        &columns.secrets,
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Revision { endpoint_id: revision.endpoint_id, version: row.version }))
}

/// Increments the version of a push config when its signing secrets change. Returns `None` if the agent has no config. Until
/// the transaction ends, no other transaction can change the config.
pub async fn renew(tx: &mut Tx, tenant: &TenantId, agent: &AgentId) -> Result<Option<Revision>, Error> {
    let row = sqlx::query!(
        "-- push_configs::renew
        UPDATE flametree.push_configs
        SET version = version + 1, updated_at = flametree.clock()
        WHERE tenant_id = $1
          AND agent_id = $2
        RETURNING endpoint_id, version",
        tenant.as_str(),
        agent.as_str(),
    )
    .fetch_optional(&mut **tx)
    .await?;
    Ok(row.map(|row| Revision { endpoint_id: EndpointId::from_uuid(row.endpoint_id), version: row.version }))
}

/// Removes the push config and its signing secrets at any version. Returns `false` if the agent has no config.
pub async fn delete(tx: &mut Tx, tenant: &TenantId, agent: &AgentId) -> Result<bool, Error> {
    let deleted = sqlx::query!(
        "-- push_configs::delete
        DELETE FROM flametree.push_configs
        WHERE tenant_id = $1
          AND agent_id = $2",
        tenant.as_str(),
        agent.as_str(),
    )
    .execute(&mut **tx)
    .await?;
    Ok(deleted.rows_affected() == 1)
}

/// The current revision of an agent's push config, read without a keyring; `None` if the agent has no config.
pub async fn revision(db: &Db, tenant: &TenantId, agent: &AgentId) -> Result<Option<Revision>, Error> {
    let row = sqlx::query!(
        "-- push_configs::revision
        SELECT endpoint_id, version
        FROM flametree.push_configs
        WHERE tenant_id = $1
          AND agent_id = $2",
        tenant.as_str(),
        agent.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Revision { endpoint_id: EndpointId::from_uuid(row.endpoint_id), version: row.version }))
}

/// Removes the push config at `revision` and its signing secrets. Returns `false` if it is not the current revision.
pub async fn delete_revision(
    tx: &mut Tx,
    tenant: &TenantId,
    agent: &AgentId,
    revision: Revision,
) -> Result<bool, Error> {
    let deleted = sqlx::query!(
        "-- push_configs::delete_revision
        DELETE FROM flametree.push_configs
        WHERE tenant_id = $1
          AND agent_id = $2
          AND endpoint_id = $3
          AND version = $4",
        tenant.as_str(),
        agent.as_str(),
        revision.endpoint_id.uuid(),
        revision.version,
    )
    .execute(&mut **tx)
    .await?;
    Ok(deleted.rows_affected() == 1)
}

fn event_names(config: &PushConfig) -> Vec<&'static str> {
    config.events.iter().map(|event| event.as_str()).collect()
}

fn timeout_ms(timeout: Duration) -> Option<i32> {
    i32::try_from(timeout.as_millis()).ok()
}

pub(super) fn stored_timeout(timeout_ms: i32) -> Duration {
    Duration::from_millis(u64::from(timeout_ms.unsigned_abs()))
}

/// Parses a stored URL. Always accepts plain http, because the sender enforces the current rules and readers must see the URL.
pub(super) fn stored_url(text: &str) -> Result<WebhookUrl, Error> {
    WebhookUrl::parse(text, true).map_err(|error| Error::Decode(format!("a stored URL {error}").into()))
}

pub(super) fn disabled_reason(name: &str) -> Result<DisabledReason, Error> {
    known(name, "a push config has the unknown reason")
}

pub(super) fn webhook_event(name: &str) -> Result<WebhookEvent, Error> {
    known(name, "a push config has the unknown event")
}
