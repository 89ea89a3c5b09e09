//! Tests how responses of push services change subscriptions, which VAPID keys sign pushes, and that subscriptions stay secret.

use std::time::Duration;

use flametree_notify::domain::delivery::{Attempt, Outcome};
use flametree_notify::domain::endpoint::Channel;
use flametree_notify::domain::ids::{EndpointId, EventId};
use flametree_notify::domain::names::TenantId;
use flametree_notify::store::queue::finish::{self, FinishedDelivery};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use uuid::Uuid;

use crate::secrets::{Secret, dump};
use crate::support::deployment::TENANT;
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::push::{Browser, KEY, OTHER_KEY, vapid};
use crate::support::push_deployment::{Push, got, origin, push_service, with_key};
use crate::support::queue::prepared;
use crate::support::seed;
use crate::support::temp_dir::TempDir;
use crate::support::waiting::within;
use crate::support::wire::answer;

#[tokio::test]
async fn each_response_has_an_outcome_and_an_effect_on_the_subscription() {
    let mismatch = r#"{"code":401,"errno":109,"message":"VAPID public key mismatch"}"#;
    let cases = [
        ("201 Created", "", "delivered", "active"),
        ("301 Moved Permanently", "", "redirect", "active"),
        ("400 Bad Request", "what?", "config_error", "active"),
        ("401 Unauthorized", "who?", "config_error", "active"),
        ("401 Unauthorized", mismatch, "config_error", "vapid_key_mismatch"),
        ("403 Forbidden", r#"{"reason":"BadJwtToken"}"#, "config_error", "active"),
        ("403 Forbidden", "does not correspond to the sender ID", "config_error", "vapid_key_mismatch"),
        ("404 Not Found", "", "gone", ""),
        ("410 Gone", "", "gone", ""),
        ("413 Payload Too Large", "", "payload_too_large", "active"),
        ("429 Too Many Requests", "", "throttled", "active"),
        ("500 Internal Server Error", "", "http_error", "active"),
    ];
    let mut receivers = Vec::new();
    for (status, body, ..) in cases {
        receivers.push(push_service(status, "retry-after: 60\r\nlocation: http://127.0.0.1:9/\r\n", body).await);
    }
    receivers.push(Receiver::start(Behaviour::HangsAfterAccept).await);
    let expected = cases.iter().map(|(_, _, outcome, fate)| (*outcome, *fate)).chain([("timeout", "active")]);
    let known: Vec<_> = receivers.iter().collect();
    let push = Push::start(&known, |settings| settings.with("FLAMETREE_WEBHOOK_TIMEOUT_MS", "1000")).await;
    for (number, receiver) in receivers.iter().enumerate() {
        push.browser(&format!("user-{number}"), "a", receiver).await;
        assert_eq!(push.assign(&format!("user-{number}")).await, 1);
    }
    let outcomes = push.outcomes().await;
    for (number, (outcome, fate)) in expected.enumerate() {
        assert_eq!(outcomes[number], outcome, "case {number}");
        let fates = push.fates(&format!("user-{number}")).await;
        assert_eq!(fates.concat(), fate, "case {number}");
        assert_eq!(receivers[number].seen().len(), 1, "case {number}");
    }
    let metrics = push.service.metrics().await;
    for series in [
        "flametree_push_subscriptions_removed_total{reason=\"gone\"} 2\n",
        "flametree_push_refusals_total{reason=\"key_mismatch\"} 2\n",
        "flametree_push_refusals_total{reason=\"not_believed\"} 2\n",
        "flametree_push_refusals_total{reason=\"malformed\"} 1\n",
        "flametree_deliveries_total{channel=\"browser_push\",outcome=\"gone\"} 2\n",
    ] {
        assert!(metrics.contains(series), "{series}");
    }
}

#[tokio::test]
async fn a_dead_browser_affects_no_other_browser_and_a_disabled_browser_gets_no_messages() {
    let (gone, good) = (push_service("410 Gone", "", "").await, push_service("201 Created", "", "").await);
    let push = Push::start(&[&gone, &good], |settings| settings).await;
    push.browser("user-1", "dead", &gone).await;
    let alive = push.browser("user-1", "alive", &good).await;
    assert_eq!(push.assign("user-1").await, 2);
    push.outcomes().await;
    assert_eq!(push.say("still there?").await, 1);
    push.outcomes().await;
    assert_eq!((gone.seen().len(), got(&alive, &good).len()), (1, 2));

    good.behave(Behaviour::Answers(answer("400 Bad Request", "", b"UnauthorizedRegistration")));
    assert_eq!(push.say("refused").await, 1);
    push.outcomes().await;
    assert_eq!(push.fates("user-1").await, ["vapid_key_mismatch"]);
    assert_eq!(push.say("without a browser").await, 0);
    assert_eq!(good.seen().len(), 3);
}

#[tokio::test]
async fn a_late_response_does_not_remove_a_subscription_that_has_changed() {
    let db = prepared().await;
    let (old, current) = (Uuid::from_u128(1), Uuid::from_u128(2));
    for id in [old, current] {
        seed::push_subscription(&db, TENANT, "user-1", id).await;
    }
    seed::run(&db, format!("UPDATE flametree.push_subscriptions SET version = 2 WHERE id = '{current}'")).await;
    let finished = [old, current].map(|id| {
        let event_id = EventId::from_uuid(Uuid::now_v7());
        FinishedDelivery {
            id: event_id.delivery(1),
            event_id,
            tenant_id: TenantId::parse(TENANT).unwrap(),
            endpoint_id: EndpointId::from_uuid(id),
            endpoint_version: Some(1),
            claimed_at: chrono::Utc::now(),
            attempt: Attempt { http_status: Some(410), ..Attempt::not_sent(Outcome::Gone, None) },
        }
    });
    finish::finish(&db, Channel::BrowserPush, &[], &finished).await.unwrap();
    let left: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM flametree.push_subscriptions").fetch_all(&*db).await.unwrap();
    assert_eq!(left, [current]);
}

#[tokio::test]
async fn rejects_a_new_vapid_key_without_the_old_key_and_each_browser_keeps_its_key() {
    let receiver = push_service("201 Created", "", "").await;
    let push = Push::start(&[&receiver], |settings| settings).await;
    let old = push.browser("user-1", "old", &receiver).await;

    let replaced = with_key(&push.deployment.settings, OTHER_KEY[0]);
    let ports = [("FLAMETREE_LISTEN_ADDR", "127.0.0.1:0"), ("FLAMETREE_METRICS_ADDR", "127.0.0.1:0")];
    let refused = replaced.command().arg("run").envs(ports).output().unwrap();
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && words.contains("To rotate, put the new key in front"), "{words}");
    assert!(![KEY[0], OTHER_KEY[0]].iter().any(|key| words.contains(key)), "{words}");
    assert_eq!(push.fates("user-1").await, ["active"]);

    let directory = TempDir::new();
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let file = directory.path().join("vapid.pem");
    std::fs::write(&file, pair.serialize_pem()).unwrap();
    let rotated = with_key(&push.deployment.settings, &format!("{}, {}", file.display(), KEY[0]));
    let push = push.restart(&rotated).await;
    let answer = push.person("user-1").get("/v1/push/vapid-public-key").await;
    let current = answer.json()["public_key"].as_str().unwrap().to_owned();
    assert_ne!(current, KEY[1]);
    let new = push.browser("user-1", "new", &receiver).await;
    let again = push.register("user-1", &old, &receiver).await;
    assert_eq!(again.status, 200, "{}", again.text());
    assert_eq!(push.assign("user-1").await, 2);
    assert_eq!(push.outcomes().await, ["delivered"; 2]);
    for (browser, key) in [(&old, KEY[1]), (&new, current.as_str())] {
        let line = format!("POST {} ", browser.path);
        let seen = receiver.seen();
        let own = seen.iter().find(|one| one.head.starts_with(&line)).unwrap();
        let (claims, signed_by) = vapid(own.header("authorization"));
        assert_eq!((claims["aud"].as_str(), signed_by.as_str()), (Some(origin(&receiver).as_str()), key));
    }
}

#[tokio::test]
async fn a_wrong_vapid_key_disables_browsers_but_deletes_no_browser() {
    let refusal = r#"{"reason":"VapidPkHashMismatch"}"#;
    let receiver = push_service("400 Bad Request", "", refusal).await;
    let push = Push::start(&[&receiver], |settings| settings).await;
    let browsers = [push.browser("user-1", "one", &receiver).await, push.browser("user-1", "two", &receiver).await];
    assert_eq!(push.assign("user-1").await, 2);
    assert_eq!(push.outcomes().await, ["config_error"; 2]);
    assert_eq!(push.fates("user-1").await, ["vapid_key_mismatch"; 2]);
    // The service has the right key again, and the browsers register again.
    receiver.behave(Behaviour::Answers(answer("201 Created", "", b"")));
    for browser in &browsers {
        assert_eq!(push.register("user-1", browser, &receiver).await.status, 200);
    }
    assert_eq!(push.say("again").await, 2);
    assert_eq!(push.outcomes().await[2..], ["delivered"; 2]);
}

#[tokio::test]
async fn without_its_vapid_key_a_deployment_records_config_error_and_keeps_subscriptions() {
    let receiver = push_service("201 Created", "", "").await;
    let push = Push::start(&[&receiver], |settings| settings).await;
    push.browser("user-1", "a", &receiver).await;
    let settings = push.deployment.settings.clone();
    let push = push.restart(&settings).await;
    assert_eq!(push.assign("user-1").await, 1);
    assert_eq!(push.outcomes().await, ["config_error"]);
    assert_eq!((push.fates("user-1").await, receiver.seen().len()), (vec!["active".to_owned()], 0));
}

#[tokio::test]
async fn no_output_or_database_dump_contains_an_endpoint_or_a_key() {
    let good = push_service("201 Created", "", "").await;
    let dead = Receiver::start(Behaviour::HangsAfterAccept).await;
    let browsers = ["good", "dead", "echoed"].map(Browser::new);
    let echo = format!("no such subscription: {}", browsers[2].path);
    let echoing = push_service("403 Forbidden", "", &echo).await;
    let receivers = [&good, &dead, &echoing];
    let push = Push::start(&receivers, |settings| {
        settings.with("FLAMETREE_LOG", "trace").with("FLAMETREE_WEBHOOK_TIMEOUT_MS", "1000")
    })
    .await;
    for (browser, receiver) in browsers.iter().zip(receivers) {
        assert_eq!(push.register("user-1", browser, receiver).await.status, 201);
    }
    assert_eq!(push.assign("user-1").await, 3);
    push.outcomes().await;
    let refused = push.register("user-1", &Browser::new("refused"), &push_service("201 Created", "", "").await).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    let admin = push.deployment.client(&push.service);
    let deliveries = admin.get(&format!("/v1/deliveries?tenant_id={TENANT}")).await;
    let mut texts = vec![
        ("an answer", refused.text().to_owned()),
        ("a list", push.person("user-1").get("/v1/me/push-subscriptions").await.text().to_owned()),
        ("the metrics", push.service.metrics().await),
        ("the dump", dump(&push.deployment)),
    ];
    for one in deliveries.json()["data"].as_array().unwrap() {
        let path = format!("/v1/deliveries/{}?tenant_id={TENANT}", one["id"].as_str().unwrap());
        texts.push(("a delivery", admin.get(&path).await.text().to_owned()));
    }
    texts.push(("the logs", push.service.stop().await));
    assert!(
        texts.iter().any(|(place, text)| *place == "the logs" && text.contains("TRACE")),
        "the logs have no TRACE line"
    );
    assert!(texts.iter().any(|(place, text)| *place == "a delivery" && text.contains("no such subscription")));
    let mut secrets = vec![Secret::text("an endpoint", "5ecret"), Secret::text("the VAPID key", KEY[0])];
    for browser in &browsers {
        secrets.push(Secret::text("a browser's public key", &browser.p256dh()));
        secrets.push(Secret::text("a browser's secret", &browser.auth()));
    }
    for (place, text) in &texts {
        for secret in &secrets {
            secret.assert_absent(place, text);
        }
    }
    within(Duration::from_secs(1), "each push service got a message", async || {
        receivers.iter().all(|one| one.seen().len() == 1)
    })
    .await;
}
