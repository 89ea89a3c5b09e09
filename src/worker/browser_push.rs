//! Attempts of the browser push channel. An attempt finds and decrypts the subscription, passes it to the channel, and updates it
//! according to the push service's response.
//!
//! Each delivery has the version that its subscription had at the claim. A subscription that moves to another user gets a new
//! id, so no delivery for the previous user reaches the new user.
//!
//! While a subscription or its push service is paused, its deliveries are not sent and get the outcome `throttled`. The
//! queue does not know push services, so it would claim a released delivery again at once. A waiting delivery would hold a
//! permit, and a notification that is minutes late is useless.

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

/// The maximum number of decrypted subscriptions that are kept in memory.
const KEPT_SUBSCRIPTIONS: u64 = 10_000;
/// How long an unused decrypted subscription is kept in memory.
const KEEP_UNUSED: Duration = Duration::from_mins(5);
/// How often the subscriptions in the database are counted for the metric.
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

/// The result of a look-up of a subscription.
#[derive(Debug, Clone)]
enum Found {
    Ready(Arc<Known>),
    /// The subscription was removed or disabled after the claim.
    Gone,
    /// The stored subscription cannot be used.
    Unusable(&'static str),
}

#[derive(Debug)]
struct Known {
    recipient: Arc<Recipient>,
    /// True if the push service has accepted a message for this subscription.
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
            // The future is boxed, because most attempts find their subscription in memory and need no memory for a look-up.
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
                tracing::warn!(%error, delivery.id = %delivery.id, "could not read a subscription; released the delivery");
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
                tracing::error!(%error, tenant.id = %tenant, endpoint = %endpoint, "could not decode a push subscription");
                Ok(Found::Unusable("The stored subscription of this browser cannot be read or decrypted."))
            }
        }
    }

    /// Returns why nothing may be sent to the subscription now.
    fn paused(&self, tenant: &TenantId, known: &Known) -> Option<&'static str> {
        let now = Instant::now();
        if known.paused_until.is_some_and(|until| until > now) {
            return Some(
                "The push service asked for a pause, or refused an earlier message to this browser. The message was not sent.",
            );
        }
        let is_paused = self.services.includes(tenant, known.recipient.host(), now);
        is_paused
            .then_some("The push service refused messages to several users, so it is paused. The message was not sent.")
    }

    /// Updates the subscription according to the push service's response.
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

    /// Stores that the push service accepted a message. This happens once for each subscription.
    async fn accepted(&self, tenant: &TenantId, (endpoint, version): (EndpointId, i32), known: &Known) {
        match with_timeout(push_pauses::note_accepted(&self.db, tenant, endpoint, version)).await {
            Ok(()) => known.was_accepted.store(true, Ordering::Relaxed),
            // The next accepted message repeats the statement that failed.
            Err(error) => tracing::warn!(%error, endpoint = %endpoint, "could not mark a subscription as accepted"),
        }
    }

    /// Attempts of deliveries that are already claimed find the pause in memory. Attempts of later deliveries read the pause
    /// from the database.
    async fn pause(&self, tenant: &TenantId, key: (EndpointId, i32), known: &Known, pause: Duration) {
        let (endpoint, version) = key;
        self.recipients.insert(key, Found::Ready(Arc::new(known.paused(pause)))).await;
        if let Err(error) = with_timeout(push_pauses::pause(&self.db, tenant, endpoint, version, pause)).await {
            // This process keeps the pause in memory. Another process pauses the subscription when the push service refuses a
            // message of that process.
            tracing::warn!(%error, endpoint = %endpoint, "could not store the pause of a push subscription");
        }
    }

    /// Stops sending to this subscription. The transaction that records the outcome deletes the subscription's row.
    async fn gone(&self, key: (EndpointId, i32)) {
        let was_there = matches!(self.recipients.remove(&key).await, Some(Found::Ready(_)));
        self.recipients.insert(key, Found::Gone).await;
        // Counts a subscription once, even if several of its messages were in flight.
        if was_there {
            self.metrics.push_subscription_removed(RemovalReason::Gone);
        }
    }

    async fn disable(&self, tenant: &TenantId, key: (EndpointId, i32)) {
        let (endpoint, version) = key;
        let reason = DisabledReason::VapidKeyMismatch;
        match with_timeout(push_subscriptions::disable(&self.db, tenant, endpoint, version, reason)).await {
            Ok(_) => self.recipients.insert(key, Found::Gone).await,
            // The push service will also refuse the next message. The statement is then repeated.
            Err(error) => tracing::warn!(%error, endpoint = %endpoint, "could not disable a push subscription"),
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

/// Updates the metric of stored subscriptions until `stop`.
pub async fn count_subscriptions(db: Db, metrics: Metrics, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match with_timeout(push_subscriptions::count_active(&db)).await {
            Ok(subscriptions) => metrics.set_push_subscriptions(subscriptions),
            Err(error) => tracing::debug!(%error, "could not count push subscriptions"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(COUNT_EVERY) => {}
        }
    }
}
