//! A fake identity provider that creates keys of every type, and valid and invalid tokens of every kind.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use flametree_notify::domain::role::Role;
use flametree_notify::users::{Bounds, Key, KeySource, Settings};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData};
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};

use super::wire::answer;

/// The secret that most tests share with the provider.
pub(crate) const SECRET: &str = "a secret of the tests, which is longer than 32 bytes";

/// Settings that accept tokens signed with the tests' secret.
pub(crate) fn by_secret() -> Settings {
    by_key(Key::from_secret(SECRET).unwrap())
}

pub(crate) fn by_key(key: Key) -> Settings {
    Settings { keys: KeySource::One(key), issuer: None, audience: None }
}

/// Settings that accept tokens signed with the keys published at the URL.
pub(crate) fn by_url(url: &str, bounds: Bounds) -> Settings {
    let keys = KeySource::Published { url: url.parse().unwrap(), extra_roots: Vec::new(), bounds };
    Settings { keys, issuer: None, audience: None }
}

/// Claims that are valid for ten minutes.
pub(crate) fn claims(role: Role, tenant: &str) -> Value {
    json!({"sub": "user-7", "tenant_id": tenant, "role": role.as_str(), "exp": in_seconds(600)})
}

/// Changes one of the claims, or removes the claim if the value is null.
pub(crate) fn with(mut claims: Value, name: &str, value: Value) -> Value {
    match value {
        Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
        value => claims[name] = value,
    }
    claims
}

pub(crate) fn in_seconds(seconds: i64) -> i64 {
    chrono::Utc::now().timestamp() + seconds
}

/// A valid token signed with the tests' secret.
pub(crate) fn person(role: Role, tenant: &str) -> String {
    Signer::secret(SECRET).token(&claims(role, tenant))
}

/// A signing key.
pub(crate) enum Signer {
    Hs256(hmac::Key),
    Rs256(RsaKeyPair),
    Es256(KeyPair),
    EdDsa(KeyPair),
}

impl Signer {
    pub(crate) fn secret(secret: &str) -> Self {
        Self::Hs256(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// The published key of RFC 7515, A.2. ring cannot generate RSA keys.
    pub(crate) fn rsa() -> Self {
        let part = |index: usize| URL_SAFE_NO_PAD.decode(RFC_7515_RSA[index]).unwrap();
        let components = ring::rsa::KeyPairComponents {
            public_key: ring::rsa::PublicKeyComponents { n: part(0), e: part(1) },
            d: part(2),
            p: part(3),
            q: part(4),
            dP: part(5),
            dQ: part(6),
            qInv: part(7),
        };
        Self::Rs256(RsaKeyPair::from_components(&components).unwrap())
    }

    pub(crate) fn p256() -> Self {
        Self::Es256(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
    }

    pub(crate) fn ed25519() -> Self {
        Self::EdDsa(KeyPair::generate_for(&PKCS_ED25519).unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Hs256(_) => "HS256",
            Self::Rs256(_) => "RS256",
            Self::Es256(_) => "ES256",
            Self::EdDsa(_) => "EdDSA",
        }
    }

    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({"alg": self.algorithm(), "typ": "JWT"}), claims)
    }

    /// A token whose header names the key by this id.
    pub(crate) fn named(&self, kid: &str, claims: &Value) -> String {
        self.token_with(&json!({"alg": self.algorithm(), "kid": kid}), claims)
    }

    /// A token with this header, even if the header is wrong.
    pub(crate) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let message = unsigned(header, claims);
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes())))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Hs256(key) => hmac::sign(key, message).as_ref().to_vec(),
            Self::Rs256(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Es256(key) => {
                let der = key.serialize_der();
                let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der, &random).unwrap();
                key.sign(&random, message).unwrap().as_ref().to_vec()
            }
            Self::EdDsa(key) => {
                let der = key.serialize_der();
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).unwrap().sign(message).as_ref().to_vec()
            }
        }
    }

    /// The public key as PEM. RSA is not supported here, because another test covers RSA with a published PEM.
    pub(crate) fn pem(&self) -> String {
        match self {
            Self::Es256(key) | Self::EdDsa(key) => key.public_key_pem(),
            Self::Hs256(_) | Self::Rs256(_) => panic!("no PEM for this key"),
        }
    }

    /// The public key in the JSON form that a provider publishes.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Hs256(_) => panic!("a secret is not published"),
            Self::Rs256(_) => json!({"kid": kid, "kty": "RSA", "n": RFC_7515_RSA[0], "e": RFC_7515_RSA[1]}),
            Self::Es256(key) => {
                let (x, y) = key.der_bytes()[1..].split_at(32);
                json!({"kid": kid, "kty": "EC", "crv": "P-256", "x": text(x), "y": text(y), "use": "sig"})
            }
            Self::EdDsa(key) => {
                json!({"kid": kid, "kty": "OKP", "crv": "Ed25519", "x": text(key.der_bytes()), "alg": "EdDSA"})
            }
        }
    }
}

pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// The response of a provider that publishes these keys.
pub(crate) fn published(keys: &[Value]) -> Vec<u8> {
    answer("200 OK", "content-type: application/json\r\n", json!({"keys": keys}).to_string().as_bytes())
}

/// RFC 7515, A.2: n, e, d, p, q, dp, dq, qi.
const RFC_7515_RSA: [&str; 8] = [
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMs\
     D1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdV\
     MTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    "AQAB",
    "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0\
     BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYT\
     CBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
    "4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPG\
     BY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
    "uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA\
     -njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
    "BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb\
     34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0",
    "h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-ky\
     NlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU",
    "IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLU\
     W0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U",
];
