//! See `jwksd::fuzzing::pem`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| jwksd::fuzzing::pem(input));
