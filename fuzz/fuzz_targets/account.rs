//! See `jwksd::fuzzing::account`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| jwksd::fuzzing::account(input));
