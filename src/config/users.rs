//! The settings for the tokens of portal users.

use rustls::pki_types::CertificateDer;
use url::{Host, Url};

use super::reader::Reader;
use super::settings::{JWKS_URL, JWT_AUDIENCE, JWT_ISSUER, JWT_PUBLIC_KEY_FILE, JWT_SECRET, Setting};
use crate::users::{Bounds, Key, KeySource, Settings};

const SOURCES: [Setting; 3] = [JWT_SECRET, JWT_PUBLIC_KEY_FILE, JWKS_URL];

/// Reads the settings for portal users; `None` if there are no portal users, or if a fault was reported.
pub(super) fn users(reader: &mut Reader, ca_certificates: &[CertificateDer<'static>]) -> Option<Settings> {
    let (issuer, audience) = (reader.text(JWT_ISSUER), reader.text(JWT_AUDIENCE));
    let mut set = SOURCES.into_iter().filter(|setting| reader.is_set(*setting));
    let Some(source) = set.next() else {
        let names = SOURCES.map(|setting| setting.name).join(", ");
        for (needless, value) in [(JWT_ISSUER, issuer), (JWT_AUDIENCE, audience)] {
            if value.is_some() {
                reader.fault(needless, format!("has no effect without one of {names}"));
            }
        }
        return None;
    };
    for second in set.collect::<Vec<_>>() {
        reader.fault(second, format!("must not be set together with {}", source.name));
    }
    let keys = if source == JWT_SECRET {
        secret(reader).map(KeySource::One)
    } else if source == JWT_PUBLIC_KEY_FILE {
        public_key(reader).map(KeySource::One)
    } else {
        let published =
            |url| KeySource::Published { url, extra_roots: ca_certificates.to_vec(), bounds: Bounds::default() };
        reader.parsed(JWKS_URL, jwks_url).map(published)
    };
    if source == JWKS_URL && issuer.is_none() {
        // Some providers publish the same keys for all customers, so only the issuer identifies the customer.
        let reason = "its keys may sign other customers' tokens too, and only the issuer identifies the customer";
        reader.fault(JWT_ISSUER, format!("must be set together with {}: {reason}", JWKS_URL.name));
    }
    Some(Settings { keys: keys?, issuer, audience })
}

fn secret(reader: &mut Reader) -> Option<Key> {
    let secret = reader.secret(JWT_SECRET)?;
    Key::from_secret(secret.expose()).map_err(|error| reader.fault(JWT_SECRET, error.to_string())).ok()
}

fn public_key(reader: &mut Reader) -> Option<Key> {
    let path = reader.text(JWT_PUBLIC_KEY_FILE)?;
    let fault = match std::fs::read_to_string(&path) {
        Ok(pem) => match Key::from_pem(&pem) {
            Ok(key) => return Some(key),
            Err(error) => format!("names a file that {error}, {path:?}"),
        },
        Err(error) => format!("names a file that cannot be read, {path:?}: {error}"),
    };
    reader.fault(JWT_PUBLIC_KEY_FILE, fault);
    None
}

/// Allows http only for this machine, because an attacker who can change the response could add a key and sign tokens for any
/// user.
fn jwks_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_local = match url.host()? {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    let is_safe = url.scheme() == "https" || (url.scheme() == "http" && is_local);
    let anonymous = url.username().is_empty() && url.password().is_none();
    (is_safe && anonymous && url.fragment().is_none()).then_some(url)
}
