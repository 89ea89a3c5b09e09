//! Values that are never printed.

use std::fmt;

use sqlx::postgres::PgConnectOptions;
use zeroize::Zeroizing;

/// A secret setting. Its memory is zeroed when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(Zeroizing<String>);

impl Secret {
    pub(super) fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value, for the module that uses it. Never pass it to a log, an error or a response.
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Options to connect to a database. They are never printed, because they can contain a password.
#[derive(Clone)]
pub struct DatabaseUrl(Box<PgConnectOptions>);

impl DatabaseUrl {
    pub(super) fn parse(url: &str) -> Option<Self> {
        let scheme = url.split_once("://").map(|(scheme, _)| scheme);
        if !matches!(scheme, Some("postgres" | "postgresql")) {
            return None;
        }
        // pgbouncer rejects connections that set extra_float_digits at startup.
        let options: PgConnectOptions = url.parse().ok()?;
        Some(Self(Box::new(options.extra_float_digits(None))))
    }

    pub fn connect_options(&self) -> PgConnectOptions {
        PgConnectOptions::clone(&self.0)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}
