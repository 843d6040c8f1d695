//! See `jwksd::fuzzing::settings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| jwksd::fuzzing::settings(input));
