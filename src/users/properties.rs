//! Properties that must hold for every token and every published key. The module `crate::fuzzing` checks them.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt as _;
use jsonwebtoken::{Algorithm, DecodingKeyKind, get_current_timestamp};
use ring::hmac;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::key_set::KeySet;
use super::{Key, KeySource, LEEWAY_SECONDS, MAX_TOKEN_BYTES, Person, Refusal, Settings, UserAuthenticator};
use crate::supervision::Supervisor;
use crate::telemetry::metrics::Metrics;

const SECRET: &str = "a secret that signs test tokens, longer than 32 bytes";

/// The expiry time of valid claims: 12 hours from now. The fuzzer's seeds contain the time [`END_OF_SEEDS`] instead.
static END: LazyLock<String> = LazyLock::new(|| (get_current_timestamp() + 12 * 3_600).to_string());
const END_OF_SEEDS: &str = "4102444800";

fn good_claims() -> String {
    format!(r#"{{"sub":"user-7","tenant_id":"acme","role":"operator","exp":{}}}"#, *END)
}

/// Signs tokens, and contains an authenticator that accepts these tokens.
struct Issuer {
    header: &'static str,
    sign: fn(&[u8]) -> Vec<u8>,
    users: UserAuthenticator,
    /// A valid token. The fuzzer has no other valid token.
    good: String,
}

static ISSUERS: LazyLock<[Issuer; 2]> = LazyLock::new(|| {
    let ed25519 = Key::from_pem(&ed25519_pem());
    [
        Issuer::new(r#"{"alg":"HS256","typ":"JWT"}"#, by_secret, Key::from_secret(SECRET).ok()),
        Issuer::new(r#"{"alg":"EdDSA"}"#, by_ed25519, ed25519.ok()),
    ]
});

fn by_secret(message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), message).as_ref().to_vec()
}

fn by_ed25519(message: &[u8]) -> Vec<u8> {
    ed25519().sign(message).as_ref().to_vec()
}

fn ed25519() -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap_or_else(|error| panic!("{error}"))
}

fn ed25519_pem() -> String {
    let mut der = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    der.extend_from_slice(ed25519().public_key().as_ref());
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}

impl Issuer {
    fn new(header: &'static str, sign: fn(&[u8]) -> Vec<u8>, key: Option<Key>) -> Self {
        let Some(key) = key else { panic!("no key for {header}") };
        let settings = Settings { keys: KeySource::One(key), issuer: None, audience: None };
        let supervisor = Supervisor::new(&Metrics::new("properties", "properties"), CancellationToken::new());
        let users = UserAuthenticator::start(settings, &supervisor.stage());
        let users = users.unwrap_or_else(|error| panic!("{error}"));
        let mut issuer = Self { header, sign, users, good: String::new() };
        issuer.good = issuer.token(header.as_bytes(), good_claims().as_bytes());
        assert!(issuer.identify(&issuer.good).is_ok(), "{} is rejected", issuer.good);
        issuer
    }

    fn token(&self, header: &[u8], claims: &[u8]) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        format!("{message}.{}", URL_SAFE_NO_PAD.encode((self.sign)(message.as_bytes())))
    }

    /// Identifies the user without waiting, because the key is in the settings.
    fn identify(&self, token: &str) -> Result<Person, Refusal> {
        self.users.identify(token).now_or_never().unwrap_or_else(|| panic!("{token} waits"))
    }
}

/// Tests the bytes as a token, as the header or the claims of a signed token, and as a change to a valid token.
pub fn token(input: &[u8]) {
    for issuer in &*ISSUERS {
        if let Ok(text) = str::from_utf8(input) {
            assert!(text == issuer.good || issuer.identify(text).is_err(), "{text} is accepted");
        }
        if let Some(changed) = changed(&issuer.good, input) {
            assert!(issuer.identify(&changed).is_err(), "{changed} is accepted; the valid token is {}", issuer.good);
        }
        let claims = str::from_utf8(input).map(|claims| claims.replace(END_OF_SEEDS, &END).into_bytes());
        let claims = claims.unwrap_or_else(|_binary| input.to_vec());
        let of_claims = issuer.token(issuer.header.as_bytes(), &claims);
        if let Ok(person) = issuer.identify(&of_claims) {
            assert!(of_claims.len() <= MAX_TOKEN_BYTES);
            assert_claimed(&person, &claims);
        }
        if issuer.identify(&issuer.token(input, good_claims().as_bytes())).is_ok() {
            let header: Value = serde_json::from_slice(input).unwrap_or_default();
            let own: Value = serde_json::from_str(issuer.header).unwrap_or_default();
            assert!(header["alg"] == own["alg"] && header.get("crit").is_none_or(Value::is_null), "{header}");
        }
    }
}

/// The token with one changed byte. The first two bytes of the input select the byte, and the third byte changes it.
fn changed(token: &str, how: &[u8]) -> Option<String> {
    let &[high, low, bits, ..] = how else { return None };
    let mut bytes = token.as_bytes().to_vec();
    let place = usize::from(u16::from_be_bytes([high, low])) % bytes.len();
    bytes[place] ^= bits;
    String::from_utf8(bytes).ok().filter(|changed| changed != token)
}

/// Asserts that the user matches the claims and that the token has not expired.
fn assert_claimed(person: &Person, claims: &[u8]) {
    let claims: Value = serde_json::from_slice(claims).unwrap_or_default();
    let named = [("sub", person.user.as_str()), ("tenant_id", person.tenant.as_str()), ("role", person.role.as_str())];
    for (claim, value) in named {
        assert_eq!(claims[claim].as_str(), Some(value), "{claims}");
    }
    let since_1970 = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a minute")]
    let ended = claims["exp"].as_f64().is_none_or(|exp| exp < since_1970 - 2.0 * LEEWAY_SECONDS as f64);
    assert!(!ended, "{claims}");
}

/// Tests the bytes as a JWK Set and as a PEM file.
pub fn keys(input: &[u8]) {
    if let Ok(keys) = KeySet::parse(input) {
        let document: Value = serde_json::from_slice(input).unwrap_or_default();
        let published = document["keys"].as_array().map_or(0, Vec::len);
        assert!((1..=published).contains(&keys.len()), "{} keys of {published}", keys.len());
        for name in document["keys"].as_array().into_iter().flatten().map(|key| key["kid"].as_str()) {
            keys.find(name).inspect(|key| assert_public(key));
        }
    }
    if let Ok(text) = str::from_utf8(input) {
        if let Ok(key) = Key::from_pem(text) {
            assert_public(&key);
            assert!(!text.contains("PRIVATE KEY-----\n") || !text.contains("-----BEGIN PRIVATE"), "a private key");
        }
        if let Ok(der) = SubjectPublicKeyInfoDer::from_pem_slice(input) {
            read_der(der.as_ref());
        }
    }
    read_der(input);
}

/// Asserts that the key is not a secret, because everyone could sign HS256 tokens with a published secret.
fn assert_public(key: &Key) {
    assert!([Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA].contains(&key.algorithm()), "{key:?}");
}

fn read_der(bytes: &[u8]) {
    let Ok(key) = Key::from_der(bytes) else { return };
    match key.decoding().kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => assert!(n.len() + e.len() < bytes.len()),
        DecodingKeyKind::SecretOrDer(point) => assert!(bytes.ends_with(point)),
    }
}
