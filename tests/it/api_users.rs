//! Tests which tokens of portal users are valid, and that the service uses only four of their claims.

use ::http::Method;
use flametree_notify::domain::role::Role;
use flametree_notify::users::{Key, LEEWAY_SECONDS, MAX_TOKEN_BYTES, Settings};
use serde_json::{Value, json};

use crate::support::app::{ACME, Options, TestApp};
use crate::support::jwt::{self, SECRET, Signer, by_key, by_secret, claims, in_seconds, with};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::postgres::TestDatabase;
use crate::support::service::{self, Part};
use crate::support::temp_dir::TempDir;

/// Every caller with a valid token may use this route.
const OPEN_TO_ALL: &str = "/v1/event-types";

async fn api(users: Settings) -> TestApp {
    let mut options = Options { users: Some(users), ..Options::default() };
    options.http.wrong_credentials = u32::MAX;
    TestApp::with(options).await
}

#[tokio::test]
async fn rejects_user_tokens_if_no_key_is_configured() {
    let api = TestApp::start().await;
    api.get(OPEN_TO_ALL, &jwt::person(Role::Admin, ACME)).await.problem(401, "unauthorized");
}

#[tokio::test]
async fn the_type_of_the_key_determines_the_algorithm() {
    let admin = claims(Role::Admin, ACME);
    let (ed25519, p256, other) = (Signer::ed25519(), Signer::p256(), Signer::ed25519());
    for (key, right) in [
        (Key::from_secret(SECRET).unwrap(), &Signer::secret(SECRET)),
        (Key::from_pem(&ed25519.pem()).unwrap(), &ed25519),
        (Key::from_pem(&p256.pem()).unwrap(), &p256),
    ] {
        let api = api(by_key(key.clone())).await;
        api.get(OPEN_TO_ALL, &right.token(&admin)).await.expect(200);
        // An attacker knows the public key, and can write any algorithm into the header of a token.
        let confused = Signer::secret(&format!("{}{}", ed25519.pem(), p256.pem())).token(&admin);
        let by_public_key = [Signer::secret(&ed25519.pem()).token(&admin), Signer::secret(&p256.pem()).token(&admin)];
        let lying = right.token_with(&json!({"alg": "RS256"}), &admin);
        let by_others =
            [other.token(&admin), Signer::p256().token(&admin), Signer::rsa().token(&admin), confused, lying];
        for token in by_others.iter().chain(&by_public_key) {
            assert_eq!(api.get(OPEN_TO_ALL, token).await.status, 401, "{key:?} accepts {token}");
        }
    }
}

#[tokio::test]
async fn checks_the_times_of_a_token_with_a_leeway_of_a_minute() {
    assert_eq!(LEEWAY_SECONDS, 60);
    let api = api(by_secret()).await;
    let signer = Signer::secret(SECRET);
    let at = |name, seconds| signer.token(&with(claims(Role::Viewer, ACME), name, json!(in_seconds(seconds))));
    for good in [at("exp", 600), at("exp", -30), at("nbf", -600), at("nbf", 30), at("iat", 600)] {
        api.get(OPEN_TO_ALL, &good).await.expect(200);
    }
    let lifetime = |issued_at: Value, until| {
        let claims = with(claims(Role::Viewer, ACME), "iat", issued_at);
        signer.token(&with(claims, "exp", json!(in_seconds(until))))
    };
    let day = 24 * 3_600;
    for good in [lifetime(Value::Null, day - 60), lifetime(json!(in_seconds(-600)), day - 660)] {
        api.get(OPEN_TO_ALL, &good).await.expect(200);
    }
    // A token may be valid for at most one day. A longer validity is rejected even if the token expires within minutes.
    for long in [
        lifetime(Value::Null, day + 600),
        lifetime(json!(in_seconds(-day)), 600),
        lifetime(json!(in_seconds(600)), day + 600),
    ] {
        api.get(OPEN_TO_ALL, &long).await.problem(401, "unauthorized");
    }
    let document = api.get(OPEN_TO_ALL, &at("exp", -90)).await.problem(401, "unauthorized");
    assert_eq!(document["detail"], "the token has expired");
    let document = api.get(OPEN_TO_ALL, &at("nbf", 90)).await.problem(401, "unauthorized");
    assert_eq!(document["detail"], "the token is unknown, expired or revoked");
}

#[tokio::test]
async fn rejects_a_missing_or_wrong_claim() {
    let api = api(by_secret()).await;
    let signer = Signer::secret(SECRET);
    for (name, value) in [
        ("exp", Value::Null),
        ("exp", json!("tomorrow")),
        ("exp", json!(-1)),
        ("nbf", json!("now")),
        ("sub", Value::Null),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sub", json!("x".repeat(129))),
        ("tenant_id", Value::Null),
        ("tenant_id", json!("")),
        ("tenant_id", json!(["acme"])),
        ("role", Value::Null),
        ("role", json!("Admin")),
        ("role", json!("king")),
        ("role", json!(["admin"])),
        ("aud", json!("another service")),
    ] {
        let token = signer.token(&with(claims(Role::Admin, ACME), name, value.clone()));
        let answer = api.get(OPEN_TO_ALL, &token).await;
        assert_eq!(answer.status, 401, "{name}: {value}");
        answer.problem(401, "unauthorized");
    }
}

#[tokio::test]
async fn rejects_malformed_tokens_and_tokens_with_critical_headers() {
    let api = api(by_secret()).await;
    let (signer, admin) = (Signer::secret(SECRET), claims(Role::Admin, ACME));
    let good = signer.token(&admin);
    api.get(OPEN_TO_ALL, &good).await.expect(200);
    let parts: Vec<&str> = good.split('.').collect();
    let (head, tail) = (parts[..2].join("."), parts[1..].join("."));
    let promoted =
        jwt::unsigned(&json!({"alg": "HS256", "typ": "JWT"}), &with(admin.clone(), "tenant_id", json!("other")));
    let long = signer.token(&with(admin.clone(), "padding", json!("x".repeat(MAX_TOKEN_BYTES))));
    for wrong in [
        good[..good.len() - 1].to_owned(),
        format!("{good}A"),
        format!("{good}.{}", parts[2]),
        format!("{good}="),
        head,
        tail,
        "..".to_owned(),
        format!("{promoted}.{}", parts[2]),
        signer.token_with(&json!({"alg": "HS256", "crit": ["exp"]}), &admin),
        signer.token_with(&json!({"alg": "HS256", "crit": ["b64"], "b64": false}), &admin),
        signer.token_with(&json!({"alg": ["HS256"]}), &admin),
        signer.token_with(&json!({"typ": "JWT"}), &admin),
        long,
    ] {
        let answer = api.get(OPEN_TO_ALL, &wrong).await;
        assert_eq!(answer.status, 401, "{wrong}");
        let document = answer.problem(401, "unauthorized");
        assert!(!document.to_string().contains(parts[1]), "the response repeats the token: {document}");
    }
}

#[tokio::test]
async fn issuer_and_audience_must_match_the_settings() {
    let users =
        Settings { issuer: Some("https://login.example".into()), audience: Some("flametree".into()), ..by_secret() };
    let api = api(users).await;
    let signer = Signer::secret(SECRET);
    let right = with(claims(Role::Viewer, ACME), "iss", json!("https://login.example"));
    let right = with(right, "aud", json!("flametree"));
    let both = with(right.clone(), "aud", json!(["billing", "flametree"]));
    for good in [&right, &both] {
        api.get(OPEN_TO_ALL, &signer.token(good)).await.expect(200);
    }
    for (name, value) in [
        ("iss", Value::Null),
        ("iss", json!("https://login.example/")),
        ("aud", Value::Null),
        ("aud", json!("billing")),
        ("aud", json!([])),
    ] {
        let answer = api.get(OPEN_TO_ALL, &signer.token(&with(right.clone(), name, value.clone()))).await;
        assert_eq!(answer.status, 401, "{name}: {value}");
    }
}

#[tokio::test]
async fn ignores_headers_and_claims_that_the_service_does_not_need() {
    let api = api(by_secret()).await;
    let signer = Signer::secret(SECRET);
    let mine = Signer::ed25519();
    // One header contains a key, and the other header contains a URL. The service must ignore the key and the URL.
    for header in [
        json!({"alg": "EdDSA", "jwk": mine.jwk("mine"), "kid": "mine"}),
        json!({"alg": "EdDSA", "jku": "http://127.0.0.1:1/jwks", "kid": "../../dev/null"}),
    ] {
        let answer = api.get(OPEN_TO_ALL, &mine.token_with(&header, &claims(Role::Admin, ACME))).await;
        assert_eq!(answer.status, 401, "{header}");
    }
    // Other services use these claims to grant permissions. This service ignores them.
    let proud = with(claims(Role::Viewer, ACME), "scope", json!("admin tokens:write"));
    let proud = with(with(proud, "roles", json!(["admin"])), "tenants", json!(["other"]));
    let token = signer.token_with(&json!({"alg": "HS256", "kid": "whatever"}), &proud);
    api.get("/v1/deliveries", &token).await.expect(200);
    api.get("/v1/tokens", &token).await.problem(403, "forbidden");
    let faults = api.get("/v1/deliveries?tenant_id=other", &token).await.faults();
    assert_eq!(faults, [("tenant_id".to_owned(), "not_allowed".to_owned())]);
}

#[tokio::test]
async fn a_user_manages_the_tokens_of_its_tenant() {
    let api = api(by_secret()).await;
    let admin = jwt::person(Role::Admin, ACME);
    for role in Role::ALL {
        let made = api.post("/v1/tokens", &admin, &json!({"name": "x", "role": role.as_str()})).await.expect(201);
        api.get(OPEN_TO_ALL, made["token"].as_str().unwrap()).await.expect(200);
        let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap());
        api.request(Method::DELETE, &path, &jwt::person(Role::Admin, "other"), None).await.problem(404, "not_found");
        api.request(Method::DELETE, &path, &admin, None).await.expect(204);
    }
    let tokens = api.get("/v1/tokens", &admin).await.expect(200);
    let is_own = |token: &Value| token["tenant_id"] == ACME && token["created_by"] == "user:user-7";
    assert!(tokens["data"].as_array().unwrap().iter().all(is_own), "{tokens}");
}

#[tokio::test]
async fn the_process_reads_the_key_from_its_settings_and_never_prints_it() {
    let db = TestDatabase::new().await;
    let (directory, signer) = (TempDir::new(), Signer::ed25519());
    let file = directory.path().join("key.pem");
    std::fs::write(&file, signer.pem()).unwrap();
    let by_file = [("FLAMETREE_JWT_PUBLIC_KEY_FILE", file.to_str().unwrap())];
    let by_secret = [("FLAMETREE_JWT_SECRET", SECRET), ("FLAMETREE_JWT_ISSUER", "me")];
    let published = Signer::p256();
    let provider = Receiver::start(Behaviour::Answers(jwt::published(&[published.jwk("a")]))).await;
    let url = provider.url();
    let by_url = [("FLAMETREE_JWKS_URL", url.as_str()), ("FLAMETREE_JWT_ISSUER", "me")];
    for (settings, signer) in
        [(by_file.as_slice(), signer), (by_secret.as_slice(), Signer::secret(SECRET)), (by_url.as_slice(), published)]
    {
        let settings = settings
            .iter()
            .fold(service::Settings::on(&db.url()), |settings, (name, value)| settings.with(name, value))
            .with("FLAMETREE_LOG", "debug");
        let service = settings.start(Part::Api).await;
        let admin = with(claims(Role::Admin, ACME), "iss", json!("me"));
        let token = signer.token(&with(admin.clone(), "sub", json!("dana@example.com")));
        let client = service.client(&token);
        let config = json!({"enabled": false, "url": "https://example.com/hook", "headers": [], "events": []});
        let saved = client.put("/v1/agents/agent-1/push-config", &config).await;
        assert_eq!(saved.status, 200, "{}", saved.text());
        let history = client.get("/v1/agents/agent-1/push-config/history").await.json();
        assert_eq!(history["data"][0]["actor"], "user:dana@example.com", "{history}");
        assert_eq!(service.client(&Signer::p256().token(&admin)).get(OPEN_TO_ALL).await.status, 401);
        let output = service.stop().await;
        assert!(!output.contains(SECRET) && !output.contains(&token), "{output}");

        let check = settings.command().args(["config", "check"]).output().unwrap();
        assert!(check.status.success());
        let shown = String::from_utf8(check.stdout).unwrap();
        assert!(!shown.contains(SECRET) && !shown.contains("BEGIN PUBLIC KEY"), "{shown}");
    }
}
