//! Attempts of the browser push channel: finds the subscription, decrypted, hands it to the channel, and does to it what
//! its push service has said.
//!
//! A delivery carries the version that its subscription had when it was claimed. A subscription that was moved to another
//! person has another id, so that nothing waits for it there.
//!
//! What is due while a subscription or its push service is paused ends as throttled, unsent. The queue knows endpoints and
//! no push services, so a released delivery would be claimed again at once; waiting, it would hold a permit; and a
//! notification that is minutes late is useless.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use moka::future::Cache;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::AttemptResult;
use super::push_pauses::PausedServices;
use crate::channels::browser_push::{Notice, PushSender, Recipient, Sent};
use crate::domain::delivery::{Attempt, Delivery, Outcome};
use crate::domain::ids::EndpointId;
use crate::domain::names::TenantId;
use crate::secrets::Keyring;
use crate::store::push_pauses;
use crate::store::push_subscriptions::{self, DisabledReason, StoredSubscription};
use crate::store::{Db, SealedError, is_of_what_is_stored, with_timeout};
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
    services: Arc<PausedServices>,
    metrics: Metrics,
    recipients: Cache<(EndpointId, i32), Found>,
}

/// What became of the search for a subscription.
#[derive(Debug, Clone)]
enum Found {
    Ready(Arc<Known>),
    /// Removed or disabled since the claim.
    Gone,
    /// The stored subscription cannot be used.
    Unusable(&'static str),
}

/// A subscription as this process knows it.
#[derive(Debug)]
struct Known {
    recipient: Arc<Recipient>,
    /// Whether its push service is known to have accepted a message for it.
    was_accepted: AtomicBool,
    paused_until: Option<Instant>,
}

impl BrowserPush {
    pub fn new(
        db: Db,
        keyring: Arc<Keyring>,
        sender: PushSender,
        services: Arc<PausedServices>,
        metrics: Metrics,
    ) -> Self {
        let recipients = Cache::builder().max_capacity(KEPT_SUBSCRIPTIONS).time_to_idle(KEEP_UNUSED).build();
        Self { db, keyring, sender, services, metrics, recipients }
    }

    /// Attempts one delivery.
    pub async fn attempt(&self, delivery: Delivery, now: DateTime<Utc>) -> AttemptResult {
        let Some(version) = delivery.endpoint_version else { return not_sent(Outcome::Canceled, None) };
        let Some(notice) = Notice::of(&delivery.event) else {
            return not_sent(Outcome::Canceled, Some("Users are not notified of such events."));
        };
        let key = (delivery.endpoint_id, version);
        let found = match self.recipients.get(&key).await {
            Some(found) => Ok(found),
            // Boxed: nearly every attempt finds its subscription in memory, and must not carry the room for a look-up.
            None => Box::pin(self.recipients.try_get_with(key, self.find(&delivery))).await,
        };
        match found {
            Ok(Found::Ready(known)) => {
                let tenant = &delivery.event.tenant_id;
                if let Some(note) = self.paused(tenant, &known) {
                    return not_sent(Outcome::Throttled, Some(note));
                }
                let sent = self.sender.send(&known.recipient, &notice, now).await;
                self.follow(tenant, key, &known, &sent).await;
                AttemptResult::Outcome(sent.attempt)
            }
            Ok(Found::Gone) => not_sent(Outcome::Canceled, None),
            Ok(Found::Unusable(note)) => not_sent(Outcome::ConfigError, Some(note)),
            Err(error) => {
                tracing::warn!(%error, delivery.id = %delivery.id, "a subscription could not be read; the delivery was released");
                AttemptResult::NotStarted
            }
        }
    }

    async fn find(&self, delivery: &Delivery) -> Result<Found, sqlx::Error> {
        let (tenant, endpoint) = (&delivery.event.tenant_id, delivery.endpoint_id);
        match with_timeout(push_subscriptions::find(&self.db, &self.keyring, tenant, None, endpoint)).await {
            Ok(Some(stored)) if stored.active => Ok(Found::Ready(Arc::new(Known::new(tenant, stored)))),
            Ok(Some(_) | None) => Ok(Found::Gone),
            Err(SealedError::Database(error)) if !is_of_what_is_stored(&error) => Err(error),
            Err(error) => {
                tracing::error!(%error, tenant.id = %tenant, endpoint = %endpoint, "a push subscription cannot be read");
                Ok(Found::Unusable("The stored subscription of this browser cannot be read, or not be decrypted."))
            }
        }
    }

    /// Why nothing may be sent to the subscription now.
    fn paused(&self, tenant: &TenantId, known: &Known) -> Option<&'static str> {
        let now = Instant::now();
        if known.paused_until.is_some_and(|until| until > now) {
            return Some(
                "The push service asked for a pause for this browser, or refused it; the message was not sent.",
            );
        }
        let is_paused = self.services.includes(tenant, known.recipient.host(), now);
        is_paused.then_some("The push service refused several users; it is paused, and the message was not sent.")
    }

    /// Does to the subscription what its push service has said.
    async fn follow(&self, tenant: &TenantId, key: (EndpointId, i32), known: &Known, sent: &Sent) {
        match sent.attempt.outcome {
            Outcome::Gone => self.gone(key).await,
            Outcome::Delivered if !known.was_accepted.load(Ordering::Relaxed) => {
                self.accepted(tenant, key, known).await;
            }
            _ => {}
        }
        if sent.key_mismatch {
            self.disable(tenant, key).await;
        }
        if let Some(pause) = sent.pause {
            self.pause(tenant, key, known, pause).await;
        }
    }

    /// Once for each subscription.
    async fn accepted(&self, tenant: &TenantId, (endpoint, version): (EndpointId, i32), known: &Known) {
        match with_timeout(push_pauses::note_accepted(&self.db, tenant, endpoint, version)).await {
            Ok(()) => known.was_accepted.store(true, Ordering::Relaxed),
            // The next accepted message notes it.
            Err(error) => tracing::warn!(%error, endpoint = %endpoint, "an accepted subscription could not be noted"),
        }
    }

    /// Deliveries that were claimed before see the pause in memory, later ones have another version and read it.
    async fn pause(&self, tenant: &TenantId, key: (EndpointId, i32), known: &Known, pause: Duration) {
        let (endpoint, version) = key;
        self.recipients.insert(key, Found::Ready(Arc::new(known.paused(pause)))).await;
        if let Err(error) = with_timeout(push_pauses::pause(&self.db, tenant, endpoint, version, pause)).await {
            // This process knows of the pause; others learn it by a refusal of their own.
            tracing::warn!(%error, endpoint = %endpoint, "the pause of a push subscription could not be stored");
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
        match with_timeout(push_subscriptions::disable(&self.db, tenant, endpoint, version, reason)).await {
            Ok(_) => self.recipients.insert(key, Found::Gone).await,
            // The next message to it is refused in the same way.
            Err(error) => tracing::warn!(%error, endpoint = %endpoint, "a push subscription could not be disabled"),
        }
    }
}

impl Known {
    fn new(tenant: &TenantId, stored: StoredSubscription) -> Self {
        let StoredSubscription { user, subscription, vapid_key_id, was_accepted, pause_left, .. } = stored;
        Self {
            recipient: Arc::new(Recipient::new(tenant.clone(), user, subscription, vapid_key_id)),
            was_accepted: AtomicBool::new(was_accepted),
            paused_until: pause_left.map(|left| Instant::now() + left),
        }
    }

    fn paused(&self, pause: Duration) -> Self {
        Self {
            recipient: Arc::clone(&self.recipient),
            was_accepted: AtomicBool::new(self.was_accepted.load(Ordering::Relaxed)),
            paused_until: self.paused_until.max(Some(Instant::now() + pause)),
        }
    }
}

fn not_sent(outcome: Outcome, note: Option<&str>) -> AttemptResult {
    AttemptResult::Outcome(Attempt::not_sent(outcome, note.map(str::to_owned)))
}

/// Keeps the number of subscriptions in sight until `stop`.
pub async fn count_subscriptions(db: Db, metrics: Metrics, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match with_timeout(push_subscriptions::count_active(&db)).await {
            Ok(subscriptions) => metrics.set_push_subscriptions(subscriptions),
            Err(error) => tracing::debug!(%error, "the push subscriptions could not be counted"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(COUNT_EVERY) => {}
        }
    }
}
