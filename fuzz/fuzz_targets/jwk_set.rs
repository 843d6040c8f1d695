//! Fuzzes `oracles::jose::jwk_set`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| oracles::jose::jwk_set(input));
