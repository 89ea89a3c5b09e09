//! Tests that a forged hint affects only the lane that it names, and that forged hints use bounded memory.

use std::time::Instant;

use super::lanes::Lanes;
use super::lanes_tests::{LIMITS, acme, endpoint};
use crate::domain::names::TenantId;
use crate::store::queue::lanes::LaneCursor;

fn tenant(number: u32) -> TenantId {
    TenantId::parse(format!("evil-{number}")).unwrap()
}

/// Claims until no lane waits. All claims find their lanes empty.
fn claim_nothing(lanes: &mut Lanes, now: Instant) {
    while lanes.has_turns() {
        for one in lanes.plan(128, now) {
            lanes.settle(&one, &[], now);
        }
    }
}

#[test]
fn a_hint_with_a_wrong_tenant_does_not_hide_the_lane_of_the_endpoint() {
    let now = Instant::now();
    let mut lanes = Lanes::new(LIMITS);
    for number in 0..100 {
        assert!(lanes.heard(&tenant(number), endpoint(0), 1, now));
    }
    assert!(lanes.heard(&acme(), endpoint(0), 7, now));
    let mut of_acme = 0;
    while lanes.has_turns() {
        for one in lanes.plan(128, now) {
            let is_real = one.quota.tenant_id == acme();
            of_acme += u32::from(is_real);
            lanes.settle(&one, if is_real { &[7] } else { &[] }, now);
        }
    }
    assert_eq!(of_acme, 1);
    let known: Vec<_> = lanes.known().iter().map(|lane| lane.tenant.clone()).collect();
    assert_eq!(known, [acme()], "only the lane with a claimed delivery is kept");
    lanes.release(&acme(), endpoint(0), 1);
    assert_eq!(lanes.held(), 0);
}

#[test]
fn unconfirmed_lanes_are_limited_per_tenant_and_in_total() {
    let now = Instant::now();
    let mut lanes = Lanes::new(LIMITS);
    for round in 0..3 {
        let of_one = (0..10_000).filter(|number| lanes.heard(&tenant(0), endpoint(*number), 1, now)).count();
        assert!((100..=256).contains(&of_one), "{of_one} lanes of one tenant");
        assert!(lanes.heard(&acme(), endpoint(0), 1, now));
        let of_others = (1..10_000).filter(|number| lanes.heard(&tenant(*number), endpoint(0), 1, now)).count();
        assert_eq!(of_one + 1 + of_others, 512, "in round {round}");
        assert_eq!(lanes.known().len(), 512 + round.min(1));
        // The API of this process and discovery report only real deliveries.
        lanes.hint(&acme(), endpoint(20_000), 1, now);
        assert_eq!(lanes.known().len(), 513);
        claim_nothing(&mut lanes, now);
        assert_eq!(lanes.known().len(), 1, "only the confirmed lane is kept");
    }
}

#[test]
fn a_forged_position_hides_no_delivery() {
    let now = Instant::now();
    let after = |lanes: &Lanes| lanes.known().places(&LaneCursor::default(), 1, usize::MAX, i64::MAX)[0].after;
    for is_from_other_process in [false, true] {
        let mut lanes = Lanes::new(LIMITS);
        for position in [i64::MAX, i64::MIN, i64::MAX] {
            assert!(lanes.heard(&acme(), endpoint(0), position, now));
        }
        let mut lanes = Lanes::new(LIMITS);
        assert!(lanes.heard(&acme(), endpoint(0), i64::MAX, now));
        if is_from_other_process {
            assert!(lanes.heard(&acme(), endpoint(0), 100, now));
        } else {
            lanes.hint(&acme(), endpoint(0), 100, now);
        }
        assert_eq!(after(&lanes), Some(99));
        let plan = lanes.plan(8, now);
        assert_eq!(plan[0].quota.after, 99);
        lanes.settle(&plan[0], &[100, 101], now);
        assert!(lanes.heard(&acme(), endpoint(0), i64::MAX, now));
        assert_eq!(after(&lanes), Some(101), "a tail scan starts after the last claimed position");
    }
}
