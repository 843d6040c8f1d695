//! Fuzz oracles: one function for each reader of untrusted input.
//!
//! A function passes arbitrary bytes to the readers, and checks what they promise of the result. A finding is a panic. The
//! fuzz targets use this folder as a library; `tests/fuzz_corpus.rs` includes it to run the stored inputs in every test run.

pub mod accounts;
pub mod bytes;
pub mod jose;
pub mod requests;
pub mod sealing;
pub mod settings;

/// An oracle for one input.
pub type Oracle = fn(&[u8]);

/// The oracle of each fuzz target.
pub const ORACLES: [(&str, Oracle); 10] = [
    ("account", accounts::account),
    ("client_ip", requests::client_ip),
    ("credentials", requests::credentials),
    ("jwk_set", jose::jwk_set),
    ("master_key", sealing::master_key),
    ("pem", jose::pem),
    ("query", requests::query),
    ("sealed", sealing::sealed),
    ("settings", settings::settings),
    ("token", jose::token),
];
