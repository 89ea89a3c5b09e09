//! Kills a binary with an embedded server under load, and restarts the binary at once.

use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use flametree_notify::postgres::EmbeddedServer;

use crate::embedded_postgres::{listening_tcp_sockets_of, postmaster_in};
use crate::support::deployment::{Deployment, agents};
use crate::support::receiver::Mode;
use crate::support::service::{Part, Settings};
use crate::support::temp_dir::TempDir;
use crate::support::waiting::within;

const DRAINED: Duration = Duration::from_mins(1);

#[tokio::test]
async fn the_binary_with_an_embedded_server_restarts_after_a_kill_and_loses_nothing() {
    let directory = TempDir::new();
    let data_dir = directory.path().join("data");
    // The lease of one hour does not end during the test, so only the restart can finish the deliveries of the killed process.
    let settings = Settings::default()
        .with("FLAMETREE_DATA_DIR", data_dir.to_str().unwrap())
        .with("FLAMETREE_LEASE_SECONDS", "3600");
    let mut service = settings.start(Part::Run).await;
    let deployment = embedded(&settings, &data_dir);
    let agents = agents(5);
    deployment.receiver.set("/agent-1", Mode::AnswersAfter(Duration::from_millis(100)));
    deployment.configure(&service, &agents).await;
    assert!(listening_tcp_sockets_of(postmaster_in(&data_dir)).is_empty());

    let mut accepted = Vec::new();
    for _ in 0..3 {
        accepted.extend(deployment.post(&[deployment.client(&service)], &agents, 500).await);
        let seen = deployment.receiver.count();
        within(DRAINED, "deliveries flow", async || deployment.receiver.count() > seen + 100).await;
        service.kill();
        service = settings.start(Part::Run).await;
        assert!(listening_tcp_sockets_of(postmaster_in(&data_dir)).is_empty());
    }
    deployment.drained(DRAINED).await;
    let tally = deployment.assert_drained(&deployment.client(&service), &accepted).await;
    assert!(
        tally.count(Outcome::Interrupted) > 0,
        "no kill interrupted a delivery, so this test tested nothing: {:?}",
        tally.summary()
    );
    assert_eq!(tally.count(Outcome::Interrupted) + tally.count(Outcome::Delivered), accepted.len());
    deployment.pool.close().await;
    service.stop().await;
}

fn embedded(settings: &Settings, data_dir: &std::path::Path) -> Deployment {
    let options = EmbeddedServer::of_other_process(data_dir).unwrap();
    let create = ["token", "create", "--name", "test", "--role", "admin", "--all-tenants"];
    let output = settings.command().args(create).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let token = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    Deployment::of_embedded(options, settings.clone(), token)
}
