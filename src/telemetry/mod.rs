//! What the operator sees of the running program: log lines.

mod logs;

pub(crate) use self::logs::{LOG_FORMAT, RUST_LOG};
pub use self::logs::{LogConfig, LogFormat, subscriber};
