//! See `jwksd::fuzzing::master_key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| jwksd::fuzzing::master_key(input));
