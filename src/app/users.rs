//! Builds the authenticator of portal users from the settings.

use std::sync::Arc;

use anyhow::Context as _;

use crate::config::{self, Config, UserTokenKeys};
use crate::supervision::Stage;
use crate::users::{Bounds, KeySource, Settings, UserAuthenticator};

/// Starts the authenticator; `None` if there are no portal users.
pub(super) fn start(config: &Config, stage: &Stage) -> anyhow::Result<Option<Arc<UserAuthenticator>>> {
    let Some(config::UserTokens { keys, issuer, audience }) = config.users.clone() else { return Ok(None) };
    let keys = match keys {
        UserTokenKeys::One(key) => KeySource::One(key),
        UserTokenKeys::Jwks(url) => {
            let extra_roots = config.operator_ca_certificates.clone();
            KeySource::Published { url, extra_roots, bounds: Bounds::default() }
        }
    };
    let users = UserAuthenticator::start(Settings { keys, issuer, audience }, stage)
        .context("the tokens of portal users cannot be verified")?;
    Ok(Some(Arc::new(users)))
}
