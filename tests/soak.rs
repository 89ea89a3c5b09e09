//! Tests how the soak run detects that a measured value grows.

#[path = "../benches/soak/growth.rs"]
mod growth;

use growth::{Growth, Tolerance};

const TOLERANCE: Tolerance = Tolerance { factor: 1.2, slack: 1.0 };

fn is_kept(value: impl Fn(u32) -> f64) -> bool {
    let values: Vec<f64> = (0..100).map(value).collect();
    Growth::of(&values, 0).is_some_and(|growth| growth.is_within(TOLERANCE))
}

#[test]
fn a_steady_value_with_peaks_does_not_grow() {
    assert!(is_kept(|minute| if minute % 7 == 0 { 500.0 } else { 100.0 + f64::from(minute % 3) }));
}

#[test]
fn a_value_that_climbs_steadily_grows() {
    assert!(!is_kept(|minute| 100.0 + f64::from(minute)));
}

#[test]
fn ignores_growth_in_the_first_tenth() {
    assert!(is_kept(|minute| f64::from(minute.min(10))));
}

#[test]
fn a_small_value_may_grow_by_up_to_the_slack() {
    assert!(is_kept(|minute| if minute < 50 { 0.0 } else { 1.0 }));
    assert!(!is_kept(|minute| if minute < 50 { 0.0 } else { 2.0 }));
}

#[test]
fn compares_an_early_fifth_with_the_last_fifth() {
    let values: Vec<f64> = (0..100).map(f64::from).collect();
    assert_eq!(Growth::of(&values, 0), Some(Growth { early: 20.0, late: 90.0 }));
}

#[test]
fn a_long_warm_up_shortens_the_compared_parts() {
    let values: Vec<f64> = (0..18).map(f64::from).collect();
    assert_eq!(Growth::of(&values, 12), Some(Growth { early: 13.0, late: 16.0 }));
}

#[test]
fn does_not_compare_too_few_values() {
    assert_eq!(Growth::of(&[1.0, 2.0, 3.0, 4.0], 0), None);
    assert_eq!(Growth::of(&[1.0; 10], 9), None);
    assert_eq!(Growth::of(&[1.0; 10], 11), None);
}
