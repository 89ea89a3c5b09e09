//! The receiving side of RFC 8291 and 8292: browsers that subscribe, and the checks of a push service. This module uses a library
//! that the service does not use.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ece::LocalKeyPair;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde_json::{Value, json};

use super::wire::Seen;

/// The private and the public key of the tests' VAPID key pair.
pub(crate) const KEY: [&str; 2] = [
    "IQ9Ur0ykXoHS9gzfYX0aBjy9lvdrjx_PFUXmie9YRcY",
    "BMjQIp55pdbU8pfCBKyXcZjlmER_mXt5LqNrN1hrXbdBS5EnhIbMu3Au-RV53iIpztzNXkGI56BFB1udQ8Bq_H4",
];
/// The browser's key pair in the example of RFC 8291, section 5. Tests use it as a second VAPID key.
pub(crate) const OTHER_KEY: [&str; 2] = [
    "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94",
    "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
];
pub(crate) const SUBJECT: &str = "mailto:push@flametree.dev";

pub(crate) struct Browser {
    key: Box<dyn LocalKeyPair>,
    auth: [u8; 16],
    /// The path and query of the endpoint. They are secret, because they permit sending to this browser.
    pub(crate) path: String,
}

impl Browser {
    pub(crate) fn new(name: &str) -> Self {
        let (key, auth) = ece::generate_keypair_and_auth_secret().unwrap();
        Self { key, auth, path: format!("/wpush/v2/{name}-5ecret-capability%2F1?token=a%2bB-5ecret") }
    }

    pub(crate) fn endpoint(&self, origin: &str) -> String {
        format!("{origin}{}", self.path)
    }

    /// The result of `PushSubscription.toJSON()`.
    pub(crate) fn subscription(&self, origin: &str) -> Value {
        json!({
            "endpoint": self.endpoint(origin), "expirationTime": null,
            "keys": {"p256dh": self.p256dh(), "auth": self.auth()},
        })
    }

    pub(crate) fn p256dh(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.key.pub_as_raw().unwrap())
    }

    pub(crate) fn auth(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.auth)
    }

    /// The decrypted message for the service worker.
    pub(crate) fn read(&self, seen: &Seen) -> Value {
        assert_eq!(seen.header("content-encoding"), "aes128gcm");
        assert!(seen.body.len() <= 4_096, "{} bytes", seen.body.len());
        let text = ece::decrypt(&self.key.raw_components().unwrap(), &self.auth, &seen.body).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

/// The verified claims of a VAPID token, and the key that signed it.
pub(crate) fn vapid(authorization: &str) -> (Value, String) {
    let parameters = authorization.strip_prefix("vapid ").unwrap();
    let parameter = |name: &str| {
        let mut found = parameters.split(',').map(str::trim).filter_map(|one| one.strip_prefix(name));
        found.next().unwrap_or_else(|| panic!("no {name} in {parameters}")).to_owned()
    };
    let (token, key) = (parameter("t="), parameter("k="));
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let point = URL_SAFE_NO_PAD.decode(&key).unwrap();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
        .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let part = |text| serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap();
    assert_eq!(part(header)["alg"], "ES256");
    (part(claims), key)
}
