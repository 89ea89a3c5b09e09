//! Attempts of the webhook channel. An attempt finds and decrypts the endpoint's settings and passes them to the channel.
//!
//! Each delivery has the version that its endpoint had at the claim. Settings are cached by version, so a change takes effect
//! with the next claim, on every node.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use moka::future::Cache;

use super::AttemptResult;
use crate::channels::webhook::{self, Endpoint, SigningSecret};
use crate::channels::{HttpClient, Target};
use crate::domain::delivery::{Attempt, Delivery, Outcome};
use crate::domain::ids::EndpointId;
use crate::domain::names::TenantId;
use crate::secrets::Keyring;
use crate::store::webhooks::{StoredWebhook, webhook_endpoint};
use crate::store::{Db, SealedError, is_of_what_is_stored, with_timeout};

/// The maximum number of endpoints whose decrypted settings are kept in memory.
const KEPT_ENDPOINTS: u64 = 10_000;
/// How long unused decrypted settings are kept in memory.
const KEEP_UNUSED: Duration = Duration::from_mins(5);

/// The sender of webhooks.
#[derive(Debug)]
pub struct Webhooks {
    db: Db,
    keyring: Arc<Keyring>,
    client: HttpClient,
    default_timeout: Duration,
    endpoints: Cache<(EndpointId, i32), Found>,
}

/// The result of a look-up of an endpoint's settings.
#[derive(Debug, Clone)]
enum Found {
    Ready(Arc<Endpoint>, Option<DateTime<Utc>>),
    /// The endpoint was deleted or paused after the claim.
    Gone,
    /// The stored settings cannot be used.
    Unusable(&'static str),
}

impl Webhooks {
    pub fn new(db: Db, keyring: Arc<Keyring>, client: HttpClient, default_timeout: Duration) -> Self {
        let endpoints = Cache::builder().max_capacity(KEPT_ENDPOINTS).time_to_idle(KEEP_UNUSED).build();
        Self { db, keyring, client, default_timeout, endpoints }
    }

    /// Attempts one delivery.
    pub async fn attempt(&self, delivery: Delivery, now: DateTime<Utc>) -> AttemptResult {
        match self.endpoint(&delivery, now).await {
            Ok(Found::Ready(endpoint, _)) => {
                AttemptResult::Outcome(webhook::send(&self.client, &endpoint, &delivery, false, now).await)
            }
            Ok(Found::Gone) => AttemptResult::Outcome(Attempt::not_sent(Outcome::Canceled, None)),
            Ok(Found::Unusable(note)) => {
                AttemptResult::Outcome(Attempt::not_sent(Outcome::ConfigError, Some(note.to_owned())))
            }
            Err(error) => {
                tracing::warn!(%error, delivery.id = %delivery.id, "could not read an endpoint's settings; released the delivery");
                AttemptResult::NotStarted
            }
        }
    }

    async fn endpoint(&self, delivery: &Delivery, now: DateTime<Utc>) -> Result<Found, Arc<sqlx::Error>> {
        let Some(version) = delivery.endpoint_version else { return Ok(Found::Gone) };
        let key = (delivery.endpoint_id, version);
        match self.endpoints.get(&key).await {
            Some(Found::Ready(_, Some(until))) if now >= until => {
                // The settings contain a signing secret whose grace period has ended.
                self.endpoints.invalidate(&key).await;
            }
            Some(found) => return Ok(found),
            None => {}
        }
        // The future is boxed, because most attempts find their endpoint in memory and need no memory for a look-up.
        Box::pin(self.endpoints.try_get_with(key, self.find(delivery, now))).await
    }

    async fn find(&self, delivery: &Delivery, now: DateTime<Utc>) -> Result<Found, sqlx::Error> {
        let tenant = &delivery.event.tenant_id;
        match with_timeout(webhook_endpoint(&self.db, &self.keyring, tenant, delivery.endpoint_id)).await {
            Ok(Some(stored)) => Ok(self.prepare(tenant, &stored, now)),
            Ok(None) => Ok(Found::Gone),
            Err(SealedError::Database(error)) if !is_of_what_is_stored(&error) => Err(error),
            Err(error) => {
                tracing::error!(%error, tenant.id = %tenant, endpoint.id = %delivery.endpoint_id, "could not decode an endpoint's settings");
                Ok(Found::Unusable("The stored settings of this endpoint cannot be read or decrypted."))
            }
        }
    }

    fn prepare(&self, tenant: &TenantId, stored: &StoredWebhook, now: DateTime<Utc>) -> Found {
        let Some(url) = stored.url.clone().filter(|_| stored.enabled) else { return Found::Gone };
        let Some(headers) = webhook::configured_headers(&stored.headers) else {
            return Found::Unusable("A stored header of this endpoint cannot be sent.");
        };
        let secrets: Result<Vec<_>, _> =
            stored.live_secrets(now).map(|secret| SigningSecret::parse(secret.expose())).collect();
        let Ok(secrets) = secrets else {
            return Found::Unusable("A stored signing secret of this endpoint cannot be used.");
        };
        let until = stored.secrets.iter().filter_map(|secret| secret.expires_at).filter(|end| *end > now).min();
        let timeout = stored.timeout.unwrap_or(self.default_timeout);
        let redactor = webhook::redactor(&stored.headers, stored.secrets.iter().map(|stored| &stored.secret));
        Found::Ready(
            Arc::new(Endpoint {
                target: Target::new(url.into_url(), tenant.clone()),
                headers,
                secrets,
                timeout,
                redactor,
            }),
            until,
        )
    }
}
