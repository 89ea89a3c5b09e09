//! Delivers an agent's messages to a customer's phone. The service and the example's backend are real, and the push services of
//! Google and Apple are fake.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::deployment::{Deployment, TENANT};
use crate::support::jwt::{Signer, in_seconds};
use crate::support::mobile_backend::Backend;
use crate::support::push_services::{Push, Reply, TOPIC};
use crate::support::service::{Part, Service};
use crate::support::waiting::within;

/// The time limit of each step, much longer than any step takes.
const PATIENCE: Duration = Duration::from_secs(30);
const CONFIG: &str = "/v1/agents/agent-1/push-config";

fn android(token: &str) -> Value {
    json!({"platform": "android", "token": token})
}

fn ios(token: &str) -> Value {
    json!({"platform": "ios", "token": token})
}

/// A device token in Apple's format.
fn hex(digit: &str) -> String {
    digit.repeat(64)
}

/// A running service and a running backend. The agent's webhook URL is the URL of the backend.
struct Scene {
    deployment: Deployment,
    /// Stops with the test.
    _service: Service,
    client: Client,
    backend: Backend,
    secret: String,
}

impl Scene {
    async fn new() -> Self {
        let deployment = Deployment::new().await;
        let service = deployment.settings.start(Part::Run).await;
        let client = deployment.client(&service);
        let created = client.put(&format!("{CONFIG}?tenant_id={TENANT}"), &json!({})).await;
        let secret = created.json()["signing_secret"].as_str().unwrap().to_owned();
        let backend = Backend::start(&secret).await;
        let config = json!({
            "enabled": true, "url": format!("{}/webhook", backend.url), "timeout_ms": 10_000,
            "events": ["ai_assistant_message", "user_message"],
        });
        let path = format!("{CONFIG}?tenant_id={TENANT}");
        assert_eq!(client.request(Method::PATCH, &path, Some(&config)).await.unwrap().status, 200);
        Self { deployment, _service: service, client, backend, secret }
    }

    async fn register(&self, customer: &str, device: &Value) {
        assert_eq!(self.backend.device(Method::PUT, customer, device).await, 204);
    }

    /// Posts an event in a session of the customer c-1 and waits for its delivery. Returns the event's id.
    async fn post(&self, event_type: &str, text: &str) -> String {
        let event = json!({
            "type": event_type, "tenant_id": TENANT, "agent_id": "agent-1", "session_id": "s-1", "customer_id": "c-1",
            "text": text,
        });
        let accepted = self.client.post("/v1/events", &event).await;
        assert_eq!(accepted.status, 202, "{}", accepted.text());
        self.deployment.drained(PATIENCE).await;
        accepted.json()["id"].as_str().unwrap().to_owned()
    }

    async fn pushes(&self, count: usize) -> Vec<Push> {
        let services = &self.backend.services;
        within(PATIENCE, &format!("{count} pushes came"), async || services.pushes().len() >= count).await;
        services.pushes()
    }

    /// Sends a message to the backend, signed by the test as if the service had sent it. Returns the response status.
    async fn message(&self, id: &str) -> u16 {
        self.backend.message(&self.secret, id, &agent_message(id), Duration::ZERO).await
    }
}

fn agent_message(id: &str) -> Value {
    json!({
        "type": "ai_assistant_message", "timestamp": "2026-01-01T00:00:00.123Z", "test": false,
        "data": {"event_id": id, "agent_id": "agent-1", "session_id": "s-1", "customer_id": "c-1", "text": "hi",
                 "author": "ai_assistant", "metadata": {}},
    })
}

fn each(devices: &[&str], events: &[&str]) -> Vec<(String, String)> {
    let pair =
        |device: &&str| events.iter().map(|event| ((*device).to_owned(), (*event).to_owned())).collect::<Vec<_>>();
    let mut all: Vec<_> = devices.iter().flat_map(pair).collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_message_reaches_the_customers_phones_and_dead_devices_are_deleted() {
    let scene = Scene::new().await;
    let services = &scene.backend.services;
    let (phone, left, returned) = (hex("a"), hex("b"), hex("c"));
    for device in [android("pixel"), android("sold"), ios(&phone), ios(&left), ios(&returned)] {
        scene.register("c-1", &device).await;
    }
    scene.register("c-2", &android("of-somebody-else")).await;
    let details =
        json!([{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "UNREGISTERED"}]);
    let unregistered = json!({"error": {"code": 404, "status": "NOT_FOUND", "details": details}});
    services.will_say("sold", &[Reply::Status(404, unregistered)]);
    let gone = |at: i64| Reply::Status(410, json!({"reason": "Unregistered", "timestamp": at * 1_000}));
    services.will_say(&left, &[gone(in_seconds(60))]);
    // Apple's timestamp is older than the app's second registration, so the backend keeps the device.
    services.will_say(&returned, &[gone(in_seconds(-3_600))]);

    let long = format!("Your parcel has left Łódź. {}", "é".repeat(2_000));
    let first = scene.post("ai_assistant_message", &long).await;
    let pushes = scene.pushes(5).await;
    assert_eq!(services.seen(), each(&["pixel", "sold", &phone, &left, &returned], &[&first]));
    assert_fit(&pushes, &first);

    // The backend does not push the customer's own messages or endpoint tests.
    scene.post("user_message", "Where is my order?").await;
    let test = json!({"event": "ai_assistant_message"});
    let tested = scene.client.post(&format!("{CONFIG}/test?tenant_id={TENANT}"), &test).await;
    assert_eq!(tested.json()["outcome"], "delivered", "{}", tested.text());
    let second = scene.post("human_agent_message", "Anna here.").await;
    scene.pushes(8).await;
    let third = scene.post("ai_assistant_message", "bye").await;
    let pushes = scene.pushes(11).await;
    let mut expected = each(&["pixel", &phone, &returned], &[&first, &second, &third]);
    expected.extend(each(&["sold", &left], &[&first]));
    expected.sort();
    assert_eq!(services.seen(), expected);
    let titles = |event: &str| {
        let of_event = pushes.iter().filter(|push| push.event() == event && push.device == "pixel");
        of_event.map(|push| push.body["message"]["notification"]["title"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(titles(&second), ["New message from our team"]);
    assert_eq!(services.tokens(), 1, "the backend uses one access token for many pushes");
}

/// Checks that each push has the content and size that its platform requires.
fn assert_fit(pushes: &[Push], event: &str) {
    for push in pushes {
        assert!(push.body.to_string().len() <= 4_096, "{push:?}");
        let (shown, collapsed) = if push.device.len() == 64 {
            assert_eq!(push.headers["apns-topic"], TOPIC);
            assert_eq!(push.headers["apns-push-type"], "alert");
            assert!(push.headers["apns-expiration"].to_str().unwrap().parse::<i64>().unwrap() > in_seconds(0));
            assert_eq!(push.body["session_id"], "s-1");
            (&push.body["aps"]["alert"], push.headers["apns-collapse-id"].to_str().unwrap())
        } else {
            let message = &push.body["message"];
            assert_eq!(message["data"], json!({"session_id": "s-1", "event_id": event}));
            (&message["notification"], message["android"]["notification"]["tag"].as_str().unwrap())
        };
        assert_eq!(collapsed, event, "a repeated push replaces the first push on the device");
        assert_eq!(shown["title"], "New message");
        let body = shown["body"].as_str().unwrap();
        assert!(body.starts_with("Your parcel has left Łódź. é") && body.ends_with("é…"), "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_and_forged_messages_are_not_pushed_and_a_crash_loses_no_push() {
    let mut scene = Scene::new().await;
    scene.register("c-1", &android("pixel")).await;
    let forged = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let by =
        async |secret: &str, age| scene.backend.message(secret, "evt_forged", &agent_message("evt_forged"), age).await;
    assert_eq!(by(forged, Duration::ZERO).await, 401);
    assert_eq!(by(&scene.secret, Duration::from_mins(10)).await, 401);
    let large = json!({"text": "x".repeat(300_000)});
    assert_eq!(scene.backend.message(&scene.secret, "evt_large", &large, Duration::ZERO).await, 413);

    for _ in 0..2 {
        assert_eq!(scene.message("evt_twice").await, 204);
    }
    scene.pushes(1).await;
    // The backend is killed after it responds to the webhook but before the push service responds.
    scene.backend.services.will_say("pixel", &[Reply::Silence]);
    assert_eq!(scene.message("evt_cut_off").await, 204);
    scene.pushes(2).await;
    scene.backend.kill();
    scene.backend.run();
    scene.pushes(3).await;
    for id in ["evt_twice", "evt_cut_off", "evt_last"] {
        assert_eq!(scene.message(id).await, 204);
    }
    scene.pushes(4).await;
    let seen: Vec<String> = scene.backend.services.pushes().iter().map(Push::event).collect();
    assert_eq!(seen, ["evt_twice", "evt_cut_off", "evt_cut_off", "evt_last"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeats_a_push_after_a_temporary_rejection_but_not_after_a_permanent_rejection() {
    let scene = Scene::new().await;
    let (services, phone, old) = (&scene.backend.services, hex("a"), hex("b"));
    for device in [android("pixel"), android("of-another-app"), ios(&phone), ios(&old)] {
        scene.register("c-1", &device).await;
    }
    let unavailable = json!({"error": {"code": 503, "status": "UNAVAILABLE"}});
    services.will_say("pixel", &[Reply::Status(503, unavailable)]);
    let mismatch = json!({"error": {"code": 403, "status": "PERMISSION_DENIED",
                                    "details": [{"errorCode": "SENDER_ID_MISMATCH"}]}});
    services.will_say("of-another-app", &[Reply::Status(403, mismatch)]);
    services.will_say(&phone, &[Reply::Status(429, json!({"reason": "TooManyRequests"}))]);
    services.will_say(&old, &[Reply::Status(400, json!({"reason": "BadDeviceToken"}))]);
    let first = scene.post("ai_assistant_message", "one").await;
    scene.pushes(6).await;
    let twice = each(&["pixel", &phone], &[&first, &first]);
    let once = each(&["of-another-app", &old], &[&first]);
    let mut expected = [twice, once].concat();
    expected.sort();
    assert_eq!(services.seen(), expected);

    // If Google rejects an access token, the backend gets a new one and the push is not lost.
    services.revoke();
    let second = scene.post("ai_assistant_message", "two").await;
    scene.pushes(9).await;
    expected.extend(each(&["pixel", "of-another-app", &phone], &[&second]));
    expected.sort();
    assert_eq!(services.seen(), expected);
    assert_eq!(services.tokens(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_belongs_to_the_customer_who_signed_in_last() {
    let scene = Scene::new().await;
    let device = android("shared");
    let stranger = Signer::secret("another secret, which is not the app's, of 32 bytes");
    let session = stranger.token(&json!({"sub": "c-1", "exp": in_seconds(600)}));
    assert_eq!(scene.backend.device_by(Method::PUT, &session, &device).await, 401);
    for wrong in [ios("shared"), android("a b"), json!({"platform": "fax", "token": "x"}), json!([])] {
        assert_eq!(scene.backend.device(Method::PUT, "c-1", &wrong).await, 422, "{wrong}");
    }
    scene.register("c-2", &device).await;
    scene.register("c-1", &android("own")).await;
    scene.register("c-1", &device).await;
    // The device now belongs to c-1, so a sign-out of c-2 does not remove it.
    assert_eq!(scene.backend.device(Method::DELETE, "c-2", &device).await, 204);
    let first = scene.post("ai_assistant_message", "one").await;
    scene.pushes(2).await;
    assert_eq!(scene.backend.device(Method::DELETE, "c-1", &device).await, 204);
    let second = scene.post("ai_assistant_message", "two").await;
    scene.pushes(3).await;
    let mut expected = each(&["own"], &[&first, &second]);
    expected.extend(each(&["shared"], &[&first]));
    assert_eq!(scene.backend.services.seen(), expected);
}
