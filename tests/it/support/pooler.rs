//! pgbouncer in transaction mode before the server of one test.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use super::waiting::eventually;

/// What `scripts/pgbouncer` listens on.
pub const PORT: u16 = 6432;

/// Ends with the test.
pub struct Pooler {
    /// Of the server's socket, and of its own.
    directory: PathBuf,
    /// Where the server is, if not there.
    server: Option<SocketAddr>,
    child: Mutex<Child>,
}

impl Pooler {
    /// Before the server whose socket is in the directory, or which is at an address.
    pub async fn start(directory: &Path, server: Option<SocketAddr>) -> Self {
        let child = Mutex::new(spawn(directory, server));
        let pooler = Self { directory: directory.to_owned(), server, child };
        pooler.listens().await;
        pooler
    }

    /// kill -9.
    pub fn kill(&self) {
        let mut child = self.child.lock().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Comes back when connections are accepted.
    pub async fn start_again(&self) {
        *self.child.lock().unwrap() = spawn(&self.directory, self.server);
        self.listens().await;
    }

    async fn listens(&self) {
        let socket = self.directory.join(format!(".s.PGSQL.{PORT}"));
        eventually("pgbouncer listens", || UnixStream::connect(&socket).is_ok()).await;
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The shared server behind a pooler, where the tests are to go through one: `POOLER=pgbouncer scripts/with-postgres`.
#[expect(clippy::disallowed_methods, reason = "tests are told by the environment how to reach their server")]
pub fn url_of_shared() -> Option<String> {
    std::env::var("TEST_POOLER_URL").ok()
}

fn spawn(directory: &Path, server: Option<SocketAddr>) -> Child {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/pgbouncer");
    let server = server.map(|server| [server.ip().to_string(), server.port().to_string()]);
    Command::new(script).arg(directory).args(server.iter().flatten()).stdin(Stdio::null()).spawn().unwrap()
}
