//! Kills the primary database while two APIs and three workers use it, and promotes the standby. One test uses a pooler.

use std::str::FromStr as _;
use std::time::Duration;

use flametree_notify::domain::delivery::Outcome;
use sqlx::postgres::PgConnectOptions;

use crate::support::client::Client;
use crate::support::deployment::{Deployment, agents};
use crate::support::own_server::{OwnServer, Stop, url_of_socket};
use crate::support::pooler::{self, Pooler};
use crate::support::proxy::Proxy;
use crate::support::service::{Part, Settings};
use crate::support::temp_dir::TempDir;
use crate::support::waiting::within;

const EVENTS: usize = 6_000;
const DRAINED: Duration = Duration::from_secs(90);

#[tokio::test]
async fn promoting_a_standby_under_load_loses_and_duplicates_nothing() {
    let (primary, standby) = servers().await;
    let way = Proxy::of_servers(&primary, &standby).await;
    fail_over(&primary, &standby, &way, &url_of(&way)).await;
}

#[tokio::test]
async fn promoting_a_standby_through_a_pooler_loses_and_duplicates_nothing() {
    let (primary, standby) = servers().await;
    let way = Proxy::of_servers(&primary, &standby).await;
    let directory = TempDir::new();
    let _pooler = Pooler::start(directory.path(), Some(way.address())).await;
    fail_over(&primary, &standby, &way, &url_of_socket(directory.path(), pooler::PORT)).await;
}

async fn servers() -> (OwnServer, OwnServer) {
    let primary = OwnServer::start_direct().await;
    let standby = primary.start_standby().await;
    (primary, standby)
}

fn url_of(way: &Proxy) -> String {
    format!("postgres://flametree@{}/flametree?sslmode=disable", way.address())
}

async fn fail_over(primary: &OwnServer, standby: &OwnServer, way: &Proxy, url: &str) {
    let eyes = PgConnectOptions::from_str(&url_of(way)).unwrap().extra_float_digits(None);
    let deployment = Deployment::of_foreign(eyes, Settings::on(url)).await;
    let settings = &deployment.settings;
    let (api, other, one, two, three) = tokio::join!(
        settings.start(Part::Api),
        settings.start(Part::Api),
        settings.start(Part::Worker),
        settings.start(Part::Worker),
        settings.start(Part::Worker),
    );
    let (apis, workers) = ([api, other], [one, two, three]);
    let proxy = Proxy::of_apis(&apis.iter().map(|api| deployment.client(api).address()).collect::<Vec<_>>()).await;
    let client = Client::new(proxy.address(), &deployment.token);
    let agents = agents(10);
    deployment.configure(&apis[0], &agents).await;

    let failing = async {
        within(DRAINED, "deliveries flow", async || deployment.receiver.count() >= 1_000).await;
        primary.stop(Stop::Immediate);
        within(DRAINED, "the APIs report that they cannot accept events", async || {
            apis[0].readiness().await == Some(503) && apis[1].readiness().await == Some(503)
        })
        .await;
        standby.promote();
        within(DRAINED, "the APIs accept", async || client_is_served(&client).await).await;
    };
    let clients = [client.clone()];
    let (accepted, ()) = tokio::join!(deployment.post(&clients, &agents, EVENTS), failing);
    deployment.drained(DRAINED).await;
    let tally = deployment.assert_drained(&client, &accepted).await;
    // No worker died, so every delivery must succeed.
    assert_eq!(tally.count(Outcome::Delivered), EVENTS, "{:?}", tally.summary());
    assert!(workers.iter().all(|worker| !worker.has_logged("was fenced")));
}

async fn client_is_served(client: &Client) -> bool {
    client.request(http::Method::GET, "/readyz", None).await.is_ok_and(|answer| answer.status == 200)
}
