//! Tickets for streams: the secret that a browser shows once in a URL, where it cannot send headers.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// Tells a ticket from a token, for people and for scanners of leaked secrets.
const PREFIX: &str = "ftt_";
const SECRET_BYTES: usize = 32;

/// The secret of a ticket. Never stored and never logged.
pub struct TicketSecret([u8; SECRET_BYTES]);

impl TicketSecret {
    /// A secret of random bytes that the caller has drawn.
    pub const fn from_random(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// Reads a ticket's text; `None` when it cannot be a ticket, so that nobody needs to look for it.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// The text that stands in the URL; it needs no escaping there.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.0))
    }

    /// What is stored. A fast hash is enough: 256 random bits cannot be guessed.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketSecret(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_reads_back_and_is_never_debugged() {
        let ticket = TicketSecret::from_random([7; 32]);
        let text = ticket.expose();
        assert_eq!(TicketSecret::parse(&text).unwrap().hash(), ticket.hash());
        assert_eq!(format!("{ticket:?}"), "TicketSecret(redacted)");
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')), "{text}");
    }

    #[test]
    fn what_cannot_be_a_ticket_is_refused_unseen() {
        let text = TicketSecret::from_random([7; 32]).expose();
        for other in ["", "ftt_", &text[4..], &text[..text.len() - 1], &text.replace("ftt", "ftn")] {
            assert!(TicketSecret::parse(other).is_none(), "{other}");
        }
    }
}
