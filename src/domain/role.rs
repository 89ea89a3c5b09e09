//! Who may do what: one table, from which checks and documentation come.

use serde::{Deserialize, Serialize};

/// What a caller is to the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A platform service: posts events, nothing else.
    Service,
    /// Everything of its tenant.
    Admin,
    /// The operator workspace and its stream.
    Operator,
    /// Reads configs without secrets and deliveries without bodies.
    Viewer,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Service, Self::Admin, Self::Operator, Self::Viewer];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// The table: whether this role has the permission.
    pub const fn may(self, permission: Permission) -> bool {
        match permission {
            Permission::PostEvents => matches!(self, Self::Service | Self::Admin),
            Permission::ReadConfigs | Permission::ReadDeliveries => matches!(self, Self::Admin | Self::Viewer),
            Permission::UseWorkspace => matches!(self, Self::Admin | Self::Operator),
            Permission::EditConfigs | Permission::TestEndpoint | Permission::ReadBodies | Permission::ManageTokens => {
                matches!(self, Self::Admin)
            }
        }
    }
}

/// One thing that a route does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    PostEvents,
    ReadConfigs,
    EditConfigs,
    /// Sends a test event, and is shown what the endpoint answers.
    TestEndpoint,
    ReadDeliveries,
    /// Message texts and answers of endpoints, which may hold what customers wrote.
    ReadBodies,
    ManageTokens,
    /// The operator workspace and its stream.
    UseWorkspace,
}

impl Permission {
    pub const ALL: [Self; 8] = [
        Self::PostEvents,
        Self::ReadConfigs,
        Self::EditConfigs,
        Self::TestEndpoint,
        Self::ReadDeliveries,
        Self::ReadBodies,
        Self::ManageTokens,
        Self::UseWorkspace,
    ];
}
