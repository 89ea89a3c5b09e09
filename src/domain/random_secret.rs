//! Secrets that callers send: 256 random bits and a checksum. The caller gets a text with a prefix that names the kind of
//! secret. The database stores only a hash. The checksum detects random guesses and typing errors without a lookup.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

const SECRET_BYTES: usize = 32;
/// Secret and checksum together need no base64 padding. A random text has a valid checksum with a probability of 2^-32.
const CHECKSUM_BYTES: usize = 4;

/// A kind of secret, such as API tokens.
pub trait SecretKind {
    /// The prefix of the secret's text, which users and scanners for leaked secrets recognize.
    const PREFIX: &'static str;
}

/// A secret of one kind. It is shown once, when it is created, and never stored or logged.
pub struct RandomSecret<K> {
    bytes: [u8; SECRET_BYTES],
    kind: PhantomData<K>,
}

impl<K: SecretKind> RandomSecret<K> {
    /// Creates a secret from random bytes.
    pub const fn from_random(bytes: [u8; SECRET_BYTES]) -> Self {
        Self { bytes, kind: PhantomData }
    }

    /// Parses a secret; `None` if the text cannot be a secret of this kind. No lookup is then needed.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(K::PREFIX)?).ok()?;
        let (secret, checksum) = bytes.split_at_checked(SECRET_BYTES)?;
        let secret = Self::from_random(secret.try_into().ok()?);
        (secret.checksum() == checksum).then_some(secret)
    }

    /// True if the text has the prefix of this kind, even if the secret is invalid.
    pub fn is_of_kind(text: &str) -> bool {
        text.starts_with(K::PREFIX)
    }

    /// The first bytes of SHA-256 over the prefix and the secret.
    fn checksum(&self) -> [u8; CHECKSUM_BYTES] {
        let digest: [u8; 32] = Sha256::new().chain_update(K::PREFIX).chain_update(self.bytes).finalize().into();
        let [a, b, c, d, ..] = digest;
        [a, b, c, d]
    }

    /// The text that the caller sends. It needs no URL escaping.
    pub fn expose(&self) -> String {
        let bytes = [self.bytes.as_slice(), &self.checksum()].concat();
        format!("{}{}", K::PREFIX, URL_SAFE_NO_PAD.encode(bytes))
    }

    /// The hash that is stored. A fast hash is enough, because 256 random bits cannot be guessed.
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.bytes).into())
    }
}

impl<K> fmt::Debug for RandomSecret<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RandomSecret(redacted)")
    }
}

/// SHA-256 of a secret's bytes. The database compares hashes, not secrets, so the duration of a lookup reveals nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::stream_ticket::TicketSecret;
    use crate::domain::token::TokenSecret;

    #[test]
    fn a_secret_round_trips_and_debug_hides_it() {
        let secret = TokenSecret::from_random([7; 32]);
        let text = secret.expose();
        assert_eq!(text.len(), "ftn_".len() + 48);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')), "{text}");
        assert_eq!(TokenSecret::parse(&text).unwrap().hash(), secret.hash());
        assert_eq!(format!("{secret:?}"), "RandomSecret(redacted)");
    }

    #[test]
    fn the_checksum_detects_each_wrong_character() {
        let text = TokenSecret::from_random([7; 32]).expose();
        for at in 4..text.len() {
            let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
            let wrong = [&text[..at], other, &text[at + 1..]].concat();
            assert!(TokenSecret::parse(&wrong).is_none() && TokenSecret::is_of_kind(&wrong), "{wrong}");
        }
        let without_checksum = format!("ftn_{}", "A".repeat(43));
        assert!(TokenSecret::parse(&without_checksum).is_none());
    }

    #[test]
    fn rejects_invalid_secrets_without_a_lookup() {
        let text = TokenSecret::from_random([7; 32]).expose();
        let (shorter, longer) = (&text[..text.len() - 1], format!("{text}A"));
        for other in ["", "ftn_", &text[4..], shorter, &longer, &text.replace("ftn", "FTN")] {
            assert!(TokenSecret::parse(other).is_none(), "{other}");
        }
        assert!(TicketSecret::parse(&text).is_none());
        assert!(TicketSecret::parse(&text.replace("ftn", "ftt")).is_none());
    }
}
