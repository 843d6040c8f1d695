//! Fuzzes `oracles::jose::token`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| oracles::jose::token(input));
