//! A browser's push subscription: its endpoint, and the keys for messages that only the browser can decrypt.
//!
//! The whole subscription is secret, because anyone who knows the endpoint can send to it. Its debug output is a name.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::push_endpoint::PushEndpoint;
use super::secret_text::SecretText;

/// Maximum number of subscriptions per user. A further subscription replaces the subscription with the oldest registration.
pub const MAX_PER_PERSON: i64 = 20;
/// Maximum length of a label, in characters.
pub const MAX_LABEL_CHARS: usize = 100;

/// An uncompressed point of P-256 (RFC 8291, 3.1).
pub type PublicPoint = [u8; 65];

/// The subscription data of a browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushSubscription {
    pub endpoint: PushEndpoint,
    pub keys: BrowserKeys,
}

/// The keys to encrypt messages to a browser (RFC 8291, 3).
#[derive(Clone, PartialEq, Eq)]
pub struct BrowserKeys {
    pub p256dh: PublicPoint,
    pub auth: Zeroizing<[u8; 16]>,
}

impl BrowserKeys {
    /// True if both subscriptions have the same `auth` secret.
    pub fn has_same_secret(&self, other: &Self) -> bool {
        // Compares hashes, so that the duration does not depend on the secrets.
        Sha256::digest(*self.auth) == Sha256::digest(*other.auth)
    }
}

impl fmt::Debug for BrowserKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BrowserKeys(..)")
    }
}

/// The JSON form in which a subscription is encrypted and stored.
#[derive(Serialize, Deserialize)]
struct SubscriptionJson<'a> {
    endpoint: &'a str,
    p256dh: String,
    auth: Zeroizing<String>,
}

impl PushSubscription {
    /// The text to seal.
    pub fn to_text(&self) -> SecretText {
        let json = SubscriptionJson {
            endpoint: self.endpoint.url().as_str(),
            p256dh: URL_SAFE_NO_PAD.encode(self.keys.p256dh),
            auth: Zeroizing::new(URL_SAFE_NO_PAD.encode(*self.keys.auth)),
        };
        // Serializing a struct of strings cannot fail. The parser would reject the empty text.
        SecretText::new(serde_json::to_string(&json).unwrap_or_default())
    }

    /// Parses the text that `to_text` returns; `None` for any other text. Accepts hosts that the operator no longer allows.
    pub fn from_text(text: &SecretText) -> Option<Self> {
        let json: SubscriptionJson<'_> = serde_json::from_str(text.expose()).ok()?;
        let endpoint = PushEndpoint::read(json.endpoint).ok()?;
        let p256dh = decode(&json.p256dh)?;
        let auth = Zeroizing::new(decode(&json.auth)?);
        Some(Self { endpoint, keys: BrowserKeys { p256dh, auth } })
    }
}

/// A subscription in a request of a user's browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSubscription {
    pub subscription: PushSubscription,
    /// The name that the user gave to the browser.
    pub label: Option<String>,
}

/// The browser's old subscription, which only the browser and this service know, and the browser's new subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    pub old: PushSubscription,
    pub new: PushSubscription,
}

/// The reason why a text cannot be the label of a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {MAX_LABEL_CHARS} characters without control characters")]
pub struct LabelError;

/// The name that the user gave to the browser.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label(String);

impl Label {
    pub fn parse(text: String) -> Result<Self, LabelError> {
        let fits = (1..=MAX_LABEL_CHARS).contains(&text.chars().count());
        if fits && !text.chars().any(char::is_control) { Ok(Self(text)) } else { Err(LabelError) }
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

/// Decodes base64url. Also accepts padding and the standard base64 alphabet, which some libraries use.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}
