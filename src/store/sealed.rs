//! Opens and seals the values of rows (header values, signing secrets and push subscriptions) when the store reads and writes
//! them.

use sqlx::Error;
use uuid::Uuid;

use crate::domain::ids::{EndpointId, SigningSecretId};
use crate::domain::names::{AgentId, TenantId, UserId};
use crate::domain::push_config::{Header, HeaderName, HeaderValue};
use crate::domain::push_subscription::PushSubscription;
use crate::domain::secret_text::SecretText;
use crate::secrets::{AssociatedData, Keyring, OpenError};

/// Why rows that contain sealed values could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    #[error(transparent)]
    Database(#[from] Error),
    /// The keyring lacks the key of a sealed value, or the sealed bytes were changed.
    #[error("cannot open a sealed value of the endpoint {endpoint_id}: {source}")]
    Unopened { endpoint_id: EndpointId, source: OpenError },
}

/// Configured headers in the form of the columns of `push_configs`.
pub(super) struct HeaderColumns {
    pub(super) names: Vec<String>,
    pub(super) values: Vec<Vec<u8>>,
    pub(super) secrets: Vec<bool>,
}

impl HeaderColumns {
    /// Seals every header value. Values that are not secret are sealed too, but the API shows them.
    pub(super) fn seal(keyring: &Keyring, tenant: &TenantId, agent: &AgentId, headers: &[Header]) -> Self {
        let seal = |header: &Header| {
            let place = AssociatedData::header_value(tenant, agent, header.name.as_str());
            keyring.seal(header.value.text().expose().as_bytes(), &place)
        };
        Self {
            names: headers.iter().map(|header| header.name.to_string()).collect(),
            values: headers.iter().map(seal).collect(),
            secrets: headers.iter().map(|header| header.value.is_secret()).collect(),
        }
    }

    pub(super) fn open(
        self,
        keyring: &Keyring,
        tenant: &TenantId,
        agent: &AgentId,
        endpoint_id: EndpointId,
    ) -> Result<Vec<Header>, SealedError> {
        let columns = self.names.into_iter().zip(self.values).zip(self.secrets);
        columns
            .map(|((name, sealed), secret)| {
                let place = AssociatedData::header_value(tenant, agent, &name);
                let text = open_text(keyring, &sealed, &place, endpoint_id)?;
                let value = if secret { HeaderValue::Secret(text) } else { HeaderValue::Plain(text) };
                Ok(Header { name: HeaderName::from_stored(name), value })
            })
            .collect()
    }
}

pub(super) fn open_signing_secret(
    keyring: &Keyring,
    tenant: &TenantId,
    endpoint_id: EndpointId,
    id: Uuid,
    sealed: &[u8],
) -> Result<SecretText, SealedError> {
    let place = AssociatedData::signing_secret(tenant, endpoint_id, SigningSecretId::from_uuid(id));
    open_text(keyring, sealed, &place, endpoint_id)
}

/// Seals a browser's subscription for its column.
pub(super) fn seal_subscription(
    keyring: &Keyring,
    tenant: &TenantId,
    user: &UserId,
    id: EndpointId,
    subscription: &PushSubscription,
) -> Vec<u8> {
    let place = AssociatedData::push_subscription(tenant, user, id);
    keyring.seal(subscription.to_text().expose().as_bytes(), &place)
}

pub(super) fn open_subscription(
    keyring: &Keyring,
    tenant: &TenantId,
    user: &UserId,
    id: EndpointId,
    sealed: &[u8],
) -> Result<PushSubscription, SealedError> {
    let place = AssociatedData::push_subscription(tenant, user, id);
    let text = open_text(keyring, sealed, &place, id)?;
    let unknown = || Error::Decode(format!("the push subscription {id} is sealed in an unknown form").into());
    Ok(PushSubscription::from_text(&text).ok_or_else(unknown)?)
}

fn open_text(
    keyring: &Keyring,
    sealed: &[u8],
    place: &AssociatedData,
    endpoint_id: EndpointId,
) -> Result<SecretText, SealedError> {
    let bytes = keyring.open(sealed, place).map_err(|source| SealedError::Unopened { endpoint_id, source })?;
    let text = str::from_utf8(&bytes)
        .map_err(|_not_utf8| Error::Decode(format!("a sealed value of {endpoint_id} is not text").into()))?;
    Ok(SecretText::new(text))
}
