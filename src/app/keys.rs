//! The keyring: from the settings, or made once and kept in the data directory of the embedded server.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;

use crate::config::{Config, Database};
use crate::secrets::Keyring;

const FILE: &str = "encryption-keys";

/// The keys that protect what customers entrusted to the service. Without them it cannot be read again.
pub fn keyring(config: &Config) -> anyhow::Result<Keyring> {
    match (&config.encryption_keys, &config.database) {
        (Some(keys), _) => Keyring::parse(keys.expose()).context("FLAMETREE_ENCRYPTION_KEYS cannot be read"),
        (None, Database::Embedded { data_dir, .. }) => kept(&data_dir.join(FILE)),
        (None, Database::External { .. }) => anyhow::bail!("FLAMETREE_ENCRYPTION_KEYS must be set"),
    }
}

fn kept(path: &Path) -> anyhow::Result<Keyring> {
    match std::fs::read_to_string(path) {
        Ok(keys) => {
            Keyring::parse(keys.trim()).with_context(|| format!("the keys in {} cannot be read", path.display()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let (keyring, keys) = Keyring::generate();
            write(path, &keys).with_context(|| format!("the keys cannot be kept in {}", path.display()))?;
            tracing::info!(path = %path.display(), "encryption keys were made; keep them with the data");
            Ok(keyring)
        }
        Err(error) => Err(error).with_context(|| format!("the keys in {} cannot be read", path.display())),
    }
}

/// Whole or not at all: a half-written key file would lock up everything that is encrypted later.
fn write(path: &Path, keys: &str) -> std::io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    writeln!(file, "{keys}")?;
    file.sync_all()?;
    std::fs::rename(unfinished, path)
}
