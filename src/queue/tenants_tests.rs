//! Tests how permits are divided among tenants.

use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn a_tenant_leaves_free_permits_for_other_tenants(permits in 1..5_000_u32, times in 1..4_u32, tenants in 1..30_usize) {
        let (mut free, mut held) = (permits, vec![0; tenants]);
        for _ in 0..3 {
            for of in &mut held {
                let found = free;
                let taken = share(free, *of, times);
                *of += taken;
                free -= taken;
                prop_assert!(taken == 0 || *of == 1 || free >= *of * times, "{of} of {found}");
            }
        }
        prop_assert!(free == 0 || held.iter().all(|of| *of > 0));
    }
}

proptest! {
    /// Deliveries to the other tenants' endpoints hang, so they never release a permit.
    #[test]
    fn a_proven_endpoint_finds_a_permit_while_endpoints_of_many_tenants_hang(
        permits in 1..3_000_u32, hanging in prop::collection::vec(any::<bool>(), 1..300),
    ) {
        let proven = hanging.iter().filter(|is_proven| **is_proven).count();
        prop_assume!(proven < usize::try_from(permits.div_ceil(RESERVE)).unwrap());
        let id = |number: usize| TenantId::parse(format!("tenant-{number}")).unwrap();
        let mut tenants = Tenants::new(permits);
        (0..=hanging.len()).for_each(|number| tenants.add_lane(&id(number)));
        for _ in 0..3 {
            for (number, is_proven) in hanging.iter().enumerate() {
                let kind = if *is_proven { Kind::Proven } else { Kind::Unproven };
                let room = tenants.room_of(&id(number), kind);
                tenants.take(&id(number), kind, room);
            }
        }
        prop_assert!(tenants.room_of(&id(hanging.len()), Kind::Proven) > 0, "{} are free", tenants.free());
    }
}

#[test]
fn a_lone_tenant_may_hold_half_of_all_permits_but_only_a_quarter_for_unproven_endpoints() {
    assert_eq!((share(1_000, 0, LEFT_OF_ALL), share(400, 0, LEFT_OF_UNPROVEN)), (500, 100));
    assert_eq!((share(500, 500, LEFT_OF_ALL), share(1, 0, LEFT_OF_ALL), share(0, 0, LEFT_OF_ALL)), (0, 1, 0));
}

#[test]
fn an_outcome_that_is_being_recorded_does_not_count_against_its_tenant() {
    let acme = TenantId::parse("acme").unwrap();
    let mut tenants = Tenants::new(1_000);
    tenants.add_lane(&acme);
    tenants.take(&acme, Kind::Proven, 500);
    assert_eq!(tenants.room_of(&acme, Kind::Proven), 0);
    (0..500).for_each(|_| tenants.recording_started(&acme));
    assert_eq!(tenants.room_of(&acme, Kind::Proven), 400, "the reserve of 100 stays free");
    tenants.take(&acme, Kind::Proven, 400);
    (0..400).for_each(|_| tenants.recording_started(&acme));
    assert_eq!(tenants.room_of(&acme, Kind::Proven), 0, "the reserve is for tenants that hold no permits");
    (0..900).for_each(|_| tenants.recording_ended(&acme));
    assert_eq!(tenants.room_of(&acme, Kind::Proven), 0);
}
