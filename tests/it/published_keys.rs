//! Tests the keys that an identity provider publishes: their rotation, outages of the provider, and limits on fetches and
//! responses.

use std::time::Duration;

use flametree_notify::domain::role::Role;
use flametree_notify::users::Bounds;
use serde_json::Value;

use crate::support::app::{ACME, Options, TestApp};
use crate::support::jwt::{Signer, by_url, claims, published};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::waiting::within;
use crate::support::wire::answer;

const PATH: &str = "/v1/event-types";
const PATIENCE: Duration = Duration::from_secs(20);

/// The service fetches the keys only once within a test.
const ONCE: Bounds = Bounds {
    fresh_for: Duration::from_hours(1),
    pause: Duration::from_hours(1),
    keep_for: Duration::from_hours(1),
    deadline: Duration::from_secs(5),
};
/// The service fetches the keys again whenever a token has an unknown key id.
const EAGER: Bounds = Bounds { pause: Duration::from_millis(1), ..ONCE };

async fn api(provider: &Receiver, bounds: Bounds) -> TestApp {
    let users = Some(by_url(&provider.url(), bounds));
    let mut options = Options { users, ..Options::default() };
    options.http.wrong_credentials = u32::MAX;
    TestApp::with(options).await
}

fn admin() -> Value {
    claims(Role::Admin, ACME)
}

async fn status(api: &TestApp, token: &str) -> u16 {
    api.get(PATH, token).await.status
}

#[tokio::test]
async fn a_published_key_is_valid_only_for_its_algorithm() {
    let (rsa, p256, ed25519) = (Signer::rsa(), Signer::p256(), Signer::ed25519());
    let keys = [rsa.jwk("r"), p256.jwk("p"), ed25519.jwk("e")];
    let provider = Receiver::start(Behaviour::Answers(published(&keys))).await;
    let api = api(&provider, ONCE).await;
    for (signer, kid) in [(&rsa, "r"), (&p256, "p"), (&ed25519, "e")] {
        api.get(PATH, &signer.named(kid, &admin())).await.expect(200);
        let wrong = if kid == "e" { "r" } else { "e" };
        api.get(PATH, &signer.named(wrong, &admin())).await.problem(401, "unauthorized");
        // If the provider has several keys, a token must name its key.
        api.get(PATH, &signer.token(&admin())).await.problem(401, "unauthorized");
    }
    let seen = provider.seen();
    assert_eq!(seen.len(), 1, "keys are cached");
    assert!(seen[0].headers("authorization").next().is_none());
}

#[tokio::test]
async fn finds_a_new_key_by_its_id_and_rejects_a_withdrawn_key() {
    let (old, new) = (Signer::ed25519(), Signer::p256());
    let provider = Receiver::start(Behaviour::Answers(published(&[old.jwk("old")]))).await;
    let api = api(&provider, EAGER).await;
    let (by_old, by_new) = (old.named("old", &admin()), new.named("new", &admin()));
    api.get(PATH, &by_old).await.expect(200);
    provider.behave(Behaviour::Answers(published(&[old.jwk("old"), new.jwk("new")])));
    within(PATIENCE, "the new key is known", async || status(&api, &by_new).await == 200).await;
    api.get(PATH, &by_old).await.expect(200);
    provider.behave(Behaviour::Answers(published(&[new.jwk("new")])));
    let refused = async || {
        // A token with an unknown key id makes the service fetch the keys.
        api.get(PATH, &new.named("user-9", &admin())).await.problem(401, "unauthorized");
        status(&api, &by_old).await == 401
    };
    within(PATIENCE, "the withdrawn key is refused", refused).await;
    api.get(PATH, &by_new).await.expect(200);
}

#[tokio::test]
async fn fetches_stale_keys_again() {
    let (old, new) = (Signer::ed25519(), Signer::ed25519());
    let provider = Receiver::start(Behaviour::Answers(published(&[old.jwk("a")]))).await;
    let api = api(&provider, Bounds { fresh_for: Duration::from_millis(20), ..EAGER }).await;
    api.get(PATH, &old.named("a", &admin())).await.expect(200);
    // The new key has the same id as the old key, so no unknown id triggers a fetch.
    provider.behave(Behaviour::Answers(published(&[new.jwk("a")])));
    let token = new.named("a", &admin());
    within(PATIENCE, "the new key is known", async || status(&api, &token).await == 200).await;
}

#[tokio::test]
async fn unknown_key_ids_cause_no_fetch_during_the_pause_after_a_fetch() {
    let signer = Signer::ed25519();
    let provider = Receiver::start(Behaviour::Answers(published(&[signer.jwk("a")]))).await;
    let api = api(&provider, ONCE).await;
    api.get(PATH, &signer.named("a", &admin())).await.expect(200);
    for guess in 0..50 {
        api.get(PATH, &signer.named(&format!("guess {guess}"), &admin())).await.problem(401, "unauthorized");
    }
    assert_eq!(provider.seen().len(), 1);
}

#[tokio::test]
async fn during_a_provider_outage_the_old_keys_are_used_for_a_limited_time() {
    let signer = Signer::ed25519();
    let (good, unknown) = (signer.named("a", &admin()), signer.named("b", &admin()));
    let provider = Receiver::start(Behaviour::Answers(published(&[signer.jwk("a")]))).await;
    let (patient, strict) =
        (api(&provider, EAGER).await, api(&provider, Bounds { keep_for: PATIENCE / 10, ..EAGER }).await);
    for api in [&patient, &strict] {
        api.get(PATH, &good).await.expect(200);
    }
    provider.behave(Behaviour::ResetsAfterHead);
    // The service cannot fetch the keys, so it does not know if this key exists now.
    let answer = patient.get(PATH, &unknown).await;
    answer.problem(503, "unavailable");
    assert_eq!(answer.header("retry-after"), Some("1"));
    patient.get(PATH, &good).await.expect(200);
    within(PATIENCE, "the keys are too old", async || status(&strict, &good).await == 503).await;
    patient.get(PATH, &good).await.expect(200);
    provider.behave(Behaviour::Answers(published(&[signer.jwk("a")])));
    within(PATIENCE, "the keys are available again", async || status(&strict, &good).await == 200).await;
    within(PATIENCE, "the service knows that the key does not exist", async || status(&patient, &unknown).await == 401)
        .await;
}

#[tokio::test]
async fn a_slow_provider_does_not_delay_the_start() {
    let signer = Signer::ed25519();
    let provider = Receiver::start(Behaviour::ResetsAfterHead).await;
    let api = api(&provider, EAGER).await;
    let token = signer.named("a", &admin());
    api.get(PATH, &token).await.problem(503, "unavailable");
    let service = api.token(Role::Viewer, Some(ACME)).await;
    api.get(PATH, &service).await.expect(200);
    provider.behave(Behaviour::Answers(published(&[signer.jwk("a")])));
    within(PATIENCE, "the keys are available", async || status(&api, &token).await == 200).await;
}

#[tokio::test]
async fn rejects_redirects_and_invalid_or_incomplete_responses_to_a_fetch() {
    let signer = Signer::ed25519();
    let token = signer.named("a", &admin());
    let elsewhere = Receiver::start(Behaviour::Answers(published(&[signer.jwk("a")]))).await;
    let moved = format!("location: {}\r\n", elsewhere.url());
    let keys = published(&[signer.jwk("a")]);
    let as_error = String::from_utf8(keys.clone()).unwrap().replace("200 OK", "203 Modified").into_bytes();
    for behaviour in [
        Behaviour::Answers(answer("302 Found", &moved, b"")),
        Behaviour::Answers(answer("308 Permanent Redirect", &moved, b"")),
        Behaviour::Answers(as_error),
        Behaviour::Answers(answer("200 OK", "", b"<html>Sign in</html>")),
        Behaviour::Floods,
        Behaviour::HangsMidHeaders,
        Behaviour::Drips { head: "HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n", drop: " " },
    ] {
        let what = format!("{behaviour:?}");
        let provider = Receiver::start(behaviour).await;
        let api = api(&provider, Bounds { deadline: Duration::from_millis(300), ..ONCE }).await;
        assert_eq!(status(&api, &token).await, 503, "{what}");
        // The service ended the connection at the deadline or at the size limit.
        provider.ended(1).await;
        assert!(provider.flooded_bytes() < 20_000_000, "{what}");
        // The response is invalid, but the service did not fetch the keys again.
        assert_eq!(provider.connections(), 1, "{what}");
    }
    assert_eq!(elsewhere.connections(), 0, "a redirect was followed");
}
