//! Fuzzes `oracles::sealing::master_key`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| oracles::sealing::master_key(input));
