//! See `jwksd::fuzzing::sealed`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| jwksd::fuzzing::sealed(input));
