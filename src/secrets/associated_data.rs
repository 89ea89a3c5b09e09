//! The place that a sealed value belongs to. It is authenticated but not stored: sealed bytes that are copied to another
//! tenant, agent or header cannot be decrypted there.

use crate::domain::ids::{EndpointId, SigningSecretId};
use crate::domain::names::{AgentId, TenantId, UserId};

/// The place of a sealed value, as unique bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociatedData(Vec<u8>);

impl AssociatedData {
    /// A header value of an agent's push config. Header names are case-insensitive.
    pub fn header_value(tenant: &TenantId, agent: &AgentId, name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        Self::of("header_value", &[tenant.as_str().as_bytes(), agent.as_str().as_bytes(), name.as_bytes()])
    }

    /// A signing secret of a webhook, by the secret's id.
    pub fn signing_secret(tenant: &TenantId, endpoint: EndpointId, id: SigningSecretId) -> Self {
        Self::of("signing_secret", &[tenant.as_str().as_bytes(), endpoint.uuid().as_bytes(), id.uuid().as_bytes()])
    }

    /// A browser's push subscription, by the subscription's id.
    pub fn push_subscription(tenant: &TenantId, user: &UserId, endpoint: EndpointId) -> Self {
        Self::of(
            "push_subscription",
            &[tenant.as_str().as_bytes(), user.as_str().as_bytes(), endpoint.uuid().as_bytes()],
        )
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The length before each part makes the bytes unique.
    fn of(purpose: &str, parts: &[&[u8]]) -> Self {
        let mut bytes = Vec::new();
        for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        Self(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_join_to_the_same_text_are_different_places() {
        let place = |tenant: &str, agent: &str, name: &str| {
            AssociatedData::header_value(&TenantId::parse(tenant).unwrap(), &AgentId::parse(agent).unwrap(), name)
        };
        assert_ne!(place("ab", "c", "d"), place("a", "bc", "d"));
        assert_ne!(place("ab", "c", "d"), place("ab", "cd", ""));
        assert_eq!(place("a", "b", "X-Key"), place("a", "b", "x-key"));
    }

    #[test]
    fn the_same_parts_with_another_purpose_are_another_place() {
        let parts: [&[u8]; 1] = [b"x"];
        assert_ne!(AssociatedData::of("header_value", &parts), AssociatedData::of("signing_secret", &parts));
    }
}
