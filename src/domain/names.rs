//! Opaque names that the platform chooses. The service compares them by bytes and never interprets them.

use std::fmt;

use serde::Serialize;

/// Maximum length of a name, in bytes. It is enough for any platform's ids, and small enough for index keys.
pub const MAX_NAME_BYTES: usize = 128;

/// The reason why a text is not a valid name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("must not be empty")]
    Empty,
    #[error("must be at most {MAX_NAME_BYTES} bytes")]
    TooLong,
    #[error("must not contain control characters")]
    ControlCharacter,
}

fn check(text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong);
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::ControlCharacter);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Parses a name: 1 to 128 bytes without control characters.
            pub fn parse(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                check(&text)?;
                Ok(Self(text))
            }

            /// Wraps a name from the database, which was checked before it was stored.
            pub fn from_stored(text: String) -> Self {
                Self(text)
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            pub fn into_string(self) -> String {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A customer of the platform; no data crosses from one tenant to another.
    TenantId
);
name!(
    /// An AI assistant that a tenant configures.
    AgentId
);
name!(
    /// A conversation of a customer with an agent.
    SessionId
);
name!(
    /// The person who writes to an agent.
    CustomerId
);
name!(
    /// A user of the portal.
    UserId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_empty_and_too_long_names_and_control_characters() {
        assert_eq!(TenantId::parse(""), Err(NameError::Empty));
        assert_eq!(TenantId::parse("a\u{0}"), Err(NameError::ControlCharacter));
        assert_eq!(TenantId::parse("é".repeat(65)), Err(NameError::TooLong));
        assert!(TenantId::parse("é".repeat(64)).is_ok());
    }
}
