//! When a claim waits for more work, by examples.

use std::time::Instant;

use super::lane::Verdict;
use super::lanes_tests::{endpoint, lanes_with_work, settle_fully};
use crate::domain::names::TenantId;

#[test]
fn little_work_waits_beside_a_claim_and_much_does_not() {
    let now = Instant::now();
    let tenant = TenantId::parse("acme").unwrap();
    let mut lanes = lanes_with_work(1, now);
    assert!(!lanes.expects_more(now), "no claim is under way");
    lanes.plan(8, now);
    lanes.hint(&tenant, endpoint(1), 2, now);
    assert!(lanes.expects_more(now));
    for position in 3..40 {
        lanes.hint(&tenant, endpoint(1), position, now);
    }
    assert!(!lanes.expects_more(now));
}

#[test]
fn little_work_waits_a_moment_after_a_claim_that_gave_much() {
    let now = Instant::now();
    let tenant = TenantId::parse("acme").unwrap();
    let mut lanes = lanes_with_work(10, now);
    for (gave, waits) in [(7, false), (8, true)] {
        let plan = lanes.plan(10, now);
        settle_fully(&mut lanes, &plan[..1], &mut 1, now);
        lanes.claim_ended(gave, now);
        lanes.hint(&tenant, endpoint(20), 1, now);
        assert_eq!(lanes.expects_more(now), waits, "after {gave}");
    }
    let end = lanes.patience(now).unwrap();
    assert_eq!(lanes.patience(now), Some(end), "from when it was first seen");
    assert_eq!(lanes.patience(end), None, "it has waited long enough");
    assert!(!lanes.expects_more(end), "nothing came");
}

#[test]
fn lanes_that_gave_all_twice_are_expected_to_give_as_much_again() {
    let now = Instant::now();
    let mut lanes = lanes_with_work(4, now);
    let mut next = 1;
    for is_expected in [false, true] {
        let plan = lanes.plan(32, now);
        for one in settle_fully(&mut lanes, &plan, &mut next, now) {
            lanes.answered(one, Verdict::Answered, now, now);
            lanes.release(one, 1);
        }
        assert_eq!(lanes.has_enough(), is_expected);
    }
}
