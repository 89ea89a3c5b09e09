//! Attempts of the browser push channel: finds the subscription, decrypted, hands it to the channel, and does to it what
//! its push service has said.
//!
//! A delivery carries the version that its subscription had when it was claimed. A subscription that was moved to another
//! person has another id, so that nothing waits for it there.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use moka::future::Cache;
use tokio_util::sync::CancellationToken;

use super::Ending;
use crate::channels::browser_push::{Notice, PushSender, Recipient};
use crate::domain::delivery::{Attempt, Delivery, Outcome};
use crate::domain::ids::EndpointId;
use crate::domain::names::TenantId;
use crate::secrets::Keyring;
use crate::store::push_subscriptions::{self, DisabledReason, StoredSubscription};
use crate::store::{Db, SealedError, answered, is_of_what_is_stored};
use crate::telemetry::metrics::{Metrics, RemovalReason};

/// Subscriptions that are kept in memory.
const KEPT_SUBSCRIPTIONS: u64 = 10_000;
/// Decrypted subscriptions that nobody needed for so long are forgotten.
const KEEP_UNUSED: Duration = Duration::from_mins(5);
/// How often subscriptions are counted.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// The sender of browser pushes.
#[derive(Debug)]
pub struct BrowserPush {
    db: Db,
    keyring: Arc<Keyring>,
    sender: PushSender,
    metrics: Metrics,
    recipients: Cache<(EndpointId, i32), Found>,
}

/// What became of the search for a subscription.
#[derive(Debug, Clone)]
enum Found {
    Ready(Arc<Recipient>),
    /// Removed or disabled since the claim.
    Gone,
    /// The stored subscription cannot be used.
    Unusable(&'static str),
}

impl BrowserPush {
    pub fn new(db: Db, keyring: Arc<Keyring>, sender: PushSender, metrics: Metrics) -> Self {
        let recipients = Cache::builder().max_capacity(KEPT_SUBSCRIPTIONS).time_to_idle(KEEP_UNUSED).build();
        Self { db, keyring, sender, metrics, recipients }
    }

    /// Attempts one delivery.
    pub async fn attempt(&self, delivery: Delivery, now: DateTime<Utc>) -> Ending {
        let Some(version) = delivery.endpoint_version else { return not_sent(Outcome::Canceled, None) };
        let Some(notice) = Notice::of(&delivery.event) else {
            return not_sent(Outcome::Canceled, Some("People are not told of such events."));
        };
        let key = (delivery.endpoint_id, version);
        let found = match self.recipients.get(&key).await {
            Some(found) => Ok(found),
            // Boxed: nearly every attempt finds its subscription in memory, and must not carry the room for a look-up.
            None => Box::pin(self.recipients.try_get_with(key, self.find(&delivery))).await,
        };
        match found {
            Ok(Found::Ready(recipient)) => {
                let sent = self.sender.send(&recipient, &notice, now).await;
                if sent.attempt.outcome == Outcome::Gone {
                    self.gone(key).await;
                }
                if sent.key_mismatch {
                    self.disable(&delivery.event.tenant_id, key).await;
                }
                Ending::Outcome(sent.attempt)
            }
            Ok(Found::Gone) => not_sent(Outcome::Canceled, None),
            Ok(Found::Unusable(note)) => not_sent(Outcome::ConfigError, Some(note)),
            Err(error) => {
                tracing::warn!(%error, delivery.id = %delivery.id, "a subscription could not be read; the delivery goes back");
                Ending::NotBegun
            }
        }
    }

    async fn find(&self, delivery: &Delivery) -> Result<Found, sqlx::Error> {
        let (tenant, endpoint) = (&delivery.event.tenant_id, delivery.endpoint_id);
        match answered(push_subscriptions::find(&self.db, &self.keyring, tenant, None, endpoint)).await {
            Ok(Some(stored)) if stored.active => Ok(Found::Ready(Arc::new(recipient(tenant, stored)))),
            Ok(Some(_) | None) => Ok(Found::Gone),
            Err(SealedError::Database(error)) if !is_of_what_is_stored(&error) => Err(error),
            Err(error) => {
                tracing::error!(%error, tenant.id = %tenant, endpoint = %endpoint, "a push subscription cannot be read");
                Ok(Found::Unusable("The stored subscription of this browser cannot be read, or not be decrypted."))
            }
        }
    }

    /// The row goes in the transaction that records the outcome; what else waits for it is not sent any more.
    async fn gone(&self, key: (EndpointId, i32)) {
        let was_there = matches!(self.recipients.remove(&key).await, Some(Found::Ready(_)));
        self.recipients.insert(key, Found::Gone).await;
        // Counted once, however many messages were under way.
        if was_there {
            self.metrics.push_subscription_removed(RemovalReason::Gone);
        }
    }

    async fn disable(&self, tenant: &TenantId, key: (EndpointId, i32)) {
        let (endpoint, version) = key;
        let reason = DisabledReason::VapidKeyMismatch;
        match answered(push_subscriptions::disable(&self.db, tenant, endpoint, version, reason)).await {
            Ok(_) => self.recipients.insert(key, Found::Gone).await,
            // The next message to it is refused in the same way.
            Err(error) => tracing::warn!(%error, endpoint = %endpoint, "a push subscription could not be disabled"),
        }
    }
}

/// The stored subscription as the channel takes it.
fn recipient(tenant: &TenantId, stored: StoredSubscription) -> Recipient {
    Recipient::new(tenant.clone(), stored.user, stored.subscription, stored.vapid_key_id)
}

fn not_sent(outcome: Outcome, note: Option<&str>) -> Ending {
    Ending::Outcome(Attempt::not_sent(outcome, note.map(str::to_owned)))
}

/// Keeps the number of subscriptions in sight until `stop`.
pub async fn count_subscriptions(db: Db, metrics: Metrics, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match answered(push_subscriptions::count_active(&db)).await {
            Ok(subscriptions) => metrics.set_push_subscriptions(subscriptions),
            Err(error) => tracing::debug!(%error, "the push subscriptions could not be counted"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(COUNT_EVERY) => {}
        }
    }
}
