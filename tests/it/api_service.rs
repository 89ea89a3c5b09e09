//! Tests the API apart from its resources: health, documentation, request ids, connection limits, and graceful shutdown.

use std::time::Duration;

use ::http::Request;
use flametree_notify::domain::role::Role;
use flametree_notify::http::{self, Settings};
use flametree_notify::supervision::Supervisor;
use flametree_notify::telemetry::metrics::TaskName;
use hyper::body::Bytes;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::api_events::message;
use crate::support::app::{ACME, Options, TestApp, send};
use crate::support::seed;

fn bare(path: &str) -> Request<Bytes> {
    Request::builder().uri(path).body(Bytes::new()).unwrap()
}

fn with_settings(change: impl FnOnce(&mut Settings)) -> Options {
    let mut options = Options::default();
    change(&mut options.http);
    options
}

async fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // The server may reset the connection after the response.
    if let Err(error) = stream.read_to_end(&mut answer).await {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_process_with_a_database_and_schema_is_ready_until_it_stops() {
    let api = TestApp::start().await;
    assert_eq!(api.send(bare("/livez")).await.expect(200), json!({"status": "ok"}));
    assert_eq!(api.send(bare("/readyz")).await.expect(200), json!({"status": "ok"}));
    api.draining.cancel();
    let document = api.send(bare("/readyz")).await.problem(503, "unavailable");
    assert_eq!(document["detail"], "the process is stopping");
    api.send(bare("/livez")).await.expect(200);
}

#[tokio::test]
async fn a_process_whose_task_failed_is_neither_alive_nor_ready() {
    let api = TestApp::start().await;
    api.stage.spawn(TaskName::WorkspaceHub, |_| std::future::ready(()));
    api.draining.cancelled().await;
    let reason = "the background task `workspace_hub` failed; the process is stopping";
    assert_eq!(api.send(bare("/livez")).await.problem(500, "internal")["detail"], reason);
    assert_eq!(api.send(bare("/readyz")).await.problem(503, "unavailable")["detail"], reason);
}

#[tokio::test]
async fn a_process_with_an_older_schema_or_no_schema_is_not_ready() {
    let api = TestApp::start().await;
    let newest = "DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)";
    for unmigrated in [newest, "DROP SCHEMA flametree CASCADE"] {
        seed::run(&api.db, unmigrated.into()).await;
        let unready = api.send(bare("/readyz")).await;
        assert_eq!(unready.header("retry-after"), Some("1"));
        let document = unready.problem(503, "unavailable");
        assert!(document["detail"].as_str().unwrap().contains("schema"), "{document}");
    }
    api.send(bare("/livez")).await.expect(200);
}

#[tokio::test]
async fn a_process_without_its_database_is_not_ready() {
    let api = TestApp::start().await;
    api.db.pool.close().await;
    let document = api.send(bare("/readyz")).await.problem(503, "unavailable");
    assert_eq!(document["detail"], "the database does not answer");
    api.send(bare("/livez")).await.expect(200);
}

#[tokio::test]
async fn every_response_has_a_request_id() {
    let api = TestApp::start().await;
    let ask = async |id: &str| {
        let request = Request::builder().uri("/livez").header("x-request-id", id).body(Bytes::new()).unwrap();
        api.send(request).await.header("x-request-id").unwrap().to_owned()
    };
    assert_eq!(ask("my-request/7").await, "my-request/7");
    assert_eq!(ask("two words").await.len(), 32);
    assert_eq!(ask(&"x".repeat(129)).await.len(), 32);
    let answer = api.send(bare("/livez")).await;
    assert_eq!(answer.header("x-request-id").unwrap().len(), 32);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
}

#[tokio::test]
async fn the_router_has_exactly_the_documented_routes() {
    // A deployment without browser push has no route for the renewal of subscriptions.
    let api = TestApp::with(Options { push_hosts: Some(Vec::new()), ..Options::default() }).await;
    let document = api.send(bare("/v1/openapi.json")).await.expect(200);
    assert_eq!(document, serde_json::from_str::<serde_json::Value>(&http::openapi_json(None)).unwrap());
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let methods = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    for (template, item) in document["paths"].as_object().unwrap() {
        let path = template
            .replace("{id}", "evt_01930000000070008000000000000000")
            .replace("{agent_id}", "agent-1")
            .replace("{folder}/{file}", "notifications/state.js")
            .replace("{file}", "index.html");
        for method in methods {
            let request = Request::builder().method(method).uri(&path).body(Bytes::new()).unwrap();
            let answer = api.send(request).await;
            if item.get(method.to_lowercase()).is_some() {
                // A documented route succeeds, redirects, or rejects the missing token or body.
                assert!([200, 303, 401, 415].contains(&answer.status), "{method} {path}: {answer:?}");
            } else {
                answer.problem(405, "method_not_allowed");
            }
        }
    }
    let paths =
        ["/v1", "/v1/", "/v1/events/", "/v1/nothing", "/metrics", "/v1/openapi.json/x", "/docs/", "//livez", "/LIVEZ"];
    for path in paths {
        assert!(document["paths"].get(path).is_none());
        api.send(bare(path)).await.problem(404, "not_found");
    }
}

#[tokio::test]
async fn the_openapi_document_has_valid_references_and_closed_enums() {
    let text = http::openapi_json(None);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    for reference in text.split("\"$ref\": \"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
    }
    let schemas = &document["components"]["schemas"];
    for (name, value) in [
        ("ProblemCode", "tenant_required"),
        ("FaultCode", "unknown_field"),
        ("Outcome", "interrupted"),
        ("Channel", "browser_push"),
        ("EventType", "session_assigned"),
        ("Role", "viewer"),
    ] {
        let values = schemas[name]["enum"].as_array().unwrap_or_else(|| panic!("{name} is not a closed enum"));
        assert!(values.contains(&json!(value)), "{name}: {values:?}");
    }
    assert_eq!(document["components"]["securitySchemes"]["token"]["scheme"], "bearer");
}

#[tokio::test]
async fn the_binary_serves_its_documentation_with_a_strict_content_security_policy() {
    let api = TestApp::start().await;
    let answer = api.send(bare("/docs")).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/docs/index.html")));
    for file in ["index.html", "swagger-ui.css", "swagger-ui-bundle.js", "swagger-initializer.js"] {
        let answer = api.send(bare(&format!("/docs/{file}"))).await;
        assert_eq!(answer.status, 200, "{file}");
        assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
        let text = String::from_utf8_lossy(&answer.body);
        if file == "index.html" {
            // The content security policy forbids inline scripts and resources of other origins.
            assert!(!text.contains("<script>") && !text.contains("https://"), "{text}");
        }
        if file == "swagger-initializer.js" {
            assert!(text.contains("/v1/openapi.json"), "{text}");
        }
    }
    api.send(bare("/docs/nothing.js")).await.problem(404, "not_found");
}

#[tokio::test]
async fn lists_the_event_types_with_schema_and_example() {
    let api = TestApp::start().await;
    let token = api.token(Role::Viewer, Some(ACME)).await;
    let service = api.token(Role::Service, Some(ACME)).await;
    let list = api.get("/v1/event-types", &token).await.expect(200);
    let types = list["data"].as_array().unwrap();
    assert_eq!(types.len(), 7);
    for event_type in types {
        assert!(event_type["description"].is_string() && event_type["schema"].is_object());
        let mut example = event_type["example"].clone();
        example["idempotency_key"] = event_type["name"].clone();
        api.post("/v1/events", &service, &example).await.expect(202);
    }
}

#[tokio::test]
async fn metrics_have_a_separate_listener() {
    let api = TestApp::start().await;
    api.send(bare("/nowhere")).await.problem(404, "not_found");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let stage = Supervisor::new(&api.metrics, stop.clone()).first_stage();
    let router = http::metrics_router(api.metrics.clone(), stage);
    let settings = Settings::default();
    let serving = http::serve(listener, router, &settings, stop.clone());
    let asking = async {
        let answer = send(address, bare("/metrics")).await;
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let text = String::from_utf8(answer.body.into()).unwrap();
        assert!(text.contains("flametree_http_requests_total{method=\"GET\",route=\"none\",status_class=\"4xx\"} 1\n"));
        assert_eq!(send(address, bare("/livez")).await.expect(200), json!({"status": "ok"}));
        assert_eq!(send(address, bare("/v1/events")).await.status, 404);
        stop.cancel();
    };
    tokio::join!(serving, asking);
}

#[tokio::test]
async fn the_response_counter_of_each_route_starts_at_zero() {
    let api = TestApp::start().await;
    assert_eq!(send(api.address, bare("/nothing")).await.status, 404);
    let text = api.metrics.render();
    for http::Route { method, template, .. } in http::routes() {
        for class in ["2xx", "4xx", "5xx"] {
            let labels = format!("method=\"{method}\",route=\"{template}\",status_class=\"{class}\"");
            assert!(text.contains(&format!("flametree_http_requests_total{{{labels}}} 0\n")), "{labels}");
        }
    }
}

#[tokio::test]
async fn closes_a_connection_that_sends_no_request_headers() {
    let api = TestApp::with(with_settings(|http| http.head_timeout = Duration::from_millis(50))).await;
    let mut idle = api.connect().await;
    assert_eq!(read_all(&mut idle).await, "");
    let mut dripping = api.connect().await;
    dripping.write_all(b"GET /livez HTTP/1.1\r\nhost:").await.unwrap();
    let answer = read_all(&mut dripping).await;
    assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn reports_a_timeout_if_the_body_does_not_arrive() {
    let api = TestApp::with(with_settings(|http| http.body_timeout = Duration::from_millis(50))).await;
    let token = api.token(Role::Service, Some(ACME)).await;
    let mut stream = api.connect().await;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("request_timeout"), "{answer}");
    assert!(answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
}

#[tokio::test]
async fn a_stop_finishes_requests_in_flight() {
    let api = TestApp::start().await;
    let token = api.token(Role::Service, Some(ACME)).await;
    let body = message("in flight").to_string();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut idle = api.connect().await;
    let mut stream = api.connect().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    // The response `100 Continue` shows that the handler waits for the body, so the request is in flight.
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    api.shutdown.cancel();
    // A stopping server closes idle connections at once and accepts no new connections.
    assert_eq!(read_all(&mut idle).await, "");
    assert!(TcpStream::connect(api.address).await.is_err());
    stream.write_all(body.as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
}

#[tokio::test]
async fn a_stop_takes_no_longer_than_its_time_limit() {
    let api = TestApp::with(with_settings(|http| http.drain_timeout = Duration::from_millis(50))).await;
    let token = api.token(Role::Service, Some(ACME)).await;
    let mut stream = api.connect().await;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    api.shutdown.cancel();
    assert_eq!(read_all(&mut stream).await, "");
}
