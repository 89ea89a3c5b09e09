//! Tests that the service counts wrong credentials by source address, but never rejects a valid credential because of this count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use ::http::Request;
use flametree_notify::domain::role::Role;
use flametree_notify::domain::token::TokenSecret;
use hyper::body::Bytes;

use crate::support::app::{ACME, Answer, Options, TestApp, send};
use crate::support::jwt;
use crate::support::waiting::within;

const PATH: &str = "/v1/deliveries";

/// An unknown token with a valid checksum.
fn guess(number: u8) -> String {
    TokenSecret::from_random([number; 32]).expose()
}

fn options(wrong_credentials: u32) -> Options {
    let mut options = Options { users: Some(jwt::by_secret()), ..Options::default() };
    options.http.wrong_credentials = wrong_credentials;
    options
}

#[tokio::test]
async fn an_address_with_too_many_wrong_credentials_gets_429_only_for_wrong_credentials() {
    let api = TestApp::with(options(3)).await;
    let (known, unknown) = (api.token(Role::Viewer, Some(ACME)).await, api.token(Role::Viewer, Some(ACME)).await);
    api.get(PATH, &known).await.expect(200);

    api.get(PATH, "nonsense").await.problem(401, "unauthorized");
    let forged = jwt::Signer::secret("a secret that this service has not made");
    let forged = forged.token(&jwt::claims(Role::Admin, ACME));
    api.get(PATH, &forged).await.problem(401, "unauthorized");
    api.get(PATH, &guess(0)).await.problem(401, "unauthorized");
    for wrong in [&guess(1), &forged, "nonsense"] {
        let answer = api.get(PATH, wrong).await;
        answer.problem(429, "rate_limited");
        let seconds: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=10).contains(&seconds), "{answer:?}");
    }
    for valid in [&known, &unknown, &jwt::person(Role::Viewer, ACME)] {
        api.get(PATH, valid).await.expect(200);
    }
    api.get("/livez", "").await.expect(200);
}

#[tokio::test]
async fn a_token_with_a_wrong_checksum_is_neither_looked_up_nor_counted() {
    let api = TestApp::with(options(1)).await;
    // A lookup of the token would wait for this lock until its deadline, and the API would return 503.
    let mut transaction = api.db.pool.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE flametree.tokens").execute(&mut *transaction).await.unwrap();
    for _ in 0..5 {
        api.get(PATH, &format!("ftn_{}", "A".repeat(48))).await.problem(401, "unauthorized");
    }
    transaction.rollback().await.unwrap();
    api.get(PATH, &guess(0)).await.problem(401, "unauthorized");
    api.get(PATH, &guess(1)).await.problem(429, "rate_limited");
}

#[tokio::test]
async fn wrong_credentials_from_the_same_address_block_no_valid_token_even_after_a_restart() {
    let api = TestApp::with(options(3)).await;
    let mut tokens = Vec::new();
    for _ in 0..12 {
        tokens.push(api.token(Role::Viewer, Some(ACME)).await);
    }
    // A new process, which has counted no wrong credentials yet.
    let restarted = api.beside(options(3)).await;
    let address = restarted.address;
    let (stopped, guessed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU8::new(0)));
    let strangers: Vec<_> = (0..4)
        .map(|_| {
            let (stopped, guessed) = (Arc::clone(&stopped), Arc::clone(&guessed));
            tokio::spawn(async move {
                while !stopped.load(Ordering::Relaxed) {
                    let token = guess(guessed.fetch_add(1, Ordering::Relaxed));
                    let request = Request::builder().uri(PATH).header("authorization", format!("Bearer {token}"));
                    assert!([401, 429].contains(&send(address, request.body(Bytes::new()).unwrap()).await.status));
                }
            })
        })
        .collect();
    let refused = async || restarted.get(PATH, "nonsense").await.status == 429;
    within(Duration::from_secs(10), "the address is refused", refused).await;
    for token in &tokens {
        restarted.get(PATH, token).await.expect(200);
    }
    stopped.store(true, Ordering::Relaxed);
    for stranger in strangers {
        stranger.await.unwrap();
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_is_counted_separately() {
    let through = async |api: &TestApp, client: &str, token: &str| -> Answer {
        let request = Request::builder().uri(PATH).header("authorization", format!("Bearer {token}"));
        api.send(request.header("x-forwarded-for", client).body(Bytes::new()).unwrap()).await
    };
    let mut trusting = options(1);
    trusting.http.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()].into();
    let api = TestApp::with(trusting).await;
    through(&api, "203.0.113.1", "nonsense").await.problem(401, "unauthorized");
    through(&api, "203.0.113.1", "nonsense").await.problem(429, "rate_limited");
    through(&api, "198.51.100.1, 203.0.113.1", "nonsense").await.problem(429, "rate_limited");
    through(&api, "203.0.113.2", "nonsense").await.problem(401, "unauthorized");
    // Without a trusted proxy in the settings, the header has no effect.
    let api = TestApp::with(options(1)).await;
    through(&api, "203.0.113.1", "nonsense").await.problem(401, "unauthorized");
    through(&api, "203.0.113.2", "nonsense").await.problem(429, "rate_limited");
}
