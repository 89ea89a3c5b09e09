//! Tests faults of receivers on real sockets. Each fault must have the right outcome, and the client must send the message at
//! most once.

use std::sync::Arc;

use flametree_notify::channels::{HttpClient, Settings};
use flametree_notify::domain::delivery::{Attempt, Outcome};

use crate::support::messages::{attempt, client, endpoint, impatient, metrics, settings};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::never_accepts::NeverAccepts;
use crate::support::tls::Certificate;
use crate::support::waiting::all;
use crate::support::wire::answer;

fn ok() -> Vec<u8> {
    answer("200 OK", "", b"")
}

fn note(attempt: &Attempt) -> &str {
    attempt.detail.as_ref().and_then(|detail| detail.note.as_deref()).unwrap_or_default()
}

#[tokio::test]
async fn delivers_to_a_receiver_that_responds() {
    let receiver = Receiver::start(Behaviour::Answers(ok())).await;
    let attempt = attempt(&client(), &endpoint(&receiver.url())).await;
    assert_eq!((attempt.outcome, attempt.http_status, attempt.detail), (Outcome::Delivered, Some(200), None));
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_never_accepts_times_out() {
    let receiver = NeverAccepts::start().await;
    let attempt = attempt(&client(), &impatient(&format!("http://{}/", receiver.address))).await;
    assert_eq!((attempt.outcome, attempt.http_status), (Outcome::Timeout, None));
    assert_eq!(note(&attempt), "The endpoint did not respond within the time limit.");
}

#[tokio::test]
async fn a_port_without_a_listener_causes_a_connect_error() {
    let receiver = NeverAccepts::start().await;
    let address = receiver.address;
    drop(receiver);
    let attempt = attempt(&client(), &endpoint(&format!("http://{address}/"))).await;
    assert_eq!((attempt.outcome, note(&attempt)), (Outcome::ConnectError, "The connection was refused."));
    assert!(!format!("{attempt:?}").contains("127.0.0.1"), "{attempt:?}");
}

#[tokio::test]
async fn a_receiver_that_hangs_after_accept_times_out() {
    let receiver = Receiver::start(Behaviour::HangsAfterAccept).await;
    let attempt = attempt(&client(), &impatient(&receiver.url())).await;
    assert_eq!((attempt.outcome, attempt.http_status), (Outcome::Timeout, None));
    // The connection is closed, not returned to the pool with a pending response.
    receiver.ended(1).await;
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn a_receiver_that_hangs_in_the_tls_handshake_times_out() {
    let receiver = Receiver::start(Behaviour::HangsAfterAccept).await;
    let attempt = attempt(&client(), &impatient(&receiver.tls_url())).await;
    assert_eq!(attempt.outcome, Outcome::Timeout);
    assert_eq!(receiver.seen().len(), 0);
}

#[tokio::test]
async fn a_receiver_that_hangs_mid_headers_times_out() {
    let receiver = Receiver::start(Behaviour::HangsMidHeaders).await;
    let attempt = attempt(&client(), &impatient(&receiver.url())).await;
    assert_eq!((attempt.outcome, attempt.http_status), (Outcome::Timeout, None));
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn stops_reading_endless_response_headers_at_the_deadline() {
    let receiver = Receiver::start(Behaviour::Drips { head: "HTTP/1.1 200 OK\r\nx-long: ", drop: "a" }).await;
    let attempt = attempt(&client(), &impatient(&receiver.url())).await;
    assert_eq!((attempt.outcome, attempt.http_status), (Outcome::Timeout, None));
    receiver.ended(1).await;
}

#[tokio::test]
async fn stops_reading_an_endless_body_at_the_deadline() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let receiver = Receiver::start(Behaviour::Drips { head, drop: "1\r\na\r\n" }).await;
    let attempt = attempt(&client(), &impatient(&receiver.url())).await;
    assert_eq!((attempt.outcome, attempt.http_status), (Outcome::Timeout, Some(200)));
    assert_eq!(note(&attempt), "The endpoint started to respond but did not finish within the time limit.");
    receiver.ended(1).await;
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn a_reset_causes_a_connect_error_and_the_request_is_not_repeated() {
    for behaviour in [
        Behaviour::ResetsAfterHead,
        Behaviour::ResetsAfterRequest,
        Behaviour::ResetsMidAnswer("HTTP/1.1 200 OK\r\ncontent-le"),
    ] {
        let receiver = Receiver::start(behaviour.clone()).await;
        let attempt = attempt(&client(), &endpoint(&receiver.url())).await;
        assert_eq!((attempt.outcome, attempt.http_status), (Outcome::ConnectError, None), "{behaviour:?}");
        assert_eq!((receiver.seen().len(), receiver.connections()), (1, 1), "{behaviour:?}");
    }
}

#[tokio::test]
async fn opens_at_most_two_connections_if_each_is_reset_before_the_request() {
    let receiver = Receiver::start(Behaviour::ResetsOnAccept).await;
    let attempt = attempt(&client(), &endpoint(&receiver.url())).await;
    assert_eq!((attempt.outcome, attempt.http_status), (Outcome::ConnectError, None));
    assert!(receiver.connections() <= 2, "{}", receiver.connections());
    assert_eq!(receiver.seen().len(), 0);
}

#[tokio::test]
async fn a_reset_in_the_response_body_is_recorded_with_the_status() {
    let beginning = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc";
    let receiver = Receiver::start(Behaviour::ResetsMidAnswer(beginning)).await;
    let attempt = attempt(&client(), &endpoint(&receiver.url())).await;
    assert_eq!((attempt.outcome, attempt.http_status), (Outcome::ConnectError, Some(200)));
    assert_eq!((receiver.seen().len(), receiver.connections()), (1, 1));
}

#[tokio::test]
async fn a_request_is_not_repeated_after_a_reset_on_a_reused_connection() {
    // The receiver responds to the first request on the connection and resets the connection at the second request. hyper would
    // treat the connection as stale.
    let receiver = Receiver::start(Behaviour::Answers(ok())).await;
    let client = client();
    assert_eq!(attempt(&client, &endpoint(&receiver.url())).await.outcome, Outcome::Delivered);
    receiver.behave(Behaviour::ResetsAfterHead);
    let second = attempt(&client, &endpoint(&receiver.url())).await;
    assert_eq!(second.outcome, Outcome::ConnectError);
    assert_eq!((receiver.seen().len(), receiver.connections()), (2, 1));
}

#[tokio::test]
async fn an_invalid_certificate_causes_a_tls_error_and_nothing_is_sent() {
    for (certificate, expected) in [
        (
            Certificate::SelfSigned,
            "The host's certificate is not signed by a trusted authority, or its chain is incomplete.",
        ),
        (Certificate::OtherName, "The host's certificate is for another name."),
        (Certificate::Expired, "The host's certificate has expired."),
    ] {
        let receiver = Receiver::start_tls(Behaviour::Answers(ok()), certificate).await;
        let attempt = attempt(&client(), &endpoint(&receiver.tls_url())).await;
        assert_eq!((attempt.outcome, note(&attempt)), (Outcome::TlsError, expected));
        assert_eq!(receiver.seen().len(), 0, "{certificate:?}");
    }
}

#[tokio::test]
async fn accepts_a_certificate_of_the_operators_authority() {
    let receiver = Receiver::start_tls(Behaviour::Answers(ok()), Certificate::Good).await;
    let attempt = attempt(&client(), &endpoint(&receiver.tls_url())).await;
    assert_eq!(attempt.outcome, Outcome::Delivered, "{attempt:?}");
}

#[tokio::test]
async fn a_receiver_that_does_not_speak_tls_causes_a_tls_error() {
    let receiver = Receiver::start(Behaviour::SpeaksFirst("HTTP/1.1 400 Bad Request\r\n\r\n")).await;
    let attempt = attempt(&client(), &endpoint(&receiver.tls_url())).await;
    assert_eq!((attempt.outcome, note(&attempt)), (Outcome::TlsError, "The host did not speak TLS."));
}

#[tokio::test]
async fn a_response_that_is_not_http_causes_a_protocol_error() {
    for (garbage, status) in [
        ("SSH-2.0-OpenSSH_9.2\r\n\r\n", None),
        ("\u{0}\u{1}\u{2}\u{3}\r\n\r\n", None),
        ("HTTP/1.1 999999 No\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\nno colon here\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n", None),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nnot a chunk\r\n", Some(200)),
    ] {
        let receiver = Receiver::start(Behaviour::Answers(garbage.as_bytes().to_vec())).await;
        let attempt = attempt(&client(), &endpoint(&receiver.url())).await;
        assert_eq!((attempt.outcome, attempt.http_status), (Outcome::ProtocolError, status), "{garbage:?}");
        assert_eq!((receiver.seen().len(), receiver.connections()), (1, 1), "{garbage:?}");
    }
}

#[tokio::test]
async fn a_short_body_keeps_the_connection_open_and_a_body_over_the_limit_closes_it() {
    for (bytes, connections) in [(8 * 1024, 1), (1024 * 1024, 2)] {
        let receiver = Receiver::start(Behaviour::Answers(answer("200 OK", "", &vec![b'a'; bytes]))).await;
        let client = client();
        for _ in 0..2 {
            assert_eq!(attempt(&client, &endpoint(&receiver.url())).await.outcome, Outcome::Delivered);
        }
        assert_eq!(receiver.connections(), connections, "{bytes} bytes");
    }
}

#[tokio::test]
async fn follows_no_redirect() {
    let elsewhere = Receiver::start(Behaviour::Answers(ok())).await;
    for status in ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"] {
        for location in ["/hook?key=a".to_owned(), elsewhere.url()] {
            let redirect = answer(status, &format!("location: {location}\r\n"), location.as_bytes());
            let receiver = Receiver::start(Behaviour::Answers(redirect)).await;
            let mut endpoint = endpoint(&receiver.url());
            endpoint.headers.insert("authorization", "Bearer secret".parse().unwrap());
            let attempt = attempt(&client(), &endpoint).await;
            // The detail does not contain the redirect's body, which repeats the target URL.
            assert_eq!((attempt.outcome, attempt.detail), (Outcome::Redirect, None), "{status}");
            assert_eq!(receiver.seen().len(), 1, "{status}");
        }
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_closed_idle_connection_does_not_fail_the_next_attempt() {
    let receiver = Receiver::start(Behaviour::AnswersThenCloses(ok())).await;
    let client = client();
    for sent in 1..=20 {
        assert_eq!(attempt(&client, &endpoint(&receiver.url())).await.outcome, Outcome::Delivered);
        assert_eq!(receiver.seen().len(), sent);
        receiver.closed(sent).await;
    }
    assert_eq!(receiver.connections(), 20);
    // The client also closes its side of each connection.
    receiver.ended(20).await;
}

#[tokio::test]
async fn closes_an_unused_connection() {
    let receiver = Receiver::start(Behaviour::Answers(ok())).await;
    let client = client();
    assert_eq!(attempt(&client, &endpoint(&receiver.url())).await.outcome, Outcome::Delivered);
    receiver.ended(1).await;
    assert_eq!(attempt(&client, &endpoint(&receiver.url())).await.outcome, Outcome::Delivered);
    assert_eq!(receiver.connections(), 2);
}

#[tokio::test]
async fn many_deliveries_to_one_receiver_share_connections_and_arrive_once_each() {
    let receiver = Arc::new(Receiver::start(Behaviour::Answers(ok())).await);
    let client = client();
    for _ in 0..5 {
        let attempts = (0..40).map(|_| {
            let (client, endpoint) = (client.clone(), endpoint(&receiver.url()));
            async move { attempt(&client, &endpoint).await.outcome }
        });
        assert_eq!(all(attempts).await, vec![Outcome::Delivered; 40]);
    }
    assert_eq!(receiver.seen().len(), 200);
    assert!(receiver.connections() <= 40, "{}", receiver.connections());
}

#[tokio::test]
async fn an_https_only_client_refuses_plain_http() {
    let receiver = Receiver::start(Behaviour::Answers(ok())).await;
    let client = HttpClient::new(&Settings { allow_http: false, ..settings() }, &metrics()).unwrap();
    let attempt = attempt(&client, &endpoint(&receiver.url())).await;
    assert_eq!(attempt.outcome, Outcome::ConfigError);
    assert_eq!(receiver.connections(), 0);
}
