//! The history of a push config: who changed it, when, and which fields.

use chrono::{DateTime, Utc};

/// One change. Of what was changed only the names are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushConfigChange {
    pub changed_at: DateTime<Utc>,
    pub action: ChangeAction,
    /// Who did it; `None`: the service itself.
    pub actor: Option<String>,
    pub fields: Vec<String>,
}

/// What was done to a push config.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeAction {
    /// Set for the first time, or again after a removal.
    Created,
    Changed,
    Deleted,
    SigningSecretRotated,
    /// By the service, because the endpoint said that it is gone.
    Disabled,
}

impl ChangeAction {
    pub const ALL: [Self; 5] =
        [Self::Created, Self::Changed, Self::Deleted, Self::SigningSecretRotated, Self::Disabled];

    /// The name in the API and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
            Self::SigningSecretRotated => "signing_secret_rotated",
            Self::Disabled => "disabled",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }
}
