//! `jwksd users`: accounts from the command line.

use std::io::Read as _;

use anyhow::Context as _;
use clap::Subcommand;
use zeroize::Zeroizing;

use super::opening;
use super::{print, say};
use crate::config::Config;
use crate::domain::account::{Email, Username};
use crate::domain::password::{PASSWORD_MAX, Password};
use crate::issuer::{Issuer, IssuerError};
use crate::store::{StoreError, Unique};

#[derive(Debug, Subcommand)]
pub(super) enum UsersCommand {
    /// Make an account; its password is a random one, which is printed, unless --password-stdin gives it
    Add {
        /// 1 to 64 ASCII letters, digits and . _ - @ +
        name: String,
        /// The e-mail address of the account
        #[arg(long)]
        email: Option<String>,
        /// Read the password from standard input
        #[arg(long)]
        password_stdin: bool,
    },
}

pub(super) async fn run(config: Config, command: UsersCommand) -> anyhow::Result<()> {
    let UsersCommand::Add { name, email, password_stdin } = command;
    // All input is looked at before a store is made.
    let username = Username::parse(&name).with_context(|| format!("cannot add {name:?}"))?;
    let email =
        email.as_deref().map(Email::parse).transpose().with_context(|| format!("cannot add {name:?}"))?;
    let password = if password_stdin { Some(password_of_stdin()?) } else { None };

    let opened = opening::open(&config, opening::look(&config).await?).await?;
    // No token is issued here, so that it does not matter what it would say.
    let added = async {
        let issuer = opened.issuer(&config, String::new()).await?;
        add(&issuer, username, email, password).await
    };
    let added = added.await;
    let generated = opened.close(added).await.with_context(|| format!("cannot add {name:?}"))?;
    match generated {
        Some(password) => {
            say(&format!("made the account {name}; its password, shown this once:"));
            print(password.reveal()).context(
                "the account is made, but its password could not be shown: its name is used up, so make another",
            )?;
        }
        None => say(&format!("made the account {name}")),
    }
    Ok(())
}

/// Makes the account; returns the password if it had to be made up.
async fn add(
    issuer: &Issuer,
    username: Username,
    email: Option<Email>,
    password: Option<Password>,
) -> anyhow::Result<Option<Password>> {
    let added = match password {
        Some(password) => issuer.add_account(username, email, password).await.map(|_| None),
        None => issuer.register(username, email).await.map(Some),
    };
    added.map_err(|error| match error {
        IssuerError::Store(StoreError::Conflict(Unique::Username)) => {
            anyhow::anyhow!("the username is taken")
        }
        IssuerError::Store(StoreError::Conflict(Unique::Email)) => anyhow::anyhow!("the email is taken"),
        other => other.into(),
    })
}

/// All of standard input, less the end of its last line.
fn password_of_stdin() -> anyhow::Result<Password> {
    let limit = u64::try_from(PASSWORD_MAX)?.saturating_add(3);
    let mut text = Zeroizing::new(String::new());
    std::io::stdin().take(limit).read_to_string(&mut text).context("cannot read the password")?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    Password::chosen(text.to_owned()).context("cannot take the password")
}
