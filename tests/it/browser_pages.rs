//! Tests the portal's pages in a real Chromium with real processes.

use crate::support::browser::Portal;
use crate::support::service::{Part, Service};

fn address(service: &Service) -> String {
    service.client("").address().to_string()
}

#[tokio::test]
async fn the_pages_offer_notifications_to_the_users_who_receive_them() {
    let portal = Portal::new().await;
    let service = portal.with_push().start(Part::Run).await;
    let mut script = portal.script("chromium-notifications", &address(&service)).await;
    script.asks("without push").await;
    let without = portal.without_push().start(Part::Api).await;
    script.answer(&address(&without)).await;
    script.ends_well().await;
}

#[tokio::test]
async fn badge_and_dot_show_active_conversations_across_nodes_and_restarts() {
    let portal = Portal::new().await;
    // The test posts events to one node, and the page uses another node.
    let entrance = portal.with_push().start(Part::Run).await;
    let mut script = portal.script("chromium-workspace", &address(&entrance)).await;
    let node = portal.with_push().start(Part::Api).await;
    script.asks("node").await;
    script.answer(&address(&node)).await;
    script.asks("stop").await;
    node.stop().await;
    script.answer("stopped").await;
    script.asks("start").await;
    let node = portal.with_push().start(Part::Api).await;
    script.answer(&address(&node)).await;
    script.ends_well().await;
}

#[tokio::test]
async fn a_user_configures_and_tests_and_monitors_an_endpoint_on_the_agents_page() {
    let portal = Portal::new().await;
    let service = portal.with_push().start(Part::Run).await;
    portal.run("chromium-agent", &address(&service)).await;
}

#[tokio::test]
async fn every_page_is_accessible_in_light_and_dark_mode_and_on_a_phone() {
    let portal = Portal::new().await;
    let service = portal.with_push().start(Part::Run).await;
    portal.run("chromium-looks", &address(&service)).await;
}
