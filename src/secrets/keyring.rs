//! The keyring: XChaCha20-Poly1305 keys, each with an id. The first key encrypts and all keys decrypt, so that a key can be
//! replaced without downtime. Layout of sealed bytes, with lengths in bytes: version (1), length of the key id (1), key id,
//! nonce (24), ciphertext and tag (16).

use std::collections::HashSet;
use std::fmt;

use base64::Engine;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{GeneralPurposeConfig, STANDARD};
use chacha20poly1305::aead::{Aead, Generate, KeyInit, Payload};
use chacha20poly1305::{Key as KeyBytes, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::AssociatedData;

const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;
const MAX_KEY_ID_BYTES: usize = 32;
/// The id of a key that the service generates.
const GENERATED_KEY_ID: &str = "local";

/// Accepts base64 with and without padding, because keys come from many tools and some omit the padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// Why a text is not a valid keyring. The error shows the number of the entry, counted from 1. The error does not show the id,
/// because after a misplaced colon the id could be a part of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    #[error("must name at least one key, as `id:base64`")]
    Empty,
    #[error("entry {0} is not of the form `id:base64`")]
    NoColon(usize),
    #[error("entry {0} has an id that is not 1 to {MAX_KEY_ID_BYTES} characters of a-z, 0-9 and `-`")]
    Id(usize),
    #[error("entry {0} has a key that is not base64")]
    Base64(usize),
    #[error("entry {0} has a key that is not {KEY_BYTES} bytes long")]
    KeyLength(usize),
    #[error("entry {0} has the id of an earlier entry")]
    DuplicateId(usize),
}

/// Why sealed bytes cannot be decrypted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the sealed bytes are truncated or have an unknown format")]
    Malformed,
    #[error("the keyring has no key `{0}`")]
    MissingKey(String),
    #[error("the sealed bytes were changed, belong to another value, or were sealed with another key of the same id")]
    Forged,
}

/// The encryption keys of a deployment.
pub struct Keyring {
    active: Key,
    retired: Vec<Key>,
}

struct Key {
    id: String,
    cipher: XChaCha20Poly1305,
}

impl Keyring {
    /// Parses `id:base64,id2:base64`. Each key has 32 bytes. The first key is the active one.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        let mut ids = HashSet::new();
        let mut keys = Vec::new();
        for (index, entry) in text.split(',').map(str::trim).enumerate().filter(|(_, entry)| !entry.is_empty()) {
            let key = Key::parse(entry, index + 1)?;
            if !ids.insert(key.id.clone()) {
                return Err(KeyringError::DuplicateId(index + 1));
            }
            keys.push(key);
        }
        let mut keys = keys.into_iter();
        let active = keys.next().ok_or(KeyringError::Empty)?;
        Ok(Self { active, retired: keys.collect() })
    }

    /// Generates a keyring with one random key. Also returns the keyring as text for `parse`. The text must be kept secret.
    pub fn generate() -> (Self, String) {
        let bytes = Zeroizing::new(<[u8; KEY_BYTES]>::generate());
        let key = Key::new(GENERATED_KEY_ID.to_owned(), &bytes);
        let text = format!("{GENERATED_KEY_ID}:{}", STANDARD.encode(&bytes[..]));
        (Self { active: key, retired: Vec::new() }, text)
    }

    /// Encrypts `plaintext` with the active key, for the associated data `aad`. The random nonce of 24 bytes is long enough
    /// that it never repeats by chance.
    pub fn seal(&self, plaintext: &[u8], aad: &AssociatedData) -> Vec<u8> {
        let Key { id, cipher } = &self.active;
        let nonce = XNonce::generate();
        let Ok(ciphertext) = cipher.encrypt(&nonce, Payload { msg: plaintext, aad: aad.as_bytes() }) else {
            unreachable!("XChaCha20-Poly1305 refuses only texts of more than 256 GiB")
        };
        let mut sealed = Vec::with_capacity(2 + id.len() + nonce.len() + ciphertext.len());
        sealed.push(VERSION);
        // A key id has at most 32 bytes, so its length fits into one byte.
        sealed.extend(id.len().to_le_bytes().first());
        sealed.extend_from_slice(id.as_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        sealed
    }

    /// The id of the active key, which encrypts.
    pub fn active_id(&self) -> &str {
        &self.active.id
    }

    /// The ids of all keys, the active key first.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.active).chain(&self.retired).map(|key| key.id.as_str())
    }

    /// True if the active key sealed these bytes.
    pub fn is_sealed_by_active_key(&self, sealed: &[u8]) -> bool {
        Sealed::split(sealed).is_some_and(|sealed| sealed.key_id == self.active.id)
    }

    /// Decrypts sealed bytes and encrypts the value again with the active key, for the same associated data.
    pub fn reseal(&self, sealed: &[u8], aad: &AssociatedData) -> Result<Vec<u8>, OpenError> {
        Ok(self.seal(&self.open(sealed, aad)?, aad))
    }

    /// Decrypts bytes that `seal` returned for the same associated data.
    pub fn open(&self, sealed: &[u8], aad: &AssociatedData) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let Sealed { key_id, nonce, ciphertext } = Sealed::split(sealed).ok_or(OpenError::Malformed)?;
        let key = std::iter::once(&self.active)
            .chain(&self.retired)
            .find(|key| key.id == key_id)
            .ok_or_else(|| OpenError::MissingKey(key_id.to_owned()))?;
        match key.cipher.decrypt(&nonce, Payload { msg: ciphertext, aad: aad.as_bytes() }) {
            Ok(plaintext) => Ok(Zeroizing::new(plaintext)),
            Err(chacha20poly1305::Error) => Err(OpenError::Forged),
        }
    }
}

impl Key {
    fn parse(entry: &str, number: usize) -> Result<Self, KeyringError> {
        let (id, base64) = entry.split_once(':').ok_or(KeyringError::NoColon(number))?;
        if !is_key_id(id) {
            return Err(KeyringError::Id(number));
        }
        let Ok(bytes) = BASE64.decode(base64).map(Zeroizing::new) else { return Err(KeyringError::Base64(number)) };
        let Some(bytes) = bytes.as_array::<KEY_BYTES>() else { return Err(KeyringError::KeyLength(number)) };
        Ok(Self::new(id.to_owned(), bytes))
    }

    fn new(id: String, bytes: &[u8; KEY_BYTES]) -> Self {
        let bytes: &KeyBytes = bytes.into();
        Self { id, cipher: XChaCha20Poly1305::new(bytes) }
    }
}

/// Shows the ids of the keys, but not the keys.
impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let retired: Vec<_> = self.retired.iter().map(|key| &key.id).collect();
        f.debug_struct("Keyring").field("active", &self.active.id).field("retired", &retired).finish_non_exhaustive()
    }
}

fn is_key_id(id: &str) -> bool {
    (1..=MAX_KEY_ID_BYTES).contains(&id.len())
        && id.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

struct Sealed<'a> {
    key_id: &'a str,
    nonce: XNonce,
    ciphertext: &'a [u8],
}

impl<'a> Sealed<'a> {
    /// Splits sealed bytes. Returns `None` if `seal` cannot have written them.
    fn split(sealed: &'a [u8]) -> Option<Self> {
        let (&version, rest) = sealed.split_first()?;
        let (&id_length, rest) = rest.split_first()?;
        let (id, rest) = rest.split_at_checked(usize::from(id_length))?;
        let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let key_id = str::from_utf8(id).ok().filter(|id| is_key_id(id))?;
        (version == VERSION && ciphertext.len() >= TAG_BYTES).then_some(Self {
            key_id,
            nonce: (*nonce).into(),
            ciphertext,
        })
    }
}
