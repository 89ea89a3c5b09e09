//! API tokens: the secret that a caller sends, the stored hash of this secret, and the access that a token gives.

use chrono::{DateTime, Utc};

use super::ids::TokenId;
use super::names::TenantId;
use super::random_secret::{RandomSecret, SecretKind};
use super::role::Role;

/// Maximum length of a token's name, in characters.
pub const MAX_TOKEN_NAME_CHARS: usize = 100;

/// The secret of a token.
pub type TokenSecret = RandomSecret<OfToken>;

/// Marks a secret as an API token.
#[derive(Debug)]
pub enum OfToken {}

impl SecretKind for OfToken {
    const PREFIX: &'static str = "ftn_";
}

/// The tenants that a token may access.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenScope {
    Tenant(TenantId),
    AllTenants,
}

impl TokenScope {
    /// The stored tenant; `None` means all tenants.
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Tenant(tenant) => Some(tenant),
            Self::AllTenants => None,
        }
    }

    /// The scope of a stored tenant; `None` means all tenants.
    pub fn from_tenant(tenant: Option<TenantId>) -> Self {
        tenant.map_or(Self::AllTenants, Self::Tenant)
    }
}

/// The reason why a text cannot be the name of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {MAX_TOKEN_NAME_CHARS} characters without control characters")]
pub struct TokenNameError;

/// The name that a user gives to a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenName(String);

impl TokenName {
    pub fn parse(text: impl Into<String>) -> Result<Self, TokenNameError> {
        let text = text.into();
        let fits = (1..=MAX_TOKEN_NAME_CHARS).contains(&text.chars().count());
        if fits && !text.chars().any(char::is_control) { Ok(Self(text)) } else { Err(TokenNameError) }
    }

    /// Wraps a token name from the database, which was checked before it was stored.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A token to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    pub name: TokenName,
    pub role: Role,
    pub scope: TokenScope,
    /// When the token expires; `None` means that it is valid until it is revoked.
    pub expires_at: Option<DateTime<Utc>>,
    /// The actor who created the token; `None` if an operator created it with the command line.
    pub created_by: Option<String>,
}

/// A stored token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub id: TokenId,
    pub name: TokenName,
    pub role: Role,
    pub scope: TokenScope,
    /// The actor who created the token; `None` if an operator created it with the command line.
    pub created_by: Option<String>,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub revoked_at: Option<DateTime<Utc>>,
    /// The last use of the token, rounded to the minute; `None` if it was never used.
    pub last_used_at: Option<DateTime<Utc>>,
}

impl Token {
    pub fn is_valid(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_until_it_expires() {
        let at = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        let mut token = Token {
            id: TokenId::from_uuid(uuid::Uuid::nil()),
            name: TokenName::parse("billing").unwrap(),
            role: Role::Service,
            scope: TokenScope::AllTenants,
            created_by: None,
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
