//! Restarts every process while events flow. A graceful stop finishes the started deliveries.

use std::sync::Mutex;
use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;

use crate::support::client::Client;
use crate::support::deployment::{Deployment, agents};
use crate::support::receiver::Mode;
use crate::support::service::{Part, Service};
use crate::support::waiting::{eventually, within};

const DRAINED: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_rolling_restart_neither_loses_nor_duplicates_nor_interrupts_deliveries() {
    const ROUNDS: usize = 2;
    let deployment = Deployment::new().await;
    let agents = agents(10);
    // The receiver responds so slowly that attempts are in progress at each stop.
    for agent in &agents {
        deployment.receiver.set(&format!("/{agent}"), Mode::AnswersAfter(Duration::from_millis(30)));
    }
    let parts = [Part::Api, Part::Worker, Part::Api, Part::Worker];
    let mut processes: Vec<(Part, Service)> = Vec::new();
    for part in parts {
        processes.push((part, deployment.settings.start(part).await));
    }
    deployment.configure(&processes[0].1, &agents).await;

    let apis = Mutex::new(clients(&deployment, &processes));
    let restarted = Mutex::new(false);
    let restarting = async {
        for _ in 0..ROUNDS {
            for place in 0..processes.len() {
                let seen = deployment.receiver.count();
                within(DRAINED, "deliveries flow", async || deployment.receiver.count() >= seen + 200).await;
                let (part, old) = processes.remove(place);
                let new = deployment.settings.start(part).await;
                let output = old.stop().await;
                assert!(!output.contains("interrupted"), "{output}");
                processes.insert(place, (part, new));
                *apis.lock().unwrap() = clients(&deployment, &processes);
            }
        }
        *restarted.lock().unwrap() = true;
    };
    let flowing = async {
        let mut accepted = Vec::new();
        while !*restarted.lock().unwrap() {
            let apis = apis.lock().unwrap().clone();
            accepted.extend(deployment.post(&apis, &agents, 250).await);
        }
        accepted
    };
    let (accepted, ()) = tokio::join!(flowing, restarting);
    deployment.drained(DRAINED).await;
    let tally = deployment.assert_drained(&deployment.client(&processes[0].1), &accepted).await;
    assert_eq!(tally.count(Outcome::Delivered), accepted.len(), "{:?}", tally.summary());
    let live = "SELECT count(*) FROM flametree.workers WHERE fenced_at IS NULL";
    let live: i64 = sqlx::Row::get(&sqlx::raw_sql(live).fetch_one(&deployment.pool).await.unwrap(), 0);
    assert_eq!(live, 2, "a stopped worker is still registered");
}

fn clients(deployment: &Deployment, processes: &[(Part, Service)]) -> Vec<Client> {
    processes.iter().filter(|(part, _)| *part == Part::Api).map(|(_, api)| deployment.client(api)).collect()
}

#[tokio::test]
async fn records_unfinished_deliveries_as_interrupted_after_the_grace_period() {
    let mut deployment = Deployment::new().await;
    deployment.settings = deployment.settings.with("FLAMETREE_SHUTDOWN_GRACE_SECONDS", "1");
    let agents = agents(2);
    deployment.receiver.set("/agent-1", Mode::Hangs);
    let api = deployment.settings.start(Part::Api).await;
    deployment.configure(&api, &agents).await;
    let worker = deployment.settings.start(Part::Worker).await;
    let accepted = deployment.post(&[deployment.client(&api)], &agents, 20).await;
    eventually("all attempts have started", || deployment.receiver.count() == 20).await;

    worker.stop().await;
    // No other worker is running, so the stopped worker must have recorded the interrupted deliveries.
    let tally = deployment.assert_drained(&deployment.client(&api), &accepted).await;
    assert_eq!((tally.count(Outcome::Interrupted), tally.count(Outcome::Delivered)), (10, 10));
}
