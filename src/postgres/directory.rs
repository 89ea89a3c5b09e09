//! The data directory: its lock, its layout, and the creation of a new data directory.
//!
//! ```text
//! lock            held by the process that runs the server
//! cluster/        PostgreSQL's data directory; cluster.new/ while it is being created
//! start.log       the first lines of the last start; not in log/, because the server's user could put a link there
//! log/            a file per weekday, overwritten after a week
//! socket/         the server's socket, unless the path is too long
//! ```

use std::fs::{self, DirBuilder, File, Permissions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use sha2::{Digest as _, Sha256};

use super::NAME;
use super::account::Account;
use super::error::Error;
use super::installation::Installation;
use super::stale_processes;

/// Maximum length of the path of a socket's directory, in bytes. A socket's path can have at most 107 bytes. PostgreSQL
/// appends a name of 14 bytes, and 7 bytes remain unused.
const MAX_SOCKET_DIRECTORY_BYTES: usize = 86;

/// The parent of the socket's directory if the data directory's path is too long. This is not `TMPDIR`, because the next
/// start must find the same directory.
const SHORT_DIRECTORY: &str = "/tmp";

/// An existing data directory that only this process uses.
#[derive(Debug)]
pub(super) struct Directory {
    account: Account,
    cluster: PathBuf,
    log: PathBuf,
    start_log: PathBuf,
    socket: PathBuf,
    /// The lock is released when this value is dropped or this process ends.
    _lock: Lock,
}

#[derive(Debug)]
struct Lock(File);

impl Directory {
    /// Creates missing directories and takes the lock.
    pub(super) fn open(path: &Path, account: Account) -> Result<Self, Error> {
        if !path.exists() {
            fs::create_dir_all(path).map_err(Error::io("make", path))?;
            // The server's user must be able to pass through a directory of root, but not to list it.
            let mode = if account == Account::Own { 0o700 } else { 0o711 };
            fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::io("protect", path))?;
        }
        let path = &fs::canonicalize(path).map_err(Error::io("find", path))?;
        account.check_can_enter(path)?;
        let lock = Lock::take(path)?;
        let log = path.join("log");
        private_directory(&log, account)?;
        let socket = socket_directory(path);
        private_directory(&socket, account)?;
        Ok(Self { account, cluster: path.join("cluster"), log, start_log: path.join("start.log"), socket, _lock: lock })
    }

    pub(super) fn account(&self) -> Account {
        self.account
    }

    pub(super) fn cluster(&self) -> &Path {
        &self.cluster
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    pub(super) fn start_log(&self) -> &Path {
        &self.start_log
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Removes the socket's directory in `/tmp`. The data directory stays.
    pub(super) fn remove_short_socket(&self) {
        if self.socket.parent() != self.cluster.parent()
            && let Err(error) = fs::remove_dir(&self.socket)
        {
            tracing::warn!(path = %self.socket.display(), %error, "could not remove the directory of the socket");
        }
    }

    /// The major version of PostgreSQL that created the cluster; `None` if there is no cluster.
    pub(super) fn cluster_version(&self) -> Result<Option<u32>, Error> {
        let path = self.cluster.join("PG_VERSION");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// Creates the cluster if it is missing, in another directory that is renamed when the cluster is complete. So a killed
    /// process leaves nothing that looks like a cluster.
    pub(super) async fn initialize(&self, installation: &Installation) -> Result<(), Error> {
        if self.cluster.exists() {
            return Ok(());
        }
        let unfinished = self.cluster.with_extension("new");
        if unfinished.exists() {
            stale_processes::end_processes(&unfinished).await?;
            fs::remove_dir_all(&unfinished).map_err(Error::io("remove", &unfinished))?;
        }
        private_directory(&unfinished, self.account)?;
        let output = self
            .account
            .command(&installation.program("initdb"))
            .arg("--pgdata")
            .arg(&unfinished)
            .args(["--username", NAME, "--encoding", "UTF8", "--locale", "C"])
            .args(["--auth-local", "trust", "--auth-host", "reject"])
            .current_dir(&unfinished)
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(Error::io("run initdb in", &unfinished))?;
        if !output.status.success() {
            return Err(Error::Initialize { output: String::from_utf8_lossy(&output.stderr).trim().to_owned() });
        }
        fs::rename(&unfinished, &self.cluster).map_err(Error::io("rename", &unfinished))
    }
}

impl Lock {
    fn take(directory: &Path) -> Result<Self, Error> {
        let path = directory.join("lock");
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(Error::InUse { path: directory.to_owned() }),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
        }
    }
}

impl Drop for Lock {
    /// A child that was just forked also has the file open until it executes its program (`O_CLOEXEC`). If this process only
    /// closed the file, the file would stay locked until then.
    fn drop(&mut self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the data directory remains locked until this process ends");
        }
    }
}

pub(super) fn socket_directory(directory: &Path) -> PathBuf {
    let socket = directory.join("socket");
    if socket.as_os_str().len() <= MAX_SOCKET_DIRECTORY_BYTES {
        return socket;
    }
    let digest = Sha256::digest(directory.as_os_str().as_bytes());
    let (start, _) = digest.split_at(8);
    let name = start.iter().fold(0_u64, |name, byte| name << 8 | u64::from(*byte));
    Path::new(SHORT_DIRECTORY).join(format!("flametree-notify-{name:016x}"))
}

/// Creates a directory that only the account can enter. An existing directory must have these permissions already, because any
/// user could have created it in `/tmp`.
fn private_directory(path: &Path, account: Account) -> Result<(), Error> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return account.give(path),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Error::io("make", path)(error)),
    }
    let metadata = fs::symlink_metadata(path).map_err(Error::io("read", path))?;
    let open_to_others = metadata.mode() & 0o077;
    if metadata.is_dir() && metadata.uid() == account.user_id() && open_to_others == 0 {
        return Ok(());
    }
    // An earlier start might have been killed before it changed the directory's owner. This start must repair that.
    if metadata.is_dir() && metadata.uid() == 0 && account != Account::Own {
        return account.give(path);
    }
    Err(Error::UnsafeSocketDirectory { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_free_after_its_owner_exits_even_if_a_child_has_the_file_open() {
        let path = std::env::temp_dir().join(format!("flametree-lock-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&path).unwrap();
        let first = Lock::take(&path).unwrap();
        // This is the open file that a forked child has until it executes its program.
        let child = first.0.try_clone().unwrap();
        assert!(matches!(Lock::take(&path).unwrap_err(), Error::InUse { .. }));
        drop(first);
        let second = Lock::take(&path).unwrap();
        drop(child);
        assert!(matches!(Lock::take(&path).unwrap_err(), Error::InUse { .. }), "the second lock was not held");
        drop(second);
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_socket_is_in_the_data_directory_unless_the_path_is_too_long() {
        assert_eq!(socket_directory(Path::new("/var/lib/x")), Path::new("/var/lib/x/socket"));
        let long = PathBuf::from("/home").join("d".repeat(100));
        let short = socket_directory(&long);
        assert!(short.starts_with("/tmp") && short.as_os_str().len() <= MAX_SOCKET_DIRECTORY_BYTES, "{short:?}");
        assert_eq!(short, socket_directory(&long));
        assert_ne!(short, socket_directory(&long.join("e")));
    }
}
