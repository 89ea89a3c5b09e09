//! A browser's push subscription: its endpoint, and the keys for messages that only the browser can decrypt.
//!
//! The whole subscription is secret, because anyone who knows the endpoint can send to it. Its debug output is a name.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::fault::{Fault, FaultCode};
use super::fields::Fields;
use super::push_endpoint::PushEndpoint;
use super::push_hosts::PushHosts;
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

impl NewSubscription {
    /// Parses a browser's subscription with a label. The function `is_on_curve` checks whether a point is on P-256.
    pub fn parse(
        body: Value,
        hosts: &PushHosts,
        is_on_curve: impl Fn(&PublicPoint) -> bool,
    ) -> Result<Self, Vec<Fault>> {
        Self::parse_at("", body, hosts, is_on_curve)
    }

    /// Parses a subscription at a JSON pointer in a body.
    pub(super) fn parse_at(
        pointer: &str,
        body: Value,
        hosts: &PushHosts,
        is_on_curve: impl Fn(&PublicPoint) -> bool,
    ) -> Result<Self, Vec<Fault>> {
        let mut fields = Fields::of(body, pointer).map_err(|fault| vec![fault])?;
        let endpoint = fields
            .required_text("endpoint")
            .and_then(|text| fields.parsed("endpoint", PushEndpoint::parse(&text, hosts)));
        if fields.take("expirationTime").is_some_and(|time| !time.is_number()) {
            fields.fault::<()>("expirationTime", FaultCode::InvalidType, "must be a number or null");
        }
        let label = fields.text("label").and_then(|label| label_of(&mut fields, label));
        let keys = read_keys(&mut fields, is_on_curve);
        let faults = fields.finish();
        match (endpoint, keys) {
            (Some(endpoint), Some(keys)) if faults.is_empty() => {
                Ok(Self { subscription: PushSubscription { endpoint, keys }, label })
            }
            _ => Err(faults),
        }
    }
}

fn label_of(fields: &mut Fields, label: String) -> Option<String> {
    let fits = (1..=MAX_LABEL_CHARS).contains(&label.chars().count()) && !label.chars().any(char::is_control);
    if fits {
        return Some(label);
    }
    let message = format!("must be 1 to {MAX_LABEL_CHARS} characters without control characters");
    fields.fault("label", FaultCode::InvalidValue, message)
}

/// Parses the two keys. Ignores other keys, which browsers may add.
fn read_keys(fields: &mut Fields, is_on_curve: impl Fn(&PublicPoint) -> bool) -> Option<BrowserKeys> {
    let keys = match fields.take("keys") {
        Some(Value::Object(keys)) => keys,
        Some(_) => return fields.fault("keys", FaultCode::InvalidType, "must be a JSON object"),
        None => return fields.fault("keys", FaultCode::Required, "is required"),
    };
    let mut key = |name: &str| match keys.get(name) {
        Some(Value::String(text)) => Some(text.as_str()),
        Some(_) => fields.fault(&format!("keys/{name}"), FaultCode::InvalidType, "must be a string"),
        None => fields.fault(&format!("keys/{name}"), FaultCode::Required, "is required"),
    };
    let (p256dh, auth) = (key("p256dh"), key("auth"));
    let p256dh = p256dh.and_then(|text| {
        let message = "must be an uncompressed point of P-256, 65 bytes as base64url";
        decode(text)
            .filter(|point| is_on_curve(point))
            .or_else(|| fields.fault("keys/p256dh", FaultCode::InvalidValue, message))
    });
    let auth = auth.and_then(|text| {
        let message = "must be 16 bytes as base64url";
        decode(text).or_else(|| fields.fault("keys/auth", FaultCode::InvalidValue, message))
    });
    Some(BrowserKeys { p256dh: p256dh?, auth: Zeroizing::new(auth?) })
}

/// Decodes base64url. Also accepts padding and the standard base64 alphabet, which some libraries use.
fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let text = text.trim_end_matches('=').replace('+', "-").replace('/', "_");
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ENDPOINT: &str = "https://fcm.googleapis.com/fcm/send/abc%2Fdef:APA91bH-_x?token=a%2bb";

    fn hosts() -> PushHosts {
        PushHosts::new(Vec::new(), false)
    }

    fn body() -> Value {
        let keys = json!({"p256dh": URL_SAFE_NO_PAD.encode([4; 65]), "auth": URL_SAFE_NO_PAD.encode([7; 16])});
        json!({"endpoint": ENDPOINT, "expirationTime": null, "keys": keys, "label": "Firefox at work"})
    }

    fn faults(body: Value) -> Vec<(String, FaultCode)> {
        let faults = NewSubscription::parse(body, &hosts(), |_| true).unwrap_err();
        faults.into_iter().map(|fault| (fault.pointer, fault.code)).collect()
    }

    #[test]
    fn a_browsers_subscription_round_trips_byte_for_byte() {
        let new = NewSubscription::parse(body(), &hosts(), |point| point[0] == 4).unwrap();
        assert_eq!(new.subscription.endpoint.url().as_str(), ENDPOINT);
        assert_eq!(new.label.as_deref(), Some("Firefox at work"));
        assert_eq!(PushSubscription::from_text(&new.subscription.to_text()), Some(new.subscription.clone()));
        assert_eq!(PushSubscription::from_text(&SecretText::new("{}")), None);
        let shown = format!("{new:?}");
        assert!(!shown.contains("APA91") && shown.contains("fcm.googleapis.com/"), "{shown}");
    }

    #[test]
    fn accepts_padded_keys_in_both_base64_alphabets() {
        let mut padded = body();
        let (point, auth) = ([4; 65].map(|byte: u8| byte | 0xfb), [0xff; 16]);
        padded["keys"]["p256dh"] = json!(base64::engine::general_purpose::STANDARD.encode(point));
        padded["keys"]["auth"] = json!(base64::engine::general_purpose::STANDARD.encode(auth));
        let new = NewSubscription::parse(padded, &hosts(), |_| true).unwrap();
        assert_eq!((new.subscription.keys.p256dh, *new.subscription.keys.auth), (point, auth));
    }

    #[test]
    fn every_fault_is_found() {
        assert_eq!(
            faults(json!({"label": "", "expirationTime": "soon", "more": 1})),
            [
                ("/endpoint".into(), FaultCode::Required),
                ("/expirationTime".into(), FaultCode::InvalidType),
                ("/label".into(), FaultCode::InvalidValue),
                ("/keys".into(), FaultCode::Required),
                ("/more".into(), FaultCode::UnknownField),
            ]
        );
        let mut wrong = body();
        wrong["keys"] = json!({"p256dh": URL_SAFE_NO_PAD.encode([4; 64]), "auth": URL_SAFE_NO_PAD.encode([7; 17])});
        let expected = ["/keys/p256dh", "/keys/auth"].map(|place| (place.to_owned(), FaultCode::InvalidValue));
        assert_eq!(faults(wrong), expected);
        let off_curve = NewSubscription::parse(body(), &hosts(), |_| false).unwrap_err();
        assert_eq!(off_curve[0].pointer, "/keys/p256dh");
    }
}
