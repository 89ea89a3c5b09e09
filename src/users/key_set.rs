//! The keys of a JWK Set (RFC 7517), found by their key id (`kid`).

use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;
use serde_json::Value;

use super::key::Key;

/// Maximum number of keys in a set. A provider uses one key, and publishes a few others during a rotation.
const MAX_KEYS: usize = 100;

/// Why a response is not a set of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeySetError {
    #[error("the response is not a JWK Set")]
    NotASet,
    #[error("the JWK Set has more than {MAX_KEYS} keys")]
    TooMany,
    #[error("the JWK Set has no key for RS256, ES256 or EdDSA")]
    NoKey,
}

#[derive(Debug)]
pub(super) struct KeySet(Vec<(Option<String>, Key)>);

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// Ignores keys of unsupported types, as RFC 7517, section 5, requires.
    pub(super) fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        let document: Document = serde_json::from_slice(json).map_err(|_error| KeySetError::NotASet)?;
        if document.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let keys = document.keys.into_iter().filter_map(|key| {
            let jwk: Jwk = serde_json::from_value(key).ok()?;
            Some((jwk.common.key_id.clone(), Key::from_jwk(&jwk)?))
        });
        let keys: Vec<_> = keys.collect();
        if keys.is_empty() { Err(KeySetError::NoKey) } else { Ok(Self(keys)) }
    }

    /// The key with this id. A token without a key id uses the only key of the set; if the set has several keys, returns `None`.
    pub(super) fn find(&self, kid: Option<&str>) -> Option<&Key> {
        match (kid, self.0.as_slice()) {
            (Some(kid), keys) => keys.iter().find(|(name, _)| name.as_deref() == Some(kid)).map(|(_, key)| key),
            (None, [(_, key)]) => Some(key),
            (None, _) => None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
