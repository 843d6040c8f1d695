//! `jwksd logs`: lists sign-ins.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tokio::time::Instant;

use super::bootstrap::{self, OpenStore};
use super::output::{self, or_dash};
use super::text::printable;
use crate::config::Config;
use jwksd_core::clock::Timestamp;
use jwksd_core::issuer::IssuerError;
use jwksd_core::outage::Outage;
use jwksd_core::store::{Page, SignIn, SignInFilter, Store, StoreError};

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
    let mut window = Window::new(newest, store.sign_in_delay());
    if args.follow {
        window.skip_present(store, &filter).await?;
    }
    if (args.json || output::lines([header])?)
        && list_up_to(newest, store, &filter, args, &mut window.shown).await?
        && args.follow
    {
        follow(window, store, &filter, args).await?;
    }
    Ok(())
}

/// Lists the sign-ins up to this id, and notes them in `shown` for `--follow`. Returns false if the reader has closed the pipe.
async fn list_up_to(
    newest: i64,
    store: &dyn Store,
    filter: &SignInFilter,
    args: &LogsArgs,
    shown: &mut BTreeSet<i64>,
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
        if args.follow {
            shown.extend(page.iter().map(|sign_in| sign_in.cursor.id));
        }
        if !print_page(&page, args.json)? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn follow(
    mut window: Window,
    store: &dyn Store,
    filter: &SignInFilter,
    args: &LogsArgs,
) -> anyhow::Result<()> {
    let outage = Outage::default();
    loop {
        let (seen, new) = match window.look(store, filter).await {
            Ok(found) => found,
            // A server comes back.
            Err(StoreError::Unavailable(cause)) if !window.delay.is_zero() => {
                if outage.begin() {
                    output::message(&format!("the store does not answer, trying again: {cause}"));
                }
                tokio::time::sleep(POLL).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        outage.end();
        window.advance(seen);
        if !print_page(&new, args.json)? {
            return Ok(());
        }
        if new.is_empty() {
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Numbers below which a row may still appear.
const LATE_ROWS: i64 = 10_000;

/// The part of `auth_logs` in which rows may still appear: on a server, a number is drawn before its row is visible.
struct Window {
    delay: Duration,
    /// All rows up to here are visible.
    floor: i64,
    /// Rows above the floor that were printed.
    shown: BTreeSet<i64>,
    /// The greatest number at some moments, from the last `delay`.
    greatest: VecDeque<(Instant, i64)>,
}

impl Window {
    fn new(newest: i64, delay: Duration) -> Self {
        let floor = if delay.is_zero() { newest } else { newest.saturating_sub(LATE_ROWS) };
        let greatest = VecDeque::from([(Instant::now(), newest)]);
        Self { delay, floor, shown: BTreeSet::new(), greatest }
    }

    /// Leaves out the rows that are visible now: it is for the list of the beginning to say which of them are printed.
    async fn skip_present(&mut self, store: &dyn Store, filter: &SignInFilter) -> anyhow::Result<()> {
        let newest = self.greatest.front().map_or(self.floor, |(_, newest)| *newest);
        self.new_rows(store, filter).await?;
        // Those that have come since are new.
        self.shown.retain(|id| *id <= newest);
        Ok(())
    }

    /// The greatest number, and the rows above the floor that were not printed yet.
    async fn look(
        &mut self,
        store: &dyn Store,
        filter: &SignInFilter,
    ) -> Result<(i64, Vec<SignIn>), StoreError> {
        // Read before the rows, so that one inserted in between is above this number.
        let seen = store.newest_sign_in().await?;
        Ok((seen, self.new_rows(store, filter).await?))
    }

    async fn new_rows(
        &mut self,
        store: &dyn Store,
        filter: &SignInFilter,
    ) -> Result<Vec<SignIn>, StoreError> {
        let (mut new, mut from) = (Vec::new(), self.floor);
        loop {
            let page = store.sign_ins(filter, &Page::NewerThan(from), PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            from = page.last().map_or(from, |last| last.cursor.id);
            new.extend(page.into_iter().filter(|row| !self.shown.contains(&row.cursor.id)));
            if is_last {
                // Only now: after an error, the rows before it are read again.
                self.shown.extend(new.iter().map(|row| row.cursor.id));
                return Ok(new);
            }
        }
    }

    /// Raises the floor to the greatest number of the time before the delay.
    fn advance(&mut self, seen: i64) {
        let now = Instant::now();
        self.greatest.push_back((now, seen));
        while let Some((at, number)) = self.greatest.front().copied()
            && now.duration_since(at) >= self.delay
        {
            self.floor = self.floor.max(number);
            self.greatest.pop_front();
        }
        self.shown = self.shown.split_off(&self.floor.saturating_add(1));
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
