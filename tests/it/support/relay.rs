//! A way to a database that can be cut as a network is: nothing passes in either direction any more, and nobody is told.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// It ends with the value.
pub(crate) struct Relay {
    address: SocketAddr,
    is_cut: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// To the socket that the options name.
    pub(crate) async fn to(options: &PgConnectOptions) -> Self {
        let socket = options.get_socket().expect("a database behind a socket");
        let socket = socket.join(format!(".s.PGSQL.{}", options.get_port()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_cut = watch::Sender::new(false);
        let accepting = tokio::spawn(accept(listener, socket, is_cut.subscribe()));
        Self { address, is_cut, accepting }
    }

    /// The database's `DATABASE_URL` on this way.
    pub(crate) fn url(&self, options: &PgConnectOptions) -> String {
        let database = options.get_database().unwrap();
        format!("postgres://{}@{}/{database}?sslmode=disable", options.get_username(), self.address)
    }

    pub(crate) fn cut(&self) {
        self.is_cut.send_replace(true);
    }

    /// What was held back goes on.
    pub(crate) fn mend(&self) {
        self.is_cut.send_replace(false);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, socket: PathBuf, is_cut: watch::Receiver<bool>) {
    while let Ok((client, _)) = listener.accept().await {
        let (socket, mut waits, answers) = (socket.clone(), is_cut.clone(), is_cut.clone());
        tokio::spawn(async move {
            if waits.wait_for(|is_cut| !is_cut).await.is_err() {
                return;
            }
            let Ok(server) = UnixStream::connect(socket).await else { return };
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = pass(from_client, to_server, waits) => {}
                () = pass(from_server, to_client, answers) => {}
            }
        });
    }
}

/// Until one end closes.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut is_cut: watch::Receiver<bool>) {
    let mut buffer = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if is_cut.wait_for(|is_cut| !is_cut).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
    // A network that is cut does not tell of an end either.
    drop(is_cut.wait_for(|is_cut| !is_cut).await);
}
