//! Tests the endpoint test, which sends one event at once and diagnoses each possible result.

use flametree_notify::domain::role::Role;
use reqwest::Method;
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::support::app::{Answer, TestApp};
use crate::support::http2::{Http2Receiver, INTERNAL_ERROR, Step};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::never_accepts::NeverAccepts;
use crate::support::receiver;
use crate::support::tls::Certificate;
use crate::support::wire::{answer, signed_headers};

pub fn path(agent: &str) -> String {
    format!("/v1/agents/{agent}/push-config/test")
}

/// An API that may send to this machine, and a token of an admin.
pub async fn started() -> (TestApp, String) {
    let api = TestApp::that_sends().await;
    let admin = api.token(Role::Admin, Some("acme")).await;
    (api, admin)
}

pub async fn save(api: &TestApp, token: &str, agent: &str, config: &Value) -> Answer {
    let saved = api.call(token, Method::PUT, &format!("/v1/agents/{agent}/push-config"), &[], Some(config)).await;
    assert_eq!(saved.status, 200, "{saved:?}");
    saved
}

/// Tests the saved config.
pub async fn test_saved(api: &TestApp, token: &str, agent: &str) -> Answer {
    api.call(token, Method::POST, &path(agent), &[], Some(&json!({"event": "user_message"}))).await
}

pub async fn test_draft(api: &TestApp, token: &str, agent: &str, config: Value) -> Answer {
    let body = json!({"event": "user_message", "config": config});
    api.call(token, Method::POST, &path(agent), &[], Some(&body)).await
}

/// Tests a draft without headers, for a new agent.
async fn tested(api: &TestApp, token: &str, url: &str) -> Value {
    let agent = format!("agent-{}", uuid::Uuid::now_v7().simple());
    let answer = test_draft(api, token, &agent, json!({"url": url, "timeout_ms": 10_000})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn verdict(test: &Value) -> (&str, &str) {
    (test["outcome"].as_str().unwrap(), test["diagnosis"]["code"].as_str().unwrap())
}

fn hint(test: &Value) -> &str {
    test["diagnosis"]["hint"].as_str().unwrap()
}

async fn answering(status: &str, headers: &str, body: &[u8]) -> Receiver {
    Receiver::start(Behaviour::Answers(answer(status, headers, body))).await
}

#[tokio::test]
async fn an_endpoint_test_sends_one_signed_request_and_reports_the_full_result() {
    let (api, admin) = started().await;
    let behaviour = Behaviour::Answers(answer("202 Accepted", "x-answer: yes\r\n", b"thanks \xf0\x9f\x93\xa6"));
    let receiver = Receiver::start_tls(behaviour, Certificate::Good).await;
    let config = json!({"enabled": false, "url": receiver.tls_url(), "events": [],
        "headers": [{"name": "X-Env", "value": "prod"}]});
    let secret = save(&api, &admin, "agent-1", &config).await.json()["signing_secret"].as_str().unwrap().to_owned();
    let answered = test_saved(&api, &admin, "agent-1").await;
    assert_eq!((answered.status, answered.headers["cache-control"].to_str().unwrap()), (200, "no-store"));
    let test = answered.json();
    assert_eq!(verdict(&test), ("delivered", "delivered"));

    let seen = receiver.seen();
    assert_eq!((seen.len(), receiver.connections()), (1, 1));
    let body: Value = serde_json::from_slice(&seen[0].body).unwrap();
    assert_eq!(
        (&body["type"], &body["test"], &body["data"]["agent_id"]),
        (&json!("user_message"), &json!(true), &json!("agent-1"))
    );
    assert!(body["data"]["text"].as_str().unwrap().contains('\n'));
    Webhook::new(&secret).unwrap().verify(&seen[0].body, &signed_headers(&seen[0])).unwrap();
    assert_eq!(test["request"]["body"].as_str().unwrap().as_bytes(), seen[0].body);
    for header in test["request"]["headers"].as_array().unwrap() {
        assert_eq!(seen[0].header(header["name"].as_str().unwrap()), header["value"].as_str().unwrap());
    }
    assert_eq!(seen[0].header("x-env"), "prod");

    let response = &test["response"];
    assert_eq!(
        (&response["status"], &response["body"], &response["truncated"]),
        (&json!(202), &json!("thanks 📦"), &json!(false))
    );
    assert!(response["headers"].as_array().unwrap().contains(&json!({"name": "x-answer", "value": "yes"})));
    let timing = test["timing_ms"].as_object().unwrap();
    let steps: f64 = ["dns", "connect", "tls", "first_byte"].map(|step| timing[step].as_f64().unwrap()).iter().sum();
    assert!(steps > 0.0 && steps <= timing["total"].as_f64().unwrap(), "{timing:?}");

    // The endpoint test creates neither a delivery nor an event.
    let deliveries = api.call(&admin, Method::GET, "/v1/deliveries", &[], None).await.json();
    assert_eq!(deliveries["data"], json!([]));
    let event = format!("/v1/events/{}", seen[0].header("webhook-id"));
    assert_eq!(api.call(&admin, Method::GET, &event, &[], None).await.status, 404);
}

#[tokio::test]
async fn each_endpoint_test_opens_and_times_a_new_connection() {
    let (api, admin) = started().await;
    let ok = Behaviour::Answers(answer("200 OK", "", b""));
    let receiver = Receiver::start_tls(ok, Certificate::Good).await;
    for _ in 0..2 {
        let test = tested(&api, &admin, &receiver.tls_url()).await;
        for step in ["dns", "connect", "tls", "first_byte"] {
            assert!(test["timing_ms"][step].is_f64(), "{step}: {test}");
        }
    }
    assert_eq!((receiver.seen().len(), receiver.connections()), (2, 2));
    // A request to an address literal needs no DNS lookup. Plain HTTP needs no TLS handshake.
    let plain = answering("200 OK", "", b"").await;
    let timing = &tested(&api, &admin, &plain.url()).await["timing_ms"];
    assert_eq!((&timing["dns"], &timing["tls"]), (&Value::Null, &Value::Null));
    assert!(timing["connect"].is_f64() && timing["first_byte"].is_f64(), "{timing}");
}

#[tokio::test]
async fn an_http2_endpoint_is_tested_over_http2() {
    let (api, admin) = started().await;
    let receiver = Http2Receiver::start(&[Step::Answers]).await;
    let test = tested(&api, &admin, &receiver.url()).await;
    assert_eq!(verdict(&test), ("delivered", "delivered"));
    assert!(["dns", "connect", "tls", "first_byte"].iter().all(|step| test["timing_ms"][step].is_f64()), "{test}");
    let receiver = Http2Receiver::start(&[Step::ResetsAfterRequest { code: INTERNAL_ERROR }]).await;
    assert_eq!(verdict(&tested(&api, &admin, &receiver.url()).await), ("protocol_error", "http2_error"));
    assert_eq!((receiver.connections(), receiver.streams()), (1, 1));
}

#[tokio::test]
async fn each_response_has_a_diagnosis() {
    let (api, admin) = started().await;
    for (status, outcome, code) in [
        ("204 No Content", "delivered", "delivered"),
        ("400 Bad Request", "http_error", "message_rejected"),
        ("401 Unauthorized", "http_error", "header_rejected"),
        ("403 Forbidden", "http_error", "header_rejected"),
        ("404 Not Found", "http_error", "not_found"),
        ("405 Method Not Allowed", "http_error", "method_not_allowed"),
        ("410 Gone", "gone", "gone"),
        ("418 I'm a teapot", "http_error", "message_rejected"),
        ("429 Too Many Requests", "throttled", "throttled"),
        ("431 Request Header Fields Too Large", "http_error", "header_rejected"),
        ("451 Unavailable For Legal Reasons", "http_error", "unexpected_status"),
        ("503 Service Unavailable", "http_error", "server_error"),
    ] {
        let receiver = answering(status, "", b"").await;
        let test = tested(&api, &admin, &receiver.url()).await;
        assert_eq!(verdict(&test), (outcome, code), "{status}");
        assert!(
            outcome == "delivered" || outcome == "throttled" || hint(&test).contains(&status[..3]) || outcome == "gone",
            "{test}"
        );
        assert_eq!(test["response"]["status"].to_string(), status[..3]);
    }
}

#[tokio::test]
async fn each_failure_has_a_diagnosis() {
    let (api, admin) = started().await;
    for (behaviour, outcome, code) in [
        (Behaviour::ResetsAfterRequest, "connect_error", "connection_lost"),
        (Behaviour::ResetsMidAnswer("HTTP/1.1 200 OK\r\ncontent-le"), "connect_error", "connection_lost"),
        (Behaviour::SpeaksFirst("220 mail.test ESMTP\r\n"), "protocol_error", "not_http"),
        (Behaviour::Answers(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), "protocol_error", "not_http"),
    ] {
        let receiver = Receiver::start(behaviour.clone()).await;
        let test = tested(&api, &admin, &receiver.url()).await;
        assert_eq!(verdict(&test), (outcome, code), "{behaviour:?}");
        assert_eq!(test["response"], Value::Null);
        assert!(receiver.seen().len() <= 1 && receiver.connections() == 1, "{behaviour:?}");
    }
    let nobody = NeverAccepts::start().await;
    let address = nobody.address;
    drop(nobody);
    let test = tested(&api, &admin, &format!("http://{address}/")).await;
    assert_eq!(verdict(&test), ("connect_error", "connection_refused"));
    let test = tested(&api, &admin, "https://nowhere.invalid/").await;
    assert_eq!(verdict(&test), ("dns_error", "name_not_resolved"));
    assert!(test["timing_ms"]["dns"].is_f64() && test["timing_ms"]["connect"].is_null(), "{test}");
}

#[tokio::test]
async fn a_timeout_names_the_step_that_was_slow() {
    let (api, admin) = started().await;
    let hanging = Receiver::start(Behaviour::HangsAfterAccept).await;
    let dripping = Receiver::start(Behaviour::Drips {
        head: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        drop: "1\r\na\r\n",
    })
    .await;
    let full = NeverAccepts::start().await;
    for (url, code, in_hint) in [
        ("https://slow.test/".to_owned(), "lookup_timeout", "did not resolve within 1 s"),
        (format!("http://{}/", full.address), "connect_timeout", "firewall"),
        (hanging.tls_url(), "tls_timeout", "TLS handshake"),
        (hanging.url(), "answer_timeout", "did not respond within 1 s"),
        (dripping.url(), "unfinished_answer", "did not finish within 1 s"),
    ] {
        let answer = test_draft(&api, &admin, code, json!({"url": url, "timeout_ms": 1_000})).await;
        let test = answer.json();
        assert_eq!(verdict(&test), ("timeout", code), "{test}");
        assert!(hint(&test).contains(in_hint), "{test}");
    }
}

#[tokio::test]
async fn reports_a_slow_endpoint() {
    let (api, admin) = started().await;
    let receiver = receiver::Receiver::start();
    receiver.set("/slow", receiver::Mode::AnswersAfter(std::time::Duration::from_millis(1_100)));
    let test = tested(&api, &admin, &receiver.url("/slow")).await;
    assert_eq!(verdict(&test), ("delivered", "slow"));
}

#[tokio::test]
async fn reports_what_is_wrong_with_a_bad_certificate() {
    let (api, admin) = started().await;
    for (certificate, code, in_hint) in [
        (Certificate::Expired, "certificate_expired", "expired on 2021-01-01 at 00:00 UTC"),
        (Certificate::SelfSigned, "certificate_untrusted", "not from a trusted authority"),
        (Certificate::OtherName, "certificate_other_name", "for another name"),
    ] {
        let receiver = Receiver::start_tls(Behaviour::Answers(answer("200 OK", "", b"")), certificate).await;
        let test = tested(&api, &admin, &receiver.tls_url()).await;
        assert_eq!(verdict(&test), ("tls_error", code));
        assert!(hint(&test).contains(in_hint), "{test}");
        assert_eq!((receiver.seen().len(), &test["response"]), (0, &Value::Null));
        assert!(test["timing_ms"]["connect"].is_f64() && test["timing_ms"]["tls"].is_null(), "{test}");
    }
    let plain = Receiver::start(Behaviour::SpeaksFirst("220 mail.test ESMTP\r\n")).await;
    assert_eq!(verdict(&tested(&api, &admin, &plain.tls_url()).await), ("tls_error", "not_tls"));
}

#[tokio::test]
async fn shows_only_the_origin_of_a_redirect_target() {
    let (api, admin) = started().await;
    let headers = "location: https://login.test:8443/sso?token=t0ken-1\r\nrefresh: 0; url=/?token=t0ken-2\r\n";
    let receiver = answering("302 Found", headers, b"<a href=\"https://login.test:8443/sso?token=t0ken-3\">").await;
    let test = tested(&api, &admin, &receiver.url()).await;
    assert_eq!(verdict(&test), ("redirect", "redirect"));
    assert!(hint(&test).contains("a redirect to https://login.test:8443."), "{test}");
    assert!(!test.to_string().contains("t0ken") && !test.to_string().contains("sso"), "{test}");
    let location = json!({"name": "location", "value": "https://login.test:8443"});
    assert!(test["response"]["headers"].as_array().unwrap().contains(&location), "{test}");
    assert_eq!((receiver.seen().len(), &test["response"]["body"]), (1, &Value::Null));
}

#[tokio::test]
async fn sends_nothing_to_a_blocked_address_and_reveals_nothing_about_it() {
    let (api, admin) = started().await;
    let unresolved = tested(&api, &admin, "https://nowhere.invalid/").await;
    for url in ["https://private.test/", "http://private.test:8080/", "https://[::ffff:10.0.0.1]/"] {
        let test = tested(&api, &admin, url).await;
        if url.contains("private") {
            assert_eq!((verdict(&test), hint(&test)), (verdict(&unresolved), hint(&unresolved)));
        } else {
            assert_eq!(verdict(&test), ("blocked_address", "blocked_address"));
        }
        assert_eq!((&test["response"], &test["timing_ms"]["connect"]), (&Value::Null, &Value::Null));
        assert!(!test.to_string().contains("10.0.0.1"), "{test}");
    }
}

#[tokio::test]
async fn shows_the_start_of_a_long_response() {
    let (api, admin) = started().await;
    let body = "é".repeat(3_000);
    let receiver = answering("200 OK", &"x-many: a\r\n".repeat(80), body.as_bytes()).await;
    let test = tested(&api, &admin, &receiver.url()).await;
    let response = &test["response"];
    assert_eq!((&response["body"], &response["truncated"]), (&json!("é".repeat(2_048)), &json!(true)));
    assert_eq!(response["headers"].as_array().unwrap().len(), 64);
    let flood = Receiver::start(Behaviour::Floods).await;
    let test = tested(&api, &admin, &flood.url()).await;
    assert_eq!(
        (test["response"]["body"].as_str().unwrap().len(), &test["response"]["truncated"]),
        (4_096, &json!(true))
    );
}

#[tokio::test]
async fn a_410_response_to_an_endpoint_test_does_not_disable_the_push_config() {
    let (api, admin) = started().await;
    let receiver = answering("410 Gone", "", b"").await;
    let config = json!({"enabled": true, "url": receiver.url(), "events": ["user_message"]});
    let saved = save(&api, &admin, "agent-1", &config).await;
    assert_eq!(verdict(&test_saved(&api, &admin, "agent-1").await.json()), ("gone", "gone"));
    let read = api.call(&admin, Method::GET, "/v1/agents/agent-1/push-config", &[], None).await;
    assert_eq!((read.etag(), &read.json()["enabled"]), (saved.etag(), &json!(true)));
}
