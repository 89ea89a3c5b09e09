//! Browser push: the cost of a message, messages per second, and the time until all browsers of a user have a message.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::Utc;
use flametree_notify::channels::browser_push::{Notice, PushSender, Recipient, Settings, VapidKey, VapidKeys};
use flametree_notify::channels::{self, HttpClient, LookupLimits};
use flametree_notify::domain::event::{EventType, NewEvent, StoredEvent};
use flametree_notify::domain::ids::EventId;
use flametree_notify::domain::names::{AgentId, SessionId, TenantId, UserId};
use flametree_notify::domain::push_hosts::{PushHost, PushHosts};
use flametree_notify::domain::push_subscription::PushSubscription;
use flametree_notify::domain::secret_text::SecretText;
use flametree_notify::store::{Db, accept};
use flametree_notify::telemetry::metrics::Metrics;
use ring::hmac;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::drain::{rate, wait_recorded};
use crate::http::{self, Message, request};
use crate::prepare::{self, TENANT, TEXT};
use crate::receiver::{self, Receiver};
use crate::server::Server;
use crate::service::Service;

const KEY: &str = "IQ9Ur0ykXoHS9gzfYX0aBjy9lvdrjx_PFUXmie9YRcY";
const SUBJECT: &str = "mailto:push@flametree.dev";
const SECRET: &str = "a secret of the bench, which is longer than 32 bytes";
/// The address of the push service in the fan-out measurement.
const TIMED: &str = "127.0.0.1:9904";
/// The number of users in the throughput measurement. Each user has one browser.
const USERS: usize = 20;
/// How many browsers the user of the fan-out measurement has: the maximum per user.
const BROWSERS: usize = 20;
const GROUP: usize = 500;
const EXPIRY_SECONDS: u32 = 86_400;

/// How long one thread works on a message, in microseconds.
#[derive(Debug)]
pub(crate) struct Cost {
    /// The time for key agreement and encryption, with a cached VAPID token.
    pub(crate) encryption: f64,
    /// The additional time to sign a VAPID token for a new push service.
    pub(crate) signature: f64,
}

/// Measures `count` messages that use a cached VAPID token, and `count` messages that each need a new token.
pub(crate) async fn cost(count: usize) -> Cost {
    let host = |name| PushHost::parse(name).unwrap();
    let keys = VapidKeys::new(VapidKey::from_base64(KEY).unwrap(), Vec::new(), SUBJECT.to_owned());
    let hosts = PushHosts::new(vec![host("push.example"), host("*.push.example")], false);
    let key = keys.current().id().to_owned();
    let recipient = |origin: &str| {
        let subscription = subscription(origin);
        let keys = &subscription["keys"];
        let text = json!({"endpoint": subscription["endpoint"], "p256dh": keys["p256dh"], "auth": keys["auth"]});
        let subscription = PushSubscription::from_text(&SecretText::new(text.to_string())).unwrap();
        let (tenant, user) = (TenantId::parse(TENANT).unwrap(), UserId::parse("user").unwrap());
        Arc::new(Recipient::new(tenant, user, subscription, key.clone()))
    };
    let known = vec![recipient("https://push.example"); count];
    // Each origin is a separate push service, so each message needs a new token.
    let unknown: Vec<_> = (0..count).map(|number| recipient(&format!("https://host-{number}.push.example"))).collect();
    let client = channels::Settings {
        allowed_networks: Vec::new(),
        denied_networks: Vec::new(),
        name_servers: Vec::new(),
        lookups: LookupLimits::WORKERS,
        allow_http: false,
        default_timeout: Duration::from_secs(5),
        extra_roots: Vec::new(),
    };
    let settings = Settings { keys, hosts, ttl: Duration::from_hours(1) };
    let metrics = Metrics::new("bench", "bench");
    let sender = PushSender::new(settings, HttpClient::new(&client, &metrics).unwrap(), metrics);
    let (with_token, without_token) = (written(&sender, &known).await, written(&sender, &unknown).await);
    Cost { encryption: with_token, signature: without_token - with_token }
}

/// Encrypts a message for each recipient, one after another. Returns microseconds per message.
async fn written(sender: &PushSender, recipients: &[Arc<Recipient>]) -> f64 {
    let event = StoredEvent {
        id: EventId::from_uuid(uuid::Uuid::now_v7()),
        tenant_id: TenantId::parse(TENANT).unwrap(),
        event_type: EventType::UserMessage,
        agent_id: AgentId::parse("agent").unwrap(),
        session_id: SessionId::parse("session-000001").unwrap(),
        customer_id: None,
        occurred_at: Utc::now(),
        text: Some(TEXT.to_owned()),
        assignee_id: None,
        metadata: None,
    };
    let notice = Notice::of(&event).unwrap();
    let started = Instant::now();
    for recipient in recipients {
        assert!(sender.encrypt(recipient, &notice, Utc::now()).await.is_ok(), "a message was not encrypted");
    }
    started.elapsed().as_secs_f64() * 1e6 / recipients.len() as f64
}

/// Measures messages per second of the release build. The events are accepted before the measurement. The service then claims,
/// encrypts, signs and sends the messages to a push service on this machine, and records the outcomes.
pub(crate) async fn drained(server: &Server, receiver: &Receiver, count: usize) -> f64 {
    let db = server.create_migrated("push").await;
    let (url, settings) = (server.url("push"), settings());
    let api = start("api", &url, &settings).await;
    let mut connection = api.connect().await;
    for number in 0..USERS {
        register(&mut connection, &person(number), &Receiver::url("")).await;
    }
    api.stop();
    let assignments: Vec<_> = (0..USERS).map(|number| event(EventType::SessionAssigned, number)).collect();
    accept::accept(&db, &assignments.iter().collect::<Vec<_>>(), EXPIRY_SECONDS, accept::LOCK_TIMEOUT).await.unwrap();
    receiver.reset().await;
    let worker = start("worker", &url, &settings).await;
    wait_recorded(&db, receiver, USERS).await;
    worker.stop();
    messages(&db, count).await;
    receiver.reset().await;
    let worker = start("worker", &url, &settings).await;
    wait_recorded(&db, receiver, count).await;
    worker.stop();
    let (recorded, seconds): (i64, f64) = sqlx::query_as(
        "SELECT count(*), extract(epoch FROM max(d.finished_at) - min(d.claimed_at))::float8
        FROM flametree.deliveries AS d
        JOIN flametree.events AS e ON e.tenant_id = d.tenant_id AND e.id = d.event_id
        WHERE d.outcome = 'delivered' AND e.type = 'user_message'",
    )
    .fetch_one(&db)
    .await
    .unwrap();
    assert_eq!(usize::try_from(recorded).unwrap(), count, "messages recorded as delivered");
    db.close().await;
    server.drop("push").await;
    rate(count, Duration::from_secs_f64(seconds))
}

/// Posts `rounds` events one after another. Returns the p99 of the time from a post until the last of the user's 20 browsers has
/// the message, in milliseconds.
pub(crate) async fn fan_out(server: &Server, rounds: usize) -> f64 {
    server.create_migrated("fan_out").await.close().await;
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let listener = TcpListener::bind(TIMED).await.unwrap();
    let push_service = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(take(stream, arrived.clone()));
        }
    });
    let service = start("run", &server.url("fan_out"), &settings()).await;
    let mut connection = service.connect().await;
    for _ in 0..BROWSERS {
        register(&mut connection, &person(0), &format!("http://{TIMED}")).await;
    }
    let mut took = Vec::with_capacity(rounds);
    for round in 0..=rounds {
        let kind = if round == 0 { "session_assigned" } else { "user_message" };
        let body = json!({"type": kind, "agent_id": "agent", "session_id": session(0), "text": TEXT,
            "assignee_id": (round == 0).then(|| person(0))});
        let text = service.request("POST", "/v1/events", &body.to_string());
        let posted = Instant::now();
        let answer = request(&mut connection, &text).await;
        assert_eq!(answer.status(), 202, "{}", String::from_utf8_lossy(&answer.body));
        let mut last = posted;
        for _ in 0..BROWSERS {
            last = arrivals.recv().await.unwrap();
        }
        // The first round does not count, because it opens connections and fills caches.
        took.extend((round > 0).then(|| last - posted));
    }
    service.stop();
    push_service.abort();
    server.drop("fan_out").await;
    took.sort_unstable();
    took[(took.len() * 99).div_ceil(100) - 1].as_secs_f64() * 1_000.0
}

/// Responds at once to each message on a connection, and reports when the message arrived.
async fn take(mut stream: TcpStream, arrived: mpsc::UnboundedSender<Instant>) {
    let mut buffer = Vec::with_capacity(4096);
    while matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
        while let Some((_, length)) = Message::read(&buffer) {
            buffer.drain(..length);
            if arrived.send(Instant::now()).is_err() {
                return;
            }
            if stream.write_all(b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n").await.is_err() {
                return;
            }
        }
    }
}

/// The settings that turn browser push on, with a push service on this machine.
pub(crate) fn settings() -> [(&'static str, String); 4] {
    [
        ("FLAMETREE_VAPID_PRIVATE_KEY", KEY.to_owned()),
        ("FLAMETREE_VAPID_SUBJECT", SUBJECT.to_owned()),
        ("FLAMETREE_JWT_SECRET", SECRET.to_owned()),
        ("FLAMETREE_PUSH_HOSTS", format!("{},{TIMED}", receiver::ADDRESS)),
    ]
}

async fn start(part: &str, database_url: &str, settings: &[(&'static str, String)]) -> Service {
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Service::start(part, database_url, &settings).await
}

fn person(number: usize) -> String {
    format!("user-{number}")
}

fn session(number: usize) -> String {
    format!("session-{number:06}")
}

/// Registers a new browser of a user at a push service.
async fn register(connection: &mut TcpStream, user: &str, origin: &str) {
    let body = subscription(origin).to_string();
    let text = http::json("PUT", "/v1/me/push-subscriptions", &token(user), &body);
    let answer = request(connection, &text).await;
    assert_eq!(answer.status(), 201, "{}", String::from_utf8_lossy(&answer.body));
}

/// A new push subscription, in the JSON format of browsers.
fn subscription(origin: &str) -> Value {
    let (keys, auth) = ece::generate_keypair_and_auth_secret().unwrap();
    let secret = uuid::Uuid::new_v4().simple();
    json!({
        "endpoint": format!("{origin}/wpush/v2/{secret}"),
        "keys": {
            "p256dh": URL_SAFE_NO_PAD.encode(keys.pub_as_raw().unwrap()),
            "auth": URL_SAFE_NO_PAD.encode(auth),
        },
    })
}

/// A user's JWT.
fn token(user: &str) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let expires_at = Utc::now().timestamp() + 600;
    let claims = json!({"sub": user, "tenant_id": TENANT, "role": "operator", "exp": expires_at});
    let signed = format!("{}.{}", part(json!({"alg": "HS256", "typ": "JWT"})), part(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// An event for the session of one user. The number selects the user.
fn event(event_type: EventType, number: usize) -> NewEvent {
    let number = number % USERS;
    let is_assignment = event_type == EventType::SessionAssigned;
    NewEvent {
        event_type,
        session_id: SessionId::parse(session(number)).unwrap(),
        text: (!is_assignment).then(|| TEXT.to_owned()),
        assignee_id: is_assignment.then(|| UserId::parse(person(number)).unwrap()),
        ..prepare::event(&AgentId::parse("agent").unwrap(), number)
    }
}

/// Accepts `count` messages, round-robin over the users.
async fn messages(db: &Db, count: usize) {
    for first in (0..count).step_by(GROUP) {
        let events: Vec<NewEvent> =
            (first..count.min(first + GROUP)).map(|number| event(EventType::UserMessage, number)).collect();
        accept::accept(db, &events.iter().collect::<Vec<_>>(), EXPIRY_SECONDS, accept::LOCK_TIMEOUT).await.unwrap();
    }
}
