//! A host that completes no handshake.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use super::waiting::eventually;

/// A listener with a full queue of connections. Like a firewall, this listener drops new connection attempts.
pub(crate) struct NeverAccepts {
    pub(crate) address: SocketAddr,
    _listener: TcpListener,
    fillers: Vec<JoinHandle<io::Result<TcpStream>>>,
}

impl NeverAccepts {
    pub(crate) async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let fillers: Vec<_> = (0..6).map(|_| tokio::spawn(TcpStream::connect(address))).collect();
        eventually("the queue is full", || fillers.iter().filter(|filler| filler.is_finished()).count() >= 2).await;
        Self { address, _listener: listener, fillers }
    }
}

impl Drop for NeverAccepts {
    fn drop(&mut self) {
        self.fillers.iter().for_each(JoinHandle::abort);
    }
}
