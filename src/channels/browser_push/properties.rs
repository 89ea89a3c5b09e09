//! Properties that must hold for every subscription and every response of a push service. `crate::fuzzing` checks them.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use super::answer::Meaning;
use super::encryption_pool::{self, PushMessage};
use super::{Recipient, VapidKey, VapidKeys, redact};
use crate::domain::delivery::Outcome;
use crate::domain::names::{TenantId, UserId};
use crate::domain::push_subscription::PushSubscription;
use crate::domain::secret_text::SecretText;

/// The maximum pause that a push service can request.
const LONGEST_PAUSE: Duration = Duration::from_mins(15);

static KEYS: LazyLock<VapidKeys> = LazyLock::new(|| {
    let Ok(key) = VapidKey::from_base64(&URL_SAFE_NO_PAD.encode([7; 32])) else { panic!("a key") };
    VapidKeys::new(key, Vec::new(), "mailto:ops@example.com".to_owned())
});

/// A subscription. No part of its endpoint occurs in other text by chance.
static SUBSCRIPTION: LazyLock<PushSubscription> = LazyLock::new(|| {
    // The base point of P-256.
    let point = "BGsX0fLhLEJH-Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU";
    let body = json!({"endpoint": "https://fcm.googleapis.com/fcm/send/dQw4w9WgXcQ:APA91bHsecret?token=aB%2fsecret2",
                      "p256dh": point, "auth": "BwcHBwcHBwcHBwcHBwcHBw"});
    let Some(subscription) = PushSubscription::from_text(&SecretText::new(body.to_string())) else { panic!("{body}") };
    subscription
});

/// Checks that a message can be encrypted for every accepted subscription.
pub fn assert_encrypted_for(subscription: PushSubscription) {
    let names = (TenantId::from_stored("acme".to_owned()), UserId::from_stored("user-7".to_owned()));
    let recipient = Recipient::new(names.0, names.1, subscription, KEYS.current().id().to_owned());
    let recipient = Arc::new(recipient);
    let message = PushMessage {
        recipient: Arc::clone(&recipient),
        json: b"{}".to_vec(),
        ttl_seconds: 60,
        topic: None,
        now: DateTime::UNIX_EPOCH,
    };
    let Ok(encrypted) = encryption_pool::encrypt(&KEYS, message) else { panic!("cannot encrypt for {recipient:?}") };
    assert!(super::headers(&encrypted).is_ok() && !encrypted.body.is_empty());
}

/// Interprets the input as a response. Two bytes are the status, and one byte selects the host. The rest consists of the
/// value of `Retry-After`, a zero byte, and the body.
pub fn answer(input: &[u8]) {
    let Some(([high, low, host], rest)) = input.split_first_chunk::<3>() else { return };
    let Ok(status) = StatusCode::from_u16(100 + u16::from_be_bytes([*high, *low]) % 900) else { return };
    let host = ["fcm.googleapis.com", "par02p.notify.windows.com", "x"][usize::from(host % 3)];
    let (pause, body) = rest.split_at(rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len()));
    let pause = HeaderValue::from_bytes(pause).ok();
    let headers: HeaderMap = pause.into_iter().map(|value| (RETRY_AFTER, value)).collect();
    for now in [DateTime::UNIX_EPOCH, DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
        let meaning = Meaning::of(status, &headers, body, host, now);
        if let Meaning::Throttled(pause) = meaning {
            assert!((Duration::from_secs(1)..=LONGEST_PAUSE).contains(&pause), "{pause:?}");
        }
        assert_eq!(meaning.outcome() == Outcome::Delivered, status.is_success(), "{status}");
        assert_eq!(meaning.outcome() == Outcome::Gone, [404, 410].contains(&status.as_u16()), "{status}");
        assert!(meaning != Meaning::KeyMismatch || [400, 401, 403].contains(&status.as_u16()), "{status}");
    }
    let shown = redact::redactor(&SUBSCRIPTION, "").apply(String::from_utf8_lossy(body).into_owned());
    for secret in ["APA91bHsecret", "dQw4w9WgXcQ", "aB%2fsecret2", SUBSCRIPTION.endpoint.url().as_str()] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
