//! The command line: one file a command, and the wiring they share.

mod fetch;
mod files;
mod jwk;
mod jwt;
mod keys;
mod opening;
mod rekey;
mod serve;
mod upload;
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
    /// Make and convert keys as JWK and PEM; reads no store and no settings
    #[command(subcommand)]
    Jwk(jwk::JwkCommand),
    /// Sign, verify and look at tokens of any issuer; reads no store and no settings
    #[command(subcommand)]
    Jwt(jwt::JwtCommand),
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
    with_settings(Cli::command()).after_long_help(config::secrets_help())
}

/// The commands that read no settings: their flags are their own, and `--issuer` may mean another's.
const TOOLS: [&str; 2] = ["jwk", "jwt"];

/// Lets the settings' flags stand before a command and behind it.
fn with_settings(command: clap::Command) -> clap::Command {
    command
        .args(config::args())
        .mut_subcommands(|inner| if TOOLS.contains(&inner.get_name()) { inner } else { with_settings(inner) })
}

fn run(matches: &ArgMatches, cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.intended()? {
        Command::Jwk(command) => {
            refuse_settings(matches)?;
            jwk::run(command, matches)?;
        }
        Command::Jwt(command) => {
            refuse_settings(matches)?;
            return jwt::run(command);
        }
        Command::Keys(command) => with_config(matches, |config| keys::run(config, command))?,
        Command::Rekey(args) => with_config(matches, |config| rekey::run(config, args))?,
        Command::Serve(args) => with_config(matches, |config| serve::run(config, args))?,
        Command::Users(command) => with_config(matches, |config| users::run(config, command))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a command that reads settings, with logs and an async runtime.
fn with_config<F: Future<Output = anyhow::Result<()>>>(
    matches: &ArgMatches,
    work: impl FnOnce(Config) -> F,
) -> anyhow::Result<()> {
    let config = Config::load(matches)?;
    let _logs = start_logging(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(work(config));
    // A password that is still being hashed is nobody's any more.
    runtime.shutdown_background();
    done
}

/// A setting's flag before a command that reads none would look as if it did something.
fn refuse_settings(matches: &ArgMatches) -> Result<(), opening::Refused> {
    let Some(name) = config::typed_setting(matches) else {
        return Ok(());
    };
    let flag = name.to_ascii_lowercase().replace('_', "-");
    Err(opening::Refused(format!("--{flag} before `jwk` or `jwt` is a setting, and these read none")))
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

fn finish(result: anyhow::Result<ExitCode>) -> ExitCode {
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
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
