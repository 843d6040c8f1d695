//! See `jwksd::fuzzing::client_ip`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| jwksd::fuzzing::client_ip(input));
