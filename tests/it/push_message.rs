//! Tests requests to a push service, the outcome for each response, and that a delivery makes only one attempt.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use flametree_notify::channels::browser_push::{
    MAX_JSON_BYTES, Notice, PushSender, Recipient, Sent, Settings, VapidKey, VapidKeys,
};
use flametree_notify::channels::{self, HttpClient};
use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::event::{EventType, StoredEvent};
use flametree_notify::domain::names::{TenantId, UserId};
use flametree_notify::domain::push_hosts::{PushHost, PushHosts};
use flametree_notify::domain::push_subscription::PushSubscription;
use flametree_notify::domain::secret_text::SecretText;
use flametree_notify::telemetry::metrics::Metrics;
use serde_json::json;

use crate::support::http2::{Http2Receiver, Step};
use crate::support::messages::{self, delivery};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::names;
use crate::support::push::{Browser, KEY, OTHER_KEY, SUBJECT, vapid};
use crate::support::wire::answer;

const PATIENCE: Duration = Duration::from_secs(10);

/// The push sender of a deployment that allows these push services.
struct Sender {
    sender: PushSender,
    metrics: Metrics,
}

fn sender_with(origins: &[&str], timeout: Duration) -> Sender {
    let (metrics, settings) = (Metrics::new("test", "test"), messages::settings());
    let settings = channels::Settings { default_timeout: timeout, ..settings };
    let client = HttpClient::with_lookup(&settings, &metrics, names::all_here()).unwrap();
    let keys = VapidKeys::new(VapidKey::from_base64(KEY[0]).unwrap(), Vec::new(), SUBJECT.to_owned());
    let settings = Settings { keys, hosts: hosts(origins), ttl: Duration::from_hours(1) };
    Sender { sender: PushSender::new(settings, client, metrics.clone()), metrics }
}

fn sender(origins: &[&str]) -> Sender {
    sender_with(origins, PATIENCE)
}

fn hosts(origins: &[&str]) -> PushHosts {
    let host = |origin: &&str| PushHost::parse(origin.split_once("://").unwrap().1).unwrap();
    PushHosts::new(origins.iter().map(host).collect(), true)
}

fn recipient(browser: &Browser, origin: &str, vapid_key_id: &str) -> Arc<Recipient> {
    let text = json!({"endpoint": browser.endpoint(origin), "p256dh": browser.p256dh(), "auth": browser.auth()});
    let subscription = PushSubscription::from_text(&SecretText::new(text.to_string())).unwrap();
    let (tenant, user) = (TenantId::parse("acme").unwrap(), UserId::parse("user-7").unwrap());
    Arc::new(Recipient::new(tenant, user, subscription, vapid_key_id.to_owned()))
}

fn message(text: &str) -> Notice {
    let event = StoredEvent { text: Some(text.to_owned()), ..StoredEvent::clone(&delivery().event) };
    Notice::of(&event).unwrap()
}

impl Sender {
    async fn send(&self, browser: &Browser, origin: &str, notice: &Notice) -> Sent {
        let key = VapidKey::from_base64(KEY[0]).unwrap();
        let recipient = recipient(browser, origin, key.id());
        let sent = self.sender.send(&recipient, notice, Utc::now());
        tokio::time::timeout(3 * PATIENCE, sent).await.expect("the attempt outlived its deadline")
    }
}

async fn service(status: &str, headers: &str, body: &str) -> (Receiver, String) {
    let receiver = Receiver::start(Behaviour::Answers(answer(status, headers, body.as_bytes()))).await;
    let origin = format!("http://{}", receiver.address);
    (receiver, origin)
}

#[tokio::test]
async fn the_browser_can_decrypt_the_message_and_the_push_service_can_verify_the_sender() {
    let (receiver, origin) = service("201 Created", "location: /m/1\r\n", "").await;
    let browser = Browser::new("a");
    let sent = sender(&[&origin]).send(&browser, &origin, &message("Wo? 📦")).await;
    assert_eq!((sent.attempt.outcome, sent.attempt.http_status), (Outcome::Delivered, Some(201)));
    let seen = receiver.seen().remove(0);
    assert_eq!(seen.head.lines().next(), Some(format!("POST {} HTTP/1.1", browser.path).as_str()));
    assert_eq!((seen.header("ttl"), seen.header("urgency")), ("3600", "high"));
    let topic = seen.header("topic");
    assert!(topic.len() == 32 && topic.bytes().all(|byte| byte.is_ascii_hexdigit()), "{topic}");
    let read = browser.read(&seen);
    assert_eq!((&read["kind"], &read["body"]), (&"user_message".into(), &"New message: Wo? 📦".into()));
    let (claims, key) = vapid(seen.header("authorization"));
    assert_eq!((&claims["aud"], &claims["sub"], key.as_str()), (&origin.into(), &SUBJECT.into(), KEY[1]));
    let life = claims["exp"].as_i64().unwrap() - Utc::now().timestamp();
    assert!((11 * 3600..=12 * 3600).contains(&life), "{life} s");
}

#[tokio::test]
async fn only_session_messages_have_a_topic_and_a_test_message_expires_after_a_minute() {
    let (receiver, origin) = service("201 Created", "", "").await;
    let (browser, sender) = (Browser::new("a"), sender(&[&origin]));
    let assigned = StoredEvent { event_type: EventType::SessionAssigned, ..StoredEvent::clone(&delivery().event) };
    sender.send(&browser, &origin, &Notice::of(&assigned).unwrap()).await;
    sender.send(&browser, &origin, &Notice::test()).await;
    let seen = receiver.seen();
    assert!(seen.iter().all(|one| one.headers("topic").count() == 0));
    assert_eq!((seen[0].header("ttl"), seen[1].header("ttl")), ("3600", "60"));
    assert_eq!(browser.read(&seen[0])["body"], "You have new session assigned.");
    assert_eq!(browser.read(&seen[1])["kind"], "test");
}

#[tokio::test]
async fn all_endpoints_of_an_origin_get_the_same_token_but_each_message_has_a_separate_key() {
    let (receiver, origin) = service("201 Created", "", "").await;
    let (other_receiver, other_origin) = service("201 Created", "", "").await;
    let (one, two, sender) = (Browser::new("a"), Browser::new("b"), sender(&[&origin, &other_origin]));
    for browser in [&one, &one, &two] {
        sender.send(browser, &origin, &message("x")).await;
    }
    sender.send(&one, &other_origin, &message("x")).await;
    let seen = receiver.seen();
    let token = seen[0].header("authorization");
    assert!(seen.iter().all(|one| one.header("authorization") == token));
    assert_ne!(other_receiver.seen()[0].header("authorization"), token);
    // Salt (16 bytes) and public key (65 bytes) are in the header of the body.
    assert_ne!(seen[0].body[..16], seen[1].body[..16]);
    assert_ne!(seen[0].body[21..86], seen[1].body[21..86]);
}

#[tokio::test]
async fn many_messages_are_encrypted_in_batches_and_each_browser_decrypts_its_message() {
    let (receiver, origin) = service("201 Created", "", "").await;
    let sender = Arc::new(sender(&[&origin]));
    let browsers: Vec<_> = (0..200).map(|number| Arc::new(Browser::new(&format!("b{number}")))).collect();
    let sends = browsers.iter().enumerate().map(|(number, browser)| {
        let (browser, sender, origin) = (Arc::clone(browser), Arc::clone(&sender), origin.clone());
        async move { sender.send(&browser, &origin, &message(&number.to_string())).await }
    });
    for sent in crate::support::waiting::all(sends).await {
        assert_eq!(sent.attempt.outcome, Outcome::Delivered);
    }
    let seen = receiver.seen();
    assert_eq!(seen.len(), browsers.len());
    for (number, browser) in browsers.iter().enumerate() {
        let line = format!("POST {} ", browser.path);
        let own = seen.iter().find(|one| one.head.starts_with(&line)).unwrap();
        assert_eq!(browser.read(own)["body"], format!("New message: {number}"));
    }
}

#[tokio::test]
async fn a_message_with_the_longest_text_is_small_enough_for_every_push_service() {
    let (receiver, origin) = service("201 Created", "", "").await;
    let browser = Browser::new("a");
    sender(&[&origin]).send(&browser, &origin, &message(&"👩‍💻\u{1}".repeat(2_000))).await;
    let seen = receiver.seen().remove(0);
    // The maximum size of a push message for Firefox on Android.
    assert!(seen.body.len() <= 3_015, "{} bytes", seen.body.len());
    let read = browser.read(&seen);
    assert!(read.to_string().len() <= MAX_JSON_BYTES);
    assert!(read["body"].as_str().unwrap().ends_with('…'));
}

#[tokio::test]
async fn each_response_determines_the_outcome_without_a_second_request() {
    let mismatch = "the VAPID credentials in the authorization header do not correspond to the credentials used to \
                    create the subscriptions.";
    for (status, body, outcome, key_mismatch) in [
        ("201 Created", "", Outcome::Delivered, false),
        ("301 Moved Permanently", "", Outcome::Redirect, false),
        ("400 Bad Request", "InvalidRegistration", Outcome::ConfigError, false),
        ("401 Unauthorized", r#"{"reason":"BadJwtToken"}"#, Outcome::ConfigError, false),
        ("403 Forbidden", mismatch, Outcome::ConfigError, true),
        ("404 Not Found", "", Outcome::Gone, false),
        ("410 Gone", "", Outcome::Gone, false),
        ("413 Payload Too Large", "", Outcome::PayloadTooLarge, false),
        ("429 Too Many Requests", "", Outcome::Throttled, false),
        ("500 Internal Server Error", "broken", Outcome::HttpError, false),
    ] {
        let (receiver, origin) = service(status, "location: http://127.0.0.1:9/elsewhere\r\n", body).await;
        let sent = sender(&[&origin]).send(&Browser::new("a"), &origin, &message("x")).await;
        assert_eq!((sent.attempt.outcome, sent.key_mismatch), (outcome, key_mismatch), "{status}");
        assert_eq!(sent.attempt.http_status, Some(status[..3].parse().unwrap()), "{status}");
        assert_eq!(receiver.seen().len(), 1, "{status}");
        let told = sent.attempt.detail.and_then(|detail| detail.response_body).unwrap_or_default();
        assert_eq!(told, body, "{status}");
    }
}

#[tokio::test]
async fn abandons_an_unresponsive_push_service_at_the_deadline() {
    let receiver = Receiver::start(Behaviour::HangsAfterAccept).await;
    let origin = format!("http://{}", receiver.address);
    let sender = sender_with(&[&origin], Duration::from_millis(300));
    let sent = sender.send(&Browser::new("a"), &origin, &message("x")).await;
    assert_eq!((sent.attempt.outcome, sent.attempt.http_status), (Outcome::Timeout, None));
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn a_retry_after_header_pauses_only_one_subscription() {
    let tomorrow = (Utc::now() + chrono::TimeDelta::days(1)).format("%a, %d %b %Y %H:%M:%S GMT");
    for (retry_after, seconds) in [("60".to_owned(), 60), (tomorrow.to_string(), 900)] {
        let (receiver, origin) = service("429 Too Many Requests", &format!("retry-after: {retry_after}\r\n"), "").await;
        let sender = sender(&[&origin]);
        let sent = sender.send(&Browser::new("a"), &origin, &message("x")).await;
        assert_eq!((sent.attempt.outcome, sent.pause), (Outcome::Throttled, Some(Duration::from_secs(seconds))));
        receiver.behave(Behaviour::Answers(answer("201 Created", "", b"")));
        let sent = sender.send(&Browser::new("b"), &origin, &message("x")).await;
        assert_eq!((sent.attempt.outcome, sent.pause), (Outcome::Delivered, None));
    }
}

#[tokio::test]
async fn a_rejected_token_pauses_the_subscription_and_is_counted() {
    let (receiver, origin) = service("401 Unauthorized", "", r#"{"reason":"BadJwtToken"}"#).await;
    let sender = sender(&[&origin]);
    for number in 1..=7 {
        let sent = sender.send(&Browser::new(&format!("b{number}")), &origin, &message("x")).await;
        assert_eq!((sent.attempt.outcome, sent.pause), (Outcome::ConfigError, Some(Duration::from_mins(1))));
        assert_eq!(receiver.seen().len(), number, "a rejection delays no message to another browser");
    }
    let series = "flametree_push_refusals_total{reason=\"not_believed\"} 7\n";
    assert!(sender.metrics.render().contains(series), "{}", sender.metrics.render());
}

#[tokio::test]
async fn a_rejected_subscription_delays_no_other_subscription() {
    let (receiver, origin) = service("400 Bad Request", "", "InvalidRegistration").await;
    let (browser, sender) = (Browser::new("a"), sender(&[&origin]));
    for _ in 0..10 {
        assert_eq!(sender.send(&browser, &origin, &message("x")).await.attempt.outcome, Outcome::ConfigError);
    }
    receiver.behave(Behaviour::Answers(answer("201 Created", "", b"")));
    assert_eq!(sender.send(&browser, &origin, &message("x")).await.attempt.outcome, Outcome::Delivered);
}

#[tokio::test]
async fn sends_nothing_to_a_disallowed_host_or_if_the_vapid_key_is_missing() {
    let (receiver, origin) = service("201 Created", "", "").await;
    let browser = Browser::new("a");
    let sent = sender(&[]).send(&browser, &origin, &message("x")).await;
    assert_eq!(sent.attempt.outcome, Outcome::ConfigError);
    let other = VapidKey::from_base64(OTHER_KEY[0]).unwrap();
    assert_eq!(other.public_key(), OTHER_KEY[1]);
    let recipient = recipient(&browser, &origin, other.id());
    let sent = sender(&[&origin]).sender.send(&recipient, &message("x"), Utc::now()).await;
    assert_eq!((sent.attempt.outcome, sent.key_mismatch), (Outcome::ConfigError, false));
    assert_eq!(receiver.seen().len(), 0);
}

#[tokio::test]
async fn removes_the_endpoint_from_stored_responses() {
    let browser = Browser::new("a");
    let echo = format!("no such subscription: {} ({})", browser.path, browser.endpoint("http://push.test"));
    let (_receiver, origin) = service("403 Forbidden", "", &echo).await;
    let sent = sender(&[&origin]).send(&browser, &origin, &message("x")).await;
    let told = format!("{:?}", sent.attempt);
    assert!(told.contains("no such subscription") && !told.contains("5ecret"), "{told}");
}

#[tokio::test]
async fn uses_http2_if_the_push_service_offers_it() {
    let receiver = Http2Receiver::start(&[Step::Answers]).await;
    let url = url::Url::parse(&receiver.url()).unwrap();
    let origin = url.origin().ascii_serialization();
    let (browser, sender) = (Browser::new("a"), sender(&[&origin]));
    for _ in 0..3 {
        assert_eq!(sender.send(&browser, &origin, &message("x")).await.attempt.outcome, Outcome::Delivered);
    }
    assert_eq!((receiver.connections(), receiver.bodies().len()), (1, 3));
}
