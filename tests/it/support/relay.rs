//! A relay to a database that simulates network faults. While the network is cut, no data passes, but connections stay open. If a
//! new host replaces the database host at the same address, connections to the previous host get no response.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// sqlx sends this message alone to test a connection:
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>.
const SYNC: &[u8] = b"S\0\0\0\x04";

/// The state of the network: whether it is cut, and the number of previous hosts.
#[derive(Debug, Clone, Copy, Default)]
struct Way {
    is_cut: bool,
    host: u32,
}

/// Stops on drop.
pub(crate) struct Relay {
    address: SocketAddr,
    way: watch::Sender<Way>,
    pings: Arc<AtomicU32>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// Starts a relay to the socket in the options.
    pub(crate) async fn to(options: &PgConnectOptions) -> Self {
        let socket = options.get_socket().expect("a database behind a socket");
        let socket = socket.join(format!(".s.PGSQL.{}", options.get_port()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let way = watch::Sender::new(Way::default());
        let pings = Arc::new(AtomicU32::new(0));
        let accepting = tokio::spawn(accept(listener, socket, way.clone(), Arc::clone(&pings)));
        Self { address, way, pings, accepting }
    }

    /// The `DATABASE_URL` of the database through the relay.
    pub(crate) fn url(&self, options: &PgConnectOptions) -> String {
        let database = options.get_database().unwrap();
        format!("postgres://{}@{}/{database}?sslmode=disable", options.get_username(), self.address)
    }

    pub(crate) fn cut(&self) {
        self.way.send_modify(|way| way.is_cut = true);
    }

    /// Restores the network. Data that waited in the relay continues to flow.
    pub(crate) fn mend(&self) {
        self.way.send_modify(|way| way.is_cut = false);
    }

    /// Replaces the host. Existing connections get no more responses, but new connections do.
    pub(crate) fn vanish(&self) {
        self.way.send_modify(|way| way.host += 1);
    }

    /// The host vanishes when a client sends the ping with this number, counted from now. The database never gets this ping.
    /// A ping is a single `Sync` message.
    pub(crate) fn vanish_at_ping(&self, number: u32) {
        self.pings.store(number, Ordering::Relaxed);
    }

    pub(crate) fn has_vanished(&self) -> bool {
        self.way.borrow().host > 0
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, socket: PathBuf, way: watch::Sender<Way>, pings: Arc<AtomicU32>) {
    while let Ok((client, _)) = listener.accept().await {
        let (socket, mut there, back) = (socket.clone(), way.subscribe(), way.subscribe());
        let host = way.borrow().host;
        let (way, pings) = (way.clone(), Arc::clone(&pings));
        let note = move |message: &[u8]| {
            let is_last =
                || pings.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)) == Ok(1);
            if message == SYNC && is_last() {
                way.send_modify(|way| way.host += 1);
            }
        };
        tokio::spawn(async move {
            if is_open(&mut there, host).await.is_err() {
                return;
            }
            let Ok(server) = UnixStream::connect(socket).await else { return };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = pass(from_client, to_server, there, host, note) => {}
                () = pass(from_server, to_client, back, host, |_| {}) => {}
            }
        });
    }
}

/// Waits until data may pass to this host. Returns an error when the relay is dropped.
async fn is_open(way: &mut watch::Receiver<Way>, host: u32) -> Result<(), watch::error::RecvError> {
    way.wait_for(|way| !way.is_cut && way.host == host).await.map(|_| ())
}

/// Until one end closes.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut way: watch::Receiver<Way>,
    host: u32,
    note: impl Fn(&[u8]),
) {
    let mut buffer = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        note(&buffer[..read]);
        if is_open(&mut way, host).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    // Like other data, the close of a connection waits until the network is restored.
    drop(is_open(&mut way, host).await);
}
