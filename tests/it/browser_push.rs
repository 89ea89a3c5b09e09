//! Tests push notifications in real browsers. Each test posts an event and checks the page that a click on the notification
//! opens.

use std::path::Path;
use std::process::Command;

use crate::support::browser::Portal;
use crate::support::service::Part;

async fn run(script: &str) {
    let portal = Portal::new().await;
    let service = portal.with_push().start(Part::Run).await;
    portal.run(script, &service.client("").address().to_string()).await;
}

#[tokio::test]
async fn firefox_shows_notifications_after_the_user_allows_them() {
    run("firefox-notifications").await;
}

#[tokio::test]
async fn firefox_shows_notifications_without_a_tab_and_after_a_restart() {
    run("firefox-away").await;
}

#[tokio::test]
async fn chromium_shows_one_notification_for_each_push_and_a_click_opens_the_linked_page() {
    run("chromium-worker").await;
}

#[tokio::test]
async fn the_client_module_works_in_any_page() {
    run("chromium-module").await;
}

/// The client module, the service worker and the pages match the types that the module's documentation states.
#[test]
fn the_documented_types_of_the_scripts_are_correct() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compiler = root.join("target/browser/node/node_modules/typescript/bin/tsc");
    for project in ["tsconfig.json", "tsconfig.worker.json", "tsconfig.pages.json"] {
        let output =
            Command::new("node").arg(&compiler).arg("-p").arg(root.join("tests/browser").join(project)).output();
        let output = output.expect("run scripts/install browsers");
        assert!(output.status.success(), "{project}:\n{}", String::from_utf8_lossy(&output.stdout));
    }
}
