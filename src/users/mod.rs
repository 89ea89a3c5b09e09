//! Portal users, authenticated by a JWT of their identity provider.
//!
//! The algorithm comes from the settings, never from the token: a secret means HS256, a public key means the algorithm
//! of its type, and with a JWKS the type of each key. Of the claims `sub`, `tenant_id` and `role` are used, once
//! the signature, `exp`, `nbf`, issuer and audience are right; nothing else in a token is believed. Knows no HTTP
//! framework and no database.

mod claims;
mod der;
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

/// Longest token that is looked at, in bytes; identity providers stay far below it.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// How far the clocks of the identity provider and of this machine may be apart, in seconds, for `exp` and `nbf`.
pub const LEEWAY_SECONDS: u64 = 60;

/// Whose tokens are believed.
#[derive(Debug, Clone)]
pub struct Settings {
    pub keys: KeySource,
    /// What `iss` must be; `None`: anything.
    pub issuer: Option<String>,
    /// What `aud` must name; `None`: a token may not be meant for anybody in particular.
    pub audience: Option<String>,
}

/// Where the keys come from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// The one key of the settings.
    One(Key),
    /// The keys that the identity provider publishes, found by their `kid`.
    Published {
        url: Url,
        /// Trusted for the URL besides the public certificate authorities.
        extra_roots: Vec<CertificateDer<'static>>,
        bounds: Bounds,
    },
}

/// Why a token tells nothing of its bearer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a token of these users; the reason is for the log alone.
    #[error("{0}")]
    Invalid(&'static str),
    /// It was good once: its bearer needs a new one.
    #[error("the token has expired")]
    Expired,
    /// The published keys cannot be read for now, so that nobody can tell.
    #[error("the keys of the identity provider cannot be read")]
    KeysUnavailable,
}

/// Verifies the tokens of users.
#[derive(Debug)]
pub struct UserAuthenticator {
    keys: Keys,
    /// Everything but the algorithm, which is the key's.
    rules: Validation,
}

#[derive(Debug)]
enum Keys {
    One(Key),
    Published(PublishedKeys),
}

impl UserAuthenticator {
    /// A task of the stage keeps published keys fresh. The first fetch may still be under way.
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

    /// The person whom the token speaks of. Cancel-safe; waits only where keys must be fetched first.
    pub async fn identify(&self, token: &str) -> Result<Person, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Invalid("the token is too long"));
        }
        let header = decode_header(token).map_err(|error| refusal(error.kind()))?;
        if header.crit.is_some() {
            // RFC 7515, 4.1.11: what is critical must be understood, and no extension is.
            return Err(Refusal::Invalid("the token has critical extensions"));
        }
        match &self.keys {
            Keys::One(key) => self.read(token, &header, key),
            Keys::Published(keys) => {
                let key = keys.find(header.kid.as_deref()).await.map_err(|no_key| match no_key {
                    NoKey::Unknown => Refusal::Invalid("the token names no key that is published"),
                    NoKey::Unavailable => Refusal::KeysUnavailable,
                })?;
                self.read(token, &header, &key)
            }
        }
    }

    fn read(&self, token: &str, header: &Header, key: &Key) -> Result<Person, Refusal> {
        if header.alg != key.algorithm() {
            return Err(Refusal::Invalid("the token is signed by another algorithm"));
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

/// What is wrong, without anything of the token in it: what the library says may repeat a part.
fn refusal(kind: &ErrorKind) -> Refusal {
    match kind {
        ErrorKind::ExpiredSignature => Refusal::Expired,
        ErrorKind::ImmatureSignature => Refusal::Invalid("the token is not valid yet"),
        ErrorKind::InvalidSignature => Refusal::Invalid("the signature is wrong"),
        ErrorKind::InvalidIssuer => Refusal::Invalid("the token is of another issuer"),
        ErrorKind::InvalidAudience => Refusal::Invalid("the token is for another audience"),
        ErrorKind::MissingRequiredClaim(_) => Refusal::Invalid("a claim is missing"),
        _ => Refusal::Invalid("this is no token"),
    }
}

#[cfg(test)]
mod tests;
