//! A key that verifies tokens. Its type determines the algorithm; the token cannot choose it.
//!
//! jsonwebtoken parses published keys (JWK). Its functions for PEM would accept a key of another curve, such as secp256k1, as a
//! P-256 key, and hide the size of an RSA key. So the crates spki and pkcs1 parse PEM keys. web-push also needs these crates.

use std::fmt;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use pkcs1::RsaPublicKey;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::{PemObject as _, SectionKind};
use spki::{ObjectIdentifier, SubjectPublicKeyInfoRef};

/// Minimum length of a secret, in bytes (RFC 7518, 3.2). An attacker could guess a shorter secret from a single token.
pub const MIN_SECRET_BYTES: usize = 32;
/// The allowed sizes of an RSA modulus in bytes (2,048 to 8,192 bits).
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;
const RSA_EXPONENT_BYTES: std::ops::RangeInclusive<usize> = 1..=4;
const RSA: ObjectIdentifier = pkcs1::ALGORITHM_OID;
const ELLIPTIC_CURVE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const P256_POINT_BYTES: usize = 65;
const ED25519_POINT_BYTES: usize = 32;

/// Why a key is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("must have at least {MIN_SECRET_BYTES} bytes")]
    ShortSecret,
    #[error("contains a private key; use its public key")]
    Private,
    #[error("does not contain a public key in PEM form (BEGIN PUBLIC KEY)")]
    NotAKey,
    #[error("contains a key of an unsupported type: it must be Ed25519, RSA or P-256")]
    UnknownType,
    #[error("contains an RSA key of less than 2048 or more than 8192 bits")]
    RsaSize,
}

/// A key and the only algorithm that it is used with.
#[derive(Clone)]
pub struct Key {
    algorithm: Algorithm,
    decoding: DecodingKey,
}

impl Key {
    /// Creates an HS256 key from a secret that is shared with the issuer.
    pub fn from_secret(secret: &str) -> Result<Self, KeyError> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err(KeyError::ShortSecret);
        }
        Ok(Self { algorithm: Algorithm::HS256, decoding: DecodingKey::from_secret(secret.as_bytes()) })
    }

    /// Parses a public key in PEM form. An Ed25519 key selects the algorithm `EdDSA`, an RSA key RS256, and a P-256 key ES256.
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes());
        let is_private =
            |kind| matches!(kind, SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey);
        if sections.flatten().any(|(kind, _)| is_private(kind)) {
            return Err(KeyError::Private);
        }
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_no_pem| KeyError::NotAKey)?;
        Self::from_der(der.as_ref())
    }

    /// Parses a `SubjectPublicKeyInfo` structure (RFC 5280, 4.1.2.7).
    pub(super) fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let info = SubjectPublicKeyInfoRef::try_from(der).map_err(|_other| KeyError::NotAKey)?;
        let key = info.subject_public_key.as_bytes().ok_or(KeyError::NotAKey)?;
        match info.algorithm.oids().map_err(|_parameters| KeyError::UnknownType)? {
            (RSA, None) => {
                let rsa = RsaPublicKey::try_from(key).map_err(|_other| KeyError::NotAKey)?;
                let (n, e) = (rsa.modulus.as_bytes(), rsa.public_exponent.as_bytes());
                Self::checked(Algorithm::RS256, DecodingKey::from_rsa_raw_components(n, e))
            }
            (ELLIPTIC_CURVE, Some(P256)) => Self::checked(Algorithm::ES256, DecodingKey::from_ec_der(key)),
            (ED25519, None) => Self::checked(Algorithm::EdDSA, DecodingKey::from_ed_der(key)),
            _ => Err(KeyError::UnknownType),
        }
    }

    /// Converts a published key. Returns `None` if the key is not for a supported signature algorithm. Never accepts a
    /// secret.
    pub(super) fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let algorithm = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Algorithm::RS256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => Algorithm::EdDSA,
            _ => return None,
        };
        let common = &jwk.common;
        let signs = common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature);
        let verifies = common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        let fits = common.key_algorithm.is_none_or(|declared| declared == KeyAlgorithm::from(algorithm));
        if !(signs && verifies && fits) {
            return None;
        }
        Self::checked(algorithm, DecodingKey::from_jwk(jwk).ok()?).ok()
    }

    fn checked(algorithm: Algorithm, decoding: DecodingKey) -> Result<Self, KeyError> {
        match (algorithm, decoding.kind()) {
            (Algorithm::RS256, DecodingKeyKind::RsaModulusExponent { n, e }) => {
                let fits = RSA_MODULUS_BYTES.contains(&n.len()) && RSA_EXPONENT_BYTES.contains(&e.len());
                fits.then_some(()).ok_or(KeyError::RsaSize)?;
            }
            (Algorithm::ES256, DecodingKeyKind::SecretOrDer(point)) if point.len() == P256_POINT_BYTES => {}
            (Algorithm::EdDSA, DecodingKeyKind::SecretOrDer(point)) if point.len() == ED25519_POINT_BYTES => {}
            _ => return Err(KeyError::NotAKey),
        }
        Ok(Self { algorithm, decoding })
    }

    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}
