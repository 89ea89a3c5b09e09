//! Tests that the secrets of push configs are stored encrypted, and nowhere in plaintext.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flametree_notify::domain::ids::EndpointId;
use flametree_notify::domain::names::TenantId;
use flametree_notify::secrets::{Keyring, OpenError};
use flametree_notify::store::SealedError;
use flametree_notify::store::webhooks::{StoredWebhook, webhook_endpoint};
use reqwest::Method;
use serde_json::json;
use sqlx::Row as _;

use crate::push_configs::{PATH, full_body, get, patch, put, started};
use crate::support::app::TestApp;

/// The endpoint of the only push config in the database.
pub async fn endpoint(api: &TestApp) -> EndpointId {
    let row = sqlx::raw_sql("SELECT endpoint_id FROM flametree.push_configs").fetch_one(&api.db.pool).await;
    EndpointId::from_uuid(row.unwrap().get(0))
}

pub async fn webhook(api: &TestApp) -> StoredWebhook {
    let acme = TenantId::parse("acme").unwrap();
    webhook_endpoint(&api.db, &api.keyring, &acme, endpoint(api).await).await.unwrap().unwrap()
}

fn header<'a>(webhook: &'a StoredWebhook, name: &str) -> &'a str {
    webhook.headers.iter().find(|header| header.name.as_str() == name).unwrap().value.text().expose()
}

#[tokio::test]
async fn a_sender_reads_the_stored_values_in_one_query() {
    let (api, admin) = started().await;
    let created = put(&api, &admin, &full_body()).await.json();
    let read = webhook(&api).await;
    assert_eq!((read.version, read.enabled, read.signing), (1, true, true));
    assert_eq!(read.url.as_ref().unwrap().as_str(), "https://hooks.test/webhook");
    assert_eq!((header(&read, "Authorization"), header(&read, "X-Env")), ("Bearer hunter2-first", "prod"));
    assert_eq!(read.secrets.len(), 1);
    assert_eq!(read.secrets[0].secret.expose(), created["signing_secret"].as_str().unwrap());

    let other = TenantId::parse("other").unwrap();
    let missing = webhook_endpoint(&api.db, &api.keyring, &other, endpoint(&api).await).await.unwrap();
    assert_eq!(missing, None);
}

#[tokio::test]
async fn a_secret_is_kept_until_a_user_enters_a_new_secret() {
    let (api, admin) = started().await;
    put(&api, &admin, &full_body()).await;
    let mut body = full_body();
    body["headers"][0]["value"].take();
    body["url"] = json!("https://hooks.test/elsewhere");
    assert_eq!(put(&api, &admin, &body).await.status, 200);
    assert_eq!(header(&webhook(&api).await, "Authorization"), "Bearer hunter2-first");
    assert_eq!(patch(&api, &admin, &json!({"timeout_ms": 2000})).await.status, 200);
    assert_eq!(header(&webhook(&api).await, "Authorization"), "Bearer hunter2-first");
    body["headers"][0]["value"] = json!("Bearer hunter2-second");
    assert_eq!(put(&api, &admin, &body).await.status, 200);
    assert_eq!(header(&webhook(&api).await, "Authorization"), "Bearer hunter2-second");
}

#[tokio::test]
async fn rejects_a_url_with_another_origin_unless_the_secrets_are_entered_again() {
    let (api, admin) = started().await;
    put(&api, &admin, &full_body()).await;
    let reentry = [("/headers/0/value".to_owned(), "secret_reentry_required".to_owned())];
    let answer = patch(&api, &admin, &json!({"url": "https://evil.test/webhook"})).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (422, Some("secret_reentry_required")));
    assert_eq!(answer.faults_of("secret_reentry_required"), reentry);
    // The user must enter the secret again, even if the URL was cleared before the new URL was set.
    assert_eq!(patch(&api, &admin, &json!({"enabled": false, "url": null})).await.status, 200);
    assert_eq!(
        patch(&api, &admin, &json!({"url": "https://evil.test/webhook"})).await.faults_of("secret_reentry_required"),
        reentry
    );
    assert_eq!(get(&api, &admin).await.json()["url"], json!(null));
}

#[tokio::test]
async fn no_secret_is_in_plaintext_in_any_table_or_error() {
    let (api, admin) = started().await;
    let created = put(&api, &admin, &full_body()).await.json();
    let rotate = format!("{PATH}/signing-secret/rotate");
    let rotated = api.call(&admin, Method::POST, &rotate, &[], Some(&json!({}))).await.json();
    let whsec = |answer: &serde_json::Value| answer["signing_secret"].as_str().unwrap().to_owned();
    let entered = ["hunter2-first".to_owned(), "prod".to_owned(), whsec(&created), whsec(&rotated)];
    let dump = dump(&api).await;
    assert!(dump.contains("https://hooks.test/webhook"), "the dump contains the rows");
    for secret in &entered {
        for form in forms(secret) {
            assert!(!dump.contains(&form), "{secret} is in a table as {form}");
        }
    }

    let refused = [
        json!({"headers": [{"name": "X-Key", "value": "hunter2\n"}]}),
        json!({"headers": [{"name": "X-Key", "value": ["hunter2"]}]}),
        json!({"headers": [{"name": "hunter2 hunter2", "value": "hunter2", "secret": "hunter2"}]}),
        json!({"headers": {"X-Key": "hunter2"}}),
        json!({"headers": ["hunter2"], "events": ["hunter2"], "enabled": "hunter2", "timeout_ms": "hunter2"}),
        json!({"url": "https://hunter2:hunter2@hooks.test/"}),
        json!({"url": "hunter2 https://hooks.test/"}),
        json!({"url": "https://evil.test/", "headers": [{"name": "Authorization", "secret": true}]}),
        json!("hunter2"),
    ];
    for body in refused {
        for answer in [put(&api, &admin, &body).await, patch(&api, &admin, &body).await] {
            assert_eq!(answer.status, 422, "{body}");
            assert!(!answer.text().contains("hunter2"), "{} repeats {body}", answer.text());
        }
    }
}

/// Every row of every table as text.
async fn dump(api: &TestApp) -> String {
    let tables = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'flametree'";
    let tables = sqlx::raw_sql(tables).fetch_all(&api.db.pool).await.unwrap();
    let mut dump = String::new();
    for table in tables {
        let table: String = table.get(0);
        let rows = sqlx::AssertSqlSafe(format!("SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM {table} AS t"));
        let rows: String = sqlx::raw_sql(rows).fetch_one(&api.db.pool).await.unwrap().get(0);
        writeln!(dump, "{table}\n{rows}").unwrap();
    }
    dump
}

/// The forms in which a dump could contain the text: unchanged, as hex and as base64. For signing secrets, also the decoded key
/// as hex.
fn forms(secret: &str) -> Vec<String> {
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    let mut forms = vec![secret.to_owned(), hex(secret.as_bytes()), STANDARD.encode(secret)];
    if let Some(Ok(key)) = secret.strip_prefix("whsec_").map(|text| STANDARD.decode(text)) {
        forms.push(hex(&key));
    }
    forms
}

#[tokio::test]
async fn encrypted_values_can_be_decrypted_only_in_their_row() {
    let (api, admin) = started().await;
    put(&api, &admin, &full_body()).await;
    let acme = TenantId::parse("acme").unwrap();
    let id = endpoint(&api).await;

    let strange = Keyring::generate().0;
    let error = webhook_endpoint(&api.db, &strange, &acme, id).await.unwrap_err();
    assert!(matches!(error, SealedError::Unopened { source: OpenError::Forged, .. }), "{error:?}");
    let renamed = Keyring::parse(&format!("new:{}", STANDARD.encode([7; 32]))).unwrap();
    let error = webhook_endpoint(&api.db, &renamed, &acme, id).await.unwrap_err().to_string();
    assert!(error.contains("no key `local`"), "{error}");

    // Swaps the encrypted value of one header with the plain value of the other header.
    let swap = "UPDATE flametree.push_configs SET header_values = ARRAY[header_values[2], header_values[1]]";
    sqlx::raw_sql(swap).execute(&api.db.pool).await.unwrap();
    let answer = get(&api, &admin).await;
    assert_eq!(answer.status, 500);
    assert!(!answer.text().contains("hunter2") && !answer.text().contains("local"), "{}", answer.text());
}
