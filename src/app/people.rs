//! The portal's users: from the settings to whoever verifies their tokens.

use std::sync::Arc;

use anyhow::Context as _;

use crate::config::{self, Config, PeopleKeys};
use crate::people::{Bounds, KeySource, People, Settings};
use crate::supervision::Stage;

/// `None`: there are no portal users.
pub(super) fn start(config: &Config, stage: &Stage) -> anyhow::Result<Option<Arc<People>>> {
    let Some(config::People { keys, issuer, audience }) = config.people.clone() else { return Ok(None) };
    let keys = match keys {
        PeopleKeys::One(key) => KeySource::One(key),
        PeopleKeys::Jwks(url) => {
            let extra_roots = config.operator_ca_certificates.clone();
            KeySource::Published { url, extra_roots, bounds: Bounds::default() }
        }
    };
    let people = People::start(Settings { keys, issuer, audience }, stage)
        .context("the tokens of portal users cannot be verified")?;
    Ok(Some(Arc::new(people)))
}
