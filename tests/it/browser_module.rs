//! The client module and the service worker in real browsers.

use crate::support::browser::Portal;
use crate::support::service::Part;

#[tokio::test]
async fn chromium_takes_the_page_the_module_and_the_service_worker_as_they_are_served() {
    let portal = Portal::new().await;
    let service = portal.with_push().start(Part::Run).await;
    portal.run("chromium-serving", &service.client("").address().to_string()).await;
}
