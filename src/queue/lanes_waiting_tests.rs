//! Tests how long claims wait for permits and for more deliveries.

use std::time::{Duration, Instant};

use super::lane::AttemptSignal;
use super::lanes::{LaneLimits, Lanes};
use super::lanes_tests::{acme, endpoint, lanes_with_work, settle_fully};
use crate::domain::names::TenantId;

#[test]
fn a_small_batch_waits_during_another_claim_but_a_large_batch_does_not() {
    let now = Instant::now();
    let tenant = acme();
    let mut lanes = lanes_with_work(1, now);
    assert!(!lanes.expects_more(now), "no claim is in progress");
    lanes.plan(8, now);
    lanes.hint(&tenant, endpoint(1), 2, now);
    assert!(lanes.expects_more(now));
    for position in 3..70 {
        lanes.hint(&tenant, endpoint(1), position, now);
    }
    assert!(!lanes.expects_more(now));
}

#[test]
fn a_small_batch_waits_briefly_after_a_large_claim() {
    let now = Instant::now();
    let tenant = acme();
    let mut lanes = lanes_with_work(10, now);
    for (gave, waits) in [(7, false), (8, true)] {
        let plan = lanes.plan(10, now);
        settle_fully(&mut lanes, &plan[..1], &mut 1, now);
        lanes.claim_ended(gave, now);
        lanes.hint(&tenant, endpoint(20), 1, now);
        assert_eq!(lanes.expects_more(now), waits, "after {gave}");
    }
    let end = lanes.waits_until(1, now).unwrap();
    assert_eq!(lanes.waits_until(1, now + (end - now) / 2), Some(end), "the wait starts at the first hint");
    assert_eq!(lanes.waits_until(1, end), None, "no more deliveries arrived");
}

#[test]
fn deliveries_wait_longer_for_permits_only_while_their_tenants_hold_many_permits() {
    let now = Instant::now();
    let in_ms = |ms| now + Duration::from_millis(ms);
    let (busy, other) = (acme(), TenantId::parse("other").unwrap());
    let mut lanes = Lanes::new(LaneLimits { permits: 40, endpoint_permits: 40 });
    let mut next = 1;
    lanes.hint(&busy, endpoint(0), 1, now);
    for batch in [4, 40] {
        let plan = lanes.plan(batch, now);
        for one in settle_fully(&mut lanes, &plan, &mut next, now) {
            if batch == 4 {
                lanes.answered(&acme(), one, AttemptSignal::Answered, now, now);
                lanes.release(&acme(), one, 1);
            }
        }
    }
    assert!(lanes.held() >= 10, "{}", lanes.held());
    assert_eq!(lanes.waits_until(10, now), Some(in_ms(4)), "checked again soon");
    assert_eq!(lanes.waits_until(10, in_ms(49)), Some(in_ms(50)));
    assert_eq!(lanes.waits_until(10, in_ms(50)), None, "the deliveries have waited long enough");

    lanes.hint(&other, endpoint(9), 500, in_ms(5));
    assert_eq!(lanes.waits_until(15, in_ms(5)), None, "the other tenant holds no permits");
}

#[test]
fn lanes_that_filled_their_quotas_twice_are_expected_to_fill_them_again() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(4, now);
    let mut next = 1;
    for is_expected in [false, true] {
        let plan = lanes.plan(64, now);
        for one in settle_fully(&mut lanes, &plan, &mut next, now) {
            lanes.answered(&acme(), one, AttemptSignal::Answered, now, now);
            lanes.release(&acme(), one, 1);
        }
        assert_eq!(lanes.has_enough(), is_expected);
    }
}

#[test]
fn a_small_batch_waits_under_load_but_not_after_a_single_burst() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(20, now);
    lanes.plan(20, now);
    lanes.claim_ended(1, now);
    let in_ms = |ms| now + Duration::from_millis(ms);
    lanes.hint(&acme(), endpoint(1), 2, in_ms(20));
    assert!(!lanes.expects_more(in_ms(20)), "a burst, long ago");
    for ms in 21..26 {
        for position in 3..6 {
            lanes.hint(&acme(), endpoint(1), position, in_ms(ms));
        }
    }
    lanes.plan(20, in_ms(26));
    lanes.claim_ended(1, in_ms(26));
    assert!(lanes.expects_more(in_ms(27)), "many deliveries became ready in two consecutive windows");
    assert!(!lanes.expects_more(in_ms(34)), "no longer");
}

#[test]
fn a_small_batch_waits_longer_under_load_but_not_forever() {
    let now = Instant::now();
    let tenant = acme();
    let in_ms = |ms| now + Duration::from_millis(ms);
    let mut lanes = lanes_with_work(20, now);
    lanes.plan(20, now);
    lanes.hint(&tenant, endpoint(1), 2, in_ms(4));
    assert_eq!(lanes.waits_until(1, in_ms(4)), Some(in_ms(12)), "under load");
    assert_eq!(lanes.waits_until(1, in_ms(11)), Some(in_ms(12)));
    for position in 3..11 {
        lanes.hint(&tenant, endpoint(1), position, in_ms(9));
    }
    lanes.hint(&tenant, endpoint(1), 11, in_ms(13));
    assert_eq!(lanes.waits_until(1, in_ms(13)), None, "the deliveries have waited long enough");
    lanes.plan(20, in_ms(13));
    lanes.hint(&tenant, endpoint(2), 12, in_ms(13));
    assert_eq!(lanes.waits_until(1, in_ms(13)), Some(in_ms(21)));
    lanes.claim_ended(8, in_ms(20));
    assert_eq!(lanes.waits_until(1, in_ms(21)), Some(in_ms(22)), "only one delivery is ready");
    lanes.claim_ended(8, in_ms(24));
    assert_eq!(lanes.waits_until(1, in_ms(25)), None, "the deliveries have waited long enough");
}

#[test]
fn a_lane_requests_as_many_deliveries_as_became_ready() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(10, now);
    for position in 2..10 {
        lanes.hint(&acme(), endpoint(7), position, now);
    }
    let asked: Vec<u32> = lanes.plan(75, now).iter().map(|one| one.quota.quota).collect();
    assert_eq!(asked.len(), 10, "each lane is planned");
    assert_eq!((asked.iter().max(), asked.iter().min()), (Some(&9), Some(&7)));
}
