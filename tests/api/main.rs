//! Black-box tests over real HTTP against a real SQLite file; the clock is moved by hand.

mod accounts;
mod admin;
mod auth;
mod bad_input;
mod documented;
mod errors;
mod faults;
mod helpers;
mod hostile;
mod interleaved;
mod jwks;
mod keys;
mod known;
mod limits;
mod metadata;
mod openapi;
mod operations;
mod register;
mod secrets;
mod tampering;
mod uploads;
