//! The data directory: who may use it, what lies where, and how a new one is made.
//!
//! ```text
//! lock            held by the process that runs the server
//! cluster/        PostgreSQL's own data directory; cluster.new/ while it is being made
//! start.log       the first lines of the last start; not in log/, where the server's user could plant a link for root
//! log/            a file per weekday, overwritten after a week
//! socket/         the server's socket, unless the path is too long for one
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

/// Longest directory of a socket, in bytes: the path of a socket has 107, of which PostgreSQL adds 14, and some remain.
const MAX_SOCKET_DIRECTORY_BYTES: usize = 86;

/// Where sockets of longer paths go. Not `TMPDIR`: the place must be the same at the next start.
const SHORT_DIRECTORY: &str = "/tmp";

/// An existing data directory that this process alone uses.
#[derive(Debug)]
pub(super) struct Directory {
    account: Account,
    cluster: PathBuf,
    log: PathBuf,
    start_log: PathBuf,
    socket: PathBuf,
    /// Released when it is dropped, and by the system when this process ends, however it ends.
    _lock: Lock,
}

/// The lock of a data directory.
#[derive(Debug)]
struct Lock(File);

impl Directory {
    /// Makes what is missing and takes the lock.
    pub(super) fn open(path: &Path, account: Account) -> Result<Self, Error> {
        if !path.exists() {
            fs::create_dir_all(path).map_err(Error::io("make", path))?;
            // Others must pass through root's directory, but not list it: the server runs as another user.
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

    /// A socket's directory in `/tmp` goes with its server; the data directory stays as it is.
    pub(super) fn remove_short_socket(&self) {
        if self.socket.parent() != self.cluster.parent()
            && let Err(error) = fs::remove_dir(&self.socket)
        {
            tracing::warn!(path = %self.socket.display(), %error, "the directory of the socket remains");
        }
    }

    /// The major version that made the cluster; `None` before there is one.
    pub(super) fn cluster_version(&self) -> Result<Option<u32>, Error> {
        let path = self.cluster.join("PG_VERSION");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// Makes the cluster if there is none. It is made beside its place and renamed when it is whole, so that a kill in
    /// between leaves nothing that looks like a cluster.
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
    /// A child that was forked at this moment has the open file too until it runs its program (`O_CLOEXEC`): to close the
    /// file here would leave it locked for so long.
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

/// Makes a directory that only the account can enter. One that is already there must be so: in `/tmp` anybody could
/// have made it.
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
    // Made by root and not yet given away: a kill between the two must not need a person.
    if metadata.is_dir() && metadata.uid() == 0 && account != Account::Own {
        return account.give(path);
    }
    Err(Error::UnsafeSocketDirectory { path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_free_when_its_user_is_gone_though_a_child_still_has_the_file() {
        let path = std::env::temp_dir().join(format!("flametree-lock-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&path).unwrap();
        let first = Lock::take(&path).unwrap();
        // What a fork gives to the child until it runs its program.
        let child = first.0.try_clone().unwrap();
        assert!(matches!(Lock::take(&path).unwrap_err(), Error::InUse { .. }));
        drop(first);
        let second = Lock::take(&path).unwrap();
        drop(child);
        assert!(matches!(Lock::take(&path).unwrap_err(), Error::InUse { .. }), "that was not the lock of the second");
        drop(second);
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn a_socket_lies_in_the_data_directory_unless_the_path_is_too_long() {
        assert_eq!(socket_directory(Path::new("/var/lib/x")), Path::new("/var/lib/x/socket"));
        let long = PathBuf::from("/home").join("d".repeat(100));
        let short = socket_directory(&long);
        assert!(short.starts_with("/tmp") && short.as_os_str().len() <= MAX_SOCKET_DIRECTORY_BYTES, "{short:?}");
        assert_eq!(short, socket_directory(&long));
        assert_ne!(short, socket_directory(&long.join("e")));
    }
}
