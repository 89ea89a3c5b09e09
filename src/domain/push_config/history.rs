//! The history of a push config: who changed it, when, and which fields.

use chrono::{DateTime, Utc};

use crate::domain::closed_set::closed_set;

/// One change of a push config. It contains only the names of changed fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushConfigChange {
    pub changed_at: DateTime<Utc>,
    pub action: ChangeAction,
    /// The actor who made the change; `None` if the service made it.
    pub actor: Option<String>,
    pub fields: Vec<String>,
}

#[derive(
    Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, strum::EnumString, strum::IntoStaticStr, strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum ChangeAction {
    /// The config was created, or created again after a removal.
    Created,
    Changed,
    Deleted,
    SigningSecretRotated,
    /// The service disabled the config, because the endpoint responded that it is gone.
    Disabled,
}

closed_set!(ChangeAction);
