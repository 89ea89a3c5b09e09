//! Tests that the portal's files are public and have content types, entity tags and a content security policy.

use ::http::{Method, Request};
use hyper::body::Bytes;
use serde_json::json;

use crate::support::app::{Answer, Options, TestApp, send};
use crate::support::deployment::Deployment;
use crate::support::service::{Part, Settings};

async fn ask(api: &TestApp, method: Method, path: &str, if_none_match: Option<&str>) -> Answer {
    let request = Request::builder().method(method).uri(path);
    let request = if_none_match.into_iter().fold(request, |request, tag| request.header("if-none-match", tag));
    send(api.address, request.body(Bytes::new()).unwrap()).await
}

#[tokio::test]
async fn serves_the_files_of_the_portal_without_a_token() {
    let api = TestApp::with(Options::default()).await;
    for (path, content_type) in [
        ("/portal/", "text/html; charset=utf-8"),
        ("/portal/?session=s-1", "text/html; charset=utf-8"),
        ("/portal/notifications.js", "text/javascript; charset=utf-8"),
        ("/portal/notifications/state.js", "text/javascript; charset=utf-8"),
        ("/portal/sw.js", "text/javascript; charset=utf-8"),
        ("/portal/icons/notification.png", "image/png"),
        ("/portal/app.webmanifest", "application/manifest+json"),
    ] {
        let answer = ask(&api, Method::GET, path, None).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(content_type)), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"), "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("manifest-src 'self'"), "{policy}");
        assert!(
            policy.contains("require-trusted-types-for 'script'; trusted-types flametree-notifications"),
            "{policy}"
        );
        let head = ask(&api, Method::HEAD, path, None).await;
        assert_eq!((head.status, head.header("etag")), (answer.status, answer.header("etag")), "{path}");
        assert!(head.body.is_empty() && !answer.body.is_empty(), "{path}");
        assert_eq!(answer.header("service-worker-allowed"), (path == "/portal/sw.js").then_some("/"), "{path}");
    }
    for path in ["/", "/portal"] {
        let answer = ask(&api, Method::GET, path, None).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some("/portal/")), "{path}");
    }
    for path in ["/portal/no.js", "/portal/pages/no.js", "/portal/../mod.rs", "/portal/%2e%2e/mod.rs", "/portal/a/b/c"]
    {
        ask(&api, Method::GET, path, None).await.problem(404, "not_found");
    }
    ask(&api, Method::POST, "/portal/", None).await.problem(405, "method_not_allowed");
}

#[tokio::test]
async fn does_not_resend_files_that_the_browser_has_cached() {
    let api = TestApp::with(Options::default()).await;
    let path = "/portal/notifications.js";
    let first = ask(&api, Method::GET, path, None).await;
    assert_eq!(first.header("cache-control"), Some("no-cache"));
    let tag = first.header("etag").unwrap();
    for known in [tag.to_owned(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
        let answer = ask(&api, Method::GET, path, Some(&known)).await;
        assert_eq!((answer.status, answer.header("etag")), (304, Some(tag)), "{known}");
        assert!(answer.body.is_empty() && answer.header("content-security-policy").is_some());
    }
    let other = ask(&api, Method::GET, "/portal/sw.js", Some(tag)).await;
    assert_eq!((other.status, other.body.is_empty()), (200, false));
    let of_another_node = TestApp::with(Options::default()).await;
    assert_eq!(ask(&of_another_node, Method::GET, path, Some(tag)).await.status, 304);
}

#[tokio::test]
async fn the_openapi_document_and_the_log_contain_the_public_origin() {
    let deployment = Deployment::new().await;
    let document = async |settings: Settings| {
        let service = settings.start(Part::Api).await;
        let document = service.client("").get("/v1/openapi.json").await.json();
        (document["servers"].clone(), service.stop().await)
    };
    let (servers, log) = document(deployment.settings.clone()).await;
    assert!(servers.is_null() && log.contains(":8080/portal/"), "{servers} {log}");
    let public = deployment.settings.clone().with("FLAMETREE_PUBLIC_URL", "https://notify.example.com");
    let (servers, log) = document(public).await;
    assert_eq!((&servers[0]["url"], &servers[1]["url"]), (&json!("https://notify.example.com"), &json!("/")));
    assert!(log.contains("https://notify.example.com/portal/"), "{log}");
}
