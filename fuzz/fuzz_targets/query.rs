//! See `jwksd::fuzzing::query`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| jwksd::fuzzing::query(input));
