//! The keyring: XChaCha20-Poly1305 keys by name. The first seals; all open, so that a key can be replaced without
//! a pause. Sealed bytes: version (1), length of the key's id (1), the id, nonce (24), ciphertext with its tag (16).

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
/// The name of a key that the service made for itself.
const GENERATED_KEY_ID: &str = "local";

/// Keys come from many tools; some leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// Why a text is not a keyring. Entries are named by their number from 1: a misplaced colon would make any other name
/// of them a piece of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    #[error("must name at least one key, as `id:base64`")]
    Empty,
    #[error("entry {0} is not of the form `id:base64`")]
    NoColon(usize),
    #[error("entry {0} has an id other than 1 to {MAX_KEY_ID_BYTES} of a-z, 0-9 and `-`")]
    Id(usize),
    #[error("entry {0} has a key that is not base64")]
    Base64(usize),
    #[error("entry {0} has a key of another length than {KEY_BYTES} bytes")]
    KeyLength(usize),
    #[error("entry {0} has the id of an earlier entry")]
    DuplicateId(usize),
}

/// Why sealed bytes do not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the sealed bytes are cut off or of an unknown form")]
    Malformed,
    #[error("the keyring has no key `{0}`")]
    MissingKey(String),
    #[error("the sealed bytes were changed, belong to another place, or were sealed by another key of that id")]
    Forged,
}

/// The keys of a deployment.
pub struct Keyring {
    active: Key,
    retired: Vec<Key>,
}

struct Key {
    id: String,
    cipher: XChaCha20Poly1305,
}

impl Keyring {
    /// Reads `id:base64,id2:base64`: keys of 32 bytes, the active one first.
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

    /// A keyring of one new random key, and the text that `parse` reads it from. The text is to be kept as secret as
    /// what it seals.
    pub fn generate() -> (Self, String) {
        let bytes = Zeroizing::new(<[u8; KEY_BYTES]>::generate());
        let key = Key::new(GENERATED_KEY_ID.to_owned(), &bytes);
        let text = format!("{GENERATED_KEY_ID}:{}", STANDARD.encode(&bytes[..]));
        (Self { active: key, retired: Vec::new() }, text)
    }

    /// Encrypts `plaintext` for the one place that `aad` names, by the active key and a random nonce (24 bytes: chance
    /// does not repeat one).
    pub fn seal(&self, plaintext: &[u8], aad: &AssociatedData) -> Vec<u8> {
        let Key { id, cipher } = &self.active;
        let nonce = XNonce::generate();
        let Ok(ciphertext) = cipher.encrypt(&nonce, Payload { msg: plaintext, aad: aad.as_bytes() }) else {
            unreachable!("XChaCha20-Poly1305 refuses only texts of more than 256 GiB")
        };
        let mut sealed = Vec::with_capacity(2 + id.len() + nonce.len() + ciphertext.len());
        sealed.push(VERSION);
        // An id is at most 32 bytes long, so that its length is one byte.
        sealed.extend(id.len().to_le_bytes().first());
        sealed.extend_from_slice(id.as_bytes());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        sealed
    }

    /// Decrypts what `seal` made for the same place.
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

/// Ids and no keys.
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
    /// `None`: not what `seal` writes.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::names::{AgentId, TenantId};

    const OLD: &str = "2025-a:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const NEW: &str = "2026-a:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

    fn keyring(keys: &[&str]) -> Keyring {
        Keyring::parse(&keys.join(",")).unwrap()
    }

    fn place(header: &str) -> AssociatedData {
        AssociatedData::header_value(&TenantId::parse("acme").unwrap(), &AgentId::parse("agent-1").unwrap(), header)
    }

    #[test]
    fn what_was_sealed_opens_and_does_not_contain_the_plaintext() {
        for plaintext in ["", "x", "Bearer 4711"] {
            let sealed = keyring(&[NEW]).seal(plaintext.as_bytes(), &place("authorization"));
            let opened = keyring(&[NEW]).open(&sealed, &place("Authorization")).unwrap();
            assert_eq!(opened.as_slice(), plaintext.as_bytes());
            assert!(plaintext.len() < 2 || !String::from_utf8_lossy(&sealed).contains(plaintext));
        }
    }

    #[test]
    fn the_same_plaintext_is_never_sealed_to_the_same_bytes() {
        let keyring = keyring(&[NEW]);
        assert_ne!(keyring.seal(b"x", &place("a")), keyring.seal(b"x", &place("a")));
    }

    #[test]
    fn the_first_key_seals_and_every_key_opens() {
        let sealed = keyring(&[OLD]).seal(b"x", &place("a"));
        assert_eq!(keyring(&[NEW, OLD]).open(&sealed, &place("a")).unwrap().as_slice(), b"x");
        let sealed = keyring(&[NEW, OLD]).seal(b"x", &place("a"));
        assert_eq!(keyring(&[OLD]).open(&sealed, &place("a")), Err(OpenError::MissingKey("2026-a".into())));
    }

    #[test]
    fn another_place_does_not_open() {
        let sealed = keyring(&[NEW]).seal(b"x", &place("a"));
        assert_eq!(keyring(&[NEW]).open(&sealed, &place("b")), Err(OpenError::Forged));
    }

    #[test]
    fn another_key_of_the_same_id_does_not_open() {
        let sealed = Keyring::generate().0.seal(b"x", &place("a"));
        assert_eq!(Keyring::generate().0.open(&sealed, &place("a")), Err(OpenError::Forged));
    }

    #[test]
    fn no_beginning_of_sealed_bytes_opens() {
        let keyring = keyring(&[NEW]);
        let sealed = keyring.seal(b"x", &place("a"));
        for length in 0..sealed.len() {
            assert!(keyring.open(&sealed[..length], &place("a")).is_err(), "{length}");
        }
    }

    #[test]
    fn no_changed_bit_goes_unseen() {
        let keyring = keyring(&[NEW, OLD]);
        let sealed = keyring.seal(b"secret", &place("a"));
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(keyring.open(&changed, &place("a")).is_err(), "{bit}");
        }
    }

    #[test]
    fn a_generated_keyring_reads_back() {
        let (generated, text) = Keyring::generate();
        let sealed = generated.seal(b"x", &place("a"));
        assert_eq!(Keyring::parse(&text).unwrap().open(&sealed, &place("a")).unwrap().as_slice(), b"x");
    }

    #[test]
    fn a_wrong_keyring_is_refused_and_no_key_is_told() {
        let key = NEW.split_once(':').unwrap().1;
        let table = [
            (String::new(), KeyringError::Empty),
            (" , ".into(), KeyringError::Empty),
            (key.into(), KeyringError::NoColon(1)),
            (format!("{key}:a"), KeyringError::Id(1)),
            (format!(":{key}"), KeyringError::Id(1)),
            (format!("A:{key}"), KeyringError::Id(1)),
            (format!("{}:{key}", "a".repeat(33)), KeyringError::Id(1)),
            (format!("{OLD},b:!{key}"), KeyringError::Base64(2)),
            (format!("{OLD},b:AAAA"), KeyringError::KeyLength(2)),
            (format!("{OLD},2025-a:{key}"), KeyringError::DuplicateId(2)),
        ];
        for (text, expected) in table {
            let error = Keyring::parse(&text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!format!("{error} {error:?}").contains(&key[..8]));
        }
    }

    #[test]
    fn space_around_entries_and_missing_padding_are_read() {
        assert!(Keyring::parse(&format!(" {NEW} ,\n{} ", OLD.trim_end_matches('='))).is_ok());
    }

    #[test]
    fn debug_shows_ids_and_no_key() {
        assert_eq!(format!("{:?}", keyring(&[NEW, OLD])), r#"Keyring { active: "2026-a", retired: ["2025-a"], .. }"#);
    }
}
