//! Where a demonstration's data lies: a directory of its own, gone when it ends.
//!
//! What a killed one could not remove, its server included, the next one removes.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use flametree_notify::postgres::{EmbeddedServer, Error, Settings};
use flametree_notify::secrets::VapidKeyPair;
use nix::unistd::geteuid;
use uuid::Uuid;

/// Not `TMPDIR`, which may be a place that the user `postgres`, who runs root's server, cannot enter.
const PARENT: &str = "/tmp";
const VAPID_FILE: &str = "vapid-private-key";
const PREFIX: &str = "flametree-notify-demo-";
/// A younger directory may belong to a demonstration that has not locked it yet.
const SETTLED: Duration = Duration::from_mins(1);

/// A path that does not exist yet: the embedded server makes it, as it needs it.
#[derive(Debug)]
pub(super) struct DataDirectory {
    path: PathBuf,
    kept: bool,
}

impl DataDirectory {
    /// `keep`: a new directory that stays.
    pub(super) fn choose(keep: Option<PathBuf>) -> anyhow::Result<Self> {
        let Some(path) = keep else {
            let name = format!("{PREFIX}{}", Uuid::new_v4().simple());
            return Ok(Self { path: Path::new(PARENT).join(name), kept: false });
        };
        let path = std::path::absolute(&path).with_context(|| format!("{} is not a path", path.display()))?;
        anyhow::ensure!(!path.exists(), "{} is already there; name a new directory", path.display());
        Ok(Self { path, kept: true })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }

    /// Keeps the private key of browser push with the data: browsers have subscribed with it.
    pub(super) fn keep_vapid_key(&self, pair: &VapidKeyPair) -> anyhow::Result<()> {
        let path = self.path.join(VAPID_FILE);
        let mut options = OpenOptions::new();
        let kept = options.write(true).create_new(true).mode(0o600).open(&path);
        kept.and_then(|mut file| writeln!(file, "{}", pair.private_key.as_str()))
            .with_context(|| format!("the key of browser push cannot be kept in {}", path.display()))
    }

    /// Removes everything, unless it is to be kept.
    pub(super) fn end(&self) -> anyhow::Result<()> {
        if self.kept || !self.path.exists() {
            return Ok(());
        }
        fs::remove_dir_all(&self.path).with_context(|| format!("{} cannot be removed", self.path.display()))
    }
}

/// Removes what killed demonstrations of this user left behind. Whatever fails here is the next one's to do.
pub(super) async fn remove_left_behind() {
    for path in stale_directories() {
        // Whoever gets the lock may end the server that still runs there: a start does, and stops in order.
        match EmbeddedServer::start(&Settings { data_dir: path.clone(), max_connections: 1 }).await {
            Ok(server) => {
                let removed = match server.stop().await {
                    Ok(()) => fs::remove_dir_all(&path).map_err(anyhow::Error::from),
                    Err(error) => Err(error.into()),
                };
                if let Err(error) = removed {
                    tracing::warn!(path = %path.display(), %error, "an earlier demonstration's data remains");
                }
            }
            Err(Error::InUse { .. }) => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "an earlier demonstration's data remains");
            }
        }
    }
}

fn stale_directories() -> Vec<PathBuf> {
    let entries = fs::read_dir(PARENT).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    ours.map(|entry| entry.path()).filter(|path| is_settled_and_ours(path)).collect()
}

fn is_settled_and_ours(path: &Path) -> bool {
    let Ok(metadata) = fs::symlink_metadata(path) else { return false };
    let age = metadata.modified().ok().and_then(|changed| changed.elapsed().ok());
    metadata.is_dir() && metadata.uid() == geteuid().as_raw() && age.is_some_and(|age| age >= SETTLED)
}
