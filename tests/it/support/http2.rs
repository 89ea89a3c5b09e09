//! An HTTP/2 receiver that writes frames itself (RFC 9113), so that tests can abort a stream at any point.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::tls::{Authority, Certificate, HOST};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// The behavior of one connection. A script lists the steps of successive connections, and its last step applies to all
/// further connections.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    /// Returns 200 on every stream.
    Answers,
    /// Returns 200 on the first stream, then sends GOAWAY and keeps the connection open.
    AnswersThenGoesAway,
    /// Sends GOAWAY before any request, and keeps the connection open.
    GoesAwayAtOnce,
    /// When the first headers arrive, sends GOAWAY with last stream 0, and keeps the connection open.
    GoesAway { code: u32 },
    /// Resets each stream when its headers arrive.
    ResetsStreams { code: u32 },
    /// Reads the whole request, then resets the stream.
    ResetsAfterRequest { code: u32 },
    /// Reads the whole request, sends GOAWAY with the request as the last processed stream, and closes the connection.
    GoesAwayAfterRequest,
    /// Reads the whole request and sends no response.
    NeverAnswers,
}

#[derive(Default)]
struct Record {
    connections: AtomicUsize,
    streams: AtomicUsize,
    bodies: Mutex<Vec<Vec<u8>>>,
}

pub(crate) struct Http2Receiver {
    address: SocketAddr,
    record: Arc<Record>,
    task: JoinHandle<()>,
}

impl Drop for Http2Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Http2Receiver {
    pub(crate) async fn start(script: &[Step]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let record = Arc::new(Record::default());
        let tls = TlsAcceptor::from(Authority::shared().server(Certificate::Good, &[b"h2"]));
        let task = tokio::spawn(accept(listener, tls, script.to_vec(), Arc::clone(&record)));
        Self { address, record, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{HOST}:{}/hook", self.address.port())
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// Started requests.
    pub(crate) fn streams(&self) -> usize {
        self.record.streams.load(Ordering::SeqCst)
    }

    /// The bodies of complete requests that the receiver processed.
    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        self.record.bodies.lock().unwrap().clone()
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, script: Vec<Step>, record: Arc<Record>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let number = record.connections.fetch_add(1, Ordering::SeqCst);
        let step = script[number.min(script.len() - 1)];
        let (tls, record) = (tls.clone(), Arc::clone(&record));
        tokio::spawn(async move {
            if let Ok(stream) = tls.accept(stream).await {
                drop(serve(stream, step, &record).await);
            }
        });
    }
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, step: Step, record: &Record) -> io::Result<()> {
    stream.read_exact(&mut [0; 24]).await?;
    write(&mut stream, SETTINGS, 0, 0, &[]).await?;
    if let Step::GoesAwayAtOnce = step {
        go_away(&mut stream, 0, NO_ERROR).await?;
    }
    let mut body = Vec::new();
    loop {
        let frame = read(&mut stream).await?;
        match frame.kind {
            SETTINGS if frame.flags & ACK == 0 => write(&mut stream, SETTINGS, ACK, 0, &[]).await?,
            HEADERS => {
                record.streams.fetch_add(1, Ordering::SeqCst);
                match step {
                    Step::GoesAway { code } => go_away(&mut stream, 0, code).await?,
                    Step::ResetsStreams { code } => reset(&mut stream, frame.stream, code).await?,
                    _ => {}
                }
            }
            DATA => {
                body.extend_from_slice(&frame.payload);
                if frame.flags & END_STREAM != 0 {
                    finish(&mut stream, step, frame.stream, std::mem::take(&mut body), record).await?;
                }
            }
            _ => {}
        }
    }
}

/// After a complete request, responds or closes the stream as the step prescribes.
async fn finish<S: AsyncWrite + Unpin>(
    stream: &mut S,
    step: Step,
    id: u32,
    body: Vec<u8>,
    record: &Record,
) -> io::Result<()> {
    let process = || record.bodies.lock().unwrap().push(body);
    match step {
        // Rejected at the headers.
        Step::GoesAwayAtOnce | Step::GoesAway { .. } | Step::ResetsStreams { .. } => Ok(()),
        Step::Answers => {
            process();
            respond(stream, id).await
        }
        Step::AnswersThenGoesAway => {
            process();
            respond(stream, id).await?;
            go_away(stream, id, NO_ERROR).await
        }
        Step::ResetsAfterRequest { code } => {
            process();
            reset(stream, id, code).await
        }
        Step::GoesAwayAfterRequest => {
            process();
            go_away(stream, id, NO_ERROR).await?;
            stream.shutdown().await
        }
        Step::NeverAnswers => {
            process();
            Ok(())
        }
    }
}

/// The header `:status: 200` is the eighth entry of the static table (RFC 7541, appendix A).
async fn respond<S: AsyncWrite + Unpin>(stream: &mut S, id: u32) -> io::Result<()> {
    write(stream, HEADERS, END_HEADERS | END_STREAM, id, &[0x88]).await
}

async fn reset<S: AsyncWrite + Unpin>(stream: &mut S, id: u32, code: u32) -> io::Result<()> {
    write(stream, RST_STREAM, 0, id, &code.to_be_bytes()).await
}

async fn go_away<S: AsyncWrite + Unpin>(stream: &mut S, last_stream: u32, code: u32) -> io::Result<()> {
    let payload = [last_stream.to_be_bytes(), code.to_be_bytes()].concat();
    write(stream, GOAWAY, 0, 0, &payload).await
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(payload);
    stream.write_all(&frame).await?;
    stream.flush().await
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut payload).await?;
    let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Ok(Frame { kind: head[3], flags: head[4], stream, payload })
}
