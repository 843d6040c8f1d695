//! `jwksd users`: manages accounts. A running server applies a change with the next request.

use std::io::Read as _;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde::Serialize;
use zeroize::Zeroizing;

use super::bootstrap;
use super::confirm::confirm;
use super::exit::UsageError;
use super::output::{self, or_dash};
use super::text::printable;
use crate::config::Config;
use jwksd_core::account::{AccountReport, AccountState, Email, UserId, Username};
use jwksd_core::issuer::{Accounts, Requester};
use jwksd_core::password::{ChosenPassword, PASSWORD_MAX, Password};

/// Accounts of one query.
const PAGE: u32 = 1000;

#[derive(Debug, Subcommand)]
pub(super) enum UsersCommand {
    /// Create an account, and print its random password unless --password-stdin supplies one
    Add {
        /// 1 to 64 ASCII letters, digits and . _ - @ +
        name: String,
        /// The email address of the account
        #[arg(long)]
        email: Option<String>,
        #[command(flatten)]
        password: PasswordArgs,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Delete an account permanently; its username is never assigned again
    Delete {
        /// The username, as in `users list`
        name: String,
        /// Do not ask for confirmation
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Reject sign-ins of an account until it is enabled
    Disable(NamedArgs),
    /// Accept sign-ins of an account again
    Enable(NamedArgs),
    /// List all accounts
    List {
        /// Also list deleted accounts
        #[arg(long)]
        deleted: bool,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Set a new password, and print it unless --password-stdin supplies it
    Reset {
        /// The username, as in `users list`
        name: String,
        #[command(flatten)]
        password: PasswordArgs,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Change the email address of an account
    SetEmail {
        /// The username, as in `users list`
        name: String,
        /// The new address
        #[arg(required_unless_present = "none")]
        email: Option<String>,
        /// Remove the address
        #[arg(long, conflicts_with = "email")]
        none: bool,
        #[command(flatten)]
        format: FormatArgs,
    },
    /// Show one account
    Show(NamedArgs),
    /// End the tokens that an account has until now, for services that ask /verify or /introspect
    SignOut(NamedArgs),
}

#[derive(Args, Debug)]
pub(super) struct NamedArgs {
    /// The username, as in `users list`
    name: String,
    #[command(flatten)]
    format: FormatArgs,
}

#[derive(Args, Clone, Copy, Debug)]
pub(super) struct PasswordArgs {
    /// Read the password from standard input
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Args, Clone, Copy, Debug)]
pub(super) struct FormatArgs {
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

/// A command with valid input.
enum Action {
    Add(Username, Option<Email>, Option<Password>),
    Delete,
    Disable,
    Enable,
    Reset(Option<Password>),
    SetEmail(Option<Email>),
    Show,
    SignOut,
}

pub(super) async fn run(config: Config, command: UsersCommand) -> anyhow::Result<()> {
    if let UsersCommand::List { deleted, format } = command {
        let open_store = bootstrap::open_existing(&config).await?;
        let listed = async { list(&open_store.accounts(&config), deleted, format).await };
        let listed = listed.await;
        return open_store.close(listed).await;
    }
    let (action, name, format) = parse(command)?;
    let failing = || format!("cannot {} {name:?}", action.verb());
    let open_store = match action {
        Action::Add(..) => bootstrap::open(&config).await?,
        // Only `add` makes sense on an empty store, and a typo in DATABASE_URL must not create one.
        _ => bootstrap::open_existing(&config).await?,
    };
    let done = async {
        let accounts = open_store.accounts(&config);
        let password = apply(&action, &accounts, &name).await?;
        // A deleted account can no longer be found by its name.
        let account = if matches!(action, Action::Delete) { None } else { Some(accounts.find(&name).await?) };
        anyhow::Ok((password, account))
    };
    let done = done.await;
    let (password, account) = open_store.close(done).await.with_context(failing)?;
    print(&action, &name, account, password.as_ref(), format)
}

/// Parses all input, so that invalid input does not create a store.
fn parse(command: UsersCommand) -> anyhow::Result<(Action, String, FormatArgs)> {
    let (action, name, format) = match command {
        UsersCommand::Add { name, email, password, format } => {
            let invalid = |why: &dyn std::fmt::Display| UsageError(format!("cannot add {name:?}: {why}"));
            let username = Username::parse(&name).map_err(|why| invalid(&why))?;
            let email = email.as_deref().map(Email::parse).transpose().map_err(|why| invalid(&why))?;
            (Action::Add(username, email, password.read(&name)?), name, format)
        }
        UsersCommand::Delete { name, yes, format } => {
            confirm(&format!("Deleting the account {name:?} cannot be undone"), yes)?;
            (Action::Delete, name, format)
        }
        UsersCommand::Disable(NamedArgs { name, format }) => (Action::Disable, name, format),
        UsersCommand::Enable(NamedArgs { name, format }) => (Action::Enable, name, format),
        UsersCommand::Reset { name, password, format } => {
            (Action::Reset(password.read(&name)?), name, format)
        }
        UsersCommand::SetEmail { name, email, none: _, format } => {
            let invalid = |why| UsageError(format!("cannot change the address of {name:?}: {why}"));
            let email = email.as_deref().map(Email::parse).transpose().map_err(invalid)?;
            (Action::SetEmail(email), name, format)
        }
        UsersCommand::Show(NamedArgs { name, format }) => (Action::Show, name, format),
        UsersCommand::SignOut(NamedArgs { name, format }) => (Action::SignOut, name, format),
        UsersCommand::List { .. } => anyhow::bail!("`users list` takes no username"),
    };
    Ok((action, name, format))
}

/// Applies the action. Returns the password if one was generated.
async fn apply(action: &Action, accounts: &Accounts, name: &str) -> anyhow::Result<Option<Password>> {
    match action {
        Action::Add(username, email, Some(password)) => {
            accounts.add(username.clone(), email.clone(), password.clone(), Requester::Operator).await?;
        }
        Action::Add(username, email, None) => {
            return Ok(Some(accounts.register(username.clone(), email.clone(), Requester::Operator).await?));
        }
        Action::Delete => accounts.delete(name).await?,
        Action::Disable => accounts.disable(name).await?,
        Action::Enable => accounts.enable(name).await?,
        Action::Reset(Some(password)) => {
            accounts.reset_password(name, Some(password.clone())).await?;
        }
        Action::Reset(None) => return Ok(Some(accounts.reset_password(name, None).await?)),
        Action::SetEmail(email) => accounts.set_email(name, email.clone()).await?,
        Action::Show => {}
        Action::SignOut => accounts.sign_out(name).await?,
    }
    Ok(None)
}

impl Action {
    fn verb(&self) -> &'static str {
        match self {
            Self::Add(..) => "add",
            Self::Delete => "delete",
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::Reset(_) => "reset",
            Self::SetEmail(_) => "change the address of",
            Self::Show => "show",
            Self::SignOut => "sign out",
        }
    }

    fn report(&self, name: &str) -> Option<String> {
        let still_valid = "issued tokens stay valid until they expire";
        Some(match self {
            Self::Add(..) => format!("created the account {name}"),
            Self::Delete => {
                format!("deleted the account {name}; its username is never assigned again; {still_valid}")
            }
            Self::Disable => {
                format!("disabled the account {name}, which can no longer sign in; {still_valid}")
            }
            Self::Enable => format!("enabled the account {name}, which can sign in"),
            Self::Reset(_) => format!("changed the password of {name}"),
            Self::SetEmail(Some(email)) => {
                format!("changed the email address of {name} to {}", email.as_ref())
            }
            Self::SetEmail(None) => format!("removed the email address of {name}"),
            Self::Show => return None,
            Self::SignOut => format!(
                "signed out {name}: /verify and /introspect refuse the tokens issued until now, which are valid for \
                 offline verifiers until they expire"
            ),
        })
    }
}

fn print(
    action: &Action,
    name: &str,
    account: Option<AccountReport>,
    password: Option<&Password>,
    format: FormatArgs,
) -> anyhow::Result<()> {
    if let Some(report) = action.report(name) {
        let shown = if password.is_some() { "; the password, shown only once:" } else { "" };
        output::message(&format!("{report}{shown}"));
    }
    if let Some(account) = &account
        && account.state == AccountState::Disabled
        && matches!(action, Action::Reset(_))
    {
        output::message("the account is still disabled: `users enable` lets it sign in");
    }
    let printed = match (account, password) {
        (Some(account), password) if format.json => {
            let line = Zeroizing::new(printable(&serde_json::to_string(&Line::new(account, password))?));
            if password.is_some() { output::secret(&line) } else { output::value(&line) }
        }
        (None, _) if format.json => {
            output::value(&printable(&serde_json::to_string(&Gone { username: name, state: "deleted" })?))
        }
        // Not `lines`, which ignores a closed pipe: this may be the only copy of the password.
        (_, Some(password)) => output::secret(password.reveal()),
        (Some(account), None) if matches!(action, Action::Show) => output::value(&in_full(&account)),
        _ => Ok(()),
    };
    // The change is committed, so the error says how to get a new password.
    printed.with_context(|| match (password, action) {
        (Some(_), Action::Add(..)) => {
            format!(
                "the account was created, but its password could not be printed: set a new one with `jwksd users reset {name}`"
            )
        }
        (Some(_), _) => format!(
            "the password was changed, but could not be printed: set a new one with `jwksd users reset {name}`"
        ),
        (None, _) => "the command succeeded, but its output could not be printed".to_owned(),
    })
}

/// Lists page by page, because there may be millions of accounts.
async fn list(accounts: &Accounts, deleted: bool, format: FormatArgs) -> anyhow::Result<()> {
    if !format.json {
        let header = ["ID", "NAME", "EMAIL", "REGISTERED", "LAST LOGIN", "STATE"].map(str::to_owned);
        if !output::lines([row(&header)])? {
            return Ok(());
        }
    }
    // Below every ID, because other programs may have written negative ones.
    let mut after = UserId(i64::MIN);
    loop {
        let page = accounts.list(after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(());
        };
        after = last.id;
        let shown = page.into_iter().filter(|account| deleted || account.state != AccountState::Deleted);
        let lines: Vec<String> = if format.json {
            let json =
                |account| serde_json::to_string(&Line::new(account, None)).map(|line| printable(&line));
            shown.map(json).collect::<Result<_, _>>()?
        } else {
            shown.map(|account| row(&cells(&account))).collect()
        };
        if !output::lines(lines)? {
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
    let cost = account
        .cost
        .as_ref()
        .map_or_else(|| "not a hash that can be checked".to_owned(), ToString::to_string);
    format!(
        "id          {id}\nname        {name}\nemail       {email}\nregistered  {registered}\n\
         last login  {last_login}\nstate       {state}\nsigned out  {}\nhash        {cost}",
        or_dash(account.signed_out_at)
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
    signed_out: Option<String>,
    hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn new(account: AccountReport, password: Option<&'a Password>) -> Self {
        Self {
            id: account.id.0,
            username: account.username,
            email: account.email,
            registered: account.registered.map(|time| time.to_string()),
            last_login: account.last_login.map(|time| time.to_string()),
            state: account.state.name(),
            signed_out: account.signed_out_at.map(|time| time.to_string()),
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
    /// All of standard input, without the end of its last line. Warns of a password that its user could not choose.
    fn read(self, username: &str) -> anyhow::Result<Option<Password>> {
        if !self.password_stdin {
            return Ok(None);
        }
        // The longest password, its `\r\n`, and one more byte to notice that it is too long.
        let limit = u64::try_from(PASSWORD_MAX)?.saturating_add(3);
        let mut text = Zeroizing::new(String::new());
        std::io::stdin().take(limit).read_to_string(&mut text).context("cannot read the password")?;
        let text =
            text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
        let invalid = |why| UsageError(format!("cannot use this password: {why}"));
        let password = Password::assigned(text.to_owned()).map_err(invalid)?;
        if let Err(why) = ChosenPassword::parse(&password, username) {
            // Only a warning: operators answer for their accounts, such as that of the course with a short password.
            output::message(&format!(
                "warning: the password is accepted, but its user could not choose it: {why}"
            ));
        }
        Ok(Some(password))
    }
}
