//! Fuzzes `oracles::requests::client_ip`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| oracles::requests::client_ip(input));
