//! No message reaches an address that the operator did not allow: by literal, name, rebinding or redirect.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use flametree_notify::channels::address::AddressRules;
use flametree_notify::channels::{HttpClient, Settings, VetError};
use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::webhook_url::WebhookUrl;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use crate::support::messages::{attempt, endpoint, settings};
use crate::support::misbehaving::{Behaviour, Receiver, answer};

/// Written down apart from the code: first and last address of each forbidden IPv4 range.
const FORBIDDEN_V4: [(&str, &str); 15] = [
    ("0.0.0.0", "0.255.255.255"),
    ("10.0.0.0", "10.255.255.255"),
    ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.0.0.0", "192.0.0.255"),
    ("192.0.2.0", "192.0.2.255"),
    ("192.88.99.0", "192.88.99.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("198.18.0.0", "198.19.255.255"),
    ("198.51.100.0", "198.51.100.255"),
    ("203.0.113.0", "203.0.113.255"),
    ("224.0.0.0", "239.255.255.255"),
    ("240.0.0.0", "255.255.255.255"),
];

const FORBIDDEN_V6: [(&str, &str); 11] = [
    ("100::", "100::ffff:ffff:ffff:ffff"),
    ("2001::", "2001:0:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001:2::", "2001:2:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("3fff::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("5f00::", "5f00:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fc00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fe80::", "febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("fec0::", "feff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("ff00::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
];

fn ranges_v4() -> Vec<(u32, u32)> {
    let bits = |text: &str| text.parse::<Ipv4Addr>().unwrap().to_bits();
    FORBIDDEN_V4.iter().map(|(first, last)| (bits(first), bits(last))).collect()
}

fn ranges_v6() -> Vec<(u128, u128)> {
    let bits = |text: &str| text.parse::<Ipv6Addr>().unwrap().to_bits();
    FORBIDDEN_V6.iter().map(|(first, last)| (bits(first), bits(last))).collect()
}

fn forbidden_v4(bits: u32) -> bool {
    ranges_v4().iter().any(|&(first, last)| (first..=last).contains(&bits))
}

fn public(address: impl Into<IpAddr>) -> bool {
    AddressRules::default().allow(address.into())
}

fn v4(bits: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(bits)
}

/// An IPv6 address with an IPv4 address in its last four bytes.
fn embed(prefix: &str, inside: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(prefix.parse::<Ipv6Addr>().unwrap().to_bits() | u128::from(inside.to_bits()))
}

#[test]
fn each_forbidden_range_ends_where_it_should() {
    for (first, last) in ranges_v4() {
        assert!(!public(v4(first)) && !public(v4(last)), "{}", v4(first));
        for neighbour in [first.checked_sub(1), last.checked_add(1)].into_iter().flatten() {
            assert_eq!(public(v4(neighbour)), !forbidden_v4(neighbour), "{}", v4(neighbour));
        }
    }
    let ranges = ranges_v6();
    let address = Ipv6Addr::from_bits;
    let with_exceptions = ["::/8", "2001::/23"].map(|text| text.parse::<Ipv6Net>().unwrap());
    for &(first, last) in &ranges {
        assert!(!public(address(first)) && !public(address(last)), "{}", address(first));
        for neighbour in [first.checked_sub(1), last.checked_add(1)].into_iter().flatten() {
            // Those have tests of their own.
            if !with_exceptions.iter().any(|network| network.contains(&address(neighbour))) {
                let inside = ranges.iter().any(|&(first, last)| (first..=last).contains(&neighbour));
                assert_eq!(public(address(neighbour)), !inside, "{}", address(neighbour));
            }
        }
    }
}

#[test]
fn the_first_eighth_of_ipv6_is_open_only_through_ipv4_forms() {
    for (text, expected) in [
        ("::", false),
        ("::1", false),
        ("::8.8.8.8", false),
        ("ff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
        ("100:0:0:1::", true),
        ("64:ff9b::8.8.8.8", true),
        ("64:ff9b::127.0.0.1", false),
        ("64:ff9b::ffff:ffff", false),
        ("64:ff9b:0:0:0:1::", false),
        ("64:ff9b:1::8.8.8.8", false),
        ("64:ff9a:ffff:ffff:ffff:ffff:808:808", false),
        ("::ffff:8.8.8.8", true),
        ("::ffff:127.0.0.1", false),
        ("::fffe:8.8.8.8", false),
        ("::1:0:0:0", false),
        ("::ffff:0:8.8.8.8", false),
    ] {
        assert_eq!(public(text.parse::<Ipv6Addr>().unwrap()), expected, "{text}");
    }
}

#[test]
fn the_global_parts_of_the_protocol_assignments_are_open() {
    for (text, expected) in [
        ("2001:1::1", true),
        ("2001:1::2", true),
        ("2001:1::3", true),
        ("2001:1::4", false),
        ("2001:1::", false),
        ("2001:3::1", true),
        ("2001:4:112::1", true),
        ("2001:4:113::", false),
        ("2001:10::1", false),
        ("2001:20::1", true),
        ("2001:2f:ffff::", true),
        ("2001:30::1", true),
        ("2001:40::", false),
        ("2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", false),
        ("2001:200::", true),
        ("2606:4700::1111", true),
        ("fbff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
    ] {
        assert_eq!(public(text.parse::<Ipv6Addr>().unwrap()), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn an_ipv4_address_is_public_unless_it_is_in_a_range(bits: u32) {
        prop_assert_eq!(public(v4(bits)), !forbidden_v4(bits));
    }

    #[test]
    fn addresses_near_an_edge_are_judged_right(range in 0..FORBIDDEN_V4.len(), last: bool, offset in -3_i64..=3) {
        let (first, end) = ranges_v4()[range];
        let bits = i64::from(if last { end } else { first }) + offset;
        if let Ok(bits) = u32::try_from(bits) {
            prop_assert_eq!(public(v4(bits)), !forbidden_v4(bits));
        }
    }

    #[test]
    fn forms_that_networks_translate_have_the_verdict_of_the_address_inside(bits: u32) {
        let inside = v4(bits);
        prop_assert_eq!(public(inside.to_ipv6_mapped()), public(inside));
        prop_assert_eq!(public(embed("64:ff9b::", inside)), public(inside));
    }

    #[test]
    fn forms_that_relays_translate_are_closed(bits: u32, rest: u64) {
        let six_to_four = (0x2002_u128 << 112) | (u128::from(bits) << 80) | u128::from(rest);
        prop_assert!(!public(Ipv6Addr::from_bits(six_to_four)));
        let teredo = (0x2001_0000_u128 << 96) | (u128::from(rest) << 32) | u128::from(bits);
        prop_assert!(!public(Ipv6Addr::from_bits(teredo)));
        prop_assert!(!public(embed("64:ff9b:1::", v4(bits))));
        prop_assert!(!public(embed("::", v4(bits))));
    }

    #[test]
    fn every_address_of_a_forbidden_ipv6_range_is_closed(range in 0..FORBIDDEN_V6.len(), offset: u128) {
        let (first, last) = ranges_v6()[range];
        let bits = first + (offset % (last - first));
        prop_assert!(!public(Ipv6Addr::from_bits(bits)));
    }

    #[test]
    fn an_opened_network_opens_itself_alone(bits: u32, prefix in 8_u8..=32, other: u32) {
        let network = Ipv4Net::new(v4(bits), prefix).unwrap();
        let rules = AddressRules::new(vec![IpNet::V4(network)]);
        prop_assert!(rules.allow(v4(bits).into()));
        prop_assert!(rules.allow(v4(bits).to_ipv6_mapped().into()));
        let expected = network.contains(&v4(other)) || !forbidden_v4(other);
        prop_assert_eq!(rules.allow(v4(other).into()), expected);
    }

    /// Whatever notation the URL parser takes for an address, it is the address that is judged.
    #[test]
    fn every_notation_of_a_loopback_address_is_refused(bits in 0x7f00_0000_u32..=0x7fff_ffff, notation in 0..9_usize) {
        let [a, b, c, d] = v4(bits).octets();
        let low = bits & 0x00ff_ffff;
        let host = [
            format!("{bits}"),
            format!("{bits:#x}"),
            format!("{bits:#o}").replace("0o", "0"),
            format!("{a:#x}.{low}"),
            format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
            format!("{a}.{b}.{}", u16::from_be_bytes([c, d])),
            format!("{a}.{b}.{c}.{d}."),
            format!("{a}.{b}.{c}.{d}").chars().map(full_width).collect(),
            format!("[::ffff:{a}.{b}.{c}.{d}]"),
        ][notation].clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let verdict = runtime.block_on(vet(&format!("http://{host}/")));
        prop_assert_eq!(verdict, Err(VetError::BlockedAddress), "{}", host);
    }
}

/// `１` for `1`, and `。` for `.`: what IDNA maps back.
fn full_width(character: char) -> char {
    match character {
        '.' => '\u{3002}',
        digit => char::from_u32(u32::from(digit) - u32::from('0') + 0xff10).unwrap(),
    }
}

fn closed() -> Settings {
    Settings { allowed_networks: Vec::new(), ..settings() }
}

async fn vet(url: &str) -> Result<(), VetError> {
    let client = HttpClient::with_lookup(&closed(), never_asked).unwrap();
    client.vet(WebhookUrl::parse(url, true).unwrap().as_url()).await
}

fn never_asked(host: &str) -> io::Result<Vec<IpAddr>> {
    panic!("{host} is not a name")
}

const LITERALS: [&str; 16] = [
    "0x7f.1",
    "0177.0.0.1",
    "2130706433",
    "127.1",
    "127.0.0.1.",
    "0",
    "１２７.０.０.１",
    "127。0。0。1",
    "%31%32%37.0.0.1",
    "169.254.169.254",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
];

#[tokio::test]
async fn a_literal_in_any_notation_is_vetted_when_saved_and_when_sent_to() {
    // Bound to every address, so that a connection would be seen.
    let receiver = Receiver::start_on("0.0.0.0:0", Behaviour::Answers(answer("200 OK", "", b""))).await;
    let client = HttpClient::with_lookup(&closed(), never_asked).unwrap();
    for literal in LITERALS {
        let url = format!("http://{literal}:{}/", receiver.address.port());
        assert_eq!(vet(&url).await, Err(VetError::BlockedAddress), "{literal}");
        let attempt = attempt(&client, &endpoint(&url)).await;
        assert_eq!((attempt.outcome, attempt.http_status), (Outcome::BlockedAddress, None), "{literal}");
        assert!(!format!("{:?}", attempt.detail).contains("127.0"), "{attempt:?}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn this_machines_own_name_is_refused() {
    let receiver = Receiver::start(Behaviour::Answers(answer("200 OK", "", b""))).await;
    let client = HttpClient::new(&closed()).unwrap();
    for host in ["localhost", "LOCALHOST"] {
        let url = format!("http://{host}:{}/", receiver.address.port());
        let attempt = attempt(&client, &endpoint(&url)).await;
        assert_eq!(attempt.outcome, Outcome::BlockedAddress, "{host}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_dns_error() {
    fn nowhere(_host: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn empty(_host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(Vec::new())
    }
    for lookup in [nowhere, empty] {
        let client = HttpClient::with_lookup(&settings(), lookup).unwrap();
        let attempt = attempt(&client, &endpoint("https://nowhere.test/")).await;
        assert_eq!(attempt.outcome, Outcome::DnsError);
        let url = endpoint("https://nowhere.test/").url;
        assert_eq!(client.vet(url.as_url()).await, Err(VetError::Unresolved));
    }
}

const OPENED: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const CLOSED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Opens one address of this machine and no other.
fn half_open() -> Settings {
    Settings { allowed_networks: vec!["127.0.0.1/32".parse().unwrap()], ..settings() }
}

#[tokio::test]
async fn one_forbidden_address_among_good_ones_spoils_the_name() {
    fn mixed(_host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![OPENED, CLOSED])
    }
    let receiver = Receiver::start_on("0.0.0.0:0", Behaviour::Answers(answer("200 OK", "", b""))).await;
    let client = HttpClient::with_lookup(&half_open(), mixed).unwrap();
    let url = format!("http://mixed.test:{}/", receiver.address.port());
    assert_eq!(attempt(&client, &endpoint(&url)).await.outcome, Outcome::BlockedAddress);
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_name_that_rebinds_to_a_forbidden_address_is_not_followed_there() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    fn rebinding(_host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![if ASKED.fetch_add(1, Ordering::SeqCst) == 0 { OPENED } else { CLOSED }])
    }
    let client = HttpClient::with_lookup(&half_open(), rebinding).unwrap();
    // Closes each connection, so that the next delivery needs a new one.
    let closes = Behaviour::AnswersThenCloses(answer("200 OK", "connection: close\r\n", b""));
    let opened = Receiver::start_on("127.0.0.1:0", closes.clone()).await;
    let port = opened.address.port();
    let closed = Receiver::start_on(&format!("127.0.0.2:{port}"), closes).await;
    let url = format!("http://rebinding.test:{port}/");
    // The one look-up serves check and connection: there is no second answer to fall for.
    assert_eq!(attempt(&client, &endpoint(&url)).await.outcome, Outcome::Delivered);
    assert_eq!(ASKED.load(Ordering::SeqCst), 1);
    opened.ended(1).await;
    for _ in 0..3 {
        assert_eq!(attempt(&client, &endpoint(&url)).await.outcome, Outcome::BlockedAddress);
    }
    assert_eq!((opened.seen().len(), closed.connections()), (1, 0));
}

#[tokio::test]
async fn a_name_that_passed_when_saved_is_vetted_again_when_sent_to() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    fn rebinding(_host: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![if ASKED.fetch_add(1, Ordering::SeqCst) == 0 { OPENED } else { CLOSED }])
    }
    let receiver = Receiver::start_on("0.0.0.0:0", Behaviour::Answers(answer("200 OK", "", b""))).await;
    let client = HttpClient::with_lookup(&half_open(), rebinding).unwrap();
    let endpoint = endpoint(&format!("http://rebinding.test:{}/", receiver.address.port()));
    assert_eq!(client.vet(endpoint.url.as_url()).await, Ok(()));
    assert_eq!(attempt(&client, &endpoint).await.outcome, Outcome::BlockedAddress);
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_redirect_to_a_forbidden_address_is_not_followed() {
    let hidden = Receiver::start_on("127.0.0.2:0", Behaviour::Answers(answer("200 OK", "", b""))).await;
    let redirect = answer("307 Temporary Redirect", &format!("location: {}\r\n", hidden.url()), b"");
    let receiver = Receiver::start(Behaviour::Answers(redirect)).await;
    let client = HttpClient::new(&half_open()).unwrap();
    assert_eq!(attempt(&client, &endpoint(&receiver.url())).await.outcome, Outcome::Redirect);
    assert_eq!((receiver.seen().len(), hidden.connections()), (1, 0));
}

#[tokio::test]
async fn deliveries_to_one_name_share_its_lookup() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    fn slow(_host: &str) -> io::Result<Vec<IpAddr>> {
        ASKED.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(std::time::Duration::from_millis(200));
        Ok(vec![OPENED])
    }
    let receiver = Receiver::start(Behaviour::Answers(answer("200 OK", "", b""))).await;
    let client = HttpClient::with_lookup(&settings(), slow).unwrap();
    let url = format!("http://slow.test:{}/", receiver.address.port());
    let attempts = (0..30).map(|_| {
        let (client, endpoint) = (client.clone(), endpoint(&url));
        async move { attempt(&client, &endpoint).await.outcome }
    });
    assert_eq!(crate::support::misbehaving::all(attempts).await, vec![Outcome::Delivered; 30]);
    assert_eq!(ASKED.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_lookup_that_panics_costs_its_own_delivery_only() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    fn flaky(_host: &str) -> io::Result<Vec<IpAddr>> {
        assert!(ASKED.fetch_add(1, Ordering::SeqCst) > 0, "the first look-up panics");
        Ok(vec![OPENED])
    }
    let receiver = Receiver::start(Behaviour::Answers(answer("200 OK", "", b""))).await;
    let client = HttpClient::with_lookup(&settings(), flaky).unwrap();
    let endpoint = endpoint(&format!("http://flaky.test:{}/", receiver.address.port()));
    assert_eq!(attempt(&client, &endpoint).await.outcome, Outcome::DnsError);
    assert_eq!(attempt(&client, &endpoint).await.outcome, Outcome::Delivered);
}
