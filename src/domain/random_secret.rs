//! Secrets that callers show: 256 random bits, as text with letters in front that tell their kind, and as a hash.

use std::fmt;
use std::marker::PhantomData;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

const SECRET_BYTES: usize = 32;

/// What a secret opens.
pub trait SecretKind {
    /// Stands before the text, for people and for scanners of leaked secrets.
    const PREFIX: &'static str;
}

/// A secret of one kind. Shown once, when it is made; never stored and never logged.
pub struct RandomSecret<K> {
    bytes: [u8; SECRET_BYTES],
    kind: PhantomData<K>,
}

impl<K: SecretKind> RandomSecret<K> {
    /// A secret of random bytes that the caller has drawn.
    pub const fn from_random(bytes: [u8; SECRET_BYTES]) -> Self {
        Self { bytes, kind: PhantomData }
    }

    /// Reads a secret's text; `None` when it cannot be one of this kind, so that nobody needs to look for it.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(K::PREFIX)?).ok()?;
        bytes.try_into().ok().map(Self::from_random)
    }

    /// The text that the caller sends; it needs no escaping in a URL.
    pub fn expose(&self) -> String {
        format!("{}{}", K::PREFIX, URL_SAFE_NO_PAD.encode(self.bytes))
    }

    /// What is stored. A fast hash is enough: 256 random bits cannot be guessed.
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.bytes).into())
    }
}

impl<K> fmt::Debug for RandomSecret<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RandomSecret(redacted)")
    }
}

/// SHA-256 of a secret's bytes. Finding what it opens by it is no comparison of secrets, so its time tells nothing.
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
    fn a_secret_reads_back_and_is_never_debugged() {
        let secret = TokenSecret::from_random([7; 32]);
        let text = secret.expose();
        assert_eq!(text.len(), "ftn_".len() + 43);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')), "{text}");
        assert_eq!(TokenSecret::parse(&text).unwrap().hash(), secret.hash());
        assert_eq!(format!("{secret:?}"), "RandomSecret(redacted)");
    }

    #[test]
    fn what_cannot_be_a_secret_of_the_kind_is_refused_unseen() {
        let text = TokenSecret::from_random([7; 32]).expose();
        let (shorter, longer) = (&text[..text.len() - 1], format!("{text}A"));
        for other in ["", "ftn_", &text[4..], shorter, &longer, &text.replace("ftn", "FTN")] {
            assert!(TokenSecret::parse(other).is_none(), "{other}");
        }
        assert!(TicketSecret::parse(&text).is_none());
        assert!(TicketSecret::parse(&text.replace("ftn", "ftt")).is_some());
    }
}
