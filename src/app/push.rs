//! Builds the browser push sender from the settings, and checks that the settings contain the keys of all subscriptions.

use anyhow::Context as _;

use crate::channels::HttpClient;
use crate::channels::browser_push::PushSender;
use crate::config::Config;
use crate::store::{Db, push_subscriptions};
use crate::telemetry::metrics::Metrics;

/// Creates the sender; `None` if browser push is not configured.
///
/// Fails if a subscription uses a key that is not in the settings. Otherwise all messages to its browser would fail, and each
/// failure would look like a fault of that browser.
pub(super) async fn start(
    config: &Config,
    db: &Db,
    client: &HttpClient,
    metrics: &Metrics,
) -> anyhow::Result<Option<PushSender>> {
    let in_use = push_subscriptions::vapid_keys_in_use(db).await.context("the push subscriptions cannot be read")?;
    let Some(settings) = config.browser_push.clone() else {
        let subscriptions: i64 = in_use.iter().map(|(_, subscriptions)| subscriptions).sum();
        if subscriptions > 0 {
            tracing::warn!(subscriptions, "browsers have subscribed, but browser push is no longer configured");
        }
        return Ok(None);
    };
    if let Some((id, subscriptions)) = in_use.into_iter().find(|(id, _)| settings.keys.find(id).is_none()) {
        anyhow::bail!(
            "FLAMETREE_VAPID_PRIVATE_KEY does not contain the key {id}, with which {subscriptions} browser(s) \
             subscribed. To rotate, put the new key in front of the old one: new,old. If the old one is lost, those \
             browsers must subscribe again: DELETE FROM flametree.push_subscriptions WHERE vapid_key_id = '{id}'"
        );
    }
    tracing::info!(vapid_key.id = settings.keys.current().id(), "browser push is configured");
    Ok(Some(PushSender::new(settings, client.clone(), metrics.clone())))
}
