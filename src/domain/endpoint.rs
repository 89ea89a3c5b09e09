//! Channels and the events that a webhook can select.

use serde::{Deserialize, Serialize};

/// How the service sends a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// An HTTP POST to the URL of an agent's push config.
    Webhook,
    /// An encrypted Web Push message to one browser.
    BrowserPush,
}

impl Channel {
    pub const ALL: [Self; 2] = [Self::Webhook, Self::BrowserPush];

    /// The channel's name in the API, in metrics and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::BrowserPush => "browser_push",
        }
    }

    /// Finds a channel by its name in the API and the database.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.as_str() == name)
    }
}

/// An event that a webhook can select, under the name that the webhook receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WebhookEvent {
    NewSessionStarted,
    AiAssistantMessage,
    UserMessage,
    TransferredToLiveAgent,
}

impl WebhookEvent {
    pub const ALL: [Self; 4] =
        [Self::NewSessionStarted, Self::AiAssistantMessage, Self::UserMessage, Self::TransferredToLiveAgent];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NewSessionStarted => "new_session_started",
            Self::AiAssistantMessage => "ai_assistant_message",
            Self::UserMessage => "user_message",
            Self::TransferredToLiveAgent => "transferred_to_live_agent",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == name)
    }
}
