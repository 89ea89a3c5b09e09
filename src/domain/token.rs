//! API tokens: the secret that a caller shows, its hash that is stored, and what a token stands for.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::ids::TokenId;
use super::names::TenantId;
use super::role::Role;

/// Longest name of a token, in characters.
pub const MAX_TOKEN_NAME_CHARS: usize = 100;
/// Tells a token of this service from other secrets, for people and for scanners of leaked secrets.
const PREFIX: &str = "ftn_";
const SECRET_BYTES: usize = 32;

/// The secret of a token. Shown once, when the token is made; never stored and never logged.
pub struct TokenSecret([u8; SECRET_BYTES]);

impl TokenSecret {
    /// A secret of random bytes that the caller has drawn.
    pub const fn from_random(bytes: [u8; SECRET_BYTES]) -> Self {
        Self(bytes)
    }

    /// Reads a token's text; `None` when it cannot be a token, so that nobody needs to look for it.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix(PREFIX)?).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// The text that the caller sends.
    pub fn expose(&self) -> String {
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.0))
    }

    /// What is stored. A fast hash is enough: 256 random bits cannot be guessed.
    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.0).into())
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSecret(redacted)")
    }
}

/// SHA-256 of a token's secret bytes. Finding a token by it is no comparison of secrets, so its time tells nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Whose things a token may touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenScope {
    Tenant(TenantId),
    AllTenants,
}

impl TokenScope {
    /// The tenant as it is stored; `None` is all tenants.
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Tenant(tenant) => Some(tenant),
            Self::AllTenants => None,
        }
    }

    /// The scope of a stored tenant; `None` is all tenants.
    pub fn from_tenant(tenant: Option<TenantId>) -> Self {
        tenant.map_or(Self::AllTenants, Self::Tenant)
    }
}

/// Why a text cannot name a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {MAX_TOKEN_NAME_CHARS} characters without control characters")]
pub struct TokenNameError;

/// What a person calls a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenName(String);

impl TokenName {
    pub fn parse(text: impl Into<String>) -> Result<Self, TokenNameError> {
        let text = text.into();
        let fits = (1..=MAX_TOKEN_NAME_CHARS).contains(&text.chars().count());
        if fits && !text.chars().any(char::is_control) { Ok(Self(text)) } else { Err(TokenNameError) }
    }

    /// A name that was checked when it was stored.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A token to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    pub name: TokenName,
    pub role: Role,
    pub scope: TokenScope,
    /// `None`: until it is revoked.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub id: TokenId,
    pub name: TokenName,
    pub role: Role,
    pub scope: TokenScope,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
    /// To the minute; `None`: never used.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl Token {
    /// Whether the token opens anything at `now`.
    pub fn is_valid(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_reads_back_and_is_never_debugged() {
        let secret = TokenSecret::from_random([7; 32]);
        let text = secret.expose();
        assert_eq!(text.len(), "ftn_".len() + 43);
        assert_eq!(TokenSecret::parse(&text).unwrap().hash(), secret.hash());
        assert_eq!(format!("{secret:?}"), "TokenSecret(redacted)");
    }

    #[test]
    fn what_cannot_be_a_token_is_refused_unseen() {
        let text = TokenSecret::from_random([7; 32]).expose();
        for other in ["", "ftn_", &text[4..], &text[..text.len() - 1], &format!("{text}A"), &text.replace("ftn", "FTN")]
        {
            assert!(TokenSecret::parse(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_token_is_valid_until_the_moment_it_expires() {
        let at = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        let mut token = Token {
            id: TokenId::from_uuid(uuid::Uuid::nil()),
            name: TokenName::parse("billing").unwrap(),
            role: Role::Service,
            scope: TokenScope::AllTenants,
            created_at: at,
            expires_at: Some(at),
            revoked_at: None,
            last_used_at: None,
        };
        assert!(!token.is_valid(at));
        assert!(token.is_valid(at - chrono::TimeDelta::milliseconds(1)));
        token.revoked_at = Some(at);
        token.expires_at = None;
        assert!(!token.is_valid(at));
    }
}
