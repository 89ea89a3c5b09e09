//! Signatures of Standard Webhooks, version 1: HMAC-SHA-256 over id, time and body.
//!
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

/// The prefix of a secret in text form.
pub(super) const PREFIX: &str = "whsec_";

/// Length of a generated secret in bytes.
const SECRET_BYTES: usize = 32;
/// Allowed lengths of an imported secret in bytes, as in the specification.
const SECRET_RANGE: std::ops::RangeInclusive<usize> = 24..=64;

/// Length of one signature in the header: `v1,`, the base64 of 32 bytes, and a space unless it is the last signature.
const SIGNATURE_BYTES: usize = 48;

/// The block size of SHA-256. HMAC pads shorter keys with zeros to this size.
const BLOCK_BYTES: usize = 64;

/// Why a text is not a valid signing secret. The error never contains the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("must begin with {PREFIX}")]
    MissingPrefix,
    #[error("must be {PREFIX} followed by base64")]
    NotBase64,
    #[error("must contain {} to {} bytes", SECRET_RANGE.start(), SECRET_RANGE.end())]
    WrongLength,
}

#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the system's random source failed")]
pub struct NoRandomness;

/// A key that an endpoint shares with this service. Its memory is zeroed on drop, and `Debug` does not show it.
#[derive(Clone)]
pub struct SigningSecret {
    bytes: Zeroizing<Vec<u8>>,
    /// The HMAC state after processing the key. It is computed once.
    mac: Hmac<Sha256>,
}

impl SigningSecret {
    /// Generates a secret with the system's random source.
    pub fn generate() -> Result<Self, NoRandomness> {
        let mut bytes = Zeroizing::new(vec![0; SECRET_BYTES]);
        getrandom::fill(&mut bytes).map_err(|_unavailable| NoRandomness)?;
        Ok(Self::from_bytes(bytes))
    }

    /// Parses `whsec_` followed by the base64 of 24 to 64 bytes.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError::MissingPrefix)?;
        let bytes = STANDARD.decode(encoded).map(Zeroizing::new).map_err(|_position| SecretError::NotBase64)?;
        if !SECRET_RANGE.contains(&bytes.len()) {
            return Err(SecretError::WrongLength);
        }
        Ok(Self::from_bytes(bytes))
    }

    fn from_bytes(bytes: Zeroizing<Vec<u8>>) -> Self {
        let mut key = [0; BLOCK_BYTES];
        key[..bytes.len()].copy_from_slice(&bytes);
        let mac = Hmac::new(&key.into());
        key.zeroize();
        Self { bytes, mac }
    }

    /// The secret as text. It is stored encrypted and shown to the integrator once.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", STANDARD.encode(self.bytes.as_slice())))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(..)")
    }
}

impl PartialEq for SigningSecret {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for SigningSecret {}

/// The value of the header `webhook-signature`: one signature for each secret, so that a receiver needs only one of the secrets
/// during a rotation. `None` if there are no secrets.
pub(super) fn signatures(secrets: &[SigningSecret], id: &str, timestamp: &str, body: &[u8]) -> Option<String> {
    let mut value = String::with_capacity((secrets.len() * SIGNATURE_BYTES).saturating_sub(1));
    for secret in secrets {
        let mut mac = secret.mac.clone();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        if !value.is_empty() {
            value.push(' ');
        }
        value.push_str("v1,");
        STANDARD.encode_string(mac.finalize().into_bytes(), &mut value);
    }
    Some(value).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_the_specifications_example_as_published() {
        let secret = SigningSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let value = signatures(&[secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(value.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn parses_the_shown_text_of_a_secret() {
        let secret = SigningSecret::generate().unwrap();
        assert_eq!(secret.reveal().len(), PREFIX.len() + 44);
        assert_eq!(SigningSecret::parse(&secret.reveal()), Ok(secret));
    }

    #[test]
    fn rejects_texts_that_are_not_secrets() {
        for (text, error) in [
            ("C2FVsBQIhrscChlQIMV+b5sSYspob7oD", SecretError::MissingPrefix),
            ("whsec_###", SecretError::NotBase64),
            ("whsec_", SecretError::WrongLength),
            ("whsec_AAAA", SecretError::WrongLength),
        ] {
            assert_eq!(SigningSecret::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        let secret = SigningSecret::generate().unwrap();
        assert_eq!(format!("{secret:?}"), "SigningSecret(..)");
    }
}
