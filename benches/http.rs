//! A minimal HTTP/1.1 client, and a parser for clients and receivers. Both must be fast, because they share two cores with
//! the service.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[derive(Debug)]
pub(crate) struct Message {
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Message {
    /// Returns the first message in `buffer` and the message's length, or `None` if the message is incomplete.
    pub(crate) fn read(buffer: &[u8]) -> Option<(Self, usize)> {
        let head_length = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&buffer[..head_length]).into_owned();
        let mut message = Self { head, body: Vec::new() };
        let length = head_length + message.header("content-length").map_or(0, |text| text.parse().unwrap());
        message.body = buffer.get(head_length..length)?.to_vec();
        Some((message, length))
    }

    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> u16 {
        self.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        let named = |line: &&str| line.split_once(':').is_some_and(|(found, _)| found.eq_ignore_ascii_case(name));
        let line = self.head.split("\r\n").find(named)?;
        Some(line[name.len() + 1..].trim().to_owned())
    }
}

/// Sends a request and waits for the response. The connection stays open.
pub(crate) async fn request(stream: &mut TcpStream, text: &[u8]) -> Message {
    try_request(stream, text).await.expect("no response arrived")
}

/// Like [`request`], for servers that can be killed: returns an error if the connection ends.
pub(crate) async fn try_request(stream: &mut TcpStream, text: &[u8]) -> io::Result<Message> {
    stream.write_all(text).await?;
    let mut buffer = Vec::with_capacity(1024);
    loop {
        if let Some((message, _)) = Message::read(&buffer) {
            return Ok(message);
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The text of a request with a JSON body.
pub(crate) fn json(method: &str, path: &str, token: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
        content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
