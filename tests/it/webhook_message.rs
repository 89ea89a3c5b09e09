//! Tests the headers, body and signature of the webhook that an integrator receives, and the outcome for each response.

use chrono::Utc;
use flametree_notify::channels::webhook::{self, Endpoint, SigningSecret, payload};
use flametree_notify::domain::delivery::{Delivery, Outcome};
use http::{HeaderName, HeaderValue};
use standardwebhooks::Webhook;

use crate::support::messages::{attempt, client, delivery, endpoint};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::wire::{Seen, answer, signed_headers};

/// Sends a delivery and returns the request that the receiver got.
async fn received(delivery: &Delivery, configure: impl FnOnce(&mut Endpoint)) -> Seen {
    let receiver = Receiver::start(Behaviour::Answers(answer("200 OK", "", b""))).await;
    let mut endpoint = endpoint(&receiver.url());
    configure(&mut endpoint);
    let attempt = webhook::send(&client(), &endpoint, delivery, false, Utc::now()).await;
    assert_eq!(attempt.outcome, Outcome::Delivered);
    let mut seen = receiver.seen();
    assert_eq!(seen.len(), 1);
    seen.remove(0)
}

#[tokio::test]
async fn the_message_has_the_documented_headers_and_body() {
    let delivery = delivery();
    let seen = received(&delivery, |_| {}).await;
    assert_eq!(seen.head.lines().next(), Some("POST /hook?key=a HTTP/1.1"));
    assert_eq!(seen.header("content-type"), "application/json");
    assert_eq!(seen.header("user-agent"), concat!("flametree-notify/", env!("CARGO_PKG_VERSION")));
    assert_eq!(seen.header("accept-encoding"), "identity");
    assert_eq!(seen.header("webhook-id"), delivery.event.id.to_string());
    assert_eq!(seen.header("x-flametree-event"), "user_message");
    assert_eq!(seen.header("x-flametree-delivery"), delivery.id.to_string());
    let event = delivery.event.id.uuid().simple().to_string();
    let span = &delivery.id.uuid().simple().to_string()[16..];
    assert_eq!(seen.header("traceparent"), format!("00-{event}-{span}-01"));
    assert_eq!(seen.headers("webhook-signature").count(), 0);
    assert_eq!(seen.body, payload(&delivery.event, false));
}

#[tokio::test]
async fn the_official_library_accepts_the_signature_of_each_secret() {
    let delivery = delivery();
    let secrets = [SigningSecret::generate().unwrap(), SigningSecret::generate().unwrap()];
    let seen = received(&delivery, |endpoint| endpoint.secrets = secrets.to_vec()).await;
    let signatures: Vec<&str> = seen.header("webhook-signature").split(' ').collect();
    assert_eq!(signatures.len(), 2);
    assert!(signatures.iter().all(|signature| signature.starts_with("v1,")));
    for secret in &secrets {
        Webhook::new(&secret.reveal()).unwrap().verify(&seen.body, &signed_headers(&seen)).unwrap();
    }
    let stranger = SigningSecret::generate().unwrap();
    Webhook::new(&stranger.reveal()).unwrap().verify(&seen.body, &signed_headers(&seen)).unwrap_err();
    let mut tampered = seen.body.clone();
    *tampered.last_mut().unwrap() = b' ';
    Webhook::new(&secrets[0].reveal()).unwrap().verify(&tampered, &signed_headers(&seen)).unwrap_err();
}

#[tokio::test]
async fn the_official_library_creates_the_same_signature() {
    let delivery = delivery();
    for text in ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(), format!("whsec_{}A==", "q83v".repeat(21) + "A")] {
        let secret = SigningSecret::parse(&text).unwrap();
        let seen = received(&delivery, |endpoint| endpoint.secrets = vec![secret]).await;
        let timestamp = seen.header("webhook-timestamp").parse().unwrap();
        let official = Webhook::new(&text).unwrap().sign(seen.header("webhook-id"), timestamp, &seen.body).unwrap();
        assert_eq!(seen.header("webhook-signature"), official);
    }
}

#[tokio::test]
async fn sends_configured_headers_but_never_replaces_standard_headers() {
    let delivery = delivery();
    let seen = received(&delivery, |endpoint| {
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("x-env", "prod"),
            ("webhook-id", "forged"),
            ("webhook-signature", "forged"),
            ("x-flametree-delivery", "forged"),
            ("content-type", "forged"),
            ("user-agent", "forged"),
            ("accept-encoding", "gzip"),
            ("content-length", "1"),
            ("host", "forged"),
            ("transfer-encoding", "chunked"),
            ("connection", "close"),
        ] {
            endpoint.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
    })
    .await;
    assert_eq!(seen.header("authorization"), "Bearer x");
    assert_eq!(seen.header("x-env"), "prod");
    assert!(!seen.head.contains("forged"), "{}", seen.head);
    assert_eq!(seen.header("accept-encoding"), "identity");
    assert_eq!(seen.header("content-length"), seen.body.len().to_string());
    assert_eq!(seen.headers("transfer-encoding").count() + seen.headers("connection").count(), 0);
    let (ours, theirs) = (seen.head.find("traceparent").unwrap(), seen.head.find("authorization").unwrap());
    assert!(ours < theirs, "{}", seen.head);
}

#[tokio::test]
async fn each_delivery_of_an_event_has_the_same_body() {
    let delivery = delivery();
    let first = received(&delivery, |_| {}).await;
    let replay = Delivery { id: delivery.event.id.delivery(2), ..delivery.clone() };
    let second = received(&replay, |_| {}).await;
    assert_eq!(first.body, second.body);
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    assert_ne!(first.header("x-flametree-delivery"), second.header("x-flametree-delivery"));
}

#[tokio::test]
async fn maps_each_status_to_its_outcome() {
    for (status, outcome) in [
        ("204 No Content", Outcome::Delivered),
        ("304 Not Modified", Outcome::Redirect),
        ("404 Not Found", Outcome::HttpError),
        ("410 Gone", Outcome::Gone),
        ("429 Too Many Requests", Outcome::Throttled),
        ("503 Service Unavailable", Outcome::HttpError),
    ] {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        let receiver = Receiver::start(Behaviour::Answers(head.into_bytes())).await;
        let attempt = attempt(&client(), &endpoint(&receiver.url())).await;
        assert_eq!(attempt.outcome, outcome, "{status}");
        assert_eq!(receiver.seen().len(), 1, "{status}");
    }
}
