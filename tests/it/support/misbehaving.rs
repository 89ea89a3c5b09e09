//! A receiver on real sockets that behaves as the test chooses, and records its requests.
//!
//! The receiver writes raw HTTP/1.1, so that it can send invalid responses.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::tls::{Authority, Certificate, HOST};
use super::waiting::eventually;
use super::wire::{Seen, read_head};

#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// Sends these bytes for each request and keeps the connection open.
    Answers(Vec<u8>),
    /// Responds to the first request with these bytes, then closes the connection.
    AnswersThenCloses(Vec<u8>),
    /// Sends the text `head` after the request, and then repeats the text `drop`.
    Drips {
        head: &'static str,
        drop: &'static str,
    },
    HangsAfterAccept,
    HangsMidHeaders,
    ResetsOnAccept,
    /// Resets the connection after the headers, without reading the body.
    ResetsAfterHead,
    /// Resets the connection after the whole request.
    ResetsAfterRequest,
    /// Sends these bytes after the request, then resets the connection.
    ResetsMidAnswer(&'static str),
    /// Sends these bytes without reading anything.
    SpeaksFirst(&'static str),
    /// Announces a body of one gigabyte and sends the body until the client stops reading.
    Floods,
}

struct Record {
    behaviour: Mutex<Behaviour>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    closed: AtomicUsize,
    ended: AtomicUsize,
    flooded_bytes: AtomicU64,
}

impl Record {
    fn new(behaviour: Behaviour) -> Self {
        Self {
            behaviour: Mutex::new(behaviour),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            closed: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            flooded_bytes: AtomicU64::new(0),
        }
    }

    fn behaviour(&self) -> Behaviour {
        self.behaviour.lock().unwrap().clone()
    }
}

pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    record: Arc<Record>,
    task: JoinHandle<()>,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Receiver {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        Self::listen("127.0.0.1:0", behaviour, None).await
    }

    pub(crate) async fn start_on(address: &str, behaviour: Behaviour) -> Self {
        Self::listen(address, behaviour, None).await
    }

    pub(crate) async fn start_tls(behaviour: Behaviour, certificate: Certificate) -> Self {
        let server = Authority::shared().server(certificate, &[b"http/1.1"]);
        Self::listen("127.0.0.1:0", behaviour, Some(TlsAcceptor::from(server))).await
    }

    async fn listen(address: &str, behaviour: Behaviour, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Record::new(behaviour));
        let task = tokio::spawn(accept(listener, tls, Arc::clone(&record)));
        Self { address, record, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook?key=a", self.address)
    }

    pub(crate) fn tls_url(&self) -> String {
        format!("https://{HOST}:{}/hook", self.address.port())
    }

    /// Changes the behavior, starting with the next request, also on open connections.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.record.behaviour.lock().unwrap() = behaviour;
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.record.seen.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// Waits until the receiver has closed this many connections.
    pub(crate) async fn closed(&self, connections: usize) {
        eventually("the receiver closes", || self.record.closed.load(Ordering::SeqCst) >= connections).await;
    }

    /// Waits until both sides have closed this many connections.
    pub(crate) async fn ended(&self, connections: usize) {
        eventually("the connections end", || self.record.ended.load(Ordering::SeqCst) >= connections).await;
    }

    pub(crate) fn flooded_bytes(&self) -> u64 {
        self.record.flooded_bytes.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, record: Arc<Record>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        record.connections.fetch_add(1, Ordering::SeqCst);
        let (tls, record) = (tls.clone(), Arc::clone(&record));
        tokio::spawn(async move {
            match tls {
                // An error here means that the client closed the connection.
                None => drop(serve(stream, &record).await),
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        drop(serve(stream, &record).await);
                    }
                }
            }
            record.ended.fetch_add(1, Ordering::SeqCst);
        });
    }
}

/// A stream that can be closed with RST instead of FIN.
trait Socket: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Socket for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

fn reset(stream: impl Socket) {
    stream.tcp().set_zero_linger().unwrap();
    drop(stream);
}

/// Serves one connection until it ends.
async fn serve<S: Socket>(mut stream: S, record: &Record) -> io::Result<()> {
    match record.behaviour() {
        Behaviour::ResetsOnAccept => {
            reset(stream);
            return Ok(());
        }
        Behaviour::SpeaksFirst(bytes) => {
            stream.write_all(bytes.as_bytes()).await?;
            return until_closed(&mut stream).await;
        }
        _ => {}
    }
    loop {
        let (head, rest) = read_head(&mut stream).await?;
        // Read the behavior for each request, because the test may have changed it.
        let behaviour = record.behaviour();
        if let Behaviour::ResetsAfterHead = behaviour {
            record.seen.lock().unwrap().push(Seen { head, body: Vec::new() });
            reset(stream);
            return Ok(());
        }
        read_body(&mut stream, head, rest, record).await?;
        let Behaviour::Answers(answer) = behaviour else {
            return misbehave(stream, behaviour, record).await;
        };
        stream.write_all(&answer).await?;
        stream.flush().await?;
    }
}

/// After a complete request, misbehaves as the test has configured.
async fn misbehave<S: Socket>(mut stream: S, behaviour: Behaviour, record: &Record) -> io::Result<()> {
    match behaviour {
        Behaviour::AnswersThenCloses(answer) => {
            stream.write_all(&answer).await?;
            stream.shutdown().await?;
            record.closed.fetch_add(1, Ordering::SeqCst);
            until_closed(&mut stream).await
        }
        Behaviour::Drips { head, drop } => {
            stream.write_all(head.as_bytes()).await?;
            loop {
                stream.write_all(drop.as_bytes()).await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Behaviour::HangsAfterAccept => until_closed(&mut stream).await,
        Behaviour::HangsMidHeaders => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nx-half: a").await?;
            stream.flush().await?;
            until_closed(&mut stream).await
        }
        Behaviour::Floods => {
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").await?;
            loop {
                let written = stream.write(&[b'a'; 16 * 1024]).await?;
                record.flooded_bytes.fetch_add(written as u64, Ordering::SeqCst);
            }
        }
        Behaviour::ResetsAfterRequest => {
            reset(stream);
            Ok(())
        }
        Behaviour::ResetsMidAnswer(beginning) => {
            stream.write_all(beginning.as_bytes()).await?;
            stream.flush().await?;
            // Wait, because a reset discards data that the client has not read yet.
            tokio::time::sleep(Duration::from_millis(50)).await;
            reset(stream);
            Ok(())
        }
        Behaviour::Answers(_) | Behaviour::SpeaksFirst(_) | Behaviour::ResetsOnAccept | Behaviour::ResetsAfterHead => {
            unreachable!("{behaviour:?} is handled earlier")
        }
    }
}

async fn until_closed<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<()> {
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

async fn read_body<S: AsyncRead + Unpin>(
    stream: &mut S,
    head: String,
    mut body: Vec<u8>,
    record: &Record,
) -> io::Result<()> {
    let mut seen = Seen { head, body: Vec::new() };
    let length: usize = seen.headers("content-length").next().map_or(0, |length| length.parse().unwrap());
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    seen.body = body;
    record.seen.lock().unwrap().push(seen);
    Ok(())
}
