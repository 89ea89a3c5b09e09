//! The history of a push config: who changed it, when, and which fields.

use chrono::{DateTime, Utc};

/// One change of a push config. It contains only the names of changed fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushConfigChange {
    pub changed_at: DateTime<Utc>,
    pub action: ChangeAction,
    /// The actor who made the change; `None` if the service made it.
    pub actor: Option<String>,
    pub fields: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeAction {
    /// The config was created, or created again after a removal.
    Created,
    Changed,
    Deleted,
    SigningSecretRotated,
    /// The service disabled the config, because the endpoint responded that it is gone.
    Disabled,
}

impl ChangeAction {
    pub const ALL: [Self; 5] =
        [Self::Created, Self::Changed, Self::Deleted, Self::SigningSecretRotated, Self::Disabled];

    /// The action's name in the API and in the database.
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
