//! Fuzzes `oracles::requests::credentials`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| oracles::requests::credentials(input));
