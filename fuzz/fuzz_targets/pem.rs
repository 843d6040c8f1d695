//! Fuzzes `oracles::jose::pem`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| oracles::jose::pem(input));
