//! The user who runs the server and owns its files: the current user, or `postgres` if the current user is root.
//!
//! PostgreSQL refuses to run as root.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;

use nix::unistd::{User, geteuid};
use tokio::process::Command;

use super::error::Error;

/// The user who runs the server in the packages of Debian, Red Hat and Alpine.
const SERVER_USER: &str = "postgres";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Account {
    /// The server runs as the current user.
    Own,
    /// The current user is root: the server runs as another user.
    Other { user: u32, group: u32 },
}

impl Account {
    pub(super) fn for_server() -> Result<Self, Error> {
        if !geteuid().is_root() {
            return Ok(Self::Own);
        }
        match User::from_name(SERVER_USER) {
            Ok(Some(user)) => Ok(Self::Other { user: user.uid.as_raw(), group: user.gid.as_raw() }),
            Ok(None) | Err(_) => Err(Error::NoAccount),
        }
    }

    /// The id of the user who owns the server's files.
    pub(super) fn user_id(self) -> u32 {
        match self {
            Self::Own => geteuid().as_raw(),
            Self::Other { user, .. } => user,
        }
    }

    /// A command that runs a PostgreSQL program as this account. The environment is cleared, because variables such as
    /// `PGDATA`, `PGPORT` and `PGOPTIONS` would change the program's behavior.
    pub(super) fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").current_dir("/");
        if let Self::Other { user, group } = self {
            command.uid(user).gid(group);
        }
        command
    }

    pub(super) fn give(self, path: &Path) -> Result<(), Error> {
        match self {
            Self::Own => Ok(()),
            Self::Other { user, group } => {
                chown(path, Some(user), Some(group)).map_err(Error::io("change the owner of", path))
            }
        }
    }

    /// Checks that the account can enter the directory and all its parents.
    pub(super) fn check_can_enter(self, directory: &Path) -> Result<(), Error> {
        let Self::Other { user, group } = self else { return Ok(()) };
        for path in directory.ancestors() {
            let metadata = fs::metadata(path).map_err(Error::io("read", path))?;
            let bit = match (metadata.uid() == user, metadata.gid() == group) {
                (true, _) => 0o100,
                (false, true) => 0o010,
                (false, false) => 0o001,
            };
            if metadata.mode() & bit == 0 {
                return Err(Error::NotEnterable { path: path.to_owned() });
            }
        }
        Ok(())
    }
}
