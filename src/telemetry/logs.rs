//! Logs: one subscriber, made from a filter, a format and a sink.

use std::str::FromStr;

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

impl FromStr for LogFormat {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        match name {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(UnknownFormat),
        }
    }
}

/// The name of a log format is unknown.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("use text or json")]
pub struct UnknownFormat;

/// Returns a subscriber that writes what passes `filter` to `sink`; set `colours` if the sink is a terminal.
pub fn subscriber<W>(
    filter: EnvFilter,
    format: LogFormat,
    sink: W,
    colours: bool,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(sink)
        .with_target(false)
        .with_ansi(colours)
        // A closed sink must not stop the program: its write errors are dropped.
        .log_internal_errors(false);
    match format {
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
        LogFormat::Text => Box::new(builder.finish()),
    }
}
