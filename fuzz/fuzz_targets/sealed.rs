//! Fuzzes `oracles::sealing::sealed`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| oracles::sealing::sealed(input));
