//! The keyring. It comes from the settings, or is generated once and kept in the data directory of the embedded server.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;

use crate::config::{Config, Database};
use crate::secrets::Keyring;
use crate::store::Db;
use crate::store::rotation::{self, KeyUse};

const FILE: &str = "encryption-keys";
/// Maximum number of passes of a rotation. One pass can be too few, because other processes may still write with the old key.
const PASSES: usize = 5;

/// Returns the keys that encrypt customers' secrets. Without these keys, the secrets cannot be read.
pub fn keyring(config: &Config) -> anyhow::Result<Arc<Keyring>> {
    match (&config.encryption_keys, &config.database) {
        (Some(keyring), _) => Ok(Arc::clone(keyring)),
        (None, Database::Embedded(settings)) => kept(&settings.data_dir.join(FILE)).map(Arc::new),
        (None, Database::External { .. }) => anyhow::bail!("FLAMETREE_ENCRYPTION_KEYS must be set"),
    }
}

/// Fails if a stored value needs a key that the keyring lacks, because each delivery that needs this value would fail. The
/// error names the keys and the values.
pub(super) async fn check(db: &Db, keyring: &Keyring) -> anyhow::Result<()> {
    let in_use = rotation::keys_in_use(db).await.context("the keys of stored values cannot be read")?;
    let mut lost: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for KeyUse { key_id, what, values } in &in_use {
        let key_id = key_id.as_deref().unwrap_or("(unknown)");
        if keyring.ids().all(|known| known != key_id) {
            lost.entry(key_id).or_default().push(format!("{values} {what}"));
        }
    }
    let lost: Vec<_> = lost.iter().map(|(id, what)| format!("`{id}` ({})", what.join(", "))).collect();
    anyhow::ensure!(
        lost.is_empty(),
        "stored values are encrypted with keys that the keyring does not have: {}; add them to FLAMETREE_ENCRYPTION_KEYS \
         or, with the embedded server, to the file `{FILE}` in the data directory",
        lost.join(", "),
    );
    let mistaken = rotation::mistaken_keys(db, keyring).await.context("stored values cannot be read")?;
    anyhow::ensure!(
        mistaken.is_empty(),
        "the key with the id `{}` in the keyring is not the key of this id that encrypted the stored values",
        mistaken.join("`, `"),
    );
    Ok(())
}

/// The result of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The id of the key that now encrypts all values.
    pub active: String,
    /// Number of values that were encrypted again.
    pub values: u64,
    /// The ids of the keys that no stored value needs.
    pub unused: Vec<String>,
}

/// Encrypts all values with the active key, while the service runs. Repeats until no value uses another key, because other
/// processes may still write with the old key.
pub async fn rotate(db: &Db, keyring: &Keyring) -> anyhow::Result<Rotated> {
    check(db, keyring).await?;
    let mut values = 0;
    for _ in 0..PASSES {
        values += rotation::reencrypt(db, keyring).await.context("some values could not be encrypted again")?;
        let in_use = rotation::keys_in_use(db).await.context("the keys of stored values cannot be read")?;
        let active = keyring.active_id();
        if in_use.iter().all(|one| one.key_id.as_deref() == Some(active)) {
            let unused = keyring.ids().skip(1).map(str::to_owned).collect();
            return Ok(Rotated { active: active.to_owned(), values, unused });
        }
    }
    anyhow::bail!(
        "other processes still encrypt with a key other than `{}`: put this key first in every process, then rotate again",
        keyring.active_id()
    )
}

fn kept(path: &Path) -> anyhow::Result<Keyring> {
    match std::fs::read_to_string(path) {
        Ok(keys) => {
            Keyring::parse(keys.trim()).with_context(|| format!("the keys in {} cannot be read", path.display()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let (keyring, keys) = Keyring::generate();
            write(path, &keys).with_context(|| format!("the keys cannot be written to {}", path.display()))?;
            tracing::info!(path = %path.display(), "generated encryption keys; keep them with the data");
            Ok(keyring)
        }
        Err(error) => Err(error).with_context(|| format!("the keys in {} cannot be read", path.display())),
    }
}

/// Writes the file completely or not at all. If only a part of a key were stored, all values that are encrypted later would be
/// lost.
fn write(path: &Path, keys: &str) -> std::io::Result<()> {
    let unfinished = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    writeln!(file, "{keys}")?;
    file.sync_all()?;
    std::fs::rename(unfinished, path)
}
