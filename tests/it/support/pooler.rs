//! pgbouncer in transaction mode in front of one test's server.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;

use super::waiting::eventually;

/// The port on which the pooler of `scripts/pgbouncer` listens.
pub const PORT: u16 = 6432;

/// Stops with the test.
pub struct Pooler {
    /// The directory of the pooler's socket. It also contains the server's socket if the server has no TCP address.
    directory: PathBuf,
    /// The TCP address of the server, if the pooler does not use the server's socket.
    server: Option<SocketAddr>,
    child: Mutex<Child>,
}

impl Pooler {
    /// Starts a pooler for the server at this address. Without an address, the server's socket is in the directory.
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

    /// Starts the pooler again. Returns when it accepts connections.
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

/// The URL of the pooler in front of the shared server, if the test run uses a pooler.
#[expect(clippy::disallowed_methods, reason = "the environment tells tests how to reach their server")]
pub fn url_of_shared() -> Option<String> {
    std::env::var("TEST_POOLER_URL").ok()
}

fn spawn(directory: &Path, server: Option<SocketAddr>) -> Child {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/pgbouncer");
    let server = server.map(|server| [server.ip().to_string(), server.port().to_string()]);
    Command::new(script).arg(directory).args(server.iter().flatten()).stdin(Stdio::null()).spawn().unwrap()
}
