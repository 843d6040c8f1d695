//! Fuzzes `oracles::requests::query`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| oracles::requests::query(input));
