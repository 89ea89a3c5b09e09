//! VAPID (RFC 8292) identifies this deployment to push services by a signed token. A token is valid for an origin, not for
//! one message.
//!
//! Signing a token takes much longer than encrypting a message, so one token is used for all endpoints of its origin for
//! hours.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use rustls::pki_types::PrivateSec1KeyDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use web_push::{PartialVapidSignatureBuilder, SubscriptionInfo, VapidSignatureBuilder};

use crate::domain::push_endpoint::PushEndpoint;

/// How long a token is valid. Push services reject tokens that are valid for more than 24 h.
const LIFE: TimeDelta = TimeDelta::hours(12);
/// A token is replaced when it expires in less than 6 h. So a push service with a wrong clock still accepts the token.
const RENEW_BELOW: TimeDelta = TimeDelta::hours(6);
/// Maximum number of cached tokens. Each host needs a token, and one of the five vendors uses an unlimited number of hosts.
const MAX_TOKENS: usize = 1_000;
/// Size of a P-256 private key in bytes.
const SCALAR_BYTES: usize = 32;

/// Why a text is not a private key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VapidKeyError {
    #[error("is neither a P-256 private key as base64url (32 bytes) nor the path of a PEM file with one")]
    Base64,
    #[error("names a file without a P-256 private key in PEM form")]
    Pem,
}

/// A token could not be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a VAPID token could not be signed")]
pub(super) struct SigningError;

/// A VAPID key pair. `Debug` shows only the id of the key. Cloning derives the public key again. This takes as long as
/// encrypting a message.
#[derive(Clone)]
pub struct VapidKey {
    id: String,
    public_key: String,
    signer: PartialVapidSignatureBuilder,
}

impl fmt::Debug for VapidKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VapidKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl VapidKey {
    /// Parses the 32 bytes of a private key from base64url, with or without padding.
    pub fn from_base64(text: &str) -> Result<Self, VapidKeyError> {
        let text = text.trim_end_matches('=');
        // The `web-push` crate panics if the key does not have 32 bytes.
        if URL_SAFE_NO_PAD.decode(text).is_ok_and(|scalar| scalar.len() != SCALAR_BYTES) {
            return Err(VapidKeyError::Base64);
        }
        VapidSignatureBuilder::from_base64_no_sub(text).map(Self::new).map_err(|_invalid| VapidKeyError::Base64)
    }

    /// Parses a private key in PEM form: SEC1 (`BEGIN EC PRIVATE KEY`) or PKCS#8 (`BEGIN PRIVATE KEY`).
    pub fn from_pem(pem: &str) -> Result<Self, VapidKeyError> {
        // The `web-push` crate also panics on the key of a longer curve.
        if PrivateSec1KeyDer::from_pem_slice(pem.as_bytes()).is_ok_and(|key| !is_p256(key.secret_sec1_der())) {
            return Err(VapidKeyError::Pem);
        }
        VapidSignatureBuilder::from_pem_no_sub(pem.as_bytes()).map(Self::new).map_err(|_invalid| VapidKeyError::Pem)
    }

    fn new(signer: PartialVapidSignatureBuilder) -> Self {
        let point = signer.get_public_key();
        let hash: [u8; 32] = Sha256::digest(&point).into();
        let id = format!("{:016x}", u64::from_be_bytes(std::array::from_fn(|at| hash[at])));
        Self { id, public_key: URL_SAFE_NO_PAD.encode(point), signer }
    }

    /// The id of the key, which subscriptions store: the first 16 hex digits of the public key's hash.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public key that browsers subscribe with: an uncompressed point, encoded as 87 characters of base64url.
    pub fn public_key(&self) -> &str {
        &self.public_key
    }
}

/// True if an `ECPrivateKey` (RFC 5915, 3) starts with version 1 and a private key of 32 bytes. P-256 keys have this length.
fn is_p256(der: &[u8]) -> bool {
    let version_and_length = [2, 1, 1, 4, 32];
    der.windows(version_and_length.len()).take(5).any(|window| window == version_and_length)
}

/// The VAPID keys of a deployment, and the cached tokens that they signed. Clones share the cache.
#[derive(Clone)]
pub struct VapidKeys {
    current: VapidKey,
    retired: Vec<VapidKey>,
    subject: String,
    tokens: Arc<Mutex<HashMap<(String, String), Token>>>,
}

struct Token {
    authorization: Arc<str>,
    expires_at: DateTime<Utc>,
}

impl fmt::Debug for VapidKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VapidKeys").field("current", &self.current).finish_non_exhaustive()
    }
}

impl VapidKeys {
    /// New subscriptions use the `current` key. The `retired` keys sign for older subscriptions. `subject` is the operator's
    /// contact for push services: a `mailto:` or an `https:` URI.
    pub fn new(current: VapidKey, retired: Vec<VapidKey>, subject: String) -> Self {
        Self { current, retired, subject, tokens: Arc::default() }
    }

    pub fn current(&self) -> &VapidKey {
        &self.current
    }

    pub fn find(&self, id: &str) -> Option<&VapidKey> {
        std::iter::once(&self.current).chain(&self.retired).find(|key| key.id == id)
    }

    /// The value of the header `Authorization` for the endpoint's origin (RFC 8292, 3): a token and the public key. The token
    /// comes from the cache or is newly signed. Signing takes up to 0.5 ms.
    pub(super) fn authorization(
        &self,
        key: &VapidKey,
        endpoint: &PushEndpoint,
        now: DateTime<Utc>,
    ) -> Result<Arc<str>, SigningError> {
        let origin = endpoint.origin();
        let place = (key.id.clone(), origin.clone());
        if let Some(token) = self.tokens.lock().get(&place).filter(|token| token.expires_at - now >= RENEW_BELOW) {
            return Ok(Arc::clone(&token.authorization));
        }
        let expires_at = now + LIFE;
        // The `web-push` crate derives the audience from the endpoint. The code below replaces this audience.
        let info = SubscriptionInfo::new(origin.as_str(), "", "");
        let mut builder = key.signer.clone().add_sub_info(&info);
        // The default audience of the `web-push` crate lacks the port, and its default subject is not our contact.
        builder.add_claim("aud", origin);
        builder.add_claim("sub", self.subject.as_str());
        builder.add_claim("exp", expires_at.timestamp());
        let signature = builder.build().map_err(|_invalid| SigningError)?;
        let authorization: Arc<str> = format!("vapid t={}, k={}", signature.auth_t, key.public_key).into();
        let mut tokens = self.tokens.lock();
        if tokens.len() >= MAX_TOKENS {
            tokens.clear();
        }
        tokens.insert(place, Token { authorization: Arc::clone(&authorization), expires_at });
        Ok(authorization)
    }

    /// Removes a token that a push service rejected. The next message gets a new token.
    pub(super) fn forget(&self, key: &VapidKey, endpoint: &PushEndpoint) {
        self.tokens.lock().remove(&(key.id.clone(), endpoint.origin()));
    }
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::domain::push_hosts::{PushHost, PushHosts};

    /// A key pair that another implementation generated.
    const PUBLIC: &str = "BMjQIp55pdbU8pfCBKyXcZjlmER_mXt5LqNrN1hrXbdBS5EnhIbMu3Au-RV53iIpztzNXkGI56BFB1udQ8Bq_H4";
    const PRIVATE: &str = "IQ9Ur0ykXoHS9gzfYX0aBjy9lvdrjx_PFUXmie9YRcY";

    fn keys() -> VapidKeys {
        VapidKeys::new(VapidKey::from_base64(PRIVATE).unwrap(), Vec::new(), "mailto:push@flametree.dev".to_owned())
    }

    fn at(hours: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + hours * 3_600, 0).unwrap()
    }

    fn token(keys: &VapidKeys, endpoint: &str, now: DateTime<Utc>) -> String {
        let hosts = PushHosts::new(vec![PushHost::parse("push.internal:8443").unwrap()], false);
        let parsed = PushEndpoint::parse(endpoint, &hosts).unwrap();
        let authorization = keys.authorization(keys.current(), &parsed, now).unwrap();
        let token = authorization.strip_prefix("vapid t=").unwrap();
        token.strip_suffix(&format!(", k={PUBLIC}")).unwrap().to_owned()
    }

    fn claims(token: &str) -> serde_json::Value {
        let part = token.split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn derives_the_public_key_and_the_id_of_a_key() {
        let key = VapidKey::from_base64(&format!("{PRIVATE}=")).unwrap();
        assert_eq!(key.public_key(), PUBLIC);
        assert_eq!(key.id().len(), 16);
        assert!(!format!("{key:?}").contains(PRIVATE));
        for wrong in ["", "AAAA", &"A".repeat(43), &"_".repeat(43), &PRIVATE.repeat(2)] {
            assert_eq!(VapidKey::from_base64(wrong).unwrap_err(), VapidKeyError::Base64, "{wrong}");
        }
    }

    #[test]
    fn reads_a_p256_key_from_either_pem_form() {
        let pem = |bytes: &[u8]| {
            let text = STANDARD.encode(bytes);
            format!("-----BEGIN EC PRIVATE KEY-----\n{text}\n-----END EC PRIVATE KEY-----\n")
        };
        let scalar = URL_SAFE_NO_PAD.decode(PRIVATE).unwrap();
        let curve = [0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        let sec1 = [[0x30, 0x31, 2, 1, 1, 4, 32].as_slice(), &scalar, &curve].concat();
        assert_eq!(VapidKey::from_pem(&pem(&sec1)).unwrap().public_key(), PUBLIC);
        let longer = [[0x30, 0x35, 2, 1, 1, 4, 48].as_slice(), &[1; 48]].concat();
        for wrong in ["", "no key", &pem(&longer), &pem(&sec1[..20])] {
            assert_eq!(VapidKey::from_pem(wrong).unwrap_err(), VapidKeyError::Pem, "{wrong}");
        }
    }

    #[test]
    fn a_token_names_the_origin_with_its_port_and_the_operator() {
        let claims = claims(&token(&keys(), "https://push.internal:8443/a?b", at(0)));
        assert_eq!(claims["aud"], "https://push.internal:8443");
        assert_eq!(claims["sub"], "mailto:push@flametree.dev");
        assert_eq!(claims["exp"], at(12).timestamp());
    }

    #[test]
    fn a_token_is_reused_until_six_hours_before_it_expires() {
        let keys = keys();
        let first = token(&keys, "https://fcm.googleapis.com/wp/a", at(0));
        assert_eq!(token(&keys, "https://fcm.googleapis.com/wp/b", at(6)), first);
        assert_ne!(token(&keys, "https://web.push.apple.com/a", at(6)), first);
        let second = token(&keys, "https://fcm.googleapis.com/wp/a", at(7));
        assert_ne!(second, first);
        assert_eq!(claims(&second)["exp"], at(19).timestamp());
    }
}
