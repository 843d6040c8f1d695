//! `jwksd doctor`: finds what keeps the service from working, and says how to fix it. It changes nothing.
//!
//! `command` runs it; `findings` collects and prints; `settings`, `environment` and `store` look at one part each.

mod command;
mod environment;
mod findings;
mod server;
mod settings;
mod store;

pub(super) use self::command::{DoctorArgs, run};
