//! A name server on this machine. The test sets the responses, and the name server records all queries.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// One IPv4 address with a TTL in seconds. The name has no IPv6 address.
    Address(Ipv4Addr, u32),
    NoSuchName,
    Silence,
}

type Rule = Box<dyn Fn(&str) -> Reply + Send>;

pub struct NameServer {
    pub address: SocketAddr,
    record: Arc<Record>,
    task: JoinHandle<()>,
}

struct Record {
    rule: Mutex<Rule>,
    asked: Mutex<Vec<String>>,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NameServer {
    pub async fn start(rule: impl Fn(&str) -> Reply + Send + 'static) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let record = Arc::new(Record { rule: Mutex::new(Box::new(rule)), asked: Mutex::default() });
        let task = tokio::spawn(serve(socket, Arc::clone(&record)));
        Self { address, record, task }
    }

    /// Sets the responses, starting with the next query.
    pub fn answer(&self, rule: impl Fn(&str) -> Reply + Send + 'static) {
        *self.record.rule.lock().unwrap() = Box::new(rule);
    }

    /// The names of all queries for IPv4 addresses, including repeated packets.
    pub fn asked(&self) -> Vec<String> {
        self.record.asked.lock().unwrap().clone()
    }
}

async fn serve(socket: UdpSocket, record: Arc<Record>) {
    let mut packet = [0; 1_500];
    loop {
        let (length, peer) = socket.recv_from(&mut packet).await.unwrap();
        if let Some(answer) = answer(&packet[..length], &record) {
            // Ignores errors, because the client might no longer be listening.
            socket.send_to(&answer, peer).await.ok();
        }
    }
}

/// RFC 1035, section 4, defines a query as a header of 12 bytes and one question.
fn answer(query: &[u8], record: &Record) -> Option<Vec<u8>> {
    let mut at = 12;
    let mut labels = Vec::new();
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_lowercase());
        at = end;
    }
    let (name, question) = (labels.join("."), &query[12..at + 5]);
    let is_ipv4 = query[at + 1..at + 3] == [0, 1];
    if is_ipv4 {
        record.asked.lock().unwrap().push(name.clone());
    }
    let reply = (record.rule.lock().unwrap())(&name);
    let (code, answers) = match reply {
        Reply::Silence => return None,
        Reply::NoSuchName => (3, 0),
        Reply::Address(..) => (0, u8::from(is_ipv4)),
    };
    let mut answer = query[..2].to_vec();
    // A response to a recursive query, with recursion available.
    answer.extend([0x81, 0x80 | code, 0, 1, 0, answers, 0, 0, 0, 0]);
    answer.extend(question);
    if let (Reply::Address(address, ttl), 1) = (reply, answers) {
        // The name of the question, type A, class IN.
        answer.extend([0xc0, 12, 0, 1, 0, 1]);
        answer.extend(ttl.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}
