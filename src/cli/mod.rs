//! The command line: one file a command, and the wiring they share.

mod keys;
mod opening;
mod rekey;
mod serve;
mod users;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{self, Config, ConfigError};
use crate::telemetry;

/// Exit status of a start that was refused: a setting or the store cannot work.
const REFUSED: u8 = 2;

/// Issues RS256 JWTs to user accounts and publishes the keys that verify them as a JWKS.
#[derive(Debug, Parser)]
#[command(name = "jwksd", version, arg_required_else_help = false)]
struct Cli {
    /// For when there is no command.
    #[command(flatten)]
    serve: serve::ServeArgs,

    #[command(subcommand)]
    command: Option<Command>,
}

impl Cli {
    /// What to do: to serve, unless something else was said.
    fn intended(self) -> Result<Command, opening::Refused> {
        match self.command {
            None => Ok(Command::Serve(self.serve)),
            Some(Command::Serve(args)) => Ok(Command::Serve(args.or(self.serve))),
            Some(_) if self.serve != serve::ServeArgs::default() => {
                Err(opening::Refused("--until-stdin-closes is for `jwksd serve` alone".to_owned()))
            }
            Some(other) => Ok(other),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See and manage the signing keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Move the store from `NOT_MY_KEY` to `NEW_NOT_MY_KEY`, or to one that is asked for
    Rekey(rekey::RekeyArgs),
    /// Serve HTTP; this is what happens without a command
    Serve(serve::ServeArgs),
    /// Manage accounts
    #[command(subcommand)]
    Users(users::UsersCommand),
}

/// Runs the program with these arguments, of which the first is its name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let matches = command().try_get_matches_from(args).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((matches, cli))
    });
    match matches {
        Ok((matches, cli)) => finish(run(&matches, cli)),
        Err(error) => {
            // --help and --version come as errors too; a reader who has gone away is no failure.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(REFUSED))
        }
    }
}

/// The whole command line, as clap knows it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command().args(config::args()).after_long_help(config::secrets_help())
}

fn run(matches: &ArgMatches, cli: Cli) -> anyhow::Result<()> {
    let command = cli.intended()?;
    let config = Config::load(innermost(matches))?;
    let _logs = start_logging(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        match command {
            Command::Keys(command) => keys::run(config, command).await,
            Command::Rekey(args) => rekey::run(config, args).await,
            Command::Serve(args) => serve::run(config, args).await,
            Command::Users(command) => users::run(config, command).await,
        }
    });
    // A password that is still being hashed is nobody's any more.
    runtime.shutdown_background();
    done
}

/// The matches that know the settings, wherever on the line they stand.
fn innermost(mut matches: &ArgMatches) -> &ArgMatches {
    while let Some((_, inner)) = matches.subcommand() {
        matches = inner;
    }
    matches
}

/// Logs go through a thread of their own, and are dropped rather than waited for when nobody takes them. What is still
/// in the queue is written when the guard is dropped.
fn start_logging(config: &Config) -> Result<WorkerGuard, ConfigError> {
    let filter = EnvFilter::try_new(&config.log_filter)
        .map_err(|error| ConfigError::setting("RUST_LOG", &config.log_filter, error))?;
    let colours = io::stderr().is_terminal();
    let (sink, guard) = tracing_appender::non_blocking(io::stderr());
    let subscriber = telemetry::subscriber(filter, config.log_format, sink, colours);
    // Only a second call in one process could fail, and then there are logs already.
    let _ = subscriber.try_init();
    Ok(guard)
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    say(&format!("jwksd: {error:#}"));
    let is_refusal = error.is::<ConfigError>() || error.is::<opening::Refused>();
    ExitCode::from(if is_refusal { REFUSED } else { 1 })
}

/// Words for people, on standard error.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Data, on standard output.
fn print(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// Data whose reader may have seen enough.
fn list(lines: impl IntoIterator<Item = String>) -> io::Result<()> {
    for line in lines {
        match print(&line) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
    }
    Ok(())
}
