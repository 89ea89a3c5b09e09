//! Published test vectors for each algorithm, and invalid keys. HTTP tests cover which routes a token can use.

use jsonwebtoken::crypto::verify;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Value, json};

use super::key_set::{KeySet, KeySetError};
use super::{Key, KeyError, signatures};

/// RFC 7515, A.1 to A.3: the payload of all three examples.
const JOE: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const RSA_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-\
    yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBE\
    Ma2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9g\
    b54h4FRWyuXpoQ";
const RSA_SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp\
    5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN93\
    83LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp\
    0igcN_IoypGlUPQGe77Rw";
const RSA_PEM: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAofgWCuLjybRlzo0tZWJj
NiuSfb4p4fAkd/wWJcyQoTbji9k0l8W26mPddxHmfHQp+Vaw+4qPCJrcS2mJPMEz
P1Pt0Bm4d4QlL+yRT+SFd2lZS+pCgNMsD1W/YpRPEwOWvG6b32690r2jZ47soMZo
9wGzjb/7OMg0LOL+bSf63kpaSHSXndS5z5rexMdbBYUsLA9e+KXBdQOS+UTo7WTB
EMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6/I5IhlJH7aGhyxX
FvUK+DWNmoudF8NAco9/h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXp
oQIDAQAB
-----END PUBLIC KEY-----
";
const P256_PEM: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEf83OJ3D2xF1Bg8vub9tLe1gHMzV7
6e8Tus9uPHvRVEXH8UTNG72bfocs3+257rn0s2ldbqkLJK2KRiMohYjlrQ==
-----END PUBLIC KEY-----
";
const ED25519_PEM: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=
-----END PUBLIC KEY-----
";
/// RSA with 1,024 bits.
const SMALL_RSA_PEM: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDOcUfuXRwoUWhQCKZKSKqSCNNg
X1F7WZjn3O8+jsoc6Pb22Vmw9TOBCggQsbkKJRiMp1tMrfO0a62GsLreHfT9ykoG
EUJ9pCT9ApJjkjezlm7zcORx0j4C77M+3V+up3gp5iJAgsy5EULDJc/3AZmHtEdo
OOHLTM1rA0j0sjgupwIDAQAB
-----END PUBLIC KEY-----
";
const P384_PEM: &str = "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEwLICUWIO25+5ZfGb8eR3jT4XT0hklozN
xKAiAc8NWC95QNAmlhkoFTYaH4Q5sBq0P8j1zotIwAnuc9Kt0lXBjkzT9A66bJ3l
35mTpJLjCtqyMkvyNN4sznAkHW3bd92t
-----END PUBLIC KEY-----
";
/// Its point has as many bytes as a point of P-256.
const SECP256K1_PEM: &str = "-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAELvpnpxwH8LmgBnUlWnQUkbAbO2lSSVWe
xVGAQE9rIunzRqf/M33dCOzs24/HHYawWrSH+iiHfNVSr9JlH0uasA==
-----END PUBLIC KEY-----
";

fn rsa_jwk() -> Value {
    json!({"kty": "RSA", "n": RSA_N, "e": "AQAB"})
}

fn p256_jwk() -> Value {
    let (x, y) = ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
    json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})
}

fn ed25519_jwk() -> Value {
    json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
}

fn from_jwk(jwk: Value) -> Option<Key> {
    Key::from_jwk(&serde_json::from_value(jwk).unwrap())
}

#[test]
fn verifies_the_examples_of_the_rfcs_with_pem_and_jwk_keys() {
    signatures::use_ring();
    let rs256 = format!("eyJhbGciOiJSUzI1NiJ9.{JOE}");
    let es256 = format!("eyJhbGciOiJFUzI1NiJ9.{JOE}");
    let es256_signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    // RFC 8037, A.4.
    let eddsa = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc".to_owned();
    let eddsa_signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    for (algorithm, pem, jwk, message, signature) in [
        (Algorithm::RS256, RSA_PEM, rsa_jwk(), rs256, RSA_SIGNATURE),
        (Algorithm::ES256, P256_PEM, p256_jwk(), es256, es256_signature),
        (Algorithm::EdDSA, ED25519_PEM, ed25519_jwk(), eddsa, eddsa_signature),
    ] {
        for key in [Key::from_pem(pem).unwrap(), from_jwk(jwk).unwrap()] {
            assert_eq!(key.algorithm(), algorithm);
            assert!(verify(signature, message.as_bytes(), key.decoding(), algorithm).unwrap(), "{algorithm:?}");
            let other = format!("{message}A");
            assert!(!verify(signature, other.as_bytes(), key.decoding(), algorithm).unwrap(), "{algorithm:?}");
            assert!(!verify("", message.as_bytes(), key.decoding(), algorithm).unwrap(), "{algorithm:?}");
        }
    }
    let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let secret = from_base64(secret);
    let hs256 = format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{JOE}");
    let signature = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    assert!(verify(signature, hs256.as_bytes(), &secret, Algorithm::HS256).unwrap());
    assert!(!verify(&signature.replace('d', "e"), hs256.as_bytes(), &secret, Algorithm::HS256).unwrap());
}

fn from_base64(text: &str) -> DecodingKey {
    use base64::Engine as _;
    DecodingKey::from_secret(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).unwrap())
}

#[test]
fn a_key_does_not_verify_signatures_of_another_algorithm() {
    signatures::use_ring();
    // In a well-known attack, the attacker uses the public key as an HMAC secret.
    let rsa = Key::from_pem(RSA_PEM).unwrap();
    let point = Key::from_pem(P256_PEM).unwrap();
    assert!(!verify("", JOE.as_bytes(), rsa.decoding(), Algorithm::HS256).unwrap_or(false));
    assert!(!verify(RSA_SIGNATURE, JOE.as_bytes(), point.decoding(), Algorithm::RS256).unwrap_or(false));
    assert!(verify(RSA_SIGNATURE, JOE.as_bytes(), rsa.decoding(), Algorithm::RS512).is_err(), "not supported");
}

#[test]
fn rejects_invalid_keys_without_showing_them() {
    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIBt8TF2yH08M65uZNwY73B4BEsJAFQ6r0JtX8EL9kHw0\n\
        -----END PRIVATE KEY-----\n";
    let both = format!("{ED25519_PEM}{private}");
    let truncated = RSA_PEM.replace("oQIDAQAB\n", "");
    for (pem, expected) in [
        ("", KeyError::NotAKey),
        ("MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", KeyError::NotAKey),
        (truncated.as_str(), KeyError::NotAKey),
        (private, KeyError::Private),
        (both.as_str(), KeyError::Private),
        (SMALL_RSA_PEM, KeyError::RsaSize),
        (P384_PEM, KeyError::UnknownType),
        (SECP256K1_PEM, KeyError::UnknownType),
    ] {
        assert_eq!(Key::from_pem(pem).unwrap_err(), expected, "{pem}");
    }
    assert_eq!(Key::from_secret(&"x".repeat(31)).unwrap_err(), KeyError::ShortSecret);
    let secret = Key::from_secret(&"hunter2-".repeat(4)).unwrap();
    assert_eq!(format!("{secret:?}"), "Key { algorithm: HS256, .. }");
}

#[test]
fn skips_unsupported_published_keys() {
    let with = |mut jwk: Value, name: &str, value: Value| {
        jwk[name] = value;
        jwk
    };
    for jwk in [
        json!({"kty": "oct", "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T"}),
        json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"}),
        with(rsa_jwk(), "use", json!("enc")),
        with(rsa_jwk(), "alg", json!("RS512")),
        with(rsa_jwk(), "alg", json!("HS256")),
        with(rsa_jwk(), "n", json!("AQAB")),
        with(rsa_jwk(), "key_ops", json!(["encrypt"])),
        with(p256_jwk(), "crv", json!("P-384")),
        with(p256_jwk(), "x", json!("AQAB")),
        with(ed25519_jwk(), "x", json!("AQAB")),
        with(ed25519_jwk(), "crv", json!("X25519")),
    ] {
        let set = json!({"keys": [jwk]}).to_string();
        assert_eq!(KeySet::parse(set.as_bytes()).unwrap_err(), KeySetError::NoKey, "{set}");
    }
    let fits = with(with(rsa_jwk(), "use", json!("sig")), "alg", json!("RS256"));
    assert!(from_jwk(fits).is_some());
}

#[test]
fn a_key_id_selects_its_key_and_a_missing_id_selects_the_only_key() {
    let named = |mut jwk: Value, name: &str| {
        jwk["kid"] = name.into();
        jwk
    };
    let one = json!({"keys": [named(rsa_jwk(), "a"), {"kty": "unheard of"}], "more": 1}).to_string();
    let one = KeySet::parse(one.as_bytes()).unwrap();
    assert_eq!(one.find(Some("a")).unwrap().algorithm(), Algorithm::RS256);
    assert_eq!(one.find(None).unwrap().algorithm(), Algorithm::RS256);
    assert!(one.find(Some("b")).is_none() && one.find(Some("A")).is_none());

    let two = json!({"keys": [named(rsa_jwk(), "a"), named(ed25519_jwk(), "b")]}).to_string();
    let two = KeySet::parse(two.as_bytes()).unwrap();
    assert_eq!(two.find(Some("b")).unwrap().algorithm(), Algorithm::EdDSA);
    assert!(two.find(None).is_none());

    let many = json!({"keys": vec![rsa_jwk(); 101]}).to_string();
    for (wrong, expected) in [
        ("", KeySetError::NotASet),
        ("[]", KeySetError::NotASet),
        (r#"{"keys":{}}"#, KeySetError::NotASet),
        (many.as_str(), KeySetError::TooMany),
        (r#"{"keys":[]}"#, KeySetError::NoKey),
    ] {
        assert_eq!(KeySet::parse(wrong.as_bytes()).unwrap_err(), expected);
    }
}
