//! See `fuzzing::event`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| flametree_notify::fuzzing::event(input));
