//! The endpoints: an HTTP server on a thread of the harness, which records each event.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::book::Book;
use super::traffic::{Endpoint, number_of};
use crate::http::Message;
use crate::receiver::now_us;

/// Starts the server on a free port; it stops with the process.
pub(crate) fn start(book: &Arc<Book>) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let book = Arc::clone(book);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(listen(listener, book));
    });
    address
}

async fn listen(listener: std::net::TcpListener, book: Arc<Book>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(serve(stream, Arc::clone(&book)));
    }
}

async fn serve(mut stream: TcpStream, book: Arc<Book>) {
    let mut buffer = Vec::with_capacity(4096);
    loop {
        while let Some((message, length)) = Message::read(&buffer) {
            buffer.drain(..length);
            let Some(answer) = answer(&message, &book) else {
                // Hangs until the client closes the connection.
                let mut rest = [0; 64];
                while matches!(stream.read(&mut rest).await, Ok(1..)) {}
                return;
            };
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
        if !matches!(stream.read_buf(&mut buffer).await, Ok(1..)) {
            return;
        }
    }
}

fn answer(message: &Message, book: &Book) -> Option<&'static [u8]> {
    let kinds = [Endpoint::Healthy, Endpoint::Failing, Endpoint::Hanging, Endpoint::Backlogged];
    let named = |kind: &Endpoint| message.path().strip_prefix('/') == Some(kind.name());
    let endpoint = kinds.into_iter().find(named).unwrap();
    let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap();
    match body["data"]["customer_id"].as_str().and_then(number_of) {
        Some(number) => book.receive(number, endpoint, now_us()),
        None => book.findings.add("a request was received that is not an event", &body),
    }
    match endpoint {
        Endpoint::Healthy => Some(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
        Endpoint::Failing | Endpoint::Refusing => {
            Some(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n")
        }
        Endpoint::Hanging | Endpoint::Backlogged => None,
    }
}
