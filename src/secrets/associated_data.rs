//! Associated data of a sealed value: the tenant, agent, header or subscription that the value belongs to. It is
//! authenticated but not stored. So sealed bytes that are copied to another tenant, agent or header cannot be decrypted there.

use crate::domain::ids::{EndpointId, SigningSecretId};
use crate::domain::names::{AgentId, TenantId, UserId};

/// The associated data of one sealed value, encoded as unique bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssociatedData(Vec<u8>);

impl AssociatedData {
    /// The associated data of a header value of an agent's push config. Header names are case-insensitive.
    pub fn header_value(tenant: &TenantId, agent: &AgentId, name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        Self::of("header_value", &[tenant.as_str().as_bytes(), agent.as_str().as_bytes(), name.as_bytes()])
    }

    /// The associated data of a signing secret of a webhook. `id` is the id of the secret.
    pub fn signing_secret(tenant: &TenantId, endpoint: EndpointId, id: SigningSecretId) -> Self {
        Self::of("signing_secret", &[tenant.as_str().as_bytes(), endpoint.uuid().as_bytes(), id.uuid().as_bytes()])
    }

    /// The associated data of a browser's push subscription. `endpoint` is the id of the subscription.
    pub fn push_subscription(tenant: &TenantId, user: &UserId, endpoint: EndpointId) -> Self {
        Self::of(
            "push_subscription",
            &[tenant.as_str().as_bytes(), user.as_str().as_bytes(), endpoint.uuid().as_bytes()],
        )
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Encodes each value after its length, so that different lists of values never give the same bytes.
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
    fn values_that_join_to_the_same_text_give_different_bytes() {
        let place = |tenant: &str, agent: &str, name: &str| {
            AssociatedData::header_value(&TenantId::parse(tenant).unwrap(), &AgentId::parse(agent).unwrap(), name)
        };
        assert_ne!(place("ab", "c", "d"), place("a", "bc", "d"));
        assert_ne!(place("ab", "c", "d"), place("ab", "cd", ""));
        assert_eq!(place("a", "b", "X-Key"), place("a", "b", "x-key"));
    }

    #[test]
    fn the_same_values_give_different_bytes_for_another_purpose() {
        let parts: [&[u8]; 1] = [b"x"];
        assert_ne!(AssociatedData::of("header_value", &parts), AssociatedData::of("signing_secret", &parts));
    }
}
