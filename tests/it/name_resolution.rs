//! Tests how the client looks up host names of endpoints, how long it caches responses, and what users see if a name has no
//! address.

use std::net::Ipv4Addr;
use std::time::Duration;

use flametree_notify::channels::{HttpClient, Settings, VetError};
use flametree_notify::domain::delivery::Outcome;

use crate::support::messages::{self, attempt, endpoint, metrics, tenant};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::name_server::{NameServer, Reply};
use crate::support::waiting::within;
use crate::support::wire::answer;

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn client(server: &NameServer) -> HttpClient {
    // The name `localhost` also has an IPv6 address.
    let allowed_networks = ["127.0.0.0/8", "::1/128"].map(|text| text.parse().unwrap()).into();
    let settings = Settings { name_servers: vec![server.address], allowed_networks, ..messages::settings() };
    HttpClient::new(&settings, &metrics()).unwrap()
}

/// A receiver that closes each connection, so that each request needs a new connection and a lookup.
async fn closing_receiver() -> Receiver {
    Receiver::start(Behaviour::AnswersThenCloses(answer("200 OK", "connection: close\r\n", b""))).await
}

#[tokio::test]
async fn caches_a_dns_response_for_its_ttl() {
    let server = NameServer::start(|name| Reply::Address(HERE, if name == "kept.test" { 600 } else { 0 })).await;
    let (client, receiver) = (client(&server), closing_receiver().await);
    for (name, questions) in [("kept.test", 1), ("changing.test", 3)] {
        for _ in 0..3 {
            let url = format!("http://{name}:{}/", receiver.address.port());
            assert_eq!(attempt(&client, &endpoint(&url)).await.outcome, Outcome::Delivered, "{name}");
        }
        let asked = server.asked().into_iter().filter(|asked| asked == name).count();
        // On a busy machine, the resolver may send a query twice.
        assert!(if questions == 1 { asked == 1 } else { asked >= questions }, "{name}: {asked}");
    }
}

#[tokio::test]
async fn caches_a_failed_lookup_for_a_short_time() {
    let server = NameServer::start(|_| Reply::NoSuchName).await;
    let client = client(&server);
    for _ in 0..100 {
        assert_eq!(attempt(&client, &endpoint("https://nowhere.test/")).await.outcome, Outcome::DnsError);
    }
    let asked = server.asked().len();
    assert!(asked < 100, "{asked} questions");
    server.answer(|_| Reply::Address(HERE, 0));
    let repaired = async || client.vet(endpoint("https://nowhere.test/").target.url(), &tenant()).await == Ok(());
    within(Duration::from_secs(30), "the resolver queries the name again", repaired).await;
}

#[tokio::test]
async fn a_request_on_an_open_connection_needs_no_name_server() {
    let server = NameServer::start(|_| Reply::Address(HERE, 0)).await;
    let client = client(&server);
    let receiver = Receiver::start(Behaviour::Answers(answer("200 OK", "", b""))).await;
    let endpoint = endpoint(&format!("http://kept.test:{}/", receiver.address.port()));
    assert_eq!(attempt(&client, &endpoint).await.outcome, Outcome::Delivered);
    let asked = server.asked().len();
    server.answer(|_| Reply::Silence);
    for _ in 0..10 {
        assert_eq!(attempt(&client, &endpoint).await.outcome, Outcome::Delivered);
    }
    assert_eq!((server.asked().len(), receiver.connections()), (asked, 1));
}

#[tokio::test]
async fn reports_a_lookup_timeout() {
    let server = NameServer::start(|_| Reply::Silence).await;
    let client = client(&server);
    let endpoint = endpoint("https://silent.test/");
    let attempt = attempt(&client, &endpoint).await;
    let note = attempt.detail.and_then(|detail| detail.note).unwrap();
    assert_eq!(attempt.outcome, Outcome::Timeout);
    assert!(note.contains("did not resolve in time"), "{note}");
    assert_eq!(client.vet(endpoint.target.url(), &tenant()).await, Err(VetError::TimedOut));
}

#[tokio::test]
async fn host_names_that_consist_of_one_label_are_not_looked_up() {
    let server = NameServer::start(|_| Reply::Address(HERE, 0)).await;
    let (client, receiver) = (client(&server), closing_receiver().await);
    let url = |name| format!("http://{name}:{}/", receiver.address.port());
    for name in ["intranet-of-this-test", "intranet-of-this-test.", "xn--bcher-kva"] {
        assert_eq!(attempt(&client, &endpoint(&url(name))).await.outcome, Outcome::DnsError, "{name}");
    }
    for name in ["localhost", "localhost.", "a.localhost"] {
        assert_eq!(attempt(&client, &endpoint(&url(name))).await.outcome, Outcome::Delivered, "{name}");
    }
    assert_eq!(server.asked(), [""; 0]);
    assert_eq!(attempt(&client, &endpoint(&url("absolute.test."))).await.outcome, Outcome::Delivered);
    assert_eq!(server.asked(), ["absolute.test"]);
}

#[tokio::test]
async fn a_host_name_with_a_blocked_address_is_reported_like_a_name_that_does_not_exist() {
    let server = NameServer::start(|name| match name {
        "db.internal.test" => Reply::Address(Ipv4Addr::new(10, 0, 0, 7), 60),
        "metadata.test" => Reply::Address(Ipv4Addr::new(169, 254, 169, 254), 60),
        _ => Reply::NoSuchName,
    })
    .await;
    let client = client(&server);
    let mut seen = Vec::new();
    for name in ["nowhere.test", "db.internal.test", "metadata.test"] {
        let endpoint = endpoint(&format!("https://{name}/"));
        let attempt = attempt(&client, &endpoint).await;
        seen.push((attempt.outcome, attempt.detail, client.vet(endpoint.target.url(), &tenant()).await));
    }
    assert_eq!(seen[0].0, Outcome::DnsError);
    assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
}

#[tokio::test]
async fn a_denied_network_blocks_addresses_that_are_otherwise_allowed() {
    let server = NameServer::start(|_| Reply::Address(HERE, 0)).await;
    let denied_networks = vec!["127.0.0.1/32".parse().unwrap()];
    let settings = Settings { name_servers: vec![server.address], denied_networks, ..messages::settings() };
    let client = HttpClient::new(&settings, &metrics()).unwrap();
    let receiver = closing_receiver().await;
    let by_name = endpoint(&format!("http://here.test:{}/", receiver.address.port()));
    assert_eq!(attempt(&client, &by_name).await.outcome, Outcome::DnsError);
    assert_eq!(attempt(&client, &endpoint(&receiver.url())).await.outcome, Outcome::BlockedAddress);
    assert_eq!(receiver.connections(), 0);
}
