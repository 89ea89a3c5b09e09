//! Invariants of the domain's parsers for any input from the fuzzer (`crate::fuzzing`).

mod events;
mod faults;
mod push_configs;
mod texts;

pub use events::event;
pub use faults::assert_told;
pub use push_configs::{assert_sound, push_config};
pub use texts::texts;
