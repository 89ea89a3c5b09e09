//! Tests which values the keyring encrypts, and which sealed bytes it refuses to decrypt.

use super::{AssociatedData, Keyring, KeyringError, OpenError};
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
fn sealed_bytes_can_be_decrypted_and_do_not_contain_the_plaintext() {
    for plaintext in ["", "x", "Bearer 4711"] {
        let sealed = keyring(&[NEW]).seal(plaintext.as_bytes(), &place("authorization"));
        let opened = keyring(&[NEW]).open(&sealed, &place("Authorization")).unwrap();
        assert_eq!(opened.as_slice(), plaintext.as_bytes());
        assert!(plaintext.len() < 2 || !String::from_utf8_lossy(&sealed).contains(plaintext));
    }
}

#[test]
fn never_seals_the_same_plaintext_to_the_same_bytes() {
    let keyring = keyring(&[NEW]);
    assert_ne!(keyring.seal(b"x", &place("a")), keyring.seal(b"x", &place("a")));
}

#[test]
fn the_first_key_encrypts_and_every_key_decrypts() {
    let sealed = keyring(&[OLD]).seal(b"x", &place("a"));
    assert_eq!(keyring(&[NEW, OLD]).open(&sealed, &place("a")).unwrap().as_slice(), b"x");
    let sealed = keyring(&[NEW, OLD]).seal(b"x", &place("a"));
    assert_eq!(keyring(&[OLD]).open(&sealed, &place("a")), Err(OpenError::MissingKey("2026-a".into())));
}

#[test]
fn the_active_key_alone_decrypts_resealed_bytes() {
    let sealed = keyring(&[OLD]).seal(b"x", &place("a"));
    let both = keyring(&[NEW, OLD]);
    let resealed = both.reseal(&sealed, &place("a")).unwrap();
    assert_eq!(keyring(&[NEW]).open(&resealed, &place("a")).unwrap().as_slice(), b"x");
    assert_eq!(both.reseal(&sealed, &place("b")), Err(OpenError::Forged));
    assert_eq!(both.ids().collect::<Vec<_>>(), ["2026-a", "2025-a"]);
}

#[test]
fn other_associated_data_does_not_decrypt_sealed_bytes() {
    let sealed = keyring(&[NEW]).seal(b"x", &place("a"));
    assert_eq!(keyring(&[NEW]).open(&sealed, &place("b")), Err(OpenError::Forged));
}

#[test]
fn another_key_with_the_same_id_does_not_decrypt_sealed_bytes() {
    let sealed = Keyring::generate().0.seal(b"x", &place("a"));
    assert_eq!(Keyring::generate().0.open(&sealed, &place("a")), Err(OpenError::Forged));
}

#[test]
fn truncated_bytes_cannot_be_decrypted() {
    let keyring = keyring(&[NEW]);
    let sealed = keyring.seal(b"x", &place("a"));
    for length in 0..sealed.len() {
        assert!(keyring.open(&sealed[..length], &place("a")).is_err(), "{length}");
    }
}

#[test]
fn bytes_with_a_changed_bit_cannot_be_decrypted() {
    let keyring = keyring(&[NEW, OLD]);
    let sealed = keyring.seal(b"secret", &place("a"));
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(keyring.open(&changed, &place("a")).is_err(), "{bit}");
    }
}

#[test]
fn parses_a_generated_keyring() {
    let (generated, text) = Keyring::generate();
    let sealed = generated.seal(b"x", &place("a"));
    assert_eq!(Keyring::parse(&text).unwrap().open(&sealed, &place("a")).unwrap().as_slice(), b"x");
}

#[test]
fn rejects_an_invalid_keyring_without_showing_a_key() {
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
fn parses_keys_with_surrounding_spaces_and_without_padding() {
    assert!(Keyring::parse(&format!(" {NEW} ,\n{} ", OLD.trim_end_matches('='))).is_ok());
}

#[test]
fn debug_output_shows_the_ids_but_no_key() {
    assert_eq!(format!("{:?}", keyring(&[NEW, OLD])), r#"Keyring { active: "2026-a", retired: ["2025-a"], .. }"#);
}
