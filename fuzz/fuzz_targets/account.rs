//! Fuzzes `oracles::accounts::account`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| oracles::accounts::account(input));
