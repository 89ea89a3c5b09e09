//! A client for Server-Sent Events that reads a stream in pieces.

use std::net::SocketAddr;
use std::time::Duration;

use ::http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The timeout for each piece that a test expects.
const PATIENCE: Duration = Duration::from_secs(30);

/// A piece of the stream: the text up to the next empty line.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    Event { name: String, id: String, data: Value },
    Comment(String),
    Retry(u64),
}

/// An open stream. Dropping this value closes the stream.
#[derive(Debug)]
pub(crate) struct EventStream {
    pub(crate) headers: HeaderMap,
    body: Incoming,
    read: String,
    _connection: JoinSet<()>,
}

/// Opens a stream. If the server rejects the request, returns the status and the problem document.
pub(crate) async fn try_open(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<EventStream, (u16, Value)> {
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    let mut running = JoinSet::new();
    running.spawn(async move { drop(connection.await) });
    let mut request = Request::builder().uri(path).header("host", "test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap());
    let answer = tokio::time::timeout(PATIENCE, answer).await.expect("no answer").unwrap();
    let (head, body) = answer.into_parts();
    if head.status != 200 {
        let body = body.collect().await.unwrap().to_bytes();
        return Err((head.status.as_u16(), serde_json::from_slice(&body).unwrap()));
    }
    Ok(EventStream { headers: head.headers, body, read: String::new(), _connection: running })
}

impl EventStream {
    pub(crate) async fn open(address: SocketAddr, token: &str, last_event_id: Option<&str>) -> Self {
        let token = format!("Bearer {token}");
        let mut headers = vec![("authorization", token.as_str())];
        headers.extend(last_event_id.map(|id| ("last-event-id", id)));
        try_open(address, "/v1/workspace/stream", &headers).await.unwrap()
    }

    /// The next piece of the stream, or `None` if the stream has ended.
    pub(crate) async fn piece(&mut self) -> Option<Piece> {
        tokio::time::timeout(PATIENCE, self.next()).await.expect("no piece arrived in time")
    }

    async fn next(&mut self) -> Option<Piece> {
        loop {
            if let Some((piece, rest)) = self.read.split_once("\n\n") {
                let (piece, rest) = (parse(piece), rest.to_owned());
                self.read = rest;
                return Some(piece);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.read.push_str(str::from_utf8(&frame.into_data().unwrap()).unwrap()),
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// The name, id and data of the next event.
    pub(crate) async fn event(&mut self) -> (String, String, Value) {
        loop {
            match self.piece().await.expect("the stream has ended") {
                Piece::Event { name, id, data } => return (name, id, data),
                Piece::Comment(_) | Piece::Retry(_) => {}
            }
        }
    }

    /// The id and count of the next event. Fails if the event has another name.
    #[track_caller]
    pub(crate) fn expect(&mut self, name: &str) -> impl Future<Output = (String, u64)> {
        let place = std::panic::Location::caller();
        async move {
            let (found, id, data) = self.event().await;
            assert_eq!(found, name, "{data} at {place}");
            (id, data["count"].as_u64().unwrap())
        }
    }

    /// Reads badge events until an event has this count. Returns the id of this event.
    pub(crate) async fn badge_of(&mut self, count: u64) -> String {
        loop {
            let (id, found) = self.expect("badge").await;
            if found == count {
                return id;
            }
        }
    }

    /// Reads until the stream ends.
    pub(crate) async fn ended(mut self) {
        while self.piece().await.is_some() {}
    }
}

fn parse(text: &str) -> Piece {
    if let Some(comment) = text.strip_prefix(':') {
        return Piece::Comment(comment.trim().to_owned());
    }
    if let Some(milliseconds) = text.strip_prefix("retry: ") {
        return Piece::Retry(milliseconds.parse().unwrap());
    }
    let field = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(": ")).filter(|(found, _)| *found == name);
        let (_, value) = lines.next().unwrap_or_else(|| panic!("no {name} in {text}"));
        assert!(lines.next().is_none(), "{name} occurs twice in {text}");
        value.to_owned()
    };
    Piece::Event { name: field("event"), id: field("id"), data: serde_json::from_str(&field("data")).unwrap() }
}
