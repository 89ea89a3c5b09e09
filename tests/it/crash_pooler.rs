//! Tests a transaction pooler in front of the database. The pooler crashes, and migrations run through the pooler.

use std::process::{Command, Stdio};
use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::store::schema;

use crate::support::deployment::{Deployment, agents};
use crate::support::service::{Part, Settings};
use crate::support::waiting::within;

const DRAINED: Duration = Duration::from_secs(90);

#[tokio::test]
async fn repeated_pooler_crashes_lose_and_duplicate_nothing() {
    const CRASHES: usize = 4;
    const EVENTS: usize = 1_500;
    let deployment = Deployment::with_own_pooler().await;
    let agents = agents(10);
    let (api, other) = tokio::join!(deployment.settings.start(Part::Run), deployment.settings.start(Part::Worker));
    deployment.configure(&api, &agents).await;

    let apis = [deployment.client(&api)];
    let mut accepted = Vec::new();
    for _ in 0..CRASHES {
        let crash = async {
            let seen = deployment.receiver.count();
            within(DRAINED, "deliveries flow", async || deployment.receiver.count() >= seen + 300).await;
            deployment.server().pooler().kill();
            within(DRAINED, "/readyz says so", async || api.readiness().await == Some(503)).await;
            deployment.server().pooler().start_again().await;
            within(DRAINED, "/readyz says so", async || api.readiness().await == Some(200)).await;
        };
        let (posted, ()) = tokio::join!(deployment.post(&apis, &agents, EVENTS), crash);
        accepted.extend(posted);
    }
    deployment.drained(DRAINED).await;
    let tally = deployment.assert_drained(&deployment.client(&api), &accepted).await;
    // No worker died, so every delivery must succeed.
    assert_eq!(tally.count(Outcome::Delivered), CRASHES * EVENTS, "{:?}", tally.summary());
    assert!(!other.has_logged("is dead") && !api.has_logged("is dead"));
}

#[tokio::test]
async fn two_concurrent_migrations_through_the_pooler_prepare_a_new_database() {
    let deployment = Deployment::with_own_pooler().await;
    sqlx::raw_sql("CREATE DATABASE fresh").execute(&deployment.pool).await.unwrap();
    let settings = Settings::on(&deployment.server().url().replace("/flametree", "/fresh"));
    let said = settings.spawn(Part::Run).failed().await;
    assert!(said.contains("run `flametree-notify migrate`"), "{said}");

    let migrate = || {
        let mut command: Command = settings.command();
        command.arg("migrate").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    for migration in [migrate(), migrate()] {
        let output = migration.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let options = deployment.server().connect_options().database("fresh");
    let fresh = sqlx::PgPool::connect_with(options).await.unwrap();
    let applied = "SELECT count(*), bool_and(success) FROM flametree._sqlx_migrations";
    let applied: (i64, bool) = sqlx::query_as(applied).fetch_one(&fresh).await.unwrap();
    assert_eq!(applied, (i64::try_from(schema::migrations()).unwrap(), true));
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'";
    assert_eq!(sqlx::query_scalar::<_, i64>(locks).fetch_one(&fresh).await.unwrap(), 0);
    settings.start(Part::Run).await.stop().await;
}
