//! `jwksd jwt`: signs, verifies and inspects tokens of any issuer.

mod show;
mod sign;
mod verify;

use clap::{Args, Subcommand};
use serde_json::json;

use super::files;
use super::output;
use super::text::printable_lines;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::jose::inspect;
use crate::domain::jose::jws::Jws;
use crate::setting::values::duration;

#[derive(Debug, Subcommand)]
pub(super) enum JwtCommand {
    /// Sign claims with a private key
    Sign(sign::SignArgs),
    /// Verify a token: exit status 0 if it is valid, 1 if it is invalid, 2 if that could not be determined
    Verify(verify::VerifyArgs),
    /// Show the content of a token and what is unusual about it, without verifying it
    Inspect {
        #[command(flatten)]
        token: TokenArgs,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// The token to read.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(super) struct TokenArgs {
    /// The token; on a shared machine, other users can see the command line
    #[arg(long = "token", value_name = "TOKEN")]
    flag: Option<String>,
    /// The token, or - for standard input
    #[arg(value_name = "TOKEN")]
    word: Option<String>,
}

impl TokenArgs {
    /// The argument on the command line.
    fn argument(&self) -> &str {
        self.flag.as_deref().or(self.word.as_deref()).unwrap_or("-")
    }

    fn is_stdin(&self) -> bool {
        self.argument() == "-"
    }

    fn read(&self) -> anyhow::Result<String> {
        if !self.is_stdin() {
            return Ok(self.argument().trim().to_owned());
        }
        // A token is ASCII, so the parser rejects replacement characters.
        Ok(String::from_utf8_lossy(&files::read("-")?).trim().to_owned())
    }
}

pub(super) fn run(command: JwtCommand) -> anyhow::Result<()> {
    match command {
        JwtCommand::Sign(args) => sign::run(args),
        JwtCommand::Verify(args) => verify::run(&args),
        JwtCommand::Inspect { token, json } => inspect(&token, json),
    }
}

fn inspect(token: &TokenArgs, json: bool) -> anyhow::Result<()> {
    let now = SystemClock::start().now();
    let jws = match Jws::parse(&token.read()?) {
        Ok(jws) => jws,
        Err(invalid) => anyhow::bail!("cannot read the token: {}", invalid.message),
    };
    let (claims, odd) = (jws.unverified_claims().ok(), inspect::inspect(&jws, now));
    if json {
        let shown = json!({"verified": false, "header": jws.header(), "claims": claims, "odd": odd});
        output::lines([printable_lines(&serde_json::to_string_pretty(&shown)?)])?;
        return Ok(());
    }
    let mut lines = vec!["not verified: anyone could have written this".to_owned()];
    lines.extend(show::members("header", jws.header(), now));
    if let Some(claims) = claims {
        lines.extend(show::members("claims", &claims, now));
    }
    if !odd.is_empty() {
        lines.push("odd".to_owned());
        lines.extend(odd.into_iter().map(|line| format!("  {line}")));
    }
    output::lines(lines)?;
    Ok(())
}
