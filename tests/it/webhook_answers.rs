//! Tests which parts of a receiver's response the client reads and stores: text up to a limit, without the secrets of the
//! request.

use flametree_notify::channels::webhook::{Endpoint, SigningSecret, redactor};
use flametree_notify::domain::delivery::{Attempt, Outcome};
use flametree_notify::domain::push_config::{Header, HeaderName, HeaderValue};
use flametree_notify::domain::secret_text::SecretText;

use crate::support::messages::{attempt, client, endpoint};
use crate::support::misbehaving::{Behaviour, Receiver};
use crate::support::wire::answer;

fn kept(attempt: &Attempt) -> &str {
    attempt.detail.as_ref().and_then(|detail| detail.response_body.as_deref()).unwrap_or_default()
}

#[tokio::test]
async fn does_not_read_a_response_body_of_a_gigabyte() {
    let receiver = Receiver::start(Behaviour::Floods).await;
    let attempt = attempt(&client(), &endpoint(&receiver.url())).await;
    assert_eq!((attempt.outcome, kept(&attempt)), (Outcome::Delivered, "a".repeat(1024).as_str()));
    assert!(attempt.detail.unwrap().response_truncated);
    receiver.ended(1).await;
    // The receiver fills the buffers of both sockets, but the client does not read this data.
    assert!(receiver.flooded_bytes() < 20_000_000, "{}", receiver.flooded_bytes());
}

#[tokio::test]
async fn does_not_decompress_a_response_body() {
    // A body with the header of a gzip stream. The client must store the bytes of the body unchanged.
    let bomb = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3, b'g', b'z', b'i', b'p'];
    let receiver = Receiver::start(Behaviour::Answers(answer("200 OK", "content-encoding: gzip\r\n", &bomb))).await;
    let attempt = attempt(&client(), &endpoint(&receiver.url())).await;
    assert_eq!(attempt.outcome, Outcome::Delivered);
    assert!(kept(&attempt).ends_with("gzip"), "{attempt:?}");
    assert_eq!(receiver.seen()[0].header("accept-encoding"), "identity");
}

#[tokio::test]
async fn headers_that_are_not_ascii_cause_no_error() {
    let mut bytes = b"HTTP/1.1 200 OK\r\nx-name: caf\xc3\xa9 \xff\r\ncontent-length: 2\r\n\r\n".to_vec();
    bytes.extend_from_slice(b"ok");
    let receiver = Receiver::start(Behaviour::Answers(bytes)).await;
    let attempt = attempt(&client(), &endpoint(&receiver.url())).await;
    assert_eq!((attempt.outcome, kept(&attempt)), (Outcome::Delivered, "ok"));
}

#[tokio::test]
async fn accepts_long_response_headers_up_to_the_limit() {
    for (kilobytes, outcome) in [(5, Outcome::Delivered), (15, Outcome::Delivered), (17, Outcome::ProtocolError)] {
        let policies = "x-policy: ".to_owned() + &"p".repeat(1_000) + "\r\n";
        let receiver = Receiver::start(Behaviour::Answers(answer("200 OK", &policies.repeat(kilobytes), b"ok"))).await;
        let attempt = attempt(&client(), &endpoint(&receiver.url())).await;
        assert_eq!(attempt.outcome, outcome, "{kilobytes} KB: {attempt:?}");
    }
}

#[tokio::test]
async fn stores_a_body_of_any_bytes_as_valid_text() {
    let receiver = Receiver::start(Behaviour::Answers(answer("500 Oops", "", b"a\0b\xfe\xffc"))).await;
    let attempt = attempt(&client(), &endpoint(&receiver.url())).await;
    assert_eq!(attempt.outcome, Outcome::HttpError);
    assert_eq!(kept(&attempt), "a\u{fffd}b\u{fffd}\u{fffd}c");
}

#[tokio::test]
async fn stores_no_secret_that_a_receiver_repeats() {
    let long = format!("z{}", "y".repeat(3_999));
    let headers = [("Authorization", "Bearer hunter2-\"quoted\""), ("X-Api-Key", "hunter2-key"), ("X-Long", &long)]
        .map(|(name, text)| Header {
            name: HeaderName::parse(name).unwrap(),
            value: HeaderValue::Secret(SecretText::new(text)),
        });
    let signing_secret = SecretText::new(SigningSecret::generate().unwrap().reveal().as_str());
    let key = signing_secret.expose().strip_prefix("whsec_").unwrap().trim_end_matches('=');
    // In the body `cut`, the secret starts before the limit of stored text and ends after it. The last body
    // is longer than the text that the client reads.
    let cut = format!("{}hunter2-key", "x".repeat(1_020));
    for (body, expected) in [
        (r#"{"authorization":"Bearer hunter2-\"quoted\""}"#, r#"{"authorization":"[redacted]"}"#),
        (r#"key hunter2-"quoted", hunter2-key"#, "key [redacted], [redacted]"),
        (signing_secret.expose(), "[redacted]"),
        (key, "[redacted]"),
        (&cut, &format!("{}[red", "x".repeat(1_020))),
        (&long.repeat(3), "[redacted][redacted][redacted]"),
    ] {
        let receiver = Receiver::start(Behaviour::Answers(answer("500 Oops", "", body.as_bytes()))).await;
        let endpoint = Endpoint { redactor: redactor(&headers, [&signing_secret]), ..endpoint(&receiver.url()) };
        let attempt = attempt(&client(), &endpoint).await;
        assert_eq!((attempt.outcome, kept(&attempt)), (Outcome::HttpError, expected));
    }
}
