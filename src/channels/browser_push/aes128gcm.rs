//! Encrypts a push message with the content coding `aes128gcm` (RFC 8291, based on RFC 8188) in one record.
//!
//! This module uses ring, which also checks the browser's key at registration. The `web-push` crate only signs tokens. Its
//! encryption is three times slower, because OpenSSL 3 converts each key twice and checks the browser's key with an extra
//! multiplication.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::error::Unspecified;
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{self, SystemRandom};
use zeroize::Zeroizing;

use crate::domain::push_subscription::{BrowserKeys, PublicPoint};

pub(super) const NAME: &str = "aes128gcm";
/// Maximum size of a message body in bytes. Every push service accepts bodies of this size (RFC 8030, 7.2).
const RECORD_BYTES: u32 = 4096;
/// Texts are padded to a multiple of 128 bytes, to hide their exact length.
const BLOCK_BYTES: usize = 128;
/// The delimiter after the text in the last record. Zero bytes follow as padding (RFC 8188, 2).
const LAST_RECORD: u8 = 2;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// The header consists of the salt, the record size, the length of the key id, and the key id, which is the sender's public
/// key (RFC 8291, 4).
const HEADER_BYTES: usize = SALT_BYTES + 4 + 1 + POINT_BYTES as usize;
const POINT_BYTES: u8 = 65;

/// The browser's key is not valid, or the text is too long for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the message could not be encrypted")]
pub(super) struct EncryptionError;

impl From<Unspecified> for EncryptionError {
    fn from(_: Unspecified) -> Self {
        Self
    }
}

/// True if the point is on the curve P-256 and can be used for key agreement.
pub fn is_public_key(point: &PublicPoint) -> bool {
    let Ok(own) = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()) else { return false };
    agree_ephemeral(own, &UnparsedPublicKey::new(&ECDH_P256, point), |_secret| ()).is_ok()
}

/// Encrypts a text that only the browser with these keys can decrypt. Each call uses a new key pair and salt.
pub(super) fn encrypt(browser: &BrowserKeys, text: &[u8]) -> Result<Vec<u8>, EncryptionError> {
    let random = SystemRandom::new();
    let own = EphemeralPrivateKey::generate(&ECDH_P256, &random)?;
    let public = own.compute_public_key()?;
    let sender = PublicPoint::try_from(public.as_ref()).map_err(|_length| EncryptionError)?;
    let salt = rand::generate(&random)?.expose();
    let theirs = UnparsedPublicKey::new(&ECDH_P256, browser.p256dh);
    agree_ephemeral(own, &theirs, |secret| seal(secret, &sender, browser, salt, text))?
}

/// Derives the content key and encrypts the text. The result depends only on the arguments.
fn seal(
    secret: &[u8],
    sender: &PublicPoint,
    browser: &BrowserKeys,
    salt: [u8; SALT_BYTES],
    text: &[u8],
) -> Result<Vec<u8>, EncryptionError> {
    let padded = (text.len() / BLOCK_BYTES + 1) * BLOCK_BYTES;
    let record = padded + TAG_BYTES;
    if u32::try_from(record).map_or(true, |bytes| bytes > RECORD_BYTES) {
        return Err(EncryptionError);
    }
    // RFC 8291, 3.4.
    let mut keying = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, &*browser.auth)
        .extract(secret)
        .expand(&[b"WebPush: info\0", &browser.p256dh, sender], HKDF_SHA256)?
        .fill(&mut *keying)?;
    // RFC 8188, 2.2 and 2.3. The number of the first record is zero, so the nonce is used unchanged.
    let key = Salt::new(HKDF_SHA256, &salt).extract(&*keying);
    let mut nonce = [0; NONCE_BYTES];
    key.expand(&[b"Content-Encoding: nonce\0"], NonceBytes)?.fill(&mut nonce)?;
    let key = LessSafeKey::new(key.expand(&[b"Content-Encoding: aes128gcm\0"], &AES_128_GCM)?.into());

    let mut body = Vec::with_capacity(HEADER_BYTES + record);
    body.extend_from_slice(&salt);
    body.extend_from_slice(&RECORD_BYTES.to_be_bytes());
    body.push(POINT_BYTES);
    body.extend_from_slice(sender);
    body.extend_from_slice(text);
    body.push(LAST_RECORD);
    body.resize(HEADER_BYTES + padded, 0);
    let nonce = Nonce::assume_unique_for_key(nonce);
    let tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), &mut body[HEADER_BYTES..])?;
    body.extend_from_slice(tag.as_ref());
    Ok(body)
}

struct NonceBytes;

impl KeyType for NonceBytes {
    fn len(&self) -> usize {
        NONCE_BYTES
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ece::EcKeyComponents;

    use super::super::payload::MAX_JSON_BYTES;
    use super::*;

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        URL_SAFE_NO_PAD.decode(text).unwrap().try_into().unwrap()
    }

    /// The browser's private key and public key from RFC 8291, appendix A.
    const BROWSER: [&str; 2] = [
        "q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94",
        "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
    ];

    fn browser() -> (EcKeyComponents, BrowserKeys) {
        let keys = BrowserKeys { p256dh: bytes(BROWSER[1]), auth: Zeroizing::new(bytes("BTBZMqHH6r4Tts7J_aSIgg")) };
        (EcKeyComponents::new(bytes::<32>(BROWSER[0]).to_vec(), keys.p256dh.to_vec()), keys)
    }

    /// The example of RFC 8291 has no padding. The tag covers the padding, so only the padding and the tag differ from the
    /// example.
    #[test]
    fn encrypts_the_example_of_rfc_8291() {
        let (key, browser) = browser();
        let sender = bytes("BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8");
        let secret: [u8; 32] = bytes("kyrL1jIIOHEzg3sM2ZWRHDRB62YACZhhSlknJ672kSs");
        let text = b"When I grow up, I want to be a watermelon";
        let body = seal(&secret, &sender, &browser, bytes("DGv6ra1nlYgDCS1FRnbzlw"), text).unwrap();
        let standard: [u8; 144] = bytes(
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3\
             jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN",
        );
        assert_eq!(body[..128], standard[..128]);
        assert_eq!(ece::decrypt(&key, &*browser.auth, &body).unwrap(), text);
    }

    #[test]
    fn only_the_recipient_decrypts_a_message_and_padding_hides_its_length() {
        let (key, browser) = browser();
        for (length, blocks) in [(1, 1), (127, 1), (128, 2), (MAX_JSON_BYTES, 22), (3_967, 31)] {
            let text = vec![b'x'; length];
            let body = encrypt(&browser, &text).unwrap();
            assert_eq!(body.len(), HEADER_BYTES + blocks * BLOCK_BYTES + TAG_BYTES, "{length} bytes");
            assert_eq!(ece::decrypt(&key, &*browser.auth, &body).unwrap(), text);
        }
    }

    #[test]
    fn each_message_has_a_new_key_and_salt() {
        let (_, browser) = browser();
        let [first, second] = [(); 2].map(|()| encrypt(&browser, b"{}").unwrap());
        assert_ne!(first[..SALT_BYTES], second[..SALT_BYTES]);
        assert_ne!(first[SALT_BYTES + 5..HEADER_BYTES], second[SALT_BYTES + 5..HEADER_BYTES]);
    }

    #[test]
    fn rejects_a_too_long_text_and_an_invalid_browser_key() {
        let (_, mut browser) = browser();
        assert_eq!(encrypt(&browser, &[b'x'; 3_968]), Err(EncryptionError));
        browser.p256dh[64] ^= 1;
        assert_eq!(encrypt(&browser, b"{}"), Err(EncryptionError));
    }

    #[test]
    fn accepts_only_points_on_the_curve_as_keys() {
        let (_, mut browser) = browser();
        assert!(is_public_key(&browser.p256dh));
        browser.p256dh[64] ^= 1;
        assert!(!is_public_key(&browser.p256dh));
        assert!(!is_public_key(&[0; 65]));
    }
}
