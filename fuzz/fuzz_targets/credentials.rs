//! See `jwksd::fuzzing::credentials`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| jwksd::fuzzing::credentials(input));
