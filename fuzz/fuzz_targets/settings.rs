//! Fuzzes `oracles::settings::settings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| oracles::settings::settings(input));
