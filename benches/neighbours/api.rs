//! Attacks on the routes that do not accept events: replays, renewals, wrong tokens, tests of endpoints, streams.

use std::sync::Arc;
use std::time::Duration;

use flametree_notify::domain::token::TokenSecret;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, timeout};

use super::Bench;
use super::comparison::Comparison;
use super::scene::{AGENT_OF_B, B, Line, Scene, config};
use crate::http::{self, request};
use crate::push;
use crate::receiver::{OTHER_ADDRESS, Receiver};
use crate::service;

/// How many connections request replays.
const REPLAYERS: usize = 8;
/// How long tenant A waits before it repeats a refused request. This is far less than `Retry-After`. In `endless_events`,
/// the tenant does not wait.
const PAUSE: Duration = Duration::from_millis(50);
const RENEWALS: usize = 3_000;
/// How many wrong tokens tenant A sends per second over all [`GUESSERS`] connections.
const GUESSES: usize = 200;
const GUESSERS: usize = 20;
const TESTS: usize = 40;
/// How many API tokens tenant A uses to open streams. A caller can open 100 streams, and a tenant can open half of 10,000.
const STREAM_TOKENS: usize = 60;
const STREAMS_PER_TOKEN: usize = 100;
/// How many requests tenant B sends to the attacked route, in addition to its events.
const PROBES: usize = 10;

/// Tenant A requests dry runs of replays on eight connections, while a transaction locks tables that two operations use.
pub(crate) async fn replays(bench: &Bench<'_>) -> Comparison {
    let each_second = "* * * * * *";
    let settings = [("FLAMETREE_ROLLUP_SCHEDULE", each_second), ("FLAMETREE_RETENTION_SCHEDULE", each_second)];
    let mut scene = Scene::start(bench, "run", &settings).await;
    let quiet = scene.quiet().await;
    let mut transaction = scene.db.begin().await.unwrap();
    let locks = "LOCK TABLE flametree.delivery_rollups, flametree.push_config_changes IN ACCESS EXCLUSIVE MODE";
    sqlx::raw_sql(locks).execute(&mut *transaction).await.unwrap();
    let body = json!({ "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "dry_run": true });
    let text = scene.service.request("POST", "/v1/agents/agent/replays", &body.to_string());
    let attack = scene.flood(REPLAYERS, PAUSE, move |_| text.clone());
    let attacked = scene.attacked().await;
    drop(attack);
    transaction.rollback().await.unwrap();
    scene.end(quiet, attacked, "").await
}

/// Tenant A sends renewals whose bodies arrive one byte at a time.
pub(crate) async fn slow_renewals(bench: &Bench<'_>) -> Comparison {
    let settings = push::settings();
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut scene = Scene::start(bench, "run", &settings).await;
    let quiet = scene.quiet().await;
    let before = scene.service.memory() >> 20;
    let api = scene.service.api();
    let mut attack = JoinSet::new();
    for _ in 0..RENEWALS {
        attack.spawn(async move {
            loop {
                if let Ok(stream) = TcpStream::connect(api).await {
                    slow_renewal(stream).await;
                }
                sleep(Duration::from_secs(1)).await;
            }
        });
    }
    let attacked = scene.attacked().await;
    let note = format!("memory {before} -> {} MiB", scene.service.memory() >> 20);
    drop(attack);
    scene.end(quiet, attacked, note).await
}

/// Sends one renewal slowly, until the service ends the request.
async fn slow_renewal(mut stream: TcpStream) {
    let head = b"POST /v1/push/renewals HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
        content-length: 8000\r\n\r\n{";
    if stream.write_all(head).await.is_err() {
        return;
    }
    loop {
        let mut answer = [0; 1024];
        // The body is incomplete, so any response is a refusal.
        if timeout(Duration::from_secs(1), stream.read(&mut answer)).await.is_ok() {
            return;
        }
        if stream.write_all(b" ").await.is_err() {
            return;
        }
    }
}

/// Tenant A sends wrong tokens. Every second token has a valid checksum, so the service looks it up. Meanwhile tenant B
/// uses new tokens.
pub(crate) async fn wrong_tokens(bench: &Bench<'_>) -> Comparison {
    let mut scene = Scene::start(bench, "run", &[]).await;
    let new: Vec<String> = (0..PROBES).map(|_| service::create_token(&scene.url, B)).collect();
    let quiet = scene.quiet().await;
    let mut attack = JoinSet::new();
    for _ in 0..GUESSERS {
        let mut line = Line::new(Arc::clone(&scene.service), Arc::clone(&scene.tally));
        attack.spawn(async move {
            let mut ticks =
                interval(Duration::from_secs(1) * u32::try_from(GUESSERS).unwrap() / u32::try_from(GUESSES).unwrap());
            for number in 0_usize.. {
                ticks.tick().await;
                let token = TokenSecret::from_random(random()).expose();
                let token = if number.is_multiple_of(2) { token } else { token[..token.len() - 4].to_owned() + "AAAA" };
                line.send(&http::json("POST", "/v1/events", &token, "{}")).await;
            }
        });
    }
    let attacked = scene.attacked().await;
    let mut refused = 0;
    for token in new {
        let text = http::json("GET", &format!("/v1/agents/{AGENT_OF_B}/push-config"), &token, "");
        refused += usize::from(request(&mut scene.service.connect().await, &text).await.status() != 200);
    }
    drop(attack);
    Comparison { refused, ..scene.end(quiet, attacked, "").await }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    bytes[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    bytes
}

/// Tenant A tests drafts, each for a different agent, because an agent can be tested only ten times a minute. Meanwhile tenant B
/// tests its endpoint.
pub(crate) async fn endpoint_tests(bench: &Bench<'_>) -> Comparison {
    let mut scene = Scene::start(bench, "run", &[]).await;
    let quiet = scene.quiet().await;
    let token = scene.service.token().to_owned();
    let attack = scene.flood(TESTS, PAUSE, move |number| test(&token, number, &Receiver::url("/hang")));
    let attacked = scene.attacked().await;
    let mut refused = 0;
    for number in 0..PROBES {
        let text = test(&scene.token_of_b, number, &format!("http://{OTHER_ADDRESS}/hook"));
        let answer = request(&mut scene.service.connect().await, &text).await;
        let view: Value = serde_json::from_slice(&answer.body).unwrap();
        refused += usize::from(answer.status() != 200 || view["outcome"] != "delivered");
    }
    let note = format!("{} hang at once", bench.receiver.hanging().await);
    drop(attack);
    Comparison { refused, ..scene.end(quiet, attacked, note).await }
}

fn test(token: &str, agent: usize, url: &str) -> Vec<u8> {
    let mut draft = config(url);
    draft["timeout_ms"] = 10_000.into();
    let body = json!({ "event": "user_message", "config": draft });
    http::json("POST", &format!("/v1/agents/agent-{agent}/push-config/test"), token, &body.to_string())
}

/// Tenant A opens streams, and tries again after each refusal. Meanwhile tenant B opens streams.
pub(crate) async fn streams(bench: &Bench<'_>) -> Comparison {
    let mut scene = Scene::start(bench, "run", &[]).await;
    let tokens: Vec<String> =
        (0..STREAM_TOKENS).map(|_| service::create_token(&scene.url, crate::prepare::TENANT)).collect();
    let quiet = scene.quiet().await;
    let mut attack = JoinSet::new();
    for token in tokens {
        let (service, tally) = (Arc::clone(&scene.service), Arc::clone(&scene.tally));
        attack.spawn(async move {
            let mut held = Vec::new();
            while held.len() < STREAMS_PER_TOKEN {
                let mut stream = service.connect().await;
                let status = open(&mut stream, &token).await;
                *tally.lock().unwrap().entry(status).or_default() += 1;
                if status == 200 {
                    held.push(stream);
                } else {
                    sleep(Duration::from_secs(1)).await;
                }
            }
            std::future::pending::<()>().await;
        });
    }
    let attacked = scene.attacked().await;
    let mut held = Vec::new();
    for _ in 0..PROBES {
        let mut stream = scene.service.connect().await;
        if open(&mut stream, &scene.token_of_b).await == 200 {
            held.push(stream);
        }
    }
    let note = format!("memory {} MiB", scene.service.memory() >> 20);
    let refused = PROBES - held.len();
    drop((attack, held));
    Comparison { refused, ..scene.end(quiet, attacked, note).await }
}

/// Requests a stream and returns the response's status. It does not read the body, because a stream does not end.
async fn open(stream: &mut TcpStream, token: &str) -> u16 {
    if stream.write_all(&http::json("GET", "/v1/workspace/stream", token, "")).await.is_err() {
        return 0;
    }
    let mut head = [0; 12];
    let read = stream.read_exact(&mut head).await;
    read.ok().and_then(|_| std::str::from_utf8(&head[9..]).ok()?.parse().ok()).unwrap_or_default()
}
