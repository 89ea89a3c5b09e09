//! Invariants of the domain's parsers for any input from the fuzzer (`crate::fuzzing`).

mod faults;
mod texts;

pub use faults::assert_told;
pub use texts::texts;
