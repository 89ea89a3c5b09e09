//! Portal users, authenticated by a JWT of their identity provider.
//!
//! The key, never the token, selects the algorithm. A secret selects HS256, and a public key selects the algorithm of its
//! type. This module checks the signature, the times, the issuer and the audience. Then it reads the user, the tenant and the
//! role from the claims, and ignores other claims. It uses no HTTP framework and no database.

mod claims;
mod fetch;
mod key;
mod key_set;
#[cfg(any(test, fuzzing))]
pub mod properties;
mod published;
mod signatures;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Header, Validation, decode, decode_header, get_current_timestamp};
use rustls::pki_types::CertificateDer;
use url::Url;

use self::claims::Claims;
pub use self::claims::Person;
pub use self::fetch::BuildError;
pub use self::key::{Key, KeyError, MIN_SECRET_BYTES};
pub use self::published::Bounds;
use self::published::{NoKey, PublishedKeys};
use crate::supervision::Stage;

/// Maximum length of a token, in bytes. Identity providers issue much shorter tokens.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// The allowed difference between the clocks of the identity provider and of this machine, in seconds.
pub const LEEWAY_SECONDS: u64 = 60;

/// Which tokens are accepted.
#[derive(Debug, Clone)]
pub struct Settings {
    pub keys: KeySource,
    /// The required issuer (`iss`); `None` accepts any issuer.
    pub issuer: Option<String>,
    /// The required audience (`aud`); `None` rejects tokens that name an audience.
    pub audience: Option<String>,
}

/// The source of the keys that verify tokens.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// One key from the settings.
    One(Key),
    /// The keys that the identity provider publishes, found by their key id (`kid`).
    Published {
        url: Url,
        /// Certificate authorities that are trusted for the URL in addition to the public ones.
        extra_roots: Vec<CertificateDer<'static>>,
        bounds: Bounds,
    },
}

/// Why a token does not identify its bearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The token is not valid. The reason is only for the log.
    #[error("{0}")]
    Invalid(&'static str),
    /// The token has expired, so its bearer needs a new token.
    #[error("the token has expired")]
    Expired,
    /// The published keys are not available now, so the token cannot be checked.
    #[error("the keys of the identity provider are not available")]
    KeysUnavailable,
}

/// Verifies the tokens of users.
#[derive(Debug)]
pub struct UserAuthenticator {
    keys: Keys,
    /// All checks except the algorithm, which depends on the key.
    rules: Validation,
}

#[derive(Debug)]
enum Keys {
    One(Key),
    Published(PublishedKeys),
}

impl UserAuthenticator {
    /// Starts a task that keeps published keys up to date. Does not wait for the first fetch.
    pub fn start(settings: Settings, stage: &Stage) -> Result<Self, BuildError> {
        signatures::use_ring();
        let rules = rules(&settings);
        let keys = match settings.keys {
            KeySource::One(key) => Keys::One(key),
            KeySource::Published { url, extra_roots, bounds } => {
                Keys::Published(PublishedKeys::start(url, &extra_roots, bounds, stage)?)
            }
        };
        Ok(Self { keys, rules })
    }

    /// The user that the token identifies. Waits only if keys must be fetched first. The call can be canceled safely.
    pub async fn identify(&self, token: &str) -> Result<Person, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Invalid("the token is too long"));
        }
        let header = decode_header(token).map_err(|error| refusal(error.kind()))?;
        if header.crit.is_some() {
            // RFC 7515, 4.1.11: tokens with an unknown critical extension must be rejected, and this service supports no
            // extension.
            return Err(Refusal::Invalid("the token has critical extensions"));
        }
        match &self.keys {
            Keys::One(key) => self.read(token, &header, key),
            Keys::Published(keys) => {
                let key = keys.find(header.kid.as_deref()).await.map_err(|no_key| match no_key {
                    NoKey::Unknown => Refusal::Invalid("the token names a key that is not published"),
                    NoKey::Unavailable => Refusal::KeysUnavailable,
                })?;
                self.read(token, &header, &key)
            }
        }
    }

    fn read(&self, token: &str, header: &Header, key: &Key) -> Result<Person, Refusal> {
        if header.alg != key.algorithm() {
            return Err(Refusal::Invalid("the token's algorithm does not match the key"));
        }
        let mut rules = self.rules.clone();
        rules.algorithms = vec![key.algorithm()];
        let token = decode::<Claims>(token, key.decoding(), &rules).map_err(|error| refusal(error.kind()))?;
        token.claims.person(get_current_timestamp()).map_err(Refusal::Invalid)
    }
}

fn rules(settings: &Settings) -> Validation {
    let mut rules = Validation { leeway: LEEWAY_SECONDS, validate_nbf: true, ..Validation::default() };
    let mut required = vec!["exp", "sub"];
    if let Some(issuer) = &settings.issuer {
        rules.set_issuer(&[issuer]);
        required.push("iss");
    }
    if let Some(audience) = &settings.audience {
        rules.set_audience(&[audience]);
        required.push("aud");
    }
    rules.set_required_spec_claims(&required);
    rules
}

/// The reason for the rejection. Omits the library's text, which may contain a part of the token.
fn refusal(kind: &ErrorKind) -> Refusal {
    match kind {
        ErrorKind::ExpiredSignature => Refusal::Expired,
        ErrorKind::ImmatureSignature => Refusal::Invalid("the token is not valid yet"),
        ErrorKind::InvalidSignature => Refusal::Invalid("the signature is wrong"),
        ErrorKind::InvalidIssuer => Refusal::Invalid("the token is from an unexpected issuer"),
        ErrorKind::InvalidAudience => Refusal::Invalid("the token is for an unexpected audience"),
        ErrorKind::MissingRequiredClaim(_) => Refusal::Invalid("a claim is missing"),
        _ => Refusal::Invalid("this is not a token"),
    }
}

#[cfg(test)]
mod tests;
