//! Logs: their settings, and one subscriber made from a filter, a format and a sink.

use std::io::{self, IsTerminal as _};

use tracing::Subscriber;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt as _;

use jwksd_core::setting::values::one_of;
use jwksd_core::setting::{ConfigError, Setting, Source};

pub(crate) const LOG_FORMAT: Setting<LogFormat> = Setting {
    name: "LOG_FORMAT",
    default: "text",
    help: "Logs: text or json",
    parse: |text| one_of(text, &[("text", LogFormat::Text), ("json", LogFormat::Json)]),
};

pub(crate) const RUST_LOG: Setting<String> = Setting {
    name: "RUST_LOG",
    default: "info",
    help: "Logs: levels, of all targets or of some (warn,jwksd=debug)",
    parse: log_filter,
};

/// Maximum number of log lines that wait to be written. Further ones are dropped.
const MAX_QUEUED_LINES: usize = 10_000;

/// The settings of the logs.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// How log lines are written.
    pub format: LogFormat,
    /// Which log lines are written.
    pub filter: String,
}

impl LogConfig {
    /// Reads the settings of the logs.
    ///
    /// # Errors
    /// [`ConfigError`] for the first invalid setting.
    pub fn read(source: &dyn Source) -> Result<Self, ConfigError> {
        Ok(Self { format: LOG_FORMAT.read(source)?, filter: RUST_LOG.read(source)? })
    }

    /// Starts logging to standard error.
    ///
    /// A thread of its own writes the lines, and drops them if standard error does not accept them fast enough, so that
    /// logging never delays a request. Dropping the guard writes what is still queued.
    ///
    /// # Errors
    /// [`ConfigError`] for an invalid filter.
    pub fn start(&self) -> Result<WorkerGuard, ConfigError> {
        let filter = EnvFilter::try_new(&self.filter)
            .map_err(|error| ConfigError::setting(RUST_LOG.name, &self.filter, error))?;
        let colours = io::stderr().is_terminal();
        let (sink, guard) =
            NonBlockingBuilder::default().buffered_lines_limit(MAX_QUEUED_LINES).finish(io::stderr());
        // Fails only for the second call in a process, when logs are already written.
        let _ = subscriber(filter, self.format, sink, colours).try_init();
        Ok(guard)
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A JSON object on each line.
    Json,
    /// Text for people.
    Text,
}

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
    // A sink that fails must not stop the program, so its errors are ignored.
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

/// Which log lines are written: a level, of all targets or of some.
fn log_filter(text: &str) -> Result<String, String> {
    // The library reads the wrong characters after a blank, and panics in the middle of a wide one.
    let filter = text.split(',').map(str::trim).collect::<Vec<_>>().join(",");
    // jwksd has no spans. The library parses their fields as regular expressions, some of which take minutes.
    if !filter.contains(['[', '{']) && EnvFilter::try_new(&filter).is_ok() {
        Ok(filter)
    } else {
        Err("use a level such as info or debug, or one for a target, such as jwksd=debug".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_in_a_log_filter_are_ignored() {
        assert_eq!(log_filter(" warn, jwksd=debug\n").as_deref(), Ok("warn,jwksd=debug"));
        assert!(log_filter("\nMI\u{feff}=07m").is_err());
    }

    #[test]
    fn a_log_filter_takes_targets_but_not_spans() {
        assert_eq!(log_filter("warn,jwksd_http=trace").as_deref(), Ok("warn,jwksd_http=trace"));
        for spans in ["[sign_in]=debug", "jwksd[{user=alice}]", "info,[span{a=....  *   a=1}]=trace"] {
            assert!(log_filter(spans).is_err(), "{spans}");
        }
    }
}
