//! See `jwksd::fuzzing::jwk_set`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| jwksd::fuzzing::jwk_set(input));
