//! The table of permissions. The request checks and the documentation of the API use this table.

use serde::{Deserialize, Serialize};

use super::closed_set::closed_set;

/// The role of a caller.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// A platform service: only posts events.
    Service,
    /// May do everything for its tenant.
    Admin,
    /// Configures the webhooks of agents, and reads and replays deliveries.
    AgentEditor,
    /// Assists customers in the operator workspace.
    Operator,
    /// Reads configs without secrets and deliveries without bodies.
    Viewer,
}

closed_set!(Role);

impl Role {
    /// The names of all roles, for users.
    pub fn names() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }

    /// True if the role has the permission.
    pub fn may(self, permission: Permission) -> bool {
        permission.roles().contains(&self)
    }
}

/// A permission as a type, so that a function can require it by the type of an argument.
pub trait Permit {
    const PERMISSION: Permission;
}

/// Defines all permissions, each with its meaning and its roles.
macro_rules! permissions {
    ($($(#[doc = $meaning:literal])+ $name:ident: $($role:ident),+;)+) => {
        /// An action that callers may be allowed to do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Permission {
            $($(#[doc = $meaning])+ $name,)+
        }

        impl Permission {
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// What the permission allows, as text.
            pub const fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($meaning),+).trim_ascii(),)+
                }
            }

            /// The roles that have the permission.
            pub const fn roles(self) -> &'static [Role] {
                match self {
                    $(Self::$name => &[$(Role::$role),+],)+
                }
            }
        }

        /// Each permission as a type.
        pub mod permissions {
            $(
                #[derive(Debug)]
                pub struct $name;

                impl super::Permit for $name {
                    const PERMISSION: super::Permission = super::Permission::$name;
                }
            )+
        }
    };
}

// The permission table. The role `admin` may do everything for its tenant. Users who may edit configs can send messages to
// any URL, so hiding the texts of messages from the role `agent_editor` would protect nothing.
permissions! {
    /// post events
    PostEvents: Admin, Service;
    /// read push configs, without secrets
    ReadConfigs: Admin, AgentEditor, Viewer;
    /// change push configs and create new signing secrets
    EditConfigs: Admin, AgentEditor;
    /// send a test event to an endpoint and see the endpoint's response
    TestEndpoint: Admin, AgentEditor;
    /// read events and deliveries
    ReadDeliveries: Admin, AgentEditor, Viewer;
    /// see the messages in events and deliveries, and the responses of endpoints
    ReadBodies: Admin, AgentEditor;
    /// see the operator workspace and receive its changes
    UseWorkspace: Admin, Operator;
    /// replay deliveries; see and cancel replays
    Replay: Admin, AgentEditor;
    /// subscribe, list and remove the caller's own browsers for notifications
    SubscribeBrowsers: Admin, AgentEditor, Operator;
    /// list and remove the browsers of any user
    ManageBrowsers: Admin;
    /// create, list and revoke API tokens
    ManageTokens: Admin;
}

/// The permission table in Markdown, for `docs/api.md`.
pub fn table() -> String {
    let heading = format!("| may | {} |\n|---|---|---|---|---|---|\n", Role::ALL.map(Role::as_str).join(" | "));
    let rows = Permission::ALL.iter().map(|permission| {
        let marks = Role::ALL.map(|role| if role.may(*permission) { "yes" } else { "" });
        format!("| {} | {} |\n", permission.meaning(), marks.join(" | "))
    });
    std::iter::once(heading).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_round_trips_through_its_name() {
        for role in Role::ALL {
            assert_eq!(Role::from_name(role.as_str()), Some(role));
        }
        assert_eq!(Role::from_name("Admin"), None);
    }

    #[test]
    fn roles_have_the_permissions_that_the_api_documents() {
        for permission in Permission::ALL {
            assert!(Role::Admin.may(*permission), "{permission:?}");
            assert_eq!(Role::Service.may(*permission), *permission == Permission::PostEvents, "{permission:?}");
        }
        assert!(!Role::Viewer.may(Permission::ReadBodies) && !Role::Viewer.may(Permission::EditConfigs));
    }

    #[test]
    fn the_documentation_contains_the_permission_table() {
        assert!(include_str!("../../docs/api.md").contains(&table()), "docs/api.md should have:\n{}", table());
    }
}
