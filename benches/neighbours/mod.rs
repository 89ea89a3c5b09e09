//! Measures how one tenant can affect another. Tenant A runs each attack of `docs/security.md`, while tenant B posts 50 events/s
//! to a healthy endpoint. It runs only with `FIGURES=neighbours`. `ATTACKS=1a,12` selects attacks.

mod api;
mod comparison;
mod endpoints;
mod ingest;
#[expect(dead_code, unreachable_pub, reason = "the tests use all of this file")]
#[path = "../../tests/it/support/name_server.rs"]
mod name_server;
mod names;
mod scene;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use self::comparison::Comparison;
use crate::receiver::{OTHER_ADDRESS, Receiver};
use crate::report::Goal::{AtMost, Shown};
use crate::report::Report;
use crate::server::Server;

/// The resources and the duration that all attacks use.
struct Bench<'a> {
    server: &'a Server,
    /// The receiver of tenant A's webhooks.
    receiver: &'a Receiver,
    /// The receiver of tenant B's webhooks: a separate process, which A's requests do not delay.
    other_receiver: Receiver,
    /// How long B is measured without an attack, and again under the attack.
    duration: Duration,
}

type Attack<'a> = Pin<Box<dyn Future<Output = Comparison> + 'a>>;

/// Runs each attack, and reports tenant B's figures. In each measurement, tenant B posts for `duration`.
pub(crate) async fn figures(report: &mut Report, server: &Server, receiver: &Receiver, duration: Duration) {
    let other_receiver = Receiver::start_at(OTHER_ADDRESS).await;
    let bench = Bench { server, receiver, other_receiver, duration };
    let chosen = std::env::var("ATTACKS").ok();
    let wanted = |row: &str| chosen.as_ref().is_none_or(|chosen| chosen.split(',').any(|one| one == row));
    let mut rows = Vec::new();
    for (row, name, attack) in attacks(&bench) {
        if wanted(row) {
            let comparison = attack.await;
            comparison.add_to(report, &format!("{row} {name}"));
            rows.push(comparison.row(row, name));
        }
    }
    if wanted("2b") {
        let behind = endpoints::behind_another_backlog(&bench).await;
        report.add("2b 100 deliveries of B alone", behind.alone, "ms", Shown);
        let name = "2b 100 deliveries of B behind 20,000 of A to 4,000 endpoints";
        report.add(name, behind.behind, "ms", AtMost(2.0 * behind.alone + 50.0));
    }
    comparison::print(&rows);
}

/// The number, the name and the future of each attack. An attack starts when its future is awaited.
fn attacks<'a>(bench: &'a Bench<'a>) -> Vec<(&'static str, &'static str, Attack<'a>)> {
    vec![
        ("1a", "500 events/s to 2,000 hanging endpoints", Box::pin(endpoints::many_hanging(bench))),
        ("1b", "200 events/s to 64 new hanging endpoints every 5 s", Box::pin(endpoints::new_hanging(bench))),
        ("1c", "4,000 hanging endpoints with work at the worker's start", Box::pin(endpoints::hanging_restart(bench))),
        ("2", "20,000 deliveries to 4,000 healthy endpoints", Box::pin(endpoints::backlog(bench))),
        (
            "3a",
            "an open SQL transaction and 30 callers about its session",
            Box::pin(ingest::open_transaction(bench, 30)),
        ),
        (
            "3b",
            "an open SQL transaction and 100 callers about its session",
            Box::pin(ingest::open_transaction(bench, 100)),
        ),
        ("4/5", "two blocked operations, and continuous replays", Box::pin(api::replays(bench))),
        ("6", "300 endpoints whose name server never responds", Box::pin(names::unanswered(bench))),
        ("8", "20 secret headers of 4 KiB, and similar responses", Box::pin(endpoints::secrets_in_answers(bench))),
        ("9", "3,000 slow renewals of push subscriptions", Box::pin(api::slow_renewals(bench))),
        ("10", "200 requests/s with wrong tokens, from B's address", Box::pin(api::wrong_tokens(bench))),
        ("11", "40 simultaneous tests of endpoints that never respond", Box::pin(api::endpoint_tests(bench))),
        ("12", "64 connections that post single events continuously", Box::pin(ingest::endless_events(bench))),
        ("13", "as many streams as the service allows", Box::pin(api::streams(bench))),
    ]
}
