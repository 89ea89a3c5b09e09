//! Checks that the log contains no secret and no payload at the most detailed level. The traffic includes webhooks over
//! HTTP/1.1 and HTTP/2, browser push, streams, traces and SQL. The traffic is sent with and without faults.

use flametree_notify::store::Db;
use std::time::Duration;

use flametree_notify::domain::role::Role;
use flametree_notify::postgres::EmbeddedServer;
use http::Method;
use serde_json::{Value, json};

use crate::secrets::Secret;
use crate::support::collector::{Collector, Mood};
use crate::support::deployment::TENANT;
use crate::support::http2::{Http2Receiver, Step};
use crate::support::jwt::{SECRET, Signer, claims, with};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::push::{Browser, KEY};
use crate::support::push_deployment::{Push, push_service};
use crate::support::seed;
use crate::support::service::{Part, Settings};
use crate::support::sse::try_open;
use crate::support::temp_dir::TempDir;
use crate::support::tls::Authority;
use crate::support::waiting::within;
use crate::support::wire::answer;

const PATIENCE: Duration = Duration::from_secs(30);

const TEXT: &str = "txt-5ecret-words-of-a-customer";
const METADATA: &str = "met-5ecret-metadata-of-an-event";
const FAULTY: &str = "flt-5ecret-text-that-the-database-refuses";
const REFUSED: &str = "ref-5ecret-text-of-a-refused-event";
const SQL: &str = "sql-5ecret-text-of-a-transaction";
const ANSWER: &str = "ans-5ecret-answer-of-an-endpoint";
const URL_KEY: &str = "url-5ecret-query-of-a-webhook";
const HEADER: &str = "hdr-5ecret-value-of-a-header";
const STATE: &str = "ste-5ecret-of-the-tracing-system";
const COLLECTOR_KEY: &str = "otl-5ecret-key-of-the-collector";
const LABEL: &str = "lbl-5ecret-label-of-a-browser";

#[tokio::test]
async fn the_log_contains_no_payloads_or_secrets_at_any_level() {
    let collector = Collector::start(Mood::Takes).await;
    let push_services = [
        push_service("201 Created", "", "").await,
        push_service("410 Gone", "", "").await,
        push_service("403 Forbidden", "", ANSWER).await,
        Receiver::start(Behaviour::ResetsAfterRequest).await,
    ];
    let push = start(&collector, &push_services.each_ref()).await;
    let mut secrets: Vec<Secret> =
        [TEXT, METADATA, FAULTY, REFUSED, SQL, ANSWER, URL_KEY, HEADER, STATE, COLLECTOR_KEY, LABEL, SECRET, KEY[0]]
            .iter()
            .map(|text| Secret::text("one of the texts", text))
            .collect();
    secrets.push(Secret::text("the token", &push.deployment.token));

    let http = Receiver::start(Behaviour::Answers(answer("500 Sorry", "", ANSWER.as_bytes()))).await;
    let http2 = Http2Receiver::start(&[Step::Answers]).await;
    let webhooks = webhooks(&push, &http, &http2).await;
    secrets.extend(webhooks.iter().map(|secret| Secret::text("a signing secret", secret)));
    secrets.extend(browsers(&push, &push_services).await);
    let waiting = Receiver::start(Behaviour::HangsAfterAccept).await;
    secrets.extend(users(&push, &waiting).await);

    events(&push, webhooks.len()).await;
    sql(&push).await;
    database_faults(&push, webhooks.len()).await;
    let outcomes = push.outcomes().await;
    for outcome in [
        "delivered",
        "http_error",
        "connect_error",
        "dns_error",
        "blocked_address",
        "tls_error",
        "gone",
        "config_error",
    ] {
        assert!(outcomes.iter().any(|one| one == outcome), "no {outcome} among {outcomes:?}");
    }
    collector.named("deliver browser_push", push_services.len()).await;
    assert!(http2.streams() > 0, "no request used HTTP/2");
    let log = push.service.stop().await;
    for target in ["h2::", "hyper", "rustls", "sqlx", "flametree_notify::", "could not accept events"] {
        assert!(log.contains(target), "the log has no message of {target}");
    }
    let spans = format!("{:?}", collector.spans());
    // The header `tracestate` is not a secret. Tracing systems exchange this header and may log it.
    let spans = spans.replace(STATE, "");
    for secret in &secrets {
        secret.assert_absent("the log", &log);
        secret.assert_absent("the traces", &spans);
    }
}

/// Starts the service with a CA file, a trace collector, and the most detailed log level.
async fn start(collector: &Collector, push_services: &[&Receiver]) -> Push {
    let files = TempDir::new();
    let authority = files.path().join("authority.pem");
    std::fs::write(&authority, Authority::shared().pem()).unwrap();
    Push::start(push_services, |settings| {
        settings
            .with("FLAMETREE_LOG", "trace")
            .with("FLAMETREE_CA_FILE", authority.to_str().unwrap())
            .with("FLAMETREE_ALLOWED_NETWORKS", "127.0.0.0/8,::1/128")
            .with("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
            .with("OTEL_EXPORTER_OTLP_HEADERS", &format!("x-key={COLLECTOR_KEY}"))
    })
    .await
}

/// Creates an agent for each possible outcome of a webhook. Returns the signing secrets of the agents.
async fn webhooks(push: &Push, http: &Receiver, http2: &Http2Receiver) -> Vec<String> {
    let admin = push.deployment.client(&push.service);
    // This label is too long for a host name, so the resolver fails without a DNS query.
    let closed = format!("{}.invalid", "x".repeat(64));
    let urls = [
        format!("http://{}/hook?key={URL_KEY}", http.address),
        format!("https://localhost:{}/hook?key={URL_KEY}", http2.port()),
        format!("http://127.0.0.1:1/hook?key={URL_KEY}"),
        format!("http://{closed}/hook?key={URL_KEY}"),
        format!("http://10.0.0.1/hook?key={URL_KEY}"),
        push.deployment.receiver.url(&format!("/hook?key={URL_KEY}")).replace("http:", "https:"),
    ];
    let mut secrets = Vec::new();
    for (number, url) in (1..).zip(urls) {
        let headers = json!([{"name": "x-key", "value": HEADER, "secret": true}]);
        let events = ["user_message", "ai_assistant_message"];
        let config = json!({"enabled": true, "url": url, "headers": headers, "events": events});
        let path = format!("/v1/agents/agent-{number}/push-config?tenant_id={TENANT}");
        let saved = admin.put(&path, &config).await;
        assert_eq!(saved.status, 200, "{}", saved.text());
        secrets.push(saved.json()["signing_secret"].as_str().unwrap().replace("whsec_", ""));
        let test = path.replace("push-config", "push-config/test");
        let tried = admin.post(&test, &json!({"event": "user_message"})).await;
        assert_eq!(tried.status, 200, "{}", tried.text());
    }
    secrets
}

/// Registers a browser of a user at each push service. Then assigns a session to the user, to notify the browsers.
async fn browsers(push: &Push, push_services: &[Receiver]) -> Vec<Secret> {
    let mut secrets = Vec::new();
    for (number, service) in push_services.iter().enumerate() {
        let browser = Browser::new(&format!("b{number}"));
        let mut body = browser.subscription(&format!("http://{}", service.address));
        body["label"] = json!(LABEL);
        let me = push.person("user-1");
        let saved = me.request(Method::PUT, "/v1/me/push-subscriptions", Some(&body)).await.unwrap();
        assert_eq!(saved.status, 201, "{}", saved.text());
        // The whole path is secret, because anyone who knows the path can send to the browser.
        secrets.push(Secret::text("an endpoint", &browser.path));
        secrets.push(Secret::text("an endpoint", &format!("b{number}-5ecret-capability")));
        secrets.push(Secret::text("a browser's public key", &browser.p256dh()));
        secrets.push(Secret::text("a browser's secret", &browser.auth()));
    }
    let assigned = json!({"type": "session_assigned", "assignee_id": "user-1", "text": TEXT, "session_id": "s-9"});
    assert_eq!(push.post(&assigned).await, i64::try_from(push_services.len()).unwrap());
    secrets
}

/// Sends requests of users: with valid and invalid JWTs, a ticket, and a rejected subscription.
async fn users(push: &Push, elsewhere: &Receiver) -> Vec<Secret> {
    let token = |secret| Signer::secret(secret).token(&with(claims(Role::Operator, TENANT), "sub", json!("user-2")));
    let (good, forged) = (token(SECRET), token("another secret than the secret of the tests"));
    let signature = |token: &str| Secret::text("the signature of a JWT", token.rsplit('.').next().unwrap());
    let mut secrets = vec![signature(&good), signature(&forged)];
    let person = push.service.client(&good);
    let made = person.request(Method::POST, "/v1/workspace/stream-tickets", None).await.unwrap();
    assert_eq!(made.status, 201, "{}", made.text());
    let ticket = made.json()["ticket"].as_str().unwrap().to_owned();
    let path = format!("/v1/workspace/stream?ticket={ticket}");
    let mut stream = try_open(person.address(), &path, &[]).await.unwrap();
    stream.expect("snapshot").await;
    secrets.push(Secret::text("a ticket", &ticket));
    assert_eq!(push.service.client(&forged).get("/v1/workspace/active-conversations").await.status, 401);
    let stranger = Browser::new("stranger").subscription(&format!("http://{}", elsewhere.address));
    let refused = person.request(Method::PUT, "/v1/me/push-subscriptions", Some(&stranger)).await.unwrap();
    assert_eq!(refused.status, 422, "{}", refused.text());
    secrets.push(Secret::text("a refused endpoint", "stranger-5ecret-capability"));
    let admin = push.deployment.client(&push.service);
    let made = admin.post("/v1/tokens", &json!({"name": "other", "role": "viewer"})).await;
    secrets.push(Secret::text("a token", made.json()["token"].as_str().unwrap()));
    secrets
}

fn event(agent: usize, text: &str) -> Value {
    json!({
        "type": "ai_assistant_message", "tenant_id": TENANT, "agent_id": format!("agent-{agent}"), "session_id": "s-1",
        "text": text, "metadata": {"note": METADATA},
    })
}

/// Posts events that are delivered, and events that the API rejects.
async fn events(push: &Push, agents: usize) {
    let client = push.deployment.client(&push.service);
    let trace = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let headers = [trace, ("tracestate", &*format!("a={STATE}"))];
    for agent in 1..=agents {
        let posted =
            client.request_with(Method::POST, "/v1/events", &headers, Some(&event(agent, TEXT))).await.unwrap();
        assert_eq!(posted.status, 202, "{}", posted.text());
    }
    let mut keyed = event(1, TEXT);
    keyed["idempotency_key"] = json!("k-1");
    assert_eq!(client.post("/v1/events", &keyed).await.status, 202);
    keyed["text"] = json!(REFUSED);
    assert_eq!(client.post("/v1/events", &keyed).await.status, 409);
    let mut wrong = event(1, REFUSED);
    wrong["type"] = json!(REFUSED);
    wrong[REFUSED] = json!(REFUSED);
    assert_eq!(client.post("/v1/events", &wrong).await.status, 422);
    assert_eq!(client.post(&format!("/v1/events?{REFUSED}=1"), &event(1, REFUSED)).await.status, 422);
    assert_eq!(client.post("/v1/events", &event(1, &REFUSED.repeat(4_000))).await.status, 413);
    let batch = json!({"events": [event(1, TEXT), wrong]});
    assert_eq!(client.post("/v1/events/batch", &batch).await.status, 200);
}

/// Creates events with SQL, and reads deliveries with their payloads.
async fn sql(push: &Push) {
    let statement = format!("SELECT flametree.enqueue_event($event${}$event$)", event(1, SQL));
    seed::run(&push.deployment.pool, statement).await;
    let client = push.deployment.client(&push.service);
    let list = client.get(&format!("/v1/deliveries?tenant_id={TENANT}")).await.json();
    for one in list["data"].as_array().unwrap() {
        let read = client.get(&format!("/v1/deliveries/{}?tenant_id={TENANT}", one["id"].as_str().unwrap())).await;
        assert_eq!(read.status, 200, "{}", read.text());
    }
}

/// Makes the database reject an event, and then close connections.
async fn database_faults(push: &Push, agents: usize) {
    let pool = &push.deployment.pool;
    let client = push.deployment.client(&push.service);
    let refuse = format!("ALTER TABLE flametree.events ADD CONSTRAINT events_faulty CHECK (text <> '{FAULTY}')");
    seed::run(pool, refuse).await;
    let refused = client.post("/v1/events", &event(1, FAULTY)).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE datname = current_database() AND pid <> pg_backend_pid()";
    seed::run(pool, cut.to_owned()).await;
    for agent in 1..=agents {
        let accepted = async || client.post("/v1/events", &event(agent, TEXT)).await.status == 202;
        within(PATIENCE, "events are accepted again", accepted).await;
    }
}

#[tokio::test]
async fn the_log_of_the_embedded_server_contains_no_statements_or_rows() {
    let directory = TempDir::new();
    let data_dir = directory.path().join("data");
    let settings = Settings::default().with("FLAMETREE_DATA_DIR", data_dir.to_str().unwrap());
    let service = settings.start(Part::Run).await;
    let options = EmbeddedServer::of_other_process(&data_dir).unwrap();
    let pool = Db::from(sqlx::PgPool::connect_with(options).await.unwrap());
    let refuse = format!("ALTER TABLE flametree.events ADD CONSTRAINT events_faulty CHECK (text <> '{FAULTY}')");
    seed::run(&pool, refuse).await;
    for statement in [
        format!("SELECT flametree.enqueue_event($event${}$event$)", event(1, FAULTY)),
        format!("SELECT flametree.enqueue_event($event${}$event$)", json!({"type": REFUSED, "text": REFUSED})),
    ] {
        let refused = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&pool).await;
        assert!(refused.unwrap_err().as_database_error().is_some());
    }
    pool.close().await;
    service.stop().await;
    let logs: Vec<String> = std::fs::read_dir(data_dir.join("log"))
        .unwrap()
        .map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap())
        .collect();
    let log = logs.concat();
    assert!(log.contains("events_faulty") && log.contains("the event is not valid"), "{log}");
    for text in [FAULTY, REFUSED, METADATA] {
        Secret::text("a text of an event", text).assert_absent("the server's log", &log);
    }
}
