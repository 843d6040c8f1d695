//! What the operator sees of the running program: log lines, and outages that are logged once.

mod logs;
mod outage;

pub(crate) use self::logs::{LOG_FORMAT, RUST_LOG};
pub use self::logs::{LogConfig, LogFormat, subscriber};
pub(crate) use self::outage::{Ended, Outage, Outages, QUIET, error_chain};
