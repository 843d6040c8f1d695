//! `jwksd logs`: lists sign-ins.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::bootstrap::{self, OpenStore};
use super::output::{self, or_dash};
use super::text::printable;
use crate::config::Config;
use jwksd_core::clock::Timestamp;
use jwksd_core::issuer::IssuerError;
use jwksd_core::store::{Page, SignIn, SignInFilter, Store};

/// Rows of one query.
const PAGE: u32 = 1000;

/// Time between two queries for new rows.
const POLL: Duration = Duration::from_millis(500);

/// Sign-ins that `--follow` lists first, unless `--since` or `--last` is given.
const DEFAULT_LAST: u32 = 10;

#[derive(Args, Debug)]
pub(super) struct LogsArgs {
    /// Only sign-ins of this account
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only sign-ins from this address
    #[arg(long, value_name = "ADDR")]
    ip: Option<IpAddr>,
    /// Only sign-ins since this time: 90s, 1h or 7d ago, or in UTC, such as 2026-01-31 or 2026-01-31T09:05:00Z
    #[arg(long, value_name = "TIME", value_parser = Since::parse)]
    since: Option<Since>,
    /// Only the last N sign-ins
    #[arg(long, value_name = "N")]
    last: Option<u32>,
    /// Print new sign-ins until Ctrl-C; starts with the last 10 unless --since or --last is given
    #[arg(long)]
    follow: bool,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug)]
enum Since {
    Ago(Duration),
    Time(SystemTime),
}

impl Since {
    fn parse(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self::Ago)
            .or_else(|_| humantime::parse_rfc3339_weak(text).map(Self::Time))
            .or_else(|_| humantime::parse_rfc3339_weak(&format!("{text}:00")).map(Self::Time))
            .or_else(|_| humantime::parse_rfc3339_weak(&format!("{text} 00:00:00")).map(Self::Time))
            .map_err(|_| "use a time such as 90s, 1h, 7d, 2026-01-31 or 2026-01-31T09:05:00Z".to_owned())
    }

    fn timestamp(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(ago) => now.minus(ago).max(Timestamp::from_secs(0)),
            Self::Time(time) => {
                let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                Timestamp::from_secs(0).plus(since_epoch)
            }
        }
    }
}

pub(super) async fn run(config: Config, args: LogsArgs) -> anyhow::Result<()> {
    let open_store = bootstrap::open_existing(&config).await?;
    let listed = list(&open_store, &args).await;
    open_store.close(listed).await
}

async fn list(open_store: &OpenStore, args: &LogsArgs) -> anyhow::Result<()> {
    let store = open_store.context.store.as_ref();
    let filter = SignInFilter {
        user: match &args.user {
            None => None,
            Some(name) => {
                let account = store.account(name).await?.ok_or(IssuerError::NoSuchAccount);
                Some(account.with_context(|| format!("cannot show sign-ins of {name:?}"))?.id)
            }
        },
        from: args.ip.map(|ip| ip.to_canonical()),
        since: args.since.map(|since| since.timestamp(open_store.context.clock.now())),
    };
    // Present rows are listed in the order of their times, new ones in the order of their ids.
    let newest = store.newest_sign_in().await?;
    let header = format!("{:<20}  {:<39}  ACCOUNT", "TIME", "ADDRESS");
    if (args.json || output::lines([header])?)
        && list_up_to(newest, store, &filter, args).await?
        && args.follow
    {
        follow(newest, store, &filter, args).await?;
    }
    Ok(())
}

/// Lists the sign-ins up to this id. Returns false if the reader has closed the pipe.
async fn list_up_to(
    newest: i64,
    store: &dyn Store,
    filter: &SignInFilter,
    args: &LogsArgs,
) -> anyhow::Result<bool> {
    let default = (args.follow && args.since.is_none()).then_some(DEFAULT_LAST);
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
        // Read before the page, so that a row inserted in between is in the next page.
        let seen = store.newest_sign_in().await?;
        let page = store.sign_ins(filter, &Page::NewerThan(newest), PAGE).await?;
        newest = match page.last() {
            Some(last) if page.len() == PAGE as usize => last.cursor.id,
            // Older rows that are not in the page do not match the filter.
            last => last.map_or(seen, |last| last.cursor.id.max(seen)),
        };
        if !print_page(&page, args.json)? {
            return Ok(());
        }
        if page.is_empty() {
            tokio::time::sleep(POLL).await;
        }
    }
}

fn print_page(page: &[SignIn], json: bool) -> anyhow::Result<bool> {
    let lines: Vec<String> = if json {
        page.iter()
            .map(|sign_in| Ok(printable(&serde_json::to_string(&Line::new(sign_in))?)))
            .collect::<anyhow::Result<_>>()?
    } else {
        page.iter().map(row).collect()
    };
    Ok(output::lines(lines)?)
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
    fn new(sign_in: &'a SignIn) -> Self {
        Self {
            id: sign_in.cursor.id,
            time: sign_in.at.map(|time| time.to_string()),
            ip: &sign_in.from,
            user_id: sign_in.user.map(|user| user.0),
            username: sign_in.username.as_deref(),
        }
    }
}
