//! Finds the programs of an installed PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::error::Error;

/// The oldest major version of PostgreSQL that the tests cover.
const MINIMUM_VERSION: u32 = 15;

/// Parent directories that contain one directory per PostgreSQL version: Debian's, then Red Hat's.
const VERSIONED_DIRECTORIES: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// The programs of one PostgreSQL version.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Installation {
    major: u32,
    version: String,
    programs: PathBuf,
}

impl Installation {
    /// Finds the newest installed version. If `cluster_version` is given, finds the version that can read clusters of that
    /// version.
    pub(super) async fn find(cluster_version: Option<u32>) -> Result<Self, Error> {
        let mut found = Vec::new();
        for programs in candidates().await {
            found.extend(Self::at(programs).await);
        }
        let newest = found
            .into_iter()
            .filter(|installation| cluster_version.is_none_or(|version| installation.major == version))
            .max();
        match (newest, cluster_version) {
            (Some(installation), _) => Ok(installation),
            (None, Some(version)) => Err(Error::OtherVersion { version }),
            (None, None) => Err(Error::NotInstalled { minimum: MINIMUM_VERSION }),
        }
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// The version, such as `15.8`.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    async fn at(programs: PathBuf) -> Option<Self> {
        if !programs.join("initdb").is_file() {
            return None;
        }
        let version = version_in(&output_of(&programs.join("postgres"), &["--version"]).await?)?.to_owned();
        let major = version.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()?;
        (major >= MINIMUM_VERSION).then_some(Self { major, version, programs })
    }
}

/// Directories in which the programs might be. The list can contain duplicates.
async fn candidates() -> Vec<PathBuf> {
    let mut candidates: Vec<PathBuf> = Vec::new();
    for (parent, prefix) in VERSIONED_DIRECTORIES {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        let versioned = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
        candidates.extend(versioned.map(|entry| entry.path().join("bin")));
    }
    candidates.extend(output_of(Path::new("pg_config"), &["--bindir"]).await.map(PathBuf::from));
    // The shell searches PATH, because only the config module may read environment variables.
    if let Some(postgres) = output_of(Path::new("sh"), &["-c", "command -v postgres"]).await {
        let program = std::fs::canonicalize(&postgres).unwrap_or_else(|_| PathBuf::from(postgres));
        candidates.extend(program.parent().map(Path::to_owned));
    }
    candidates
}

/// The first line that a program prints; `None` if the program does not exist or fails.
async fn output_of(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().await.ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.lines().next().map(str::to_owned))?
}

/// Finds `15.8` in `postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)`.
fn version_in(line: &str) -> Option<&str> {
    line.split_once("(PostgreSQL) ")?.1.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_version_that_postgres_prints() {
        assert_eq!(version_in("postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)"), Some("15.8"));
        assert_eq!(version_in("postgres (PostgreSQL) 18beta1"), Some("18beta1"));
        assert_eq!(version_in("something else"), None);
    }

    #[test]
    fn compares_versions_as_numbers_not_as_text() {
        let installation = |major, version: &str| Installation {
            major,
            version: version.to_owned(),
            programs: PathBuf::from(version),
        };
        assert!(installation(100, "100.1") > installation(99, "99.9"));
    }
}
