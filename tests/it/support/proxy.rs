//! haproxy in front of the APIs, or in front of a primary database and its standby.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::own_server::{OwnServer, folder_by};
use super::service::own_address;
use super::temp_dir::TempDir;
use super::waiting::eventually;

const DEFAULTS: &str = "
defaults
    timeout connect 1s
    timeout client 60s
    timeout server 60s
    timeout check 1s
    default-server check inter 100ms fall 2 rise 2 on-marked-down shutdown-sessions
";

/// Stops with the test.
pub(crate) struct Proxy {
    address: SocketAddr,
    child: Child,
    _directory: TempDir,
}

impl Proxy {
    /// Distributes requests round-robin over the ready APIs.
    pub(crate) async fn of_apis(apis: &[SocketAddr]) -> Self {
        let mut rules = "    mode http\n    balance roundrobin\n    option httpchk GET /readyz\n".to_owned();
        for (number, api) in apis.iter().enumerate() {
            writeln!(rules, "    server api-{number} {api}").unwrap();
        }
        Self::start(&rules).await
    }

    /// Connects to the standby when the primary is unreachable.
    pub(crate) async fn of_servers(primary: &OwnServer, standby: &OwnServer) -> Self {
        let socket = |server: &OwnServer| format!("unix@{}/.s.PGSQL.5432", server.directory().display());
        let rules = format!(
            "    mode tcp\n    server primary {}\n    server standby {} backup\n",
            socket(primary),
            socket(standby)
        );
        Self::start(&rules).await
    }

    async fn start(rules: &str) -> Self {
        let directory = TempDir::new();
        let address = SocketAddr::from((own_address(), 7000));
        let path = directory.path().join("haproxy.cfg");
        std::fs::write(&path, format!("{DEFAULTS}\nlisten all\n    bind {address}\n{rules}")).unwrap();
        let proxy = Self { address, child: spawn(&path), _directory: directory };
        eventually("haproxy listens", || TcpStream::connect(address).is_ok()).await;
        proxy
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn spawn(configuration: &Path) -> Child {
    // Installed by `scripts/install trixie`.
    let mut command = Command::new(folder_by("trixie").join("usr/sbin/haproxy"));
    command.arg("-db").arg("-f").arg(configuration);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}
