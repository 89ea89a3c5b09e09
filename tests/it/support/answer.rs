//! One HTTP request on a new connection, and its complete response.

use std::error::Error;
use std::net::SocketAddr;

use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Sends one request. Returns an error if no complete response arrived.
pub async fn exchange(
    address: SocketAddr,
    mut request: Request<Bytes>,
) -> Result<Answer, Box<dyn Error + Send + Sync>> {
    request.headers_mut().entry("host").or_insert("test".parse()?);
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
    let answer = async {
        let (head, body) = sender.send_request(request.map(Full::new)).await?.into_parts();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body: body.collect().await?.to_bytes() })
    };
    let mut answer = std::pin::pin!(answer);
    let ended = tokio::select! {
        biased;
        answer = &mut answer => return answer,
        ended = connection => ended,
    };
    // The server can close the connection after its response.
    answer.await.map_err(|lost: Box<dyn Error + Send + Sync>| ended.err().map_or(lost, Into::into))
}

/// Sends one request whose response must arrive.
pub async fn send(address: SocketAddr, request: Request<Bytes>) -> Answer {
    exchange(address, request).await.unwrap()
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub fn etag(&self) -> &str {
        self.header("etag").unwrap()
    }

    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// Checks a problem document and the fields that all problems have. Returns the document.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let document = self.json();
        assert_eq!(document["code"], code, "{document}");
        assert_eq!(document["status"], status);
        assert_eq!(document["type"], format!("urn:flametree:problem:{code}"));
        assert!(document["title"].as_str().is_some_and(|title| !title.is_empty()));
        assert_eq!(document["request_id"], self.header("x-request-id").unwrap());
        assert!(document["errors"].is_array());
        document
    }

    /// The JSON pointers and codes of the faults in a response with the code `invalid`.
    #[track_caller]
    pub fn faults(&self) -> Vec<(String, String)> {
        self.faults_of("invalid")
    }

    /// The JSON pointers and codes of the faults in a response with status 422 and this code.
    #[track_caller]
    pub fn faults_of(&self, code: &str) -> Vec<(String, String)> {
        let document = self.problem(422, code);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let errors = document["errors"].as_array().unwrap().iter();
        errors.map(|fault| (text(&fault["pointer"]), text(&fault["code"]))).collect()
    }
}
