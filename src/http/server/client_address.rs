//! The client address of a request: the connection's peer, or the address that a trusted proxy reports.
//!
//! Each proxy appends the address of its peer to a list in a header. Only the end of the list is reliable: the client can
//! forge everything before the last address that is not a trusted proxy. Existing libraries also accept `X-Real-IP`,
//! which clients can send through most proxies. This parser accepts only `Forwarded` and `X-Forwarded-For`.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use axum::http::header::{FORWARDED, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The last address that is not a trusted proxy. If `Forwarded` and `X-Forwarded-For` disagree, returns the peer's address,
/// because the proxy sets only one of the headers and the client might have sent the other header.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let forwarded = joined(headers, &FORWARDED).map(|list| last_client(peer, elements(&list), trusted, forwarded_for));
    let x_forwarded_for =
        joined(headers, &X_FORWARDED_FOR).map(|list| last_client(peer, list.split(',').collect(), trusted, address));
    match (forwarded, x_forwarded_for) {
        (Some(one), Some(other)) if one != other => peer,
        (Some(client), _) | (None, Some(client)) => client,
        (None, None) => peer,
    }
}

pub(crate) fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// Joins all lines of a header into one list (RFC 9110, 5.3). A line that is not text becomes an element without an address.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let lines: Vec<_> = headers.get_all(name).iter().map(|line| line.to_str().unwrap_or("?")).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

/// Reads the list backwards and skips trusted proxies. At an element without an address, returns the proxy that reported
/// the element.
fn last_client(peer: IpAddr, list: Vec<&str>, trusted: &[IpNet], address: fn(&str) -> Option<IpAddr>) -> IpAddr {
    let mut proxy = peer;
    for element in list.into_iter().rev() {
        match address(element.trim()) {
            Some(address) if is_trusted(address, trusted) => proxy = address,
            Some(address) => return address,
            None => return proxy,
        }
    }
    proxy
}

/// The elements of a list. A list that ends inside quotes is rejected, because the client might have opened the quotes.
fn elements(list: &str) -> Vec<&str> {
    split_unquoted(list, b',').unwrap_or_else(|| vec![list])
}

/// Splits at separators outside quotes; `None` if the text ends inside quotes.
fn split_unquoted(text: &str, separator: u8) -> Option<Vec<&str>> {
    let (mut parts, mut start, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == separator && !quoted => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    (!quoted).then_some(parts)
}

/// The address in a `Forwarded` element (RFC 7239, section 4), if the element has exactly one `for` parameter.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = split_unquoted(element, b';')?.into_iter().filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then_some(value.trim())
    });
    let value = found.next().filter(|_| found.next().is_none())?;
    // Quoted addresses contain no escapes.
    let value = value.strip_prefix('"').map_or(Some(value), |value| value.strip_suffix('"'))?;
    address(value)
}

/// Parses an address with or without a port. IPv6 may be in brackets. Names such as `unknown` and `_hidden` are not addresses.
fn address(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().filter(IpAddr::is_ipv6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let address = text.parse().ok().or_else(bracketed).or_else(with_port)?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn client(peer: &str, lines: &[(&'static str, &str)]) -> String {
        let headers =
            lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn uses_headers_of_trusted_proxies_only() {
        let said = [("x-forwarded-for", "203.0.113.9")];
        assert_eq!(client(PROXY, &said), "203.0.113.9");
        assert_eq!(client("::ffff:10.0.0.1", &said), "203.0.113.9");
        assert_eq!(client("192.0.2.1", &said), "192.0.2.1");
        assert_eq!(client(PROXY, &[]), PROXY);
    }

    #[test]
    fn returns_the_last_address_that_is_not_a_trusted_proxy() {
        for (list, expected) in [
            ("198.51.100.7, 203.0.113.9", "203.0.113.9"),
            ("198.51.100.7, 203.0.113.9, 10.2.3.4", "203.0.113.9"),
            ("10.9.9.9, 10.2.3.4", "10.9.9.9"),
            ("203.0.113.9, unknown, 10.2.3.4", "10.2.3.4"),
            ("203.0.113.9:4711", "203.0.113.9"),
            ("[2001:db8::9]:4711", "2001:db8::9"),
            ("2001:db8::9", "2001:db8::9"),
            ("::ffff:203.0.113.9", "203.0.113.9"),
            ("203.0.113.9,", PROXY),
            ("[203.0.113.9]", PROXY),
        ] {
            assert_eq!(client(PROXY, &[("x-forwarded-for", list)]), expected, "{list}");
        }
        let lines = [("x-forwarded-for", "198.51.100.7"), ("x-forwarded-for", "203.0.113.9")];
        assert_eq!(client(PROXY, &lines), "203.0.113.9");
    }

    #[test]
    fn reads_the_forwarded_header() {
        for (list, expected) in [
            ("for=203.0.113.9;proto=https;by=10.0.0.1", "203.0.113.9"),
            ("For=\"[2001:db8::9]:4711\"", "2001:db8::9"),
            ("for=198.51.100.7, proto=http; FOR=\"203.0.113.9:80\" ,for=\"[fd00::1]\"", "203.0.113.9"),
            ("for=203.0.113.9;host=\"a,b;for=198.51.100.7\"", "203.0.113.9"),
            ("for=203.0.113.9, for=_hidden", PROXY),
            ("for=203.0.113.9;for=198.51.100.7", PROXY),
            ("for=\"203.0.113.9", PROXY),
            ("by=203.0.113.9", PROXY),
            // The client's open quote would include the proxy's element, so the list is rejected.
            ("for=\"198.51.100.7, for=203.0.113.9", PROXY),
            ("for=198.51.100.7;x=\", for=203.0.113.9", PROXY),
            ("for=198.51.100.7;x=\", for=\"203.0.113.9:80\"", PROXY),
        ] {
            assert_eq!(client(PROXY, &[("forwarded", list)]), expected, "{list}");
        }
    }

    #[test]
    fn ignores_headers_that_disagree() {
        let of = |forwarded| client(PROXY, &[("forwarded", forwarded), ("x-forwarded-for", "203.0.113.9")]);
        assert_eq!(of("for=203.0.113.9"), "203.0.113.9");
        assert_eq!(of("for=198.51.100.7"), PROXY);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn clients_cannot_change_the_address_that_the_proxy_adds(sent in "[ -~]{0,80}", address: std::net::Ipv4Addr) {
            prop_assume!(address.octets()[0] != 10);
            let list = format!("{sent}, {address}");
            prop_assert_eq!(client(PROXY, &[("x-forwarded-for", &list)]), address.to_string());
        }

        #[test]
        fn clients_cannot_forge_their_address(sent in "[a-z0-9=\";,.\\\\ ]{0,80}", address: std::net::Ipv4Addr) {
            prop_assume!(address.octets()[0] != 10);
            let list = format!("{sent}, for={address}");
            let found = client(PROXY, &[("forwarded", &list)]);
            prop_assert!(found == address.to_string() || found == PROXY, "{}", found);
        }
    }
}
