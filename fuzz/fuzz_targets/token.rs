//! See `jwksd::fuzzing::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| jwksd::fuzzing::token(input));
