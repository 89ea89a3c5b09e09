//! An attack through host names: the name server of A's endpoints never responds.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::Bench;
use super::comparison::Comparison;
use super::name_server::{NameServer, Reply};
use super::scene::Scene;
use crate::prepare::TENANT;
use crate::receiver::{ADDRESS, OTHER_ADDRESS, Receiver};

const AGENTS: usize = 300;

/// Tenant B's endpoint also has a host name. The endpoint closes each connection, so each delivery needs a lookup.
pub(crate) async fn unanswered(bench: &Bench<'_>) -> Comparison {
    let answered = |name: &str| {
        if name.starts_with("answered") { Reply::Address(Ipv4Addr::LOCALHOST, 0) } else { Reply::Silence }
    };
    let server = NameServer::start(answered).await;
    let address = server.address.to_string();
    let mut scene = Scene::start(bench, "run", &[("FLAMETREE_NAME_SERVERS", &address)]).await;
    scene.configure_b(&format!("http://answered.test:{}/timed/closing", port(OTHER_ADDRESS))).await;
    let agents = scene.agents("silent", AGENTS, &Receiver::url("/hook")).await;
    // Sets the URLs by SQL, because the API would take seconds to look up the host of each URL.
    sqlx::query("UPDATE flametree.push_configs SET url = 'http://' || agent_id || '.silent.test:' || $2 || '/' WHERE tenant_id = $1")
        .bind(TENANT)
        .bind(port(ADDRESS))
        .execute(&scene.db)
        .await
        .unwrap();
    let quiet = scene.quiet().await;
    let attack = scene.stream(&Arc::clone(&agents), AGENTS);
    let attacked = scene.attacked().await;
    drop(attack);
    scene.end(quiet, attacked, "").await
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap()
}
