//! The browser push channel: sends an encrypted message to one browser through the push service of the browser's vendor.
//!
//! One call is one attempt. When a push service rejects a message or asks for a pause, the attempt reports how long to
//! pause the subscription. The caller stores the pause, because it applies to all processes.

mod aes128gcm;
mod answer;
mod encryption_pool;
mod payload;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod redact;
mod vapid;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::HeaderMap;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, InvalidHeaderValue,
    USER_AGENT,
};
use tokio::time::Instant;

pub use self::aes128gcm::is_public_key;
use self::answer::Meaning;
pub use self::encryption_pool::EncryptedMessage;
use self::encryption_pool::{EncryptionPool, PushMessage};
pub use self::payload::{MAX_JSON_BYTES, Notice};
pub use self::vapid::{VapidKey, VapidKeyError, VapidKeys};
use super::http_client::{Answer, Post};
use super::webhook::{MAX_EXCERPT_BYTES, unanswered};
use super::{HttpClient, Target};
use crate::domain::delivery::{Attempt, AttemptDetail, Outcome};
use crate::domain::names::{TenantId, UserId};
use crate::domain::push_hosts::PushHosts;
use crate::domain::push_subscription::PushSubscription;
use crate::telemetry::metrics::{Metrics, RefusalReason};

/// How long a push service keeps a test message for an offline browser. Users send test messages to themselves and expect
/// them at once.
const TEST_TTL: Duration = Duration::from_mins(1);

const TTL: HeaderName = HeaderName::from_static("ttl");
const URGENCY: HeaderName = HeaderName::from_static("urgency");
const TOPIC: HeaderName = HeaderName::from_static("topic");

/// Operator settings for browser push.
#[derive(Debug, Clone)]
pub struct Settings {
    pub keys: VapidKeys,
    pub hosts: PushHosts,
    /// How long a push service keeps a message for an offline browser. Never zero, because some push services would then drop
    /// the message at once.
    pub ttl: Duration,
}

/// One browser of one user.
pub struct Recipient {
    tenant: TenantId,
    user: UserId,
    subscription: PushSubscription,
    vapid_key_id: String,
    target: Target,
}

/// Shows the endpoint in the form that logs use.
impl std::fmt::Debug for Recipient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Recipient({})", self.subscription.endpoint)
    }
}

impl Recipient {
    pub fn new(tenant: TenantId, user: UserId, subscription: PushSubscription, vapid_key_id: String) -> Self {
        let target = Target::new(subscription.endpoint.url().clone(), tenant.clone());
        Self { tenant, user, subscription, vapid_key_id, target }
    }

    /// The host of the push service.
    pub fn host(&self) -> &str {
        self.subscription.endpoint.host()
    }
}

/// The result of an attempt, and the resulting changes to the subscription.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    pub attempt: Attempt,
    /// True if the browser subscribed with another VAPID key. Messages can then no longer reach the browser.
    pub key_mismatch: bool,
    /// How long to pause the subscription; `None` if no pause is needed.
    pub pause: Option<Duration>,
}

impl Sent {
    /// The result of an attempt that does not change the subscription.
    fn only(attempt: Attempt) -> Self {
        Self { attempt, key_mismatch: false, pause: None }
    }
}

/// Sends messages to browsers. Cheap to clone; all clones share the cached tokens.
#[derive(Debug, Clone)]
pub struct PushSender(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    client: HttpClient,
    hosts: PushHosts,
    ttl: Duration,
    encryption_pool: Arc<EncryptionPool>,
    metrics: Metrics,
}

impl PushSender {
    pub fn new(settings: Settings, client: HttpClient, metrics: Metrics) -> Self {
        let Settings { keys, hosts, ttl } = settings;
        let encryption_pool = Arc::new(EncryptionPool::new(keys));
        Self(Arc::new(Shared { client, hosts, ttl, encryption_pool, metrics }))
    }

    pub fn keys(&self) -> &VapidKeys {
        self.0.encryption_pool.keys()
    }

    pub fn hosts(&self) -> &PushHosts {
        &self.0.hosts
    }

    /// Attempts to send the notice. Reports every failure as an outcome. Not cancel-safe: when the future is dropped, the
    /// push service may already have received the message.
    pub async fn send(&self, recipient: &Arc<Recipient>, notice: &Notice, now: DateTime<Utc>) -> Sent {
        let encrypted = match self.encrypt(recipient, notice, now).await {
            Ok(encrypted) => encrypted,
            Err(attempt) => return Sent::only(attempt),
        };
        let post = Post {
            to: &recipient.target,
            headers: &|| headers(&encrypted),
            body: encrypted.body.clone(),
            timeout: self.0.client.default_timeout(),
        };
        fail::fail_point!("send::before_request");
        let started = Instant::now();
        let result = self.0.client.post(&post).await;
        let duration = started.elapsed();
        let sent = match result {
            Ok(answer) => self.answered(recipient, &encrypted, &answer, duration, now),
            Err(failed) => Sent::only(unanswered(failed, duration)),
        };
        fail::fail_point!("send::after_response");
        sent
    }

    /// Encrypts the message without sending it. If the encryption fails, returns the failed attempt with the reason.
    pub async fn encrypt(
        &self,
        recipient: &Arc<Recipient>,
        notice: &Notice,
        now: DateTime<Utc>,
    ) -> Result<EncryptedMessage, Attempt> {
        let not_sent = |outcome, note: &str| Attempt::not_sent(outcome, Some(note.to_owned()));
        let endpoint = &recipient.subscription.endpoint;
        if !self.0.hosts.allow(endpoint.url()) {
            return Err(not_sent(
                Outcome::ConfigError,
                "The endpoint does not belong to a push service that this deployment allows.",
            ));
        }
        if self.keys().find(&recipient.vapid_key_id).is_none() {
            let note = "The browser subscribed with a VAPID key that this deployment does not have.";
            return Err(not_sent(Outcome::ConfigError, note));
        }
        let ttl = if notice.is_test() { TEST_TTL } else { self.0.ttl };
        let message = PushMessage {
            recipient: Arc::clone(recipient),
            json: notice.json(now),
            ttl_seconds: u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX).max(1),
            topic: notice.topic(&recipient.tenant, &recipient.user),
            now,
        };
        self.0.encryption_pool.encrypt(message).await.map_err(|error| {
            tracing::error!(%error, endpoint = %endpoint, "a browser push message could not be encrypted");
            not_sent(Outcome::ConfigError, "The message could not be encrypted for this browser.")
        })
    }

    fn answered(
        &self,
        recipient: &Recipient,
        encrypted: &EncryptedMessage,
        answer: &Answer,
        duration: Duration,
        now: DateTime<Utc>,
    ) -> Sent {
        let endpoint = &recipient.subscription.endpoint;
        let meaning = Meaning::of(answer.status, &answer.headers, &answer.body, endpoint.host(), now);
        self.learn(recipient, meaning);
        let readable = if answer.body.is_empty() {
            None
        } else {
            redact::redactor(&recipient.subscription, &encrypted.authorization).readable(answer, MAX_EXCERPT_BYTES)
        };
        let detail = (readable.is_some() || meaning.note().is_some()).then(|| AttemptDetail {
            note: meaning.note().map(str::to_owned),
            response_truncated: readable.as_ref().is_some_and(|(_, truncated)| *truncated),
            response_body: readable.map(|(text, _)| text),
        });
        let http_status = Some(answer.status.as_u16());
        let attempt = Attempt { outcome: meaning.outcome(), http_status, duration, detail };
        Sent { attempt, key_mismatch: meaning == Meaning::KeyMismatch, pause: meaning.pause() }
    }

    /// Counts and logs a rejection. If the push service rejected a token, removes the token from the cache.
    fn learn(&self, recipient: &Recipient, meaning: Meaning) {
        let endpoint = &recipient.subscription.endpoint;
        let metrics = &self.0.metrics;
        match meaning {
            Meaning::Throttled(pause) => {
                tracing::warn!(endpoint = %endpoint, pause_seconds = pause.as_secs(), "a push service asked for a pause");
            }
            Meaning::KeyMismatch => {
                metrics.push_refused(RefusalReason::KeyMismatch);
                tracing::warn!(endpoint = %endpoint, "a browser subscribed with another VAPID key");
            }
            Meaning::NotBelieved => {
                metrics.push_refused(RefusalReason::NotBelieved);
                if let Some(key) = self.keys().find(&recipient.vapid_key_id) {
                    self.keys().forget(key, endpoint);
                }
                tracing::error!(endpoint = %endpoint, "a push service rejected our VAPID token");
            }
            Meaning::Malformed => {
                metrics.push_refused(RefusalReason::Malformed);
                tracing::warn!(endpoint = %endpoint, "a push service rejected a request as malformed");
            }
            Meaning::Accepted | Meaning::Gone | Meaning::TooLarge | Meaning::Redirect | Meaning::Other => {}
        }
    }
}

fn headers(encrypted: &EncryptedMessage) -> Result<HeaderMap, InvalidHeaderValue> {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static(aes128gcm::NAME));
    headers.insert(USER_AGENT, HeaderValue::from_static(super::USER_AGENT));
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(TTL, HeaderValue::from(encrypted.ttl_seconds));
    headers.insert(URGENCY, HeaderValue::from_static("high"));
    if let Some(topic) = &encrypted.topic {
        headers.insert(TOPIC, HeaderValue::try_from(topic.as_str())?);
    }
    let mut authorization = HeaderValue::try_from(&*encrypted.authorization)?;
    authorization.set_sensitive(true);
    headers.insert(AUTHORIZATION, authorization);
    Ok(headers)
}
