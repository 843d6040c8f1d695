//! `jwksd logs`: who signed in, when and from where.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::opening::{self, Opened};
use super::text::printable;
use super::{list, or_dash};
use crate::config::Config;
use crate::domain::clock::Timestamp;
use crate::issuer::IssuerError;
use crate::store::{Page, SignIn, SignInFilter, Store};

/// Rows that are read at once.
const PAGE: u32 = 1000;

/// How often it looks for new rows.
const LOOK: Duration = Duration::from_millis(500);

/// What `--follow` begins with, when nothing else is said.
const LAST_WHEN_FOLLOWING: u32 = 10;

#[derive(Args, Debug)]
pub(super) struct LogsArgs {
    /// Sign-ins of this account
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Sign-ins from this address
    #[arg(long, value_name = "ADDR")]
    ip: Option<IpAddr>,
    /// Not older than this: 90s, 1h, 7d, or a time in UTC such as 2026-01-31 or 2026-01-31T09:05:00Z
    #[arg(long, value_name = "TIME", value_parser = Since::parse)]
    since: Option<Since>,
    /// Only the last so many
    #[arg(long, value_name = "N")]
    last: Option<u32>,
    /// Go on with what comes, until Ctrl-C; begins with the last 10 if neither --since nor --last says otherwise
    #[arg(long)]
    follow: bool,
    /// As JSON, an object a line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
enum Since {
    Ago(Duration),
    Moment(SystemTime),
}

impl Since {
    fn parse(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self::Ago)
            .or_else(|_| humantime::parse_rfc3339_weak(text).map(Self::Moment))
            .or_else(|_| humantime::parse_rfc3339_weak(&format!("{text}:00")).map(Self::Moment))
            .or_else(|_| humantime::parse_rfc3339_weak(&format!("{text} 00:00:00")).map(Self::Moment))
            .map_err(|_| "a time such as 90s, 1h, 7d, 2026-01-31 or 2026-01-31T09:05:00Z would do".to_owned())
    }

    fn timestamp(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(ago) => now.minus(ago).max(Timestamp::from_secs(0)),
            Self::Moment(time) => {
                let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_secs(0).plus(since_epoch)
            }
        }
    }
}

pub(super) async fn run(config: Config, args: LogsArgs) -> anyhow::Result<()> {
    let opened = opening::open_existing(&config).await?;
    let shown = show(&opened, &args).await;
    opened.close(shown).await
}

async fn show(opened: &Opened, args: &LogsArgs) -> anyhow::Result<()> {
    let store = opened.context.store.as_ref();
    let filter = SignInFilter {
        user: match &args.user {
            None => None,
            Some(name) => {
                let account = store.account(name).await?.ok_or(IssuerError::NoSuchAccount);
                Some(account.with_context(|| format!("cannot show sign-ins of {name:?}"))?.id)
            }
        },
        from: args.ip.map(|ip| ip.to_canonical()),
        since: args.since.map(|since| since.timestamp(opened.context.clock.now())),
    };
    // What is there now is listed in the order of time; what comes later has greater numbers.
    let newest = store.newest_sign_in().await?;
    let header = format!("{:<20}  {:<39}  ACCOUNT", "TIME", "ADDRESS");
    if (args.json || list([header])?) && list_up_to(newest, store, &filter, args).await? && args.follow {
        follow(newest, store, &filter, args).await?;
    }
    Ok(())
}

/// Returns whether anybody reads on.
async fn list_up_to(
    newest: i64,
    store: &dyn Store,
    filter: &SignInFilter,
    args: &LogsArgs,
) -> anyhow::Result<bool> {
    let default = (args.follow && args.since.is_none()).then_some(LAST_WHEN_FOLLOWING);
    let mut left = args.last.or(default);
    let mut cursor = match left {
        Some(last) => store.before_last_sign_ins(filter, last, newest).await?,
        None => None,
    };
    while left != Some(0) {
        let at_most = left.map_or(PAGE, |left| left.min(PAGE));
        let page = store.sign_ins(filter, &Page::After { cursor, up_to: newest }, at_most).await?;
        let Some(last) = page.last() else {
            break;
        };
        cursor = Some(last.cursor.clone());
        left = left.map(|left| left.saturating_sub(at_most));
        if !print_page(&page, args.json)? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn follow(
    mut newest: i64,
    store: &dyn Store,
    filter: &SignInFilter,
    args: &LogsArgs,
) -> anyhow::Result<()> {
    loop {
        // Asked for first, so that nothing that comes meanwhile is passed over.
        let seen = store.newest_sign_in().await?;
        let page = store.sign_ins(filter, &Page::NewerThan(newest), PAGE).await?;
        newest = match page.last() {
            Some(last) if page.len() == PAGE as usize => last.cursor.id,
            // Whatever else is that old does not match.
            last => last.map_or(seen, |last| last.cursor.id.max(seen)),
        };
        if !print_page(&page, args.json)? {
            return Ok(());
        }
        if page.is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn print_page(page: &[SignIn], json: bool) -> anyhow::Result<bool> {
    let lines: Vec<String> = if json {
        page.iter()
            .map(|sign_in| Ok(printable(&serde_json::to_string(&Line::of(sign_in))?)))
            .collect::<anyhow::Result<_>>()?
    } else {
        page.iter().map(row).collect()
    };
    Ok(list(lines)?)
}

fn row(sign_in: &SignIn) -> String {
    let account = sign_in.username.as_deref().map(printable);
    format!("{:<20}  {:<39}  {}", or_dash(sign_in.at), printable(&sign_in.from), or_dash(account))
}

#[derive(Serialize)]
struct Line<'a> {
    id: i64,
    time: Option<String>,
    ip: &'a str,
    user_id: Option<i64>,
    username: Option<&'a str>,
}

impl<'a> Line<'a> {
    fn of(sign_in: &'a SignIn) -> Self {
        Self {
            id: sign_in.cursor.id,
            time: sign_in.at.map(|time| time.to_string()),
            ip: &sign_in.from,
            user_id: sign_in.user.map(|user| user.0),
            username: sign_in.username.as_deref(),
        }
    }
}
