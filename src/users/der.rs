//! Parses just enough DER (X.690) to extract a public key from a `SubjectPublicKeyInfo` structure (RFC 5280, 4.1.2.7).

use super::key::KeyError;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;

/// The algorithm identifiers of the supported keys. DER has only one encoding of each, so their bytes can be compared.
const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
const P256: &[u8] =
    &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PublicKey<'a> {
    Rsa {
        modulus: &'a [u8],
        exponent: &'a [u8],
    },
    /// An uncompressed point of P-256.
    P256(&'a [u8]),
    Ed25519(&'a [u8]),
}

/// Reads a `SubjectPublicKeyInfo`.
pub(super) fn public_key(der: &[u8]) -> Result<PublicKey<'_>, KeyError> {
    let info = whole(SEQUENCE, der)?;
    let (algorithm, rest) = value(SEQUENCE, info)?;
    // A bit string starts with the number of its unused bits, which is 0 in keys.
    let key = whole(BIT_STRING, rest)?.strip_prefix(&[0]).ok_or(KeyError::NotAKey)?;
    match algorithm {
        RSA => {
            let (modulus, rest) = value(INTEGER, whole(SEQUENCE, key)?)?;
            Ok(PublicKey::Rsa { modulus: magnitude(modulus), exponent: magnitude(whole(INTEGER, rest)?) })
        }
        P256 => Ok(PublicKey::P256(key)),
        ED25519 => Ok(PublicKey::Ed25519(key)),
        _ => Err(KeyError::UnknownType),
    }
}

/// A positive integer without its leading zero byte.
fn magnitude(integer: &[u8]) -> &[u8] {
    integer.strip_prefix(&[0]).unwrap_or(integer)
}

/// The contents of the only value in the bytes `der`.
fn whole(tag: u8, der: &[u8]) -> Result<&[u8], KeyError> {
    match value(tag, der)? {
        (contents, []) => Ok(contents),
        _ => Err(KeyError::NotAKey),
    }
}

/// The contents of the first value in the bytes `der`, and the bytes after this value.
fn value(tag: u8, der: &[u8]) -> Result<(&[u8], &[u8]), KeyError> {
    let (length, rest) = match der {
        [first, length @ 0..=0x7f, rest @ ..] if *first == tag => (usize::from(*length), rest),
        [first, 0x81, length, rest @ ..] if *first == tag => (usize::from(*length), rest),
        [first, 0x82, high, low, rest @ ..] if *first == tag => (usize::from(u16::from_be_bytes([*high, *low])), rest),
        _ => return Err(KeyError::NotAKey),
    };
    rest.split_at_checked(length).ok_or(KeyError::NotAKey)
}
