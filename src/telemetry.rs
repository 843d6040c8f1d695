//! Logs: one subscriber, made from a filter, a format and a sink.

use std::str::FromStr;

use thiserror::Error;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A JSON object a line.
    Json,
    /// For people.
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

/// No format of ours.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("text or json would do")]
pub struct UnknownFormat;

/// A subscriber that writes what `filter` lets through to `sink`; `colours` for a sink that is a terminal.
pub fn subscriber<W>(
    filter: EnvFilter,
    format: LogFormat,
    sink: W,
    colours: bool,
) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // A sink that is gone must stop nothing, so that nobody is told of its errors.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(sink)
        .with_target(false)
        .with_ansi(colours)
        .log_internal_errors(false);
    match format {
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
        LogFormat::Text => Box::new(builder.finish()),
    }
}
