//! See `fuzzing::push_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| flametree_notify::fuzzing::push_config(input));
