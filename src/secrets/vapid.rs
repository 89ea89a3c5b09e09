//! Generates VAPID key pairs for browser push (RFC 8292): P-256 keys as base64url without padding.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use zeroize::Zeroizing;

/// The byte range of the private scalar in ring's PKCS#8 document (RFC 5958), which contains an `ECPrivateKey` (RFC 5915).
/// All fields before the scalar have fixed lengths.
const PRIVATE_KEY: std::ops::Range<usize> = 36..68;

#[derive(Debug)]
pub struct VapidKeyPair {
    /// The private scalar, 32 bytes. Keep it secret.
    pub private_key: Zeroizing<String>,
    /// The uncompressed public point, 65 bytes. Browsers subscribe with it.
    pub public_key: String,
}

#[derive(Debug, thiserror::Error)]
#[error("the cryptography library could not generate a key")]
pub struct VapidKeyError;

impl VapidKeyPair {
    pub fn generate() -> Result<Self, VapidKeyError> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let refused = |_unspecified| VapidKeyError;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(refused)?;
        let pair =
            EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).map_err(|_rejected| VapidKeyError)?;
        let public = pair.public_key().as_ref();
        let private = document.as_ref().get(PRIVATE_KEY).ok_or(VapidKeyError)?;
        // Checks that the private key belongs to the public key.
        EcdsaKeyPair::from_private_key_and_public_key(algorithm, private, public, &random)
            .map_err(|_rejected| VapidKeyError)?;
        Ok(Self {
            private_key: Zeroizing::new(URL_SAFE_NO_PAD.encode(private)),
            public_key: URL_SAFE_NO_PAD.encode(public),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_pair_has_the_lengths_that_browsers_expect() {
        let (one, other) = (VapidKeyPair::generate().unwrap(), VapidKeyPair::generate().unwrap());
        assert_eq!(URL_SAFE_NO_PAD.decode(one.private_key.as_str()).unwrap().len(), 32);
        let point = URL_SAFE_NO_PAD.decode(&one.public_key).unwrap();
        assert_eq!((point.len(), point[0]), (65, 4));
        assert_ne!(one.private_key, other.private_key);
        assert_ne!(one.public_key, other.public_key);
    }
}
