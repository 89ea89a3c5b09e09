//! Channels and the events that a webhook can select.

use serde::{Deserialize, Serialize};

use super::closed_set::closed_set;

/// How the service sends a delivery.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Channel {
    /// An HTTP POST to the URL of an agent's push config.
    Webhook,
    /// An encrypted Web Push message to one browser.
    BrowserPush,
}

closed_set!(Channel);

/// An event that a webhook can select, under the name that the webhook receives.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum WebhookEvent {
    NewSessionStarted,
    AiAssistantMessage,
    UserMessage,
    TransferredToLiveAgent,
}

closed_set!(WebhookEvent);
