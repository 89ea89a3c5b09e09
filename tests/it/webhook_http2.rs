//! Tests that the HTTP/2 client repeats a request only once, and only if the receiver provably did not process the request.

use flametree_notify::domain::delivery::Outcome;

use crate::support::http2::{ENHANCE_YOUR_CALM, Http2Receiver, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, Step};
use crate::support::messages::{attempt, client, endpoint, impatient};
use crate::support::waiting::eventually;

#[tokio::test]
async fn delivers_to_an_http2_receiver_over_one_connection() {
    let receiver = Http2Receiver::start(&[Step::Answers]).await;
    let client = client();
    for _ in 0..3 {
        assert_eq!(attempt(&client, &endpoint(&receiver.url())).await.outcome, Outcome::Delivered);
    }
    assert_eq!((receiver.connections(), receiver.bodies().len()), (1, 3));
}

#[tokio::test]
async fn repeats_unprocessed_requests_once_on_a_new_connection() {
    for refusal in [
        Step::GoesAway { code: NO_ERROR },
        Step::GoesAway { code: ENHANCE_YOUR_CALM },
        Step::ResetsStreams { code: REFUSED_STREAM },
    ] {
        let receiver = Http2Receiver::start(&[refusal, Step::Answers]).await;
        let attempt = attempt(&client(), &endpoint(&receiver.url())).await;
        assert_eq!(attempt.outcome, Outcome::Delivered, "{refusal:?}");
        assert_eq!((receiver.connections(), receiver.bodies().len()), (2, 1), "{refusal:?}");
    }
}

#[tokio::test]
async fn an_immediate_goaway_does_not_fail_the_attempt() {
    for _ in 0..20 {
        let receiver = Http2Receiver::start(&[Step::GoesAwayAtOnce, Step::Answers]).await;
        let attempt = attempt(&client(), &endpoint(&receiver.url())).await;
        assert_eq!(attempt.outcome, Outcome::Delivered, "{attempt:?}");
        assert_eq!((receiver.connections(), receiver.bodies().len()), (2, 1));
    }
}

#[tokio::test]
async fn a_second_rejection_is_final() {
    for refusal in [Step::GoesAway { code: NO_ERROR }, Step::ResetsStreams { code: REFUSED_STREAM }] {
        let receiver = Http2Receiver::start(&[refusal]).await;
        let attempt = attempt(&client(), &endpoint(&receiver.url())).await;
        assert_eq!(attempt.outcome, Outcome::ProtocolError, "{refusal:?}");
        assert_eq!((receiver.connections(), receiver.streams()), (2, 2), "{refusal:?}");
    }
}

#[tokio::test]
async fn does_not_repeat_a_request_that_may_have_been_processed() {
    for (step, outcome) in [
        (Step::ResetsStreams { code: INTERNAL_ERROR }, Outcome::ProtocolError),
        (Step::ResetsAfterRequest { code: INTERNAL_ERROR }, Outcome::ProtocolError),
        (Step::GoesAwayAfterRequest, Outcome::ConnectError),
    ] {
        let receiver = Http2Receiver::start(&[step, Step::Answers]).await;
        let attempt = attempt(&client(), &endpoint(&receiver.url())).await;
        assert_eq!(attempt.outcome, outcome, "{step:?}");
        assert_eq!((receiver.connections(), receiver.streams()), (1, 1), "{step:?}");
    }
}

#[tokio::test]
async fn a_goaway_after_a_response_does_not_fail_the_next_attempt() {
    let receiver = Http2Receiver::start(&[Step::AnswersThenGoesAway]).await;
    let client = client();
    for sent in 1..=10 {
        assert_eq!(attempt(&client, &endpoint(&receiver.url())).await.outcome, Outcome::Delivered);
        assert_eq!(receiver.bodies().len(), sent);
    }
}

#[tokio::test]
async fn the_deadline_includes_the_second_connection() {
    let receiver = Http2Receiver::start(&[Step::GoesAway { code: NO_ERROR }, Step::NeverAnswers]).await;
    let attempt = attempt(&client(), &impatient(&receiver.url())).await;
    assert_eq!(attempt.outcome, Outcome::Timeout);
    eventually("the second request arrived", || receiver.bodies().len() == 1).await;
}
