//! The command line: one file a command, and the wiring they share.

mod argon2_tune;
mod backup;
mod doctor;
mod exit;
mod fetch;
mod files;
mod jwk;
mod jwt;
mod keys;
mod limits;
mod logs;
mod manual;
mod opening;
mod progress;
mod rekey;
mod serve;
mod supervisor;
mod text;
mod upload;
mod users;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use self::text::printable;
use crate::config::{self, Config};

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
            None => Ok(Command::Configured(Configured::Serve(self.serve))),
            Some(Command::Configured(Configured::Serve(args))) => {
                Ok(Command::Configured(Configured::Serve(args.or(self.serve))))
            }
            Some(_) if self.serve != serve::ServeArgs::default() => {
                Err(opening::Refused("--until-stdin-closes is for `jwksd serve` alone".to_owned()))
            }
            Some(other) => Ok(other),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Configured(Configured),
    /// Probe for what would keep the service from working, and say what to do; changes nothing
    Doctor(doctor::DoctorArgs),
    #[command(flatten)]
    Standalone(Standalone),
}

/// What works without a setting.
#[derive(Debug, Subcommand)]
enum Standalone {
    /// Measure this machine, and print the Argon2id settings that make a hash take a given time
    Argon2Tune(argon2_tune::TuneArgs),
    /// Print the completions of a shell
    Completions(manual::CompletionsArgs),
    /// Make and convert keys as JWK and PEM; reads no store and no settings
    #[command(subcommand)]
    Jwk(jwk::JwkCommand),
    /// Sign, verify and look at tokens of any issuer; reads no store and no settings
    #[command(subcommand)]
    Jwt(jwt::JwtCommand),
    /// Write the pages for man
    Man(manual::ManArgs),
}

/// What works as the settings say.
#[derive(Debug, Subcommand)]
enum Configured {
    /// Copy the store to a new file, while servers work on it, and prove the copy
    Backup(backup::BackupArgs),
    /// See and manage the signing keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Show who signed in, when and from where
    Logs(logs::LogsArgs),
    /// Move the store from `NOT_MY_KEY` to `NEW_NOT_MY_KEY`, or to one that is asked for
    Rekey(rekey::RekeyArgs),
    /// Put a copy in the place of the store, which is kept under another name; no server may run on it
    Restore(backup::RestoreArgs),
    /// Serve HTTP; this is what happens without a command
    Serve(serve::ServeArgs),
    /// See and manage accounts
    #[command(subcommand)]
    Users(users::UsersCommand),
}

/// Runs the program with these arguments, of which the first is its name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    limits::forbid_core_dumps();
    let matches = command().try_get_matches_from(args).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((matches, cli))
    });
    match matches {
        Ok((matches, cli)) => exit::finish(run(&matches, cli)),
        Err(error) => {
            // --help and --version come as errors too; a reader who has gone away is no failure.
            let _ = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::REFUSED))
        }
    }
}

/// The whole command line, as clap knows it.
#[must_use]
pub fn command() -> clap::Command {
    with_settings(Cli::command()).after_long_help(format!("{}\n{}", exit::HELP, config::secrets_help()))
}

/// The same for man, whose pages say once what holds for all commands.
fn command_for_man() -> clap::Command {
    Cli::command().args(config::args()).after_long_help(format!("{}\n{}", exit::HELP, config::secrets_help()))
}

/// The commands that read no settings: their flags are their own, and `--issuer` may mean another's.
const TOOLS: [&str; 5] = ["argon2-tune", "completions", "jwk", "jwt", "man"];

/// Lets the settings' flags stand before a command and behind it.
fn with_settings(command: clap::Command) -> clap::Command {
    command
        .args(config::args())
        .mut_subcommands(|inner| if TOOLS.contains(&inner.get_name()) { inner } else { with_settings(inner) })
}

fn run(matches: &ArgMatches, cli: Cli) -> anyhow::Result<()> {
    match cli.intended()? {
        Command::Configured(command) => run_configured(matches, command),
        Command::Doctor(args) => doctor::run(matches, args),
        Command::Standalone(command) => run_standalone(matches, command),
    }
}

fn run_standalone(matches: &ArgMatches, command: Standalone) -> anyhow::Result<()> {
    refuse_settings(matches)?;
    match command {
        Standalone::Argon2Tune(args) => argon2_tune::run(&args),
        Standalone::Completions(args) => manual::completions(args),
        Standalone::Jwk(command) => jwk::run(command, matches),
        Standalone::Jwt(command) => jwt::run(command),
        Standalone::Man(args) => manual::man(&args),
    }
}

fn run_configured(matches: &ArgMatches, command: Configured) -> anyhow::Result<()> {
    let config = Config::load(matches)?;
    let _logs = config.log.start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        match command {
            Configured::Backup(args) => backup::backup(config, args).await,
            Configured::Keys(command) => keys::run(config, command).await,
            Configured::Logs(args) => logs::run(config, args).await,
            Configured::Rekey(args) => rekey::run(config, args).await,
            Configured::Restore(args) => backup::restore(config, args).await,
            Configured::Serve(args) => serve::run(config, args).await,
            Configured::Users(command) => users::run(config, command).await,
        }
    });
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
    Err(opening::Refused(format!("--{flag} is a setting, and this command reads none")))
}

/// Words for people, on standard error: a line, whatever strangers have put into it.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{}", printable(line));
}

/// Data, on standard output.
fn print(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// Data whose reader may have seen enough, which is no failure. Returns whether anybody reads on.
fn list(lines: impl IntoIterator<Item = String>) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    let written = lines.into_iter().try_for_each(|line| writeln!(stdout, "{line}"));
    match written.and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// A time as people read it, or a dash.
fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Asks on the terminal, and goes on only with a yes; `--yes` says it beforehand.
fn confirm(question: &str, said_yes: bool) -> anyhow::Result<()> {
    if said_yes {
        return Ok(());
    }
    if !io::stdin().is_terminal() {
        return Err(opening::Refused(format!(
            "{question}, and there is no terminal to ask on: --yes would do"
        ))
        .into());
    }
    say(&format!("{question}. Type yes to go on:"));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if answer.trim() == "yes" { Ok(()) } else { anyhow::bail!("nothing was done") }
}
