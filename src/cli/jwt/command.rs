//! The subcommands of `jwksd jwt`.

use clap::Subcommand;

use super::token_args::TokenArgs;
use super::{inspect, sign, verify};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum JwtCommand {
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

pub(in crate::cli) fn run(command: JwtCommand) -> anyhow::Result<()> {
    match command {
        JwtCommand::Sign(args) => sign::run(args),
        JwtCommand::Verify(args) => verify::run(&args),
        JwtCommand::Inspect { token, json } => inspect::run(&token, json),
    }
}
