//! What a token says, and the person that this makes.

use serde::Deserialize;

use crate::domain::names::{TenantId, UserId};
use crate::domain::role::Role;

/// The claims that are used; those about validity are checked before.
#[derive(Deserialize)]
pub(super) struct Claims {
    sub: String,
    tenant_id: String,
    role: String,
}

/// Somebody who works at the portal, as the identity provider vouches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub user: UserId,
    pub tenant: TenantId,
    pub role: Role,
}

impl Claims {
    pub(super) fn person(self) -> Result<Person, &'static str> {
        let user = UserId::parse(self.sub).map_err(|_fault| "sub is no name")?;
        let tenant = TenantId::parse(self.tenant_id).map_err(|_fault| "tenant_id is no name")?;
        let role = Role::from_name(&self.role).ok_or("role is none of the roles")?;
        Ok(Person { user, tenant, role })
    }
}
