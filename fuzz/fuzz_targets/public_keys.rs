//! See `fuzzing::public_keys`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| flametree_notify::fuzzing::public_keys(input));
