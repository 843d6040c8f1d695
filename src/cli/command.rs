//! The commands: how the command line is parsed, and which function runs each command.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use super::exit::{self, UsageError};
use super::{
    argon2_tune, backup, doctor, jwk, jwt, keys, logs, man, move_store, output, process_limits, rekey,
    restore, serve, text, users,
};
use crate::config::{self, Config};

/// Issues JWTs to user accounts and publishes the keys that verify them as a JWKS.
#[derive(Debug, Parser)]
#[command(name = "jwksd", version, arg_required_else_help = false)]
struct Cli {
    /// The options of `serve`, which runs when there is no command.
    #[command(flatten)]
    serve: serve::ServeArgs,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Configured(Configured),
    /// Find what keeps the service from working, and say how to fix it; changes nothing
    Doctor(doctor::DoctorArgs),
    #[command(flatten)]
    Standalone(Standalone),
}

/// Commands that read no settings.
#[derive(Debug, Subcommand)]
enum Standalone {
    /// Measure this machine, and print Argon2id settings with which a hash takes a given time
    Argon2Tune(argon2_tune::TuneArgs),
    /// Print the completions for a shell
    Completions(man::CompletionsArgs),
    /// Generate and convert keys as JWK and PEM; reads no store and no settings
    #[command(subcommand)]
    Jwk(jwk::JwkCommand),
    /// Sign, verify and inspect tokens of any issuer; reads no store and no settings
    #[command(subcommand)]
    Jwt(jwt::JwtCommand),
    /// Write the manual pages
    Man(man::ManArgs),
}

/// Commands that read the settings.
#[derive(Debug, Subcommand)]
enum Configured {
    /// Copy the store to a new file while servers use it, and verify the copy
    Backup(backup::BackupArgs),
    /// Show and manage the signing keys
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Show who signed in, when and from where
    Logs(logs::LogsArgs),
    /// Move a whole store from a SQLite file to PostgreSQL, or copy it back into a file, and prove that nothing is lost
    Move(move_store::MoveArgs),
    /// Move the store from `NOT_MY_KEY` to `NEW_NOT_MY_KEY`, or to a key entered on the terminal
    Rekey(rekey::RekeyArgs),
    /// Replace the store by a backup, and keep the old store under another name; no server may run on it
    Restore(restore::RestoreArgs),
    /// Serve HTTP; the default command
    Serve(serve::ServeArgs),
    /// Show and manage accounts
    #[command(subcommand)]
    Users(users::UsersCommand),
}

/// Commands that do not take the flags of settings: their own `--issuer` may mean another issuer.
const TOOLS: [&str; 5] = ["argon2-tune", "completions", "jwk", "jwt", "man"];

/// Runs the program with these arguments, of which the first is its name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    // First of all, because the memory of everything after it may contain secrets.
    process_limits::forbid_core_dumps();
    let args: Vec<OsString> = args.into_iter().collect();
    let matches = command().try_get_matches_from(&args).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((matches, cli))
    });
    match matches {
        Ok((matches, cli)) => exit::finish(run(&matches, cli), &args),
        Err(error) if error.use_stderr() && quotes_a_secret(&error, &args) => {
            refuse_without_secrets(&error, &args);
            ExitCode::from(exit::REFUSED)
        }
        // --help and --version arrive as errors too.
        Err(error) => match error.print().and_then(|()| io::stdout().flush()) {
            // A closed output pipe is not a failure.
            Err(why) if !error.use_stderr() && why.kind() != io::ErrorKind::BrokenPipe => {
                output::message(&format!("jwksd: cannot write to standard output: {why}"));
                ExitCode::FAILURE
            }
            _ => ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::REFUSED)),
        },
    }
}

/// Whether the message about an invalid command line repeats an argument such as `NOT_MY_KEY=…`.
fn quotes_a_secret(error: &clap::Error, args: &[OsString]) -> bool {
    shown(error, args) != error.render().to_string()
}

/// The message about an invalid command line without the secrets in it.
fn shown(error: &clap::Error, args: &[OsString]) -> String {
    text::without_secrets(error.render().to_string(), args.iter().map(|arg| arg.to_string_lossy()))
}

fn refuse_without_secrets(error: &clap::Error, args: &[OsString]) {
    match error.kind() {
        // It says which values are valid.
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            for line in shown(error, args).trim_end().lines() {
                output::message(line);
            }
        }
        _ => output::message(
            "jwksd: there is an argument that is unknown here, and not shown because it may contain a secret: put secrets \
             into .env, the environment or a file, and see `jwksd --help`",
        ),
    }
}

/// The whole command line, for clap.
pub(super) fn command() -> clap::Command {
    with_settings(Cli::command()).after_long_help(after_help())
}

/// As [`command`], but only the first manual page lists the settings.
fn command_for_man() -> clap::Command {
    Cli::command().args(config::args()).after_long_help(after_help())
}

fn after_help() -> String {
    format!("{}\n{}", exit::HELP, config::secrets_help())
}

/// Lets the flags of settings stand before a command and after it.
fn with_settings(command: clap::Command) -> clap::Command {
    command
        .args(config::args())
        .mut_subcommands(|inner| if TOOLS.contains(&inner.get_name()) { inner } else { with_settings(inner) })
}

impl Cli {
    /// The command to run: `serve`, unless there is another.
    fn selected(self) -> Result<Command, UsageError> {
        match self.command {
            None => Ok(Command::Configured(Configured::Serve(self.serve))),
            Some(Command::Configured(Configured::Serve(args))) => {
                Ok(Command::Configured(Configured::Serve(args.or(self.serve))))
            }
            // Clap accepts the flag before every command, where it has no effect.
            Some(_) if self.serve != serve::ServeArgs::default() => {
                let text = "--until-stdin-closes works only with `jwksd serve`: leave it out";
                Err(UsageError(text.to_owned()))
            }
            Some(other) => Ok(other),
        }
    }
}

fn run(matches: &ArgMatches, cli: Cli) -> anyhow::Result<()> {
    match cli.selected()? {
        Command::Configured(command) => run_configured(matches, command),
        // Not a configured command: for `doctor`, an invalid setting is a finding.
        Command::Doctor(args) => doctor::run(matches, args),
        Command::Standalone(command) => run_standalone(matches, command),
    }
}

fn run_standalone(matches: &ArgMatches, command: Standalone) -> anyhow::Result<()> {
    reject_settings(matches)?;
    match command {
        Standalone::Argon2Tune(args) => argon2_tune::run(&args),
        Standalone::Completions(args) => man::completions(args, self::command()),
        Standalone::Jwk(command) => jwk::run(command, matches),
        Standalone::Jwt(command) => jwt::run(command),
        Standalone::Man(args) => man::man(&args, command_for_man()),
    }
}

fn run_configured(matches: &ArgMatches, command: Configured) -> anyhow::Result<()> {
    let config = Config::load(matches)?;
    // Held until the end, because dropping the guard writes the queued lines.
    let _logs = config.log.start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        match command {
            Configured::Backup(args) => backup::run(config, args).await,
            Configured::Keys(command) => keys::run(config, command).await,
            Configured::Logs(args) => logs::run(config, args).await,
            Configured::Move(args) => move_store::run(config, args).await,
            Configured::Rekey(args) => rekey::run(config, args).await,
            Configured::Restore(args) => restore::run(config, args).await,
            Configured::Serve(args) => serve::run(config, args).await,
            Configured::Users(command) => users::run(config, command).await,
        }
    });
    // Does not wait for password hashes whose clients are already disconnected.
    runtime.shutdown_background();
    done
}

/// A setting's flag before a command that reads no settings would look as if it had an effect.
fn reject_settings(matches: &ArgMatches) -> Result<(), UsageError> {
    let Some(name) = config::typed_setting(matches) else {
        return Ok(());
    };
    let flag = name.to_ascii_lowercase().replace('_', "-");
    Err(UsageError(format!("--{flag} is a setting, which this command does not read: leave it out")))
}
