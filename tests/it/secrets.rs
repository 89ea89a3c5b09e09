//! Secrets appear only where they are needed: no read, log line, error or metric contains secrets, and the database stores them
//! only encrypted.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use flametree_notify::domain::delivery::Outcome;
use http::Method;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::deployment::{Database, Deployment, TENANT, agents, message};
use crate::support::own_server::programs;
use crate::support::receiver::Mode;
use crate::support::service::{ENCRYPTION_KEYS, Part, Settings};

const DRAINED: Duration = Duration::from_mins(1);
const BEARER: &str = "Bearer hdr-5ecret-Authorization-Value-0001";
const API_KEY: &str = "hdr-5ecret-Api-Key-Value-0002";
const REFUSED: &str = "hdr-5ecret-Refused-Value-0003";
const DATABASE_PASSWORD: &str = "db-5ecret-Password-0004";
const MALFORMED_KEY: &str = "key-5ecret-Malformed-0005";

/// A secret value that the test searches for in all output.
pub(crate) struct Secret {
    name: &'static str,
    forms: Vec<String>,
}

impl Secret {
    pub(crate) fn text(name: &'static str, text: &str) -> Self {
        Self { name, forms: [vec![text.to_owned()], encoded(text.as_bytes())].concat() }
    }

    /// A text that encodes bytes, such as a key. The output must contain neither the text nor the bytes.
    fn with_bytes(name: &'static str, text: &str, bytes: &[u8]) -> Self {
        Self { forms: [Self::text(name, text).forms, encoded(bytes)].concat(), name }
    }

    pub(crate) fn assert_absent(&self, place: &str, text: &str) {
        let lower = text.to_lowercase();
        for form in &self.forms {
            let is_hex = form.bytes().all(|byte| byte.is_ascii_hexdigit());
            let found = if is_hex { lower.find(form) } else { text.find(form) };
            if let Some(at) = found {
                let around: String =
                    text.chars().skip(text[..at].chars().count().saturating_sub(200)).take(500).collect();
                panic!("{} is in {place}, as {form}:\n{around}", self.name);
            }
        }
    }
}

/// The bytes in hexadecimal, and in base64 for each alignment that they can have within longer data.
fn encoded(bytes: &[u8]) -> Vec<String> {
    let mut forms = vec![hexadecimal(bytes)];
    for before in 0..3 {
        let shifted = [vec![0; before], bytes.to_vec()].concat();
        let (first, last) = ((before * 8).div_ceil(6), (before + bytes.len()) * 8 / 6);
        forms
            .extend([&STANDARD_NO_PAD, &URL_SAFE_NO_PAD].map(|engine| engine.encode(&shifted)[first..last].to_owned()));
    }
    forms
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

#[test]
fn a_secret_is_found_in_any_encoding() {
    let secret = Secret::text("a", API_KEY);
    let hex = hexadecimal(API_KEY.as_bytes()).to_uppercase();
    let texts = [API_KEY.to_owned(), hex, STANDARD_NO_PAD.encode(format!("x-key: {API_KEY}; more"))];
    for text in texts {
        assert!(std::panic::catch_unwind(|| secret.assert_absent("a text", &text)).is_err(), "{text}");
    }
    secret.assert_absent("a text", "hdr-5ecret");
}

#[tokio::test]
async fn no_output_and_no_database_row_contains_a_secret() {
    let mut deployment = Deployment::new().await;
    deployment.settings = deployment.settings.with("FLAMETREE_LOG", "trace");
    let service = deployment.settings.start(Part::Run).await;
    let admin = deployment.client(&service);
    let mut texts: Vec<(String, String)> = Vec::new();

    let mut secrets = vec![
        Secret::text("a header's value", BEARER),
        Secret::text("a header's value", BEARER.strip_prefix("Bearer ").unwrap()),
        Secret::text("a header's value", API_KEY),
        Secret::text("a refused header's value", REFUSED),
        Secret::text("the database's password", DATABASE_PASSWORD),
        Secret::text("a malformed encryption key", MALFORMED_KEY),
        token_secret("the token", &deployment.token),
        encryption_key(),
    ];
    secrets.extend(signing_secrets(&deployment, &admin).await);
    secrets.push(other_token(&admin).await);
    texts.extend(refused_requests(&deployment, &admin).await);

    let agents = agents(3);
    let accepted = deployment.post(std::slice::from_ref(&admin), &agents, 30).await;
    deployment.drained(DRAINED).await;
    let tally = deployment.assert_drained(&admin, &accepted).await;
    assert_eq!(tally.count(Outcome::Delivered), 10, "{:?}", tally.summary());
    texts.extend(
        reads(&admin, &tally.outcomes.keys().map(ToString::to_string).collect::<Vec<_>>(), &accepted[0].to_string())
            .await,
    );
    texts.push(("the metrics".to_owned(), service.metrics().await));
    texts.push(("the dump".to_owned(), dump(&deployment)));
    texts.push(("the logs".to_owned(), service.stop().await));
    texts.extend(wrong_settings());

    let is_echoed = |(place, text): &(String, String)| {
        place.starts_with("/v1/deliveries/") && text.contains("x-api-key: [redacted]")
    };
    assert_eq!(texts.iter().filter(|read| is_echoed(read)).count(), 10, "nothing was echoed");
    assert!(
        texts.iter().any(|(place, text)| place == "the logs" && text.contains("TRACE")),
        "the logs have no TRACE line"
    );
    for (place, text) in &texts {
        for secret in &secrets {
            secret.assert_absent(place, text);
        }
    }
}

fn token_secret(name: &'static str, token: &str) -> Secret {
    let bytes = URL_SAFE_NO_PAD.decode(token.strip_prefix("ftn_").unwrap()).unwrap();
    // The bytes after the first 32 are the checksum.
    Secret::with_bytes(name, token, &bytes[..32])
}

fn encryption_key() -> Secret {
    let key = ENCRYPTION_KEYS.strip_prefix("k1:").unwrap();
    let bytes = STANDARD_NO_PAD.decode(key.trim_end_matches('=')).unwrap();
    Secret::with_bytes("the encryption key", key, &bytes)
}

fn signing_secret(answer: &Value) -> Secret {
    let text = answer["signing_secret"].as_str().unwrap();
    let key = text.strip_prefix("whsec_").unwrap();
    let bytes = STANDARD_NO_PAD.decode(key.trim_end_matches('=')).unwrap();
    Secret::with_bytes("a signing secret", key, &bytes)
}

/// Configures webhooks with secrets. One receiver echoes the request, one host does not exist, and one receiver does not use TLS.
async fn signing_secrets(deployment: &Deployment, admin: &Client) -> Vec<Secret> {
    let urls = [
        deployment.receiver.url("/agent-1"),
        "http://127.0.0.1:1/agent-2".to_owned(),
        deployment.receiver.url("/agent-3").replace("http:", "https:"),
    ];
    deployment.receiver.set("/agent-1", Mode::Echoes);
    let mut secrets = Vec::new();
    for (agent, url) in agents(3).iter().zip(urls) {
        let headers = json!([
            {"name": "Authorization", "value": BEARER},
            {"name": "X-Api-Key", "value": API_KEY, "secret": true},
            {"name": "X-Plain", "value": "plain", "secret": false},
        ]);
        let config = json!({"enabled": true, "url": url, "headers": headers, "events": ["user_message"]});
        let answer = admin.put(&config_path(agent), &config).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        secrets.push(signing_secret(&answer.json()));
        let rotate = config_path(agent).replace("push-config", "push-config/signing-secret/rotate");
        let answer = admin.post(&rotate, &json!({})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        secrets.push(signing_secret(&answer.json()));
    }
    secrets
}

fn config_path(agent: &str) -> String {
    format!("/v1/agents/{agent}/push-config?tenant_id={TENANT}")
}

async fn other_token(admin: &Client) -> Secret {
    let answer = admin.post("/v1/tokens", &json!({"name": "other", "role": "viewer"})).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    token_secret("another token", answer.json()["token"].as_str().unwrap())
}

/// The API's responses to requests that are invalid and contain secrets.
async fn refused_requests(deployment: &Deployment, admin: &Client) -> Vec<(String, String)> {
    let url = deployment.receiver.url("/agent-1");
    let bodies = [
        json!({"enabled": true, "url": url, "events": ["user_message"], "headers": [{"name": "not a name", "value": REFUSED}]}),
        json!({"url": url, "headers": [{"name": "x-a", "value": format!("{REFUSED}\n"), "secret": true}]}),
        json!({"url": url, "headers": [{"name": "x-a", "value": [REFUSED], "secret": true}]}),
        json!({"url": url, "headers": [{"name": "x-a", "value": REFUSED, "secret": REFUSED}]}),
        json!({"url": url, "headers": REFUSED}),
        json!(REFUSED),
        // The API must not send the stored secret to another origin.
        json!({"enabled": true, "url": "http://127.0.0.2:2/", "events": ["user_message"], "headers": [{"name": "x-api-key", "secret": true}]}),
    ];
    let mut texts = Vec::new();
    for body in bodies {
        let answer = admin.put(&config_path("agent-1"), &body).await;
        assert_eq!(answer.status, 422, "{body}: {}", answer.text());
        texts.push((format!("the answer to {}", body.to_string().replace(REFUSED, "...")), answer.text().to_owned()));
    }
    let mut unfinished = message("agent-1", 0);
    unfinished["metadata"] = json!({"key": REFUSED});
    unfinished["text"] = json!([REFUSED]);
    let answer = admin.post("/v1/events", &unfinished).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    texts.push(("the response to an event".to_owned(), answer.text().to_owned()));
    texts
}

/// All responses that contain stored data.
async fn reads(admin: &Client, deliveries: &[String], event: &str) -> Vec<(String, String)> {
    let tenant = format!("tenant_id={TENANT}");
    let mut paths = vec![
        format!("/v1/deliveries?{tenant}"),
        format!("/v1/events/{event}?{tenant}"),
        format!("/v1/event-types?{tenant}"),
        "/v1/tokens".to_owned(),
        "/v1/openapi.json".to_owned(),
        "/readyz".to_owned(),
    ];
    paths.extend(agents(3).iter().flat_map(|agent| {
        [config_path(agent), config_path(agent).replace("push-config", "push-config/signing-secret")]
    }));
    paths.extend(deliveries.iter().map(|id| format!("/v1/deliveries/{id}?{tenant}")));
    let mut texts = Vec::new();
    for path in paths {
        let answer = admin.get(&path).await;
        assert!([200, 422].contains(&answer.status), "{path}: {}", answer.text());
        texts.push((path, answer.text().to_owned()));
    }
    let again = admin.request(Method::PATCH, &config_path("agent-1"), Some(&json!({"enabled": true}))).await.unwrap();
    assert_eq!(again.status, 200, "{}", again.text());
    texts.push(("a patch's answer".to_owned(), again.text().to_owned()));
    texts
}

pub(crate) fn dump(deployment: &Deployment) -> String {
    let Database::Shared(database) = &deployment.database else { panic!("another database") };
    // Some distributions install the client programs and the server programs in different folders.
    let beside_the_server = programs().join("pg_dump");
    let program = if beside_the_server.exists() { beside_the_server } else { PathBuf::from("pg_dump") };
    let output = Command::new(program).arg(database.url()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("COPY flametree.push_configs") && text.contains("agent-1"), "the dump is incomplete");
    text
}

/// The program's output for invalid settings.
fn wrong_settings() -> Vec<(String, String)> {
    let unreachable = format!("postgres://me:{DATABASE_PASSWORD}@127.0.0.1:1/notify");
    let no_url = format!("mysql://me:{DATABASE_PASSWORD}@127.0.0.1/notify");
    let trace = |settings: Settings| settings.with("FLAMETREE_LOG", "trace");
    let cases = [
        ("api", trace(Settings::on(&unreachable))),
        ("config", trace(Settings::on(&unreachable))),
        ("api", trace(Settings::on(&no_url))),
        ("api", trace(Settings::on(&unreachable)).with("FLAMETREE_ENCRYPTION_KEYS", &format!("k1:{MALFORMED_KEY}"))),
        ("api", trace(Settings::on(&unreachable)).with("FLAMETREE_ENCRYPTION_KEYS", MALFORMED_KEY)),
        ("config", Settings::on(&unreachable).with("FLAMETREE_ENCRYPTION_KEYS", MALFORMED_KEY)),
    ];
    let run = |(argument, settings): (&str, Settings)| {
        let arguments: &[&str] = if argument == "config" { &["config", "check"] } else { &[argument] };
        let ports = [("FLAMETREE_LISTEN_ADDR", "127.0.0.1:0"), ("FLAMETREE_METRICS_ADDR", "127.0.0.1:0")];
        let output = settings.command().args(arguments).envs(ports).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        ("the program's output for its settings".to_owned(), String::from_utf8(text).unwrap())
    };
    cases.into_iter().map(run).collect()
}
