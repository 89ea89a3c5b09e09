//! Tests events that callers insert by SQL. An event exists exactly if the caller's transaction commits, however late the commit
//! is.

use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::domain::ids::EventId;
use serde_json::Value;
use sqlx::{PgConnection, Row as _};

use crate::support::deployment::{Deployment, agents, message};
use crate::support::service::Part;
use crate::support::waiting::within;

const DRAINED: Duration = Duration::from_secs(30);

pub async fn enqueue(connection: &mut PgConnection, event: &Value) -> EventId {
    let statement = format!("SELECT id FROM flametree.enqueue_event($event${event}$event$)");
    let row = sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).fetch_one(connection).await.unwrap();
    row.get::<String, _>(0).parse().unwrap()
}

#[tokio::test]
async fn an_event_of_a_rolled_back_transaction_does_not_exist() {
    let deployment = Deployment::new().await;
    let agents = agents(1);
    let service = deployment.settings.start(Part::Run).await;
    deployment.configure(&service, &agents).await;
    let mut transaction = deployment.pool.begin().await.unwrap();
    enqueue(&mut transaction, &message("agent-1", 1)).await;
    transaction.rollback().await.unwrap();

    // The idempotency key of the rolled back event can be used again.
    let mut transaction = deployment.pool.begin().await.unwrap();
    let event = enqueue(&mut transaction, &message("agent-1", 1)).await;
    transaction.commit().await.unwrap();
    deployment.drained(DRAINED).await;
    let tally = deployment.assert_drained(&deployment.client(&service), &[event]).await;
    assert_eq!(tally.outcomes.len(), 1);
    assert_eq!(tally.seen, [event.delivery(1)].into());
}

#[tokio::test]
async fn an_event_that_commits_long_after_later_events_were_claimed_is_delivered() {
    /// After this time, claims no longer re-scan for late commits.
    const LATE: Duration = Duration::from_secs(5);
    let deployment = Deployment::new().await;
    let agents = agents(1);
    let service = deployment.settings.start(Part::Run).await;
    deployment.configure(&service, &agents).await;
    let apis = [deployment.client(&service)];

    let mut transaction = deployment.pool.begin().await.unwrap();
    let late = enqueue(&mut transaction, &message("agent-1", usize::MAX)).await;
    let started = tokio::time::Instant::now();
    let mut accepted = vec![late];
    while started.elapsed() < LATE {
        accepted.extend(deployment.post(&apis, &agents, 50).await);
        let all = async || deployment.receiver.count() == accepted.len() - 1;
        within(DRAINED, "the later events are delivered", all).await;
        tokio::time::sleep(LATE / 10).await;
    }
    transaction.commit().await.unwrap();
    deployment.drained(DRAINED).await;
    let tally = deployment.assert_drained(&apis[0], &accepted).await;
    assert_eq!(tally.count(Outcome::Delivered), accepted.len(), "{:?}", tally.summary());
}
