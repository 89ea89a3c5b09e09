//! Notifications in real browsers: from an event that is posted to what stands on the screen, and where a click leads.

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
async fn firefox_is_told_from_the_dialog_to_the_last_message() {
    run("firefox-notifications").await;
}

#[tokio::test]
async fn firefox_is_told_with_no_tab_open_and_after_it_was_closed() {
    run("firefox-away").await;
}

#[tokio::test]
async fn chromium_shows_one_notification_for_each_push_and_opens_it_by_a_click() {
    run("chromium-worker").await;
}

#[tokio::test]
async fn the_client_module_keeps_its_word_in_any_page() {
    run("chromium-module").await;
}

/// The types of the module's documentation are held by its code, the worker's too, and by the pages that use it.
#[test]
fn the_types_that_the_scripts_are_documented_with_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let compiler = root.join("target/browser/node/node_modules/typescript/bin/tsc");
    for project in ["tsconfig.json", "tsconfig.worker.json", "tsconfig.pages.json"] {
        let output =
            Command::new("node").arg(&compiler).arg("-p").arg(root.join("tests/browser").join(project)).output();
        let output = output.expect("scripts/install browsers has been run");
        assert!(output.status.success(), "{project}:\n{}", String::from_utf8_lossy(&output.stdout));
    }
}
