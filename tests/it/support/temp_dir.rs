//! A directory for one test, removed with its content.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use uuid::Uuid;

pub struct TempDir(PathBuf);

impl TempDir {
    /// A short path that every user can enter. PostgreSQL needs such a path when root runs the tests.
    pub fn new() -> Self {
        let path = PathBuf::from("/tmp").join(format!("flametree-test-{}", Uuid::new_v4().simple()));
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            eprintln!("{} remains: {error}", self.0.display());
        }
    }
}
