//! Tests that the service connects only to allowed addresses, with address literals, host names, DNS rebinding and redirects.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flametree_notify::channels::{HttpClient, Lookup, LookupError, Settings, VetError};
use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::webhook_url::WebhookUrl;
use flametree_notify::telemetry::metrics::Metrics;
use proptest::prelude::*;

use crate::support::messages::{attempt, endpoint, impatient, metrics, settings, tenant};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::names::{Addresses, names, slow_names};
use crate::support::never_accepts::NeverAccepts;
use crate::support::waiting::all;
use crate::support::wire::answer;

fn closed() -> Settings {
    Settings { allowed_networks: Vec::new(), ..settings() }
}

async fn vet(url: &str) -> Result<(), VetError> {
    let client = HttpClient::with_lookup(&closed(), &metrics(), never_asked()).unwrap();
    client.vet(WebhookUrl::parse(url, true).unwrap().as_url(), &tenant()).await
}

fn never_asked() -> Lookup {
    names(|host| panic!("{host} is not a name"))
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
async fn checks_address_literals_in_any_notation_on_save_and_on_send() {
    // The receiver listens on every local address, so the test notices any connection.
    let receiver = Receiver::start_on("0.0.0.0:0", Behaviour::Answers(answer("200 OK", "", b""))).await;
    let metrics = metrics();
    let client = HttpClient::with_lookup(&closed(), &metrics, never_asked()).unwrap();
    for literal in LITERALS {
        let endpoint = endpoint(&format!("http://{literal}:{}/", receiver.address.port()));
        assert_eq!(client.vet(endpoint.target.url(), &tenant()).await, Err(VetError::BlockedAddress), "{literal}");
        let attempt = attempt(&client, &endpoint).await;
        assert_eq!((attempt.outcome, attempt.http_status), (Outcome::BlockedAddress, None), "{literal}");
        assert!(!format!("{:?}", attempt.detail).contains("127.0"), "{attempt:?}");
    }
    assert_eq!(receiver.connections(), 0);
    assert_refused(&metrics, "literal", 2 * LITERALS.len());
}

fn assert_refused(metrics: &Metrics, reason: &str, times: usize) {
    let text = metrics.render();
    let series = format!("flametree_blocked_addresses_total{{reason=\"{reason}\"}} {times}\n");
    assert!(text.contains(&series), "no {series} in {text}");
}

#[tokio::test]
async fn rejects_the_host_name_of_this_machine() {
    let receiver = Receiver::start(Behaviour::Answers(answer("200 OK", "", b""))).await;
    let client = HttpClient::new(&closed(), &metrics()).unwrap();
    for host in ["localhost", "LOCALHOST"] {
        let url = format!("http://{host}:{}/", receiver.address.port());
        let attempt = attempt(&client, &endpoint(&url)).await;
        assert_eq!(attempt.outcome, Outcome::DnsError, "{host}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_host_name_that_does_not_resolve_causes_a_dns_error() {
    for found in [Err(LookupError::Unresolved), Ok(Vec::new())] {
        let client = HttpClient::with_lookup(&settings(), &metrics(), names(move |_host| found.clone())).unwrap();
        let attempt = attempt(&client, &endpoint("https://nowhere.test/")).await;
        assert_eq!(attempt.outcome, Outcome::DnsError);
        let target = endpoint("https://nowhere.test/").target;
        assert_eq!(client.vet(target.url(), &tenant()).await, Err(VetError::Unresolved));
    }
}

const OPENED: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const CLOSED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn counter() -> (Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let counter = Arc::new(AtomicUsize::new(0));
    (Arc::clone(&counter), counter)
}

/// Returns a lookup and the counter of its calls. The first call returns the allowed address, later calls the forbidden address.
fn rebinding() -> (Lookup, Arc<AtomicUsize>) {
    let (counter, asked) = counter();
    let next = move || if counter.fetch_add(1, Ordering::SeqCst) == 0 { OPENED } else { CLOSED };
    (names(move |_host| -> Addresses { Ok(vec![next()]) }), asked)
}

/// Settings that allow exactly one address of this machine.
fn half_open() -> Settings {
    Settings { allowed_networks: vec!["127.0.0.1/32".parse().unwrap()], ..settings() }
}

#[tokio::test]
async fn one_forbidden_address_blocks_the_whole_host_name() {
    let mixed = names(|_host| Ok(vec![OPENED, CLOSED]));
    let receiver = Receiver::start_on("0.0.0.0:0", Behaviour::Answers(answer("200 OK", "", b""))).await;
    let metrics = metrics();
    let client = HttpClient::with_lookup(&half_open(), &metrics, mixed).unwrap();
    let url = format!("http://mixed.test:{}/", receiver.address.port());
    assert_eq!(attempt(&client, &endpoint(&url)).await.outcome, Outcome::DnsError);
    assert_eq!(receiver.connections(), 0);
    assert_refused(&metrics, "resolved", 1);
}

#[tokio::test]
async fn the_client_tries_the_next_address_if_one_does_not_respond() {
    let two = names(|_host| Ok(vec![OPENED, CLOSED]));
    let silent = NeverAccepts::start().await;
    let port = silent.address.port();
    let receiver =
        Receiver::start_on(&format!("127.0.0.2:{port}"), Behaviour::Answers(answer("200 OK", "", b""))).await;
    let client = HttpClient::with_lookup(&settings(), &metrics(), two).unwrap();
    let attempt = attempt(&client, &endpoint(&format!("http://two.test:{port}/"))).await;
    assert_eq!((attempt.outcome, receiver.seen().len()), (Outcome::Delivered, 1));
}

#[tokio::test]
async fn does_not_connect_if_a_host_name_rebinds_to_a_forbidden_address() {
    let (rebinding, asked) = rebinding();
    let client = HttpClient::with_lookup(&half_open(), &metrics(), rebinding).unwrap();
    // The receiver closes each connection, so the next delivery needs a new connection.
    let closes = Behaviour::AnswersThenCloses(answer("200 OK", "connection: close\r\n", b""));
    let allowed = Receiver::start_on("127.0.0.1:0", closes.clone()).await;
    let port = allowed.address.port();
    let hidden = Receiver::start_on(&format!("127.0.0.2:{port}"), closes).await;
    let url = format!("http://rebinding.test:{port}/");
    // The address check and the connection use the same lookup, so the client never gets the forbidden address.
    assert_eq!(attempt(&client, &endpoint(&url)).await.outcome, Outcome::Delivered);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    allowed.ended(1).await;
    for _ in 0..3 {
        assert_eq!(attempt(&client, &endpoint(&url)).await.outcome, Outcome::DnsError);
    }
    assert_eq!((allowed.seen().len(), hidden.connections()), (1, 0));
}

#[tokio::test]
async fn checks_a_saved_host_name_again_on_send() {
    let (rebinding, _) = rebinding();
    let receiver = Receiver::start_on("0.0.0.0:0", Behaviour::Answers(answer("200 OK", "", b""))).await;
    let client = HttpClient::with_lookup(&half_open(), &metrics(), rebinding).unwrap();
    let endpoint = endpoint(&format!("http://rebinding.test:{}/", receiver.address.port()));
    assert_eq!(client.vet(endpoint.target.url(), &tenant()).await, Ok(()));
    assert_eq!(attempt(&client, &endpoint).await.outcome, Outcome::DnsError);
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_redirect_to_a_forbidden_address_is_not_followed() {
    let hidden = Receiver::start_on("127.0.0.2:0", Behaviour::Answers(answer("200 OK", "", b""))).await;
    let redirect = answer("307 Temporary Redirect", &format!("location: {}\r\n", hidden.url()), b"");
    let receiver = Receiver::start(Behaviour::Answers(redirect)).await;
    let client = HttpClient::new(&half_open(), &metrics()).unwrap();
    assert_eq!(attempt(&client, &endpoint(&receiver.url())).await.outcome, Outcome::Redirect);
    assert_eq!((receiver.seen().len(), hidden.connections()), (1, 0));
}

#[tokio::test]
async fn concurrent_deliveries_to_one_host_name_share_a_lookup() {
    let (counter, asked) = counter();
    let slow = slow_names(move |_host| {
        counter.fetch_add(1, Ordering::SeqCst);
        (Duration::from_millis(200), Ok(vec![OPENED]))
    });
    let receiver = Receiver::start(Behaviour::Answers(answer("200 OK", "", b""))).await;
    let client = HttpClient::with_lookup(&settings(), &metrics(), slow).unwrap();
    let url = format!("http://slow.test:{}/", receiver.address.port());
    let attempts = (0..30).map(|_| {
        let (client, endpoint) = (client.clone(), endpoint(&url));
        async move { attempt(&client, &endpoint).await.outcome }
    });
    assert_eq!(all(attempts).await, vec![Outcome::Delivered; 30]);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_panic_in_a_lookup_fails_only_one_delivery() {
    let (counter, _) = counter();
    let flaky = names(move |_host| {
        assert!(counter.fetch_add(1, Ordering::SeqCst) > 0, "the first look-up panics");
        Ok(vec![OPENED])
    });
    let receiver = Receiver::start(Behaviour::Answers(answer("200 OK", "", b""))).await;
    let client = HttpClient::with_lookup(&settings(), &metrics(), flaky).unwrap();
    let endpoint = endpoint(&format!("http://flaky.test:{}/", receiver.address.port()));
    assert_eq!(attempt(&client, &endpoint).await.outcome, Outcome::DnsError);
    assert_eq!(attempt(&client, &endpoint).await.outcome, Outcome::Delivered);
}

#[tokio::test]
async fn the_time_of_a_lookup_counts_towards_the_deadline_of_an_attempt() {
    let slow = slow_names(|_host| (Duration::from_secs(1), Ok(vec![OPENED])));
    let client = HttpClient::with_lookup(&settings(), &metrics(), slow);
    let attempt = attempt(&client.unwrap(), &impatient("https://slow.test/")).await;
    assert_eq!((attempt.outcome, attempt.http_status), (Outcome::Timeout, None));
}

proptest! {
    /// The client checks the address that the URL parser returns, so every notation that the parser accepts is covered.
    #[test]
    fn rejects_every_notation_of_a_loopback_address(bits in 0x7f00_0000_u32..=0x7fff_ffff, notation in 0..9_usize) {
        let [a, b, c, d] = Ipv4Addr::from_bits(bits).octets();
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

/// The full-width form of a digit or a dot. IDNA maps this form back to the ASCII character.
fn full_width(character: char) -> char {
    match character {
        '.' => '\u{3002}',
        digit => char::from_u32(u32::from(digit) - u32::from('0') + 0xff10).unwrap(),
    }
}
