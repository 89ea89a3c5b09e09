//! Concurrent changes of a push config, and changes with a stale `If-Match` header.

use std::task::Poll;

use reqwest::Method;
use serde_json::json;

use crate::push_configs::{PATH, full_body, get, put, put_if_match, started};
use crate::support::answer::Answer;

#[tokio::test]
async fn rejects_a_change_with_a_stale_if_match_header() {
    let (api, admin) = started().await;
    let missing = put_if_match(&api, &admin, "*", &full_body()).await;
    assert_eq!((missing.status, missing.json()["code"].as_str()), (412, Some("precondition_failed")));
    let first = put_if_match(&api, &admin, "\"unset\"", &full_body()).await;
    assert_eq!(first.status, 200);
    assert_eq!(put_if_match(&api, &admin, "\"unset\"", &full_body()).await.status, 412);

    let second = put_if_match(&api, &admin, first.etag(), &full_body()).await;
    assert_eq!(second.status, 200);
    assert_eq!(put_if_match(&api, &admin, first.etag(), &full_body()).await.status, 412);
    let weak = format!("W/{}", second.etag());
    assert_eq!(put_if_match(&api, &admin, &weak, &full_body()).await.status, 412);
    let stale = [("if-match", first.etag())];
    assert_eq!(api.call(&admin, Method::PATCH, PATH, &stale, Some(&json!({}))).await.status, 412);
    assert_eq!(api.call(&admin, Method::DELETE, PATH, &stale, None).await.status, 412);
    assert_eq!(put_if_match(&api, &admin, "*", &full_body()).await.status, 200);

    // After a config is deleted and created again, its version is 1 but its entity tag is new.
    assert_eq!(api.call(&admin, Method::DELETE, PATH, &[("if-match", "*")], None).await.status, 204);
    assert_eq!(put(&api, &admin, &full_body()).await.status, 200);
    assert_eq!(put_if_match(&api, &admin, first.etag(), &full_body()).await.status, 412);
}

#[tokio::test]
async fn one_of_several_concurrent_changes_succeeds_and_the_others_get_412() {
    let (api, admin) = started().await;
    let body = |n: usize| json!({"url": format!("https://hooks.test/{n}")});
    for round in 0..5 {
        let tag = get(&api, &admin).await.etag().to_owned();
        let bodies: Vec<_> = (0..6).map(|n| body(round * 10 + n)).collect();
        let requests = bodies.iter().map(|body| put_if_match(&api, &admin, &tag, body));
        let answers = all_at_once(requests).await;
        let winners: Vec<_> = answers.iter().enumerate().filter(|(_, answer)| answer.status == 200).collect();
        assert_eq!(winners.len(), 1, "{answers:?}");
        assert!(answers.iter().all(|answer| [200, 412].contains(&answer.status)));
        let (winner, answer) = winners[0];
        let read = get(&api, &admin).await;
        assert_eq!((read.etag(), &read.json()["url"]), (answer.etag(), &bodies[winner]["url"]));
    }
}

#[tokio::test]
async fn a_concurrent_change_without_if_match_is_a_conflict() {
    let (api, admin) = started().await;
    let body = json!({"url": "https://hooks.test/"});
    let answers = all_at_once((0..8).map(|_| put(&api, &admin, &body))).await;
    assert!(answers.iter().all(|answer| [200, 409].contains(&answer.status)), "{answers:?}");
    // Each successful change creates a version. Only one of these changes creates the config and the signing secret.
    let mut tags: Vec<_> = answers.iter().filter(|answer| answer.status == 200).map(Answer::etag).collect();
    let successes = tags.len();
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), successes);
    let shown = answers.iter().filter(|answer| answer.status == 200 && answer.json().get("signing_secret").is_some());
    assert_eq!(shown.count(), 1);
}

/// Polls all futures concurrently on the current task.
async fn all_at_once<T>(all: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut pending: Vec<_> = all.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut ready = true;
        for (future, result) in pending.iter_mut().filter(|(_, result)| result.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(value) => *result = Some(value),
                Poll::Pending => ready = false,
            }
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    pending.into_iter().map(|(_, result)| result.unwrap()).collect()
}
