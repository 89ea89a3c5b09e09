//! Isolation of tenants in the API: a tenant or an unauthenticated caller cannot use up the capacity for other callers.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use flametree_notify::domain::role::Role;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::endpoint_tests::{started, test_draft};
use crate::support::app::{ACME, Options, TestApp};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::push::Browser;
use crate::support::sse::try_open;
use crate::support::wire::answer;

const PATIENCE: Duration = Duration::from_secs(30);
const VENDOR: &str = "https://updates.push.services.mozilla.com";

async fn with_push() -> TestApp {
    TestApp::with(Options { push_hosts: Some(Vec::new()), ..Options::default() }).await
}

async fn connect_from(api: &TestApp, from: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((from, 0))).unwrap();
    socket.connect(api.address).await.unwrap()
}

/// Opens this number of connections from an address, sends a request on each and keeps the connections open. Returns the number
/// of responses.
async fn served(api: &TestApp, from: Ipv4Addr, connections: usize, held: &mut Vec<TcpStream>) -> usize {
    let mut served = 0;
    for _ in 0..connections {
        let mut stream = connect_from(api, from).await;
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
        served += usize::from(status(&mut stream).await.starts_with("HTTP/1.1 200"));
        held.push(stream);
    }
    served
}

/// Sends the headers of a subscription renewal from this source address, and the given part of its body.
async fn renewal(api: &TestApp, from: Ipv4Addr, length: usize, body: &[u8]) -> TcpStream {
    let mut stream = connect_from(api, from).await;
    let head = format!(
        "POST /v1/push/renewals HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    stream
}

/// Returns the first bytes of the response, which contain its status.
async fn status(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4096];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut bytes)).await.expect("no answer").unwrap();
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

#[tokio::test]
async fn without_browser_push_a_renewal_gets_404_before_its_body_arrives() {
    let api = TestApp::start().await;
    let mut stream = renewal(&api, Ipv4Addr::LOCALHOST, 8_000, b"").await;
    let answer = status(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("\"not_found\""), "{answer}");
}

#[tokio::test]
async fn a_renewal_with_a_body_of_8_kib_is_accepted() {
    let api = with_push().await;
    for (length, expected) in [(8 * 1024, "HTTP/1.1 400 "), (8 * 1024 + 1, "HTTP/1.1 413 ")] {
        let mut stream = renewal(&api, Ipv4Addr::LOCALHOST, length, &vec![b'x'; length]).await;
        let answer = status(&mut stream).await;
        assert!(answer.starts_with(expected), "{length}: {answer}");
    }
}

#[tokio::test]
async fn one_address_cannot_use_up_the_connections_for_other_addresses() {
    let mut options = Options::default();
    options.http.max_connections = 16;
    let api = TestApp::with(options).await;
    let mut held = Vec::new();
    assert_eq!(served(&api, Ipv4Addr::LOCALHOST, 16, &mut held).await, 8);
    assert_eq!(served(&api, Ipv4Addr::new(127, 0, 0, 2), 4, &mut held).await, 4);
}

#[tokio::test]
async fn idle_connections_of_one_address_block_no_other_address() {
    let mut options = Options::default();
    options.http.max_connections = 16;
    // Accepted connections that send nothing stay open during this test.
    options.http.head_timeout = Duration::from_mins(10);
    let api = TestApp::with(options).await;
    let mut silent = Vec::new();
    for _ in 0..400 {
        silent.push(connect_from(&api, Ipv4Addr::LOCALHOST).await);
    }
    assert_eq!(served(&api, Ipv4Addr::new(127, 0, 0, 2), 4, &mut Vec::new()).await, 4);

    let mut ends: FuturesUnordered<_> = silent.iter_mut().map(|stream| stream.read_u8()).collect();
    let mut closed = 0;
    let rest_is_closed = async {
        while closed < 392 {
            closed += usize::from(ends.next().await.unwrap().is_err());
        }
    };
    tokio::time::timeout(PATIENCE, rest_is_closed).await.expect("the server closes the connections that it refused");
}

#[tokio::test]
async fn a_trusted_proxy_may_use_all_connections() {
    let mut options = Options::default();
    options.http.max_connections = 16;
    options.http.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()].into();
    let api = TestApp::with(options).await;
    assert_eq!(served(&api, Ipv4Addr::LOCALHOST, 17, &mut Vec::new()).await, 16);
}

#[tokio::test]
async fn limits_slow_renewals_of_one_address_without_affecting_other_addresses() {
    let api = with_push().await;
    let mut slow = Vec::new();
    for _ in 0..400 {
        slow.push(renewal(&api, Ipv4Addr::LOCALHOST, 8_000, b"{").await);
    }
    // The address has reached the limit, so the server rejects some of the renewals before their bodies arrive.
    let mut refused = 0;
    for stream in &mut slow {
        let mut byte = [0; 12];
        if let Ok(Ok(_)) = tokio::time::timeout(Duration::from_millis(1), stream.peek(&mut byte)).await {
            refused += usize::from(byte.starts_with(b"HTTP/1.1 429") || byte.starts_with(b"HTTP/1.1 503"));
        }
    }
    assert!(refused > 0);
    let stranger = |name: &str| Browser::new(name).subscription(VENDOR);
    let body = serde_json::to_vec(&json!({"old": stranger("old"), "new": stranger("new")})).unwrap();
    let mut other = renewal(&api, Ipv4Addr::new(127, 0, 0, 2), body.len(), &body).await;
    let answer = status(&mut other).await;
    assert!(
        answer.starts_with("HTTP/1.1 401 "),
        "the server must read the renewal and look up the subscription: {answer}"
    );
}

#[tokio::test]
async fn hanging_endpoint_tests_of_one_tenant_do_not_block_tests_of_another() {
    let (api, acme) = started().await;
    let other = api.token(Role::Admin, Some("other")).await;
    let hanging = Receiver::start(Behaviour::HangsAfterAccept).await;
    let healthy = Receiver::start(Behaviour::Answers(answer("200 OK", "", b""))).await;
    let draft = |receiver: &Receiver| json!({"url": receiver.url(), "timeout_ms": 10_000});
    let agents: Vec<_> = (0..40).map(|number| format!("agent-{number}")).collect();
    let mut tests: FuturesUnordered<_> =
        agents.iter().map(|agent| test_draft(&api, &acme, agent, draft(&hanging))).collect();
    // The first response is a rejection, because the tenant already has the maximum number of tests in progress.
    let first = tests.next().await.unwrap();
    assert!([429, 503].contains(&first.status) && first.headers.contains_key("retry-after"), "{first:?}");
    for _ in 0..9 {
        let tested = test_draft(&api, &other, "agent-1", draft(&healthy)).await;
        assert_eq!((tested.status, &tested.json()["outcome"]), (200, &json!("delivered")), "{tested:?}");
    }
}

#[tokio::test]
async fn one_tenant_cannot_use_up_the_streams_for_other_tenants() {
    let mut options = Options::default();
    options.http.workspace.max_streams = 12;
    options.http.workspace.max_streams_per_caller = 3;
    let api = TestApp::with(options).await;
    let open = async |token: &str| {
        try_open(api.address, "/v1/workspace/stream", &[("authorization", &format!("Bearer {token}"))]).await
    };
    let (mut held, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..6 {
        let token = api.token(Role::Operator, Some(ACME)).await;
        for _ in 0..3 {
            match open(&token).await {
                Ok(stream) => held.push(stream),
                Err((status, problem)) => refused.push((status, problem["code"].clone())),
            }
        }
    }
    assert!(!held.is_empty() && refused.contains(&(429, json!("rate_limited"))), "{refused:?}");
    for tenant in ["one", "two", "three"] {
        let token = api.token(Role::Operator, Some(tenant)).await;
        held.push(open(&token).await.unwrap_or_else(|refusal| panic!("{tenant}: {refusal:?}")));
    }
}
