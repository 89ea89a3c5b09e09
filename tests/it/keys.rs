//! Tests the rotation of encryption keys during traffic, the check of encryption keys at the start, and VAPID keys.

use std::process::Output;
use std::time::Duration;

use flametree_notify::channels::browser_push::VapidKey;
use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::ids::EndpointId;
use flametree_notify::domain::names::{TenantId, UserId};
use flametree_notify::secrets::{AssociatedData, Keyring};
use flametree_notify::store::Db;
use serde_json::json;
use sqlx::Row as _;
use uuid::Uuid;

use crate::support::client::Client;
use crate::support::deployment::{Deployment, TENANT, agents};
use crate::support::seed;
use crate::support::service::{EACH_SECOND, ENCRYPTION_KEYS, Part, Settings};
use crate::support::waiting::within;

const PATIENCE: Duration = Duration::from_mins(1);
const NEW_KEY: &str = "k2:ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
/// A schedule that does not run during the test, so that only the command re-encrypts values.
const NEVER: &str = "0 0 29 2 *";

fn run(settings: &Settings, arguments: &[&str]) -> Output {
    settings.command().args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn add_headers(api: &Client, deployment: &Deployment, agents: &[String]) {
    for agent in agents {
        let config = json!({
            "enabled": true, "url": deployment.receiver.url(&format!("/{agent}")), "events": ["user_message"],
            "headers": [{"name": "Authorization", "value": format!("Bearer {agent}"), "secret": true},
                        {"name": "X-Env", "value": "prod", "secret": false}],
        });
        let answer = api.put(&format!("/v1/agents/{agent}/push-config?tenant_id={TENANT}"), &config).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

/// Inserts a push subscription with encrypted keys, as the API does for a browser.
async fn add_subscription(db: &Db, keys: &str) -> (Uuid, AssociatedData) {
    let id = Uuid::now_v7();
    let (tenant, user) = (TenantId::parse(TENANT).unwrap(), UserId::parse("user-1").unwrap());
    let place = AssociatedData::push_subscription(&tenant, &user, EndpointId::from_uuid(id));
    sqlx::query(
        "INSERT INTO flametree.push_subscriptions (tenant_id, id, user_id, version, active, ciphertext, endpoint_hash,
             host, vapid_key_id, created_at, last_seen_at)
         VALUES ($1, $2, 'user-1', 1, true, $3, sha256('an endpoint'), 'push.example', 'k', now(), now())",
    )
    .bind(TENANT)
    .bind(id)
    .bind(Keyring::parse(keys).unwrap().seal(b"a subscription", &place))
    .execute(db)
    .await
    .unwrap();
    (id, place)
}

async fn under_the_old_key(db: &Db) -> i64 {
    let query = "SELECT (SELECT count(*) FROM flametree.push_configs, unnest(header_values) AS v
                         WHERE flametree.sealed_key_id(v) = 'k1')
                      + (SELECT count(*) FROM flametree.signing_secrets WHERE flametree.sealed_key_id(ciphertext) = 'k1')
                      + (SELECT count(*) FROM flametree.push_subscriptions
                         WHERE flametree.sealed_key_id(ciphertext) = 'k1')";
    sqlx::raw_sql(query).fetch_one(db).await.unwrap().get(0)
}

#[tokio::test]
async fn rotates_keys_while_traffic_flows() {
    const AGENTS: usize = 30;
    let deployment = Deployment::new().await;
    let agents = agents(AGENTS);
    let service = deployment.settings.start(Part::Run).await;
    add_headers(&deployment.client(&service), &deployment, &agents).await;
    let (subscription, place) = add_subscription(&deployment.pool, ENCRYPTION_KEYS).await;
    service.stop().await;
    let old = i64::try_from(AGENTS * 3 + 1).unwrap();
    assert_eq!(under_the_old_key(&deployment.pool).await, old);

    let both = deployment
        .settings
        .clone()
        .with("FLAMETREE_ENCRYPTION_KEYS", &format!("{NEW_KEY},{ENCRYPTION_KEYS}"))
        .with("FLAMETREE_REENCRYPTION_SCHEDULE", NEVER);
    let service = both.start(Part::Run).await;
    let api = deployment.client(&service);
    let etag_of =
        async || api.get(&format!("/v1/agents/agent-1/push-config?tenant_id={TENANT}")).await.text().to_owned();
    let config_before = etag_of().await;
    let rotating = tokio::task::spawn_blocking(move || run(&both, &["keys", "rotate"]));
    let changing = add_headers(&api, &deployment, &agents[..5]);
    let apis = [api.clone()];
    let (mut accepted, rotated, ()) = tokio::join!(deployment.post(&apis, &agents, 2_000), rotating, changing);
    let rotated = rotated.unwrap();
    assert!(rotated.status.success(), "{}", text(&rotated));
    assert!(text(&rotated).contains("all are encrypted with `k2`"), "{}", text(&rotated));
    assert!(text(&rotated).contains("nothing is encrypted with `k1` any more"), "{}", text(&rotated));
    assert_eq!(under_the_old_key(&deployment.pool).await, 0);
    deployment.drained(PATIENCE).await;
    assert_eq!(etag_of().await, config_before, "the rotation changed the config that users see");
    service.stop().await;

    // The old key may now be removed.
    let new_alone = deployment.settings.clone().with("FLAMETREE_ENCRYPTION_KEYS", NEW_KEY);
    let service = new_alone.start(Part::Run).await;
    let api = deployment.client(&service);
    accepted.extend(deployment.post(std::slice::from_ref(&api), &agents, 300).await);
    deployment.drained(PATIENCE).await;
    let tally = deployment.assert_drained(&api, &accepted).await;
    assert_eq!(tally.count(Outcome::Delivered), 2_300, "{:?}", tally.summary());
    let sealed = sqlx::query("SELECT ciphertext FROM flametree.push_subscriptions WHERE id = $1").bind(subscription);
    let sealed: Vec<u8> = sealed.fetch_one(&deployment.pool).await.unwrap().get(0);
    assert_eq!(Keyring::parse(NEW_KEY).unwrap().open(&sealed, &place).unwrap().as_slice(), b"a subscription");
    let again = run(&new_alone, &["keys", "rotate"]);
    assert!(text(&again).starts_with("0 stored values"), "{}", text(&again));
}

#[tokio::test]
async fn the_scheduled_operation_rotates_keys_too() {
    let deployment = Deployment::new().await;
    let agents = agents(3);
    let service = deployment.settings.start(Part::Run).await;
    add_headers(&deployment.client(&service), &deployment, &agents).await;
    service.stop().await;
    let both = deployment
        .settings
        .clone()
        .with("FLAMETREE_ENCRYPTION_KEYS", &format!("{NEW_KEY},{ENCRYPTION_KEYS}"))
        .with("FLAMETREE_REENCRYPTION_SCHEDULE", EACH_SECOND);
    let _worker = both.start(Part::Worker).await;
    within(PATIENCE, "no value uses the old key", async || under_the_old_key(&deployment.pool).await == 0).await;
}

#[tokio::test]
async fn a_value_that_cannot_be_decrypted_or_replaced_does_not_stop_the_rotation_of_other_values() {
    let deployment = Deployment::new().await;
    let (agents, db) = (agents(4), &deployment.pool);
    let service = deployment.settings.start(Part::Run).await;
    add_headers(&deployment.client(&service), &deployment, &agents).await;
    service.stop().await;
    for statement in [
        "UPDATE flametree.push_configs
         SET header_values[1] = overlay(header_values[1] PLACING '\\x00' FROM length(header_values[1]))
         WHERE agent_id = 'agent-1'",
        "CREATE FUNCTION flametree.refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'refused by a test'; END $$",
        "CREATE TRIGGER refuse BEFORE UPDATE ON flametree.push_configs
             FOR EACH ROW WHEN (NEW.agent_id = 'agent-2') EXECUTE FUNCTION flametree.refuse()",
    ] {
        seed::run(db, statement.to_owned()).await;
    }
    let both = deployment
        .settings
        .clone()
        .with("FLAMETREE_ENCRYPTION_KEYS", &format!("{NEW_KEY},{ENCRYPTION_KEYS}"))
        .with("FLAMETREE_REENCRYPTION_SCHEDULE", EACH_SECOND);
    let worker = both.start(Part::Worker).await;
    // Three values are still encrypted with the old key: the damaged value of the first agent, and two values that the trigger
    // protects.
    within(PATIENCE, "only the faulty values are left", async || under_the_old_key(db).await == 3).await;
    let retried = "flametree_operations_total{operation=\"reencryption\",result=\"retried\"}";
    within(PATIENCE, "the operation fails because of the faulty values", async || worker.metric(retried).await >= 1.0)
        .await;
    seed::run(db, "DROP TRIGGER refuse ON flametree.push_configs".into()).await;
    within(PATIENCE, "one value is left", async || under_the_old_key(db).await == 1).await;
}

#[tokio::test]
async fn each_command_reports_a_missing_key_and_the_values_that_need_the_key() {
    let deployment = Deployment::new().await;
    let service = deployment.settings.start(Part::Run).await;
    add_headers(&deployment.client(&service), &deployment, &agents(2)).await;
    add_subscription(&deployment.pool, ENCRYPTION_KEYS).await;
    service.stop().await;
    let without = deployment.settings.clone().with("FLAMETREE_ENCRYPTION_KEYS", NEW_KEY);
    for command in [&["run"][..], &["api"], &["worker"], &["keys", "rotate"]] {
        let output = run(
            &without.clone().with("FLAMETREE_LISTEN_ADDR", "127.0.0.1:0").with("FLAMETREE_METRICS_ADDR", "127.0.0.1:0"),
            command,
        );
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(
            said.contains("`k1` (4 header values, 1 push subscriptions, 2 signing secrets)"),
            "{command:?}: {said}"
        );
        assert!(!said.contains("ICEi"), "{command:?} prints a key: {said}");
    }
}

#[tokio::test]
async fn a_starting_process_detects_a_wrong_key_with_the_right_id() {
    let deployment = Deployment::new().await;
    let service = deployment.settings.start(Part::Run).await;
    add_headers(&deployment.client(&service), &deployment, &agents(1)).await;
    service.stop().await;
    let mistaken = NEW_KEY.replacen("k2", "k1", 1);
    let output = run(&deployment.settings.clone().with("FLAMETREE_ENCRYPTION_KEYS", &mistaken), &["keys", "rotate"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the key with the id `k1` in the keyring is not the key"), "{said}");
}

#[test]
fn prints_a_new_vapid_key_pair_each_time() {
    let generate = || {
        let output = run(&Settings::default(), &["vapid", "generate"]);
        assert!(output.status.success(), "{}", text(&output));
        let said = String::from_utf8(output.stdout).unwrap();
        let values: Vec<_> = said.lines().map(|line| line.split_once(": ").unwrap().1.trim().to_owned()).collect();
        (values[0].clone(), values[1].clone())
    };
    let ((private, public), other) = (generate(), generate());
    assert_eq!(VapidKey::from_base64(&private).unwrap().public_key(), public, "the setting accepts the printed key");
    assert_ne!((private, public), other);
}
