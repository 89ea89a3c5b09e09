//! See `fuzzing::push_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| flametree_notify::fuzzing::push_answer(input));
