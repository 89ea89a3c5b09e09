//! The data directory of a demonstration. It is removed when the demonstration ends.
//!
//! If a demonstration is killed, the next demonstration removes the old data directory and stops the old server.

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

/// If root runs the demonstration, the server's user `postgres` might be unable to enter the directory `TMPDIR`.
const PARENT: &str = "/tmp";
const VAPID_FILE: &str = "vapid-private-key";
const PREFIX: &str = "flametree-notify-demo-";
/// Only directories older than this are removed. A newer directory might belong to a demonstration that has not locked it yet.
const SETTLED: Duration = Duration::from_mins(1);

/// A path that does not exist yet. The embedded server creates the directory with the permissions that it needs.
#[derive(Debug)]
pub(super) struct DataDirectory {
    path: PathBuf,
    kept: bool,
}

impl DataDirectory {
    /// Chooses a new directory. If `keep` contains a path, uses this path and does not remove the directory.
    pub(super) fn choose(keep: Option<PathBuf>) -> anyhow::Result<Self> {
        let Some(path) = keep else {
            let name = format!("{PREFIX}{}", Uuid::new_v4().simple());
            return Ok(Self { path: Path::new(PARENT).join(name), kept: false });
        };
        let path = std::path::absolute(&path).with_context(|| format!("{} is not a path", path.display()))?;
        anyhow::ensure!(!path.exists(), "{} already exists; name a new directory", path.display());
        Ok(Self { path, kept: true })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_kept(&self) -> bool {
        self.kept
    }

    /// Stores the private key of browser push in the data directory, because browsers have subscribed with this key.
    pub(super) fn keep_vapid_key(&self, pair: &VapidKeyPair) -> anyhow::Result<()> {
        let path = self.path.join(VAPID_FILE);
        let mut options = OpenOptions::new();
        let kept = options.write(true).create_new(true).mode(0o600).open(&path);
        kept.and_then(|mut file| writeln!(file, "{}", pair.private_key.as_str()))
            .with_context(|| format!("cannot write the key of browser push to {}", path.display()))
    }

    /// Removes the directory, unless the user chose its path.
    pub(super) fn end(&self) -> anyhow::Result<()> {
        if self.kept || !self.path.exists() {
            return Ok(());
        }
        fs::remove_dir_all(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

/// Removes the directories that killed demonstrations of this user left. If that fails, the next demonstration tries again.
pub(super) async fn remove_left_behind() {
    for path in stale_directories() {
        // `start` takes the lock and stops a stale server in this directory. `stop` then stops the new server.
        match EmbeddedServer::start(&Settings { data_dir: path.clone(), max_connections: 1 }).await {
            Ok(server) => {
                let removed = match server.stop().await {
                    Ok(()) => fs::remove_dir_all(&path).map_err(anyhow::Error::from),
                    Err(error) => Err(error.into()),
                };
                if let Err(error) = removed {
                    tracing::warn!(path = %path.display(), %error, "could not remove the data of an earlier demonstration");
                }
            }
            Err(Error::InUse { .. }) => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "could not remove the data of an earlier demonstration");
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
