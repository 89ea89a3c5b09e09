//! Partitions that are old go whole, and never under what still needs them.

use chrono::{Days, NaiveDate, Utc};
use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::endpoint::Channel;
use flametree_notify::store::partitions::drop_before;
use flametree_notify::store::queue::finish;
use sqlx::PgPool;

use crate::support::postgres::TestDatabase;
use crate::support::queue::{agent_with_webhook, claim_of, finished, outcomes, prepared, worker};
use crate::support::seed::{self, SeededEvent};

/// How long ago the old event of these tests was accepted.
const AGE_DAYS: u64 = 40;

fn days_ago(days: u64) -> NaiveDate {
    Utc::now().date_naive() - Days::new(days)
}

/// The days from 41 to 39 ago beside those of today.
async fn with_old_days() -> TestDatabase {
    let db = prepared().await;
    seed::run(&db, "SELECT flametree.ensure_partitions(current_date - 41, current_date - 39)".into()).await;
    db
}

/// How many days of deliveries from before yesterday there are.
async fn old_days(db: &PgPool) -> i64 {
    let statement =
        "SELECT count(*) FROM flametree.partitions_before(current_date - 1) AS p WHERE p LIKE 'deliveries%'";
    sqlx::query_scalar(statement).fetch_one(db).await.unwrap()
}

#[tokio::test]
async fn a_day_stays_until_each_of_its_deliveries_has_ended() {
    let db = with_old_days().await;
    let endpoint = agent_with_webhook(&db, "agent-1").await;
    let accepted_at = days_ago(AGE_DAYS).and_hms_opt(12, 0, 0).unwrap().and_utc();
    let event = seed::event(&db, accepted_at.timestamp_millis(), &SeededEvent::default()).await;
    let ready = format!(
        "INSERT INTO flametree.ready_deliveries (channel, tenant_id, endpoint_id, position, id, event_id, expires_at)
         VALUES ('webhook', 'acme', '{}', 1, '{}', '{}', now() - interval '39 days')",
        endpoint.uuid(),
        event.delivery(1).uuid(),
        event.uuid(),
    );
    seed::run(&db, ready).await;

    // No worker was there for longer than events are kept: the day before it alone may go.
    let (by, before) = (worker(&db).await, days_ago(30));
    assert_eq!(drop_before(&db, before).await.unwrap(), Some(2));
    let (claim, taken) = claim_of(&db, by, endpoint, 1).await;
    assert_eq!(drop_before(&db, before).await.unwrap(), Some(0));
    assert_eq!(old_days(&db).await, 2);
    let ended = [finished(&taken[0], Outcome::Expired)];
    finish::finish(&db, Channel::Webhook, &[claim], &ended).await.unwrap();
    assert_eq!(outcomes(&db).await, [("expired".to_owned(), 1)]);
    assert_eq!(drop_before(&db, before).await.unwrap(), Some(4));
    assert_eq!(old_days(&db).await, 0);
}

#[tokio::test]
async fn what_somebody_reads_stays_until_the_next_time() {
    let db = with_old_days().await;
    let mut reader = db.begin().await.unwrap();
    sqlx::query("SELECT count(*) FROM flametree.deliveries").execute(&mut *reader).await.unwrap();
    assert_eq!(drop_before(&db, days_ago(30)).await.unwrap(), None);
    assert_eq!(old_days(&db).await, 3);
    reader.rollback().await.unwrap();
    assert_eq!(drop_before(&db, days_ago(30)).await.unwrap(), Some(6));
}
