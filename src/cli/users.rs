//! `jwksd users`: accounts from the command line. A server that runs follows with the next request.

use std::io::Read as _;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;
use zeroize::Zeroizing;

use super::opening::{self, Refused};
use super::text::printable;
use super::{confirm, list, or_dash, print, say};
use crate::config::Config;
use crate::domain::account::{AccountReport, AccountState, Email, UserId, Username};
use crate::domain::password::{PASSWORD_MAX, Password};
use crate::issuer::Issuer;

/// Accounts that are read at once.
const PAGE: u32 = 1000;

#[derive(Debug, Subcommand)]
pub(super) enum UsersCommand {
    /// Make an account; its password is a random one, which is printed, unless --password-stdin gives it
    Add {
        /// 1 to 64 ASCII letters, digits and . _ - @ +
        name: String,
        /// The e-mail address of the account
        #[arg(long)]
        email: Option<String>,
        #[command(flatten)]
        password: PasswordArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Delete an account for good; its name is never given out again
    Delete {
        /// As `users list` shows it
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Keep an account from signing in, until it is enabled
    Disable(NamedArgs),
    /// Let an account sign in again
    Enable(NamedArgs),
    /// Show every account
    List {
        /// Deleted ones too
        #[arg(long)]
        deleted: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Give an account a new password: a random one, which is printed, unless --password-stdin gives it
    Reset {
        /// As `users list` shows it
        name: String,
        #[command(flatten)]
        password: PasswordArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Give an account another e-mail address
    SetEmail {
        /// As `users list` shows it
        name: String,
        /// The new address
        #[arg(required_unless_present = "none")]
        email: Option<String>,
        /// Take the address away
        #[arg(long, conflicts_with = "email")]
        none: bool,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Show one account
    Show(NamedArgs),
}

#[derive(Args, Debug)]
pub(super) struct NamedArgs {
    /// As `users list` shows it
    name: String,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Args, Clone, Copy, Debug)]
pub(super) struct PasswordArgs {
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Args, Clone, Copy, Debug)]
pub(super) struct OutputArgs {
    /// As JSON, an object a line
    #[arg(long)]
    json: bool,
}

/// A command whose input was looked at: nothing else can be refused before the store is asked.
enum Act {
    Add(Username, Option<Email>, Option<Password>),
    Delete,
    Disable,
    Enable,
    Reset(Option<Password>),
    SetEmail(Option<Email>),
    Show,
}

pub(super) async fn run(config: Config, command: UsersCommand) -> anyhow::Result<()> {
    if let UsersCommand::List { deleted, output } = command {
        let opened = opening::open_existing(&config).await?;
        let listed = async { show_all(&opened.issuer(&config, String::new()).await?, deleted, output).await };
        let listed = listed.await;
        return opened.close(listed).await;
    }
    let (act, name, output) = read(command)?;
    let failing = || format!("cannot {} {name:?}", act.verb());
    let opened = match act {
        Act::Add(..) => opening::open(&config, opening::look(&config).await?).await?,
        _ => opening::open_existing(&config).await?,
    };
    // No token is issued here, so that it does not matter what it would say.
    let done = async {
        let issuer = opened.issuer(&config, String::new()).await?;
        let password = carry_out(&act, &issuer, &name).await?;
        // A deleted account is nobody's any more: there is nothing to show of it.
        let account = if matches!(act, Act::Delete) { None } else { Some(issuer.account(&name).await?) };
        anyhow::Ok((password, account))
    };
    let done = done.await;
    let (password, account) = opened.close(done).await.with_context(failing)?;
    tell(&act, &name, account, password.as_ref(), output)
}

/// Looks at all input before a store is made.
fn read(command: UsersCommand) -> anyhow::Result<(Act, String, OutputArgs)> {
    let (act, name, output) = match command {
        UsersCommand::Add { name, email, password, output } => {
            let unfit = |why: &dyn std::fmt::Display| Refused(format!("cannot add {name:?}: {why}"));
            let username = Username::parse(&name).map_err(|why| unfit(&why))?;
            let email = email.as_deref().map(Email::parse).transpose().map_err(|why| unfit(&why))?;
            (Act::Add(username, email, password.read()?), name, output)
        }
        UsersCommand::Delete { name, yes, output } => {
            confirm(&format!("Deleting the account {name:?} cannot be undone"), yes)?;
            (Act::Delete, name, output)
        }
        UsersCommand::Disable(NamedArgs { name, output }) => (Act::Disable, name, output),
        UsersCommand::Enable(NamedArgs { name, output }) => (Act::Enable, name, output),
        UsersCommand::Reset { name, password, output } => (Act::Reset(password.read()?), name, output),
        UsersCommand::SetEmail { name, email, none: _, output } => {
            let unfit = |why| Refused(format!("cannot change the address of {name:?}: {why}"));
            let email = email.as_deref().map(Email::parse).transpose().map_err(unfit)?;
            (Act::SetEmail(email), name, output)
        }
        UsersCommand::Show(NamedArgs { name, output }) => (Act::Show, name, output),
        UsersCommand::List { .. } => anyhow::bail!("a list has no name"),
    };
    Ok((act, name, output))
}

/// Does it; returns the password if one had to be made up.
async fn carry_out(act: &Act, issuer: &Issuer, name: &str) -> anyhow::Result<Option<Password>> {
    match act {
        Act::Add(username, email, Some(password)) => {
            issuer.add_account(username.clone(), email.clone(), password.clone()).await?;
        }
        Act::Add(username, email, None) => {
            return Ok(Some(issuer.register(username.clone(), email.clone()).await?));
        }
        Act::Delete => issuer.delete(name).await?,
        Act::Disable => issuer.disable(name).await?,
        Act::Enable => issuer.enable(name).await?,
        Act::Reset(Some(password)) => {
            issuer.reset_password(name, Some(password.clone())).await?;
        }
        Act::Reset(None) => return Ok(Some(issuer.reset_password(name, None).await?)),
        Act::SetEmail(email) => issuer.set_email(name, email.clone()).await?,
        Act::Show => {}
    }
    Ok(None)
}

impl Act {
    fn verb(&self) -> &'static str {
        match self {
            Self::Add(..) => "add",
            Self::Delete => "delete",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::Reset(_) => "reset",
            Self::SetEmail(_) => "change the address of",
            Self::Show => "show",
        }
    }

    fn in_words(&self, name: &str) -> Option<String> {
        let still_valid = "tokens that are out stay valid until they expire";
        Some(match self {
            Self::Add(..) => format!("made the account {name}"),
            Self::Delete => format!("deleted the account {name}, whose name is used up; {still_valid}"),
            Self::Disable => format!("the account {name} may not sign in any more; {still_valid}"),
            Self::Enable => format!("the account {name} may sign in"),
            Self::Reset(_) => format!("the account {name} has a new password"),
            Self::SetEmail(Some(email)) => format!("the account {name} has the address {}", email.as_ref()),
            Self::SetEmail(None) => format!("the account {name} has no address any more"),
            Self::Show => return None,
        })
    }
}

fn tell(
    act: &Act,
    name: &str,
    account: Option<AccountReport>,
    password: Option<&Password>,
    output: OutputArgs,
) -> anyhow::Result<()> {
    let words = act.in_words(name);
    if let Some(words) = words {
        let shown = if password.is_some() { "; its password, shown this once:" } else { "" };
        say(&format!("{words}{shown}"));
    }
    if let Some(account) = &account
        && account.state == AccountState::Disabled
        && matches!(act, Act::Reset(_))
    {
        say("it is disabled all the same: `users enable` lets it sign in");
    }
    let printed = match (account, password) {
        (Some(account), password) if output.json => {
            print(&printable(&serde_json::to_string(&Line::of(account, password))?))
        }
        (None, _) if output.json => {
            print(&printable(&serde_json::to_string(&Gone { username: name, state: "deleted" })?))
        }
        (_, Some(password)) => print(password.reveal()),
        (Some(account), None) if matches!(act, Act::Show) => print(&in_full(&account)),
        _ => Ok(()),
    };
    printed.with_context(|| match (password, act) {
        (Some(_), Act::Add(..)) => "the account is made, but its password could not be shown: reset it",
        (Some(_), _) => "the password was changed, but could not be shown: reset it again",
        (None, _) => "it is done, but could not be shown",
    })
}

/// Page by page: there may be millions.
async fn show_all(issuer: &Issuer, deleted: bool, output: OutputArgs) -> anyhow::Result<()> {
    if !output.json {
        let header = ["ID", "NAME", "EMAIL", "REGISTERED", "LAST LOGIN", "STATE"].map(str::to_owned);
        if !list([row(&header)])? {
            return Ok(());
        }
    }
    let mut after = UserId(i64::MIN);
    loop {
        let page = issuer.accounts(after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.id;
        let shown = page.into_iter().filter(|account| deleted || account.state != AccountState::Deleted);
        let lines: Vec<String> = if output.json {
            let json = |account| serde_json::to_string(&Line::of(account, None)).map(|line| printable(&line));
            shown.map(json).collect::<Result<_, _>>()?
        } else {
            shown.map(|account| row(&cells(&account))).collect()
        };
        if !list(lines)? {
            return Ok(());
        }
    }
}

fn row([id, name, email, registered, last_login, state]: &[String; 6]) -> String {
    format!("{id:>6}  {name:<24}  {email:<30}  {registered:<20}  {last_login:<20}  {state}")
}

fn cells(account: &AccountReport) -> [String; 6] {
    [
        account.id.to_string(),
        printable(&account.username),
        or_dash(account.email.as_deref().map(printable)),
        or_dash(account.registered),
        or_dash(account.last_login),
        account.state.name().to_owned(),
    ]
}

fn in_full(account: &AccountReport) -> String {
    let [id, name, email, registered, last_login, state] = cells(account);
    let cost =
        account.cost.as_ref().map_or_else(|| "none that a password matches".to_owned(), ToString::to_string);
    format!(
        "id          {id}\nname        {name}\nemail       {email}\nregistered  {registered}\n\
         last login  {last_login}\nstate       {state}\nhash        {cost}"
    )
}

#[derive(Serialize)]
struct Line<'a> {
    id: i64,
    username: String,
    email: Option<String>,
    registered: Option<String>,
    last_login: Option<String>,
    state: &'static str,
    hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn of(account: AccountReport, password: Option<&'a Password>) -> Self {
        Self {
            id: account.id.0,
            username: account.username,
            email: account.email,
            registered: account.registered.map(|time| time.to_string()),
            last_login: account.last_login.map(|time| time.to_string()),
            state: account.state.name(),
            hash: account.cost.map(|cost| cost.to_string()),
            password: password.map(Password::reveal),
        }
    }
}

#[derive(Serialize)]
struct Gone<'a> {
    username: &'a str,
    state: &'static str,
}

impl PasswordArgs {
    /// All of standard input, less the end of its last line.
    fn read(self) -> anyhow::Result<Option<Password>> {
        if !self.password_stdin {
            return Ok(None);
        }
        let limit = u64::try_from(PASSWORD_MAX)?.saturating_add(3);
        let mut text = Zeroizing::new(String::new());
        std::io::stdin().take(limit).read_to_string(&mut text).context("cannot read the password")?;
        let text =
            text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        let unfit = |why| Refused(format!("cannot take the password: {why}"));
        Ok(Some(Password::chosen(text.to_owned()).map_err(unfit)?))
    }
}
