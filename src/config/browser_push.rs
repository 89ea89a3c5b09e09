//! The VAPID identity of the deployment, and the push services that it allows.

use url::{Host, Url};

use super::reader::Reader;
use super::settings::{PUSH_HOSTS, PUSH_TTL, VAPID_PRIVATE_KEY, VAPID_SUBJECT};
use crate::channels::browser_push::{Settings, VapidKey, VapidKeyError, VapidKeys};
use crate::domain::push_hosts::{PushHost, PushHosts};

/// Domain names that no operator can own (RFC 2606, RFC 6762). Push services reject some of these names, but only when they
/// receive a message.
const NO_ONES_NAMES: [&str; 9] =
    ["localhost", "localdomain", "local", "invalid", "test", "example", "example.com", "example.net", "example.org"];

/// Reads the settings for browser push; `None` if it is not configured, or if a fault was reported.
pub(super) fn browser_push(reader: &mut Reader, allow_http: bool) -> Option<Settings> {
    let ttl = reader.duration(PUSH_TTL);
    let hosts = PushHosts::new(reader.list(PUSH_HOSTS, PushHost::parse), allow_http);
    let subject = reader.parsed(VAPID_SUBJECT, |text| is_subject(text).then(|| text.to_owned()));
    match (reader.is_set(VAPID_PRIVATE_KEY), reader.is_set(VAPID_SUBJECT)) {
        (false, false) => return None,
        (true, false) => reader.fault(VAPID_SUBJECT, format!("must be set together with {}", VAPID_PRIVATE_KEY.name)),
        (false, true) => {
            reader.fault(VAPID_SUBJECT, format!("has no effect without {}", VAPID_PRIVATE_KEY.name));
        }
        (true, true) => {}
    }
    let mut keys = keys(reader)?.into_iter();
    Some(Settings { keys: VapidKeys::new(keys.next()?, keys.collect(), subject?), hosts, ttl })
}

/// All VAPID keys, the current one first.
fn keys(reader: &mut Reader) -> Option<Vec<VapidKey>> {
    let text = reader.secret(VAPID_PRIVATE_KEY)?;
    let mut keys: Vec<VapidKey> = Vec::new();
    for (number, entry) in (1..).zip(text.expose().split(',').map(str::trim)) {
        let fault = match key(entry) {
            Ok(key) if keys.iter().any(|known| known.id() == key.id()) => "is the same as an earlier key".to_owned(),
            Ok(key) => {
                keys.push(key);
                continue;
            }
            Err(fault) => fault,
        };
        // The fault contains the entry's number instead of its text, because an invalid entry might be a mistyped key.
        reader.fault(VAPID_PRIVATE_KEY, format!("has an entry {number} that {fault}"));
        return None;
    }
    Some(keys)
}

/// Parses a key in base64url, or reads it from a PEM file. An entry with a slash is a path, because base64url contains no slash.
fn key(entry: &str) -> Result<VapidKey, String> {
    if !entry.contains('/') {
        return VapidKey::from_base64(entry).map_err(|error| error.to_string());
    }
    match std::fs::read_to_string(entry) {
        Ok(pem) => VapidKey::from_pem(&pem).map_err(|error| error.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(VapidKeyError::Base64.to_string()),
        Err(error) => Err(format!("names a file that cannot be read: {error}")),
    }
}

fn is_subject(text: &str) -> bool {
    if text.chars().any(|character| character.is_whitespace() || character.is_control() || "<>\"".contains(character)) {
        return false;
    }
    if let Some(address) = text.strip_prefix("mailto:") {
        return address.rsplit_once('@').is_some_and(|(name, domain)| {
            let is_one = !name.is_empty() && !name.contains('@') && !domain.contains([',', '?', '/', ':']);
            is_one && Host::parse(domain).is_ok_and(|host| is_public(&host))
        });
    }
    let url = Url::parse(text).ok().filter(|url| url.scheme() == "https");
    url.is_some_and(|url| url.host().is_some_and(|host| is_public(&host.to_owned())))
}

fn is_public(host: &Host) -> bool {
    let Host::Domain(name) = host else { return false };
    let name = name.trim_end_matches('.');
    let belongs_to = |zone: &str| name == zone || name.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.'));
    name.contains('.') && !NO_ONES_NAMES.into_iter().any(belongs_to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_must_have_a_public_domain() {
        for good in ["mailto:push@flametree.dev", "https://flametree.dev/contact", "mailto:a+b@mail.flametree.co.uk"] {
            assert!(is_subject(good), "{good}");
        }
        for wrong in [
            "",
            "push@flametree.dev",
            "mailto:",
            "mailto:push",
            "mailto:@flametree.dev",
            "mailto: push@flametree.dev",
            "mailto:<push@flametree.dev>",
            "mailto:push@localhost",
            "mailto:push@host.localhost",
            "mailto:push@example.com",
            "mailto:push@mail.example.org",
            "mailto:push@flametree.invalid",
            "mailto:push@flametree.test",
            "mailto:push@printer.local",
            "mailto:push@10.0.0.1",
            "http://flametree.dev/",
            "https://localhost/",
            "https://example.com/contact",
            "https://127.0.0.1/",
        ] {
            assert!(!is_subject(wrong), "{wrong}");
        }
    }
}
