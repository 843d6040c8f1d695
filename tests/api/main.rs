//! Black-box tests over real HTTP against a real SQLite file; the tests set the clock.

mod accounts;
mod admin;
mod auth;
mod bad_input;
mod browsers;
mod conformance;
mod credential_cache;
mod errors;
mod external_keys;
mod faults;
mod foreign_pem;
mod helpers;
mod hostile;
mod interleaved;
mod jwks;
mod kept_keys;
mod key_commands;
mod keys;
mod limits;
mod metadata;
mod openapi;
mod password;
mod register;
mod secrets;
mod tampering;
mod thumbprints;
