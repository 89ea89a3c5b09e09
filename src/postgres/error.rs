//! Why the embedded server cannot run, and how to fix it.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "no PostgreSQL {minimum} or newer is installed: install it (Debian: apt-get install postgresql), \
         or set DATABASE_URL to a server that runs elsewhere"
    )]
    NotInstalled { minimum: u32 },
    #[error(
        "the data directory was made by PostgreSQL {version}, which is not installed: install that version \
         (Debian: apt-get install postgresql-{version}), or move the data with pg_upgrade"
    )]
    OtherVersion { version: u32 },
    #[error(
        "PostgreSQL does not run as root and there is no user `postgres` to run it as: install PostgreSQL from your \
         system's packages, or start flametree-notify as another user"
    )]
    NoAccount,
    #[error(
        "the user `postgres`, who runs root's server, cannot enter {}: set FLAMETREE_DATA_DIR to another directory",
        path.display()
    )]
    NotEnterable { path: PathBuf },
    #[error(
        "another flametree-notify uses the data directory {}: stop it, or set FLAMETREE_DATA_DIR to another directory",
        path.display()
    )]
    InUse { path: PathBuf },
    #[error("{} is not a directory that only the server's user can enter: remove it", path.display())]
    UnsafeSocketDirectory { path: PathBuf },
    #[error("an earlier server in {} does not stop: end process {pid}", path.display())]
    LeftBehind { path: PathBuf, pid: i32 },
    #[error("the data directory cannot be initialized: {output}")]
    Initialize { output: String },
    #[error("the embedded PostgreSQL ended during its start; its log is in {}: {output}", log.display())]
    Ended { log: PathBuf, output: String },
    #[error("the embedded PostgreSQL accepts no connections; its log is in {}", log.display())]
    NotReady {
        log: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("cannot {action} {}", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Converts an I/O error in `map_err`: adds the failed action and its path.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
