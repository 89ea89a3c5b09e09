//! Properties that must hold for every URL and address. `crate::fuzzing` checks them.
//!
//! The properties compare the address rules with the private ranges that the standard library defines.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use ipnet::{IpNet, Ipv4Net};
use url::{Host, Url};

use super::address::AddressRules;
use super::{HttpClient, Lookup, LookupError, LookupLimits, Settings, VetError};
use crate::domain::names::TenantId;
use crate::domain::push_hosts::PushHosts;
use crate::domain::webhook_url::{MAX_URL_BYTES, WebhookUrl};
use crate::telemetry::metrics::Metrics;

/// A client that resolves no host names, because these properties check only literal addresses.
static CLIENT: LazyLock<HttpClient> = LazyLock::new(|| client(Vec::new()));

/// A client that may also reach `allowed_networks`.
pub(super) fn client(allowed_networks: Vec<IpNet>) -> HttpClient {
    let settings = Settings {
        allowed_networks,
        denied_networks: Vec::new(),
        name_servers: Vec::new(),
        lookups: LookupLimits::WORKERS,
        allow_http: true,
        default_timeout: Duration::from_secs(5),
        extra_roots: Vec::new(),
    };
    let unknown: Lookup = Arc::new(|_| std::future::ready(Err(LookupError::Unresolved)).boxed());
    HttpClient::with_lookup(&settings, &Metrics::new("property", "property"), unknown)
        .unwrap_or_else(|error| panic!("no client: {error}"))
}

/// Parses the text as a webhook URL and checks the client's decision about it.
pub fn url(text: &str) {
    for allow_http in [false, true] {
        let Ok(url) = WebhookUrl::parse(text, allow_http) else { continue };
        assert_eq!(WebhookUrl::parse(url.as_str(), allow_http).as_ref(), Ok(&url), "the URL must parse again");
        assert!(url.as_str().len() <= MAX_URL_BYTES && url.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
        let parts = url.as_url();
        assert!(parts.scheme() == "https" || (allow_http && parts.scheme() == "http"), "{parts}");
        assert!(parts.username().is_empty() && parts.password().is_none() && parts.fragment().is_none(), "{parts}");
        assert!(url.as_str().starts_with(&url.origin()), "{parts} does not start with {}", url.origin());
        assert!(parts.port_or_known_default().is_some_and(|port| port != 0), "{parts} has no port");
        let debug = format!("{url:?}");
        assert_eq!(debug, format!("WebhookUrl({:?})", url.origin()), "Debug must hide the path");
        assert_guarded(parts);
    }
    // A browser's subscription is accepted only for a host of a known vendor.
    if let Ok(url) = Url::parse(text) {
        let vendors = PushHosts::new(Vec::new(), true);
        assert!(!vendors.allow(&url) || matches!(url.host(), Some(Host::Domain(name)) if is_vendor(name)), "{url}");
    }
}

fn is_vendor(name: &str) -> bool {
    [".mozilla.com", ".googleapis.com", ".google.com", ".apple.com", ".windows.com"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// Checks that the address rules decide about a literal host, and that the operating system would not parse a host name as an
/// address.
fn assert_guarded(url: &Url) {
    let address = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address),
        Some(Host::Ipv6(address)) => IpAddr::V6(address),
        Some(Host::Domain(name)) => {
            assert!(!is_numeric(name), "the system may parse {name} as an address");
            return;
        }
        None => panic!("{url} has no host"),
    };
    let tenant = TenantId::from_stored("property".to_owned());
    let Some(verdict) = CLIENT.vet(url, &tenant).now_or_never() else { panic!("{url} is resolved") };
    let allowed = AddressRules::default().allow(address);
    assert_eq!(verdict, if allowed { Ok(()) } else { Err(VetError::BlockedAddress) }, "{url}");
    assert!(!(allowed && is_known_private(address)), "{url} is allowed");
}

/// True for the notations that `inet_aton` accepts: one to four numbers that are decimal, octal or hexadecimal.
fn is_numeric(name: &str) -> bool {
    let is_number = |part: &str| match part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
        Some(digits) => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()),
    };
    name.parse::<IpAddr>().is_ok() || (name.split('.').count() <= 4 && name.split('.').all(is_number))
}

/// The first 16 bytes are an IPv6 address. The last four of these bytes are also an IPv4 address. The next byte is the
/// prefix length of an allowed network.
pub fn address(input: &[u8]) {
    let Some((bytes, rest)) = input.split_first_chunk::<16>() else { return };
    let [.., a, b, c, d] = *bytes;
    let (v6, v4) = (Ipv6Addr::from(*bytes), Ipv4Addr::new(a, b, c, d));
    let prefix = rest.first().map_or(32, |byte| byte % 33);
    let opened = Ipv4Net::new(v4, prefix).map_or_else(|_| Vec::new(), |network| vec![IpNet::V4(network.trunc())]);
    let [closed, opened] = [AddressRules::default(), AddressRules::new(opened, Vec::new())];

    let translated = [v4.to_ipv6_mapped(), nat64(v4)].map(IpAddr::V6);
    for address in translated.into_iter().chain([IpAddr::V4(v4)]) {
        assert_eq!(closed.allow(address), closed.allow(IpAddr::V4(v4)), "{address} and {v4}");
        assert_eq!(opened.allow(address), !serves_metadata(v4), "{address} is allowed by {opened:?}");
    }
    for address in translated.into_iter().chain([IpAddr::V4(v4), IpAddr::V6(v6)]) {
        assert!(!(closed.allow(address) && is_known_private(address)), "{address}");
        assert!(opened.allow(address) || !closed.allow(address), "allowing a network blocks {address}");
    }
}

fn nat64(inside: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = inside.octets();
    Ipv6Addr::from([0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d])
}

/// True for the metadata addresses, which no setting allows.
fn serves_metadata(address: Ipv4Addr) -> bool {
    matches!(
        address.octets(),
        [100, 100, 100, 200]
            | [168, 63, 129, 16]
            | [169, 254, 0, 23]
            | [169, 254, 42, 42]
            | [169, 254, 169, 254]
            | [169, 254, 170, 2 | 23]
            | [192, 0, 0, 192]
    )
}

fn is_known_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_known_private_v4(address),
        IpAddr::V6(address) => match address.segments() {
            [0, 0, 0, 0, 0, 0xffff, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => {
                let [.., a, b, c, d] = address.octets();
                is_known_private_v4(Ipv4Addr::new(a, b, c, d))
            }
            [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x2002, ..] => true,
            [first, ..] => !(0x2000..=0x3fff).contains(&first),
        },
    }
}

fn is_known_private_v4(address: Ipv4Addr) -> bool {
    let octets = address.octets();
    serves_metadata(address)
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_documentation()
        || address.is_unspecified()
        || address.is_multicast()
        || matches!(octets, [0 | 240..=255, ..] | [100, 64..=127, ..] | [198, 18 | 19, ..] | [192, 0, 0, _])
}
