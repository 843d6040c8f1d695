//! `jwksd move`: a whole store from a file to a server or back, proved before it counts.

use std::path::Path;
use std::sync::atomic::AtomicU64;

use anyhow::Context as _;
use clap::Args;
use thiserror::Error;

use super::exit::{NotFound, UsageError};
use super::store_copy::{StoreCopy, expect_vacant, lock, refuse, unless_interrupted};
use super::{bootstrap, output, progress};
use crate::config::{Config, secret_file};
use crate::database::{Database, Location};
use jwksd_core::clock::{Clock as _, SystemClock};
use jwksd_core::issuer::{self, MasterKey};
use jwksd_core::store::StoreError;
use jwksd_core::store::transfer::{self, StoreContent, StoreTarget, Summary, Table};
use jwksd_store_postgres::{ServerSource, ServerTarget, ServerUrl};
use jwksd_store_sqlite::directory::{persist_new, sync_directory_of};
use jwksd_store_sqlite::{Contents, DatabaseFile, ExclusiveLock, FileTarget};

#[derive(Args, Debug)]
pub(super) struct MoveArgs {
    /// Where to: a new file, or the URL of an empty PostgreSQL database
    #[arg(long, value_name = "URL", required_unless_present = "to_file")]
    to: Option<String>,
    /// A file that holds that URL, because one with a password does not belong on a command line
    #[arg(long, value_name = "FILE", conflicts_with = "to")]
    to_file: Option<String>,
}

impl MoveArgs {
    fn target(&self) -> Result<Location, UsageError> {
        let parsed = match (&self.to, &self.to_file) {
            (Some(url), _) => Location::parse(url).map_err(|error| ("--to", error)),
            (None, Some(file)) => secret_file(file)
                .and_then(|url| Location::parse(url.reveal()))
                .map_err(|error| ("--to-file", error)),
            (None, None) => Err(("--to", "name the target".to_owned())),
        };
        parsed.map_err(|(flag, error)| UsageError(format!("{flag}: {error}")))
    }
}

pub(super) async fn run(config: Config, args: MoveArgs) -> anyhow::Result<()> {
    let target = args.target()?;
    if args.to.is_some() && matches!(&target, Location::Server(server) if server.has_password()) {
        output::message(
            "the password in --to can be seen by every user of this machine while this runs: use --to-file next time",
        );
    }
    let master_key = master_key(&config).await?;
    match (&config.database, target) {
        (Database::File(source), Location::Server(target)) => {
            from_file(&source.resolved(), &target, &master_key).await
        }
        (Database::File(_), Location::File(_)) => refuse(
            "both are SQLite files: use `jwksd backup`, or move the file while no server runs".to_owned(),
        ),
        (Database::Server(source), Location::File(target)) => {
            let mut source = open(source.url(), &config).await?;
            let mut content = source.content();
            let report =
                unless_interrupted(Box::pin(to_file(&mut content, target.path(), &master_key))).await?;
            output::message(&format!(
                "{} is a complete copy of {}: {report}",
                target.path().display(),
                config.database
            ));
            output::message(
                "the database on the server is unchanged. To go on with the file, stop all processes first, and copy again",
            );
            Ok(())
        }
        (Database::Server(source), Location::Server(target)) => {
            let mut source = open(source.url(), &config).await?;
            let mut content = source.content();
            let (report, _) =
                unless_interrupted(Box::pin(to_server(&mut content, &target, &master_key))).await?;
            output::message(&format!("{target} is a complete copy of {}: {report}", config.database));
            output::message(
                "what processes have written to the old database since is not in it: stop them before you copy",
            );
            Ok(())
        }
    }
}

/// The master key of the store that is moved.
async fn master_key(config: &Config) -> anyhow::Result<MasterKey> {
    let name = &config.database;
    let probe = name.probe().await.map_err(|error| bootstrap::unusable(name, error))?;
    if let Some(why) = probe.refusal() {
        return refuse(format!("cannot use {name}: {why}"));
    }
    match probe.contents {
        Contents::Ours(record) => bootstrap::unlock(config, name, record),
        Contents::Nothing => Err(NotFound(format!("there is no store in {name}")).into()),
        Contents::Foreign => refuse(format!(
            "{name} holds keys that another program wrote: start `jwksd serve` on it once, which adopts them"
        )),
    }
}

async fn open(server: &ServerUrl, config: &Config) -> anyhow::Result<ServerSource> {
    ServerSource::open(server).await.map_err(|error| bootstrap::unusable(&config.database, error))
}

/// Moves a file, which no other process may have open, and puts it aside at the end.
async fn from_file(source: &DatabaseFile, target: &ServerUrl, master_key: &MasterKey) -> anyhow::Result<()> {
    let mut lock = lock(source).await?;
    let (report, was_complete) = match unless_interrupted(Box::pin(fill(&mut lock, target, master_key))).await
    {
        Ok(done) => done,
        Err(error) => {
            lock.give_up().await;
            return Err(error);
        }
    };
    // Windows allows no colons in file names.
    let suffix = format!(".moved-{}", SystemClock::start().now().to_string().replace(':', "-"));
    let name = source.path().display();
    let aside = lock.put_aside(&suffix).await.with_context(|| {
        format!(
            "{target} has the whole store now, but {name} cannot be renamed: do not serve from it any more"
        )
    })?;
    let how = if was_complete { "was moved before, and is complete" } else { "is moved" };
    output::message(&format!("the store of {name} {how}: {target} has {report}"));
    output::message(&format!("the file is kept as {}", aside.display()));
    output::message(
        "set DATABASE_URL to that database before the next start, and ISSUER to the URL of the service",
    );
    Ok(())
}

async fn fill(
    lock: &mut ExclusiveLock,
    target: &ServerUrl,
    master_key: &MasterKey,
) -> anyhow::Result<(String, bool)> {
    let mut content = lock.content().await.context("cannot read the store")?;
    to_server(&mut content, target, master_key).await
}

/// Fills a database, unless an earlier run has done that. Returns what it has, and whether it was so before.
async fn to_server(
    source: &mut dyn StoreContent,
    server: &ServerUrl,
    master_key: &MasterKey,
) -> anyhow::Result<(String, bool)> {
    expect_no_obstacles(source).await?;
    let mut target = ServerTarget::begin(server).await.map_err(|error| cannot_write(server, error))?;
    if !target.is_empty() {
        return match prove(source, None, &mut *target.content(), master_key).await {
            Err(error) if error.is::<Differs>() => {
                refuse(format!("{server} holds another store already: name an empty database"))
            }
            proved => proved.map(|report| (report, true)),
        };
    }
    let report = copy_all(source, &mut target, master_key).await?;
    target.commit().await.with_context(|| {
        format!("{server} did not confirm that it keeps the store: run this again, which finds out")
    })?;
    Ok((report, false))
}

async fn to_file(
    source: &mut dyn StoreContent,
    file: &Path,
    master_key: &MasterKey,
) -> anyhow::Result<String> {
    expect_vacant(file)?;
    expect_no_obstacles(source).await?;
    let new = StoreCopy::empty(file)?;
    let mut target = FileTarget::begin(new.file.path()).await.context("cannot write the copy")?;
    let report = copy_all(source, &mut target, master_key).await?;
    target.commit().await.context("cannot write the copy")?;
    // Synced before it gets its name, so that a crash cannot leave half a copy under that name.
    new.file.as_file().sync_all().context("cannot write the copy to the disk")?;
    persist_new(new.file, file).with_context(|| format!("cannot keep the copy as {}", file.display()))?;
    sync_directory_of(file).context("cannot write the copy to the disk")?;
    Ok(report)
}

async fn expect_no_obstacles(source: &mut dyn StoreContent) -> anyhow::Result<()> {
    let obstacles = source.obstacles().await.context("cannot read the store")?;
    if obstacles.is_empty() {
        return Ok(());
    }
    refuse(format!("the other store cannot hold these rows; nothing was changed: {}", obstacles.join("; ")))
}

fn cannot_write(server: &ServerUrl, error: StoreError) -> anyhow::Error {
    match error {
        StoreError::Corrupt(what) | StoreError::Foreign(what) => {
            UsageError(format!("cannot use {server}: {what}")).into()
        }
        other => anyhow::Error::new(other).context(format!("cannot write to {server}")),
    }
}

/// Copies every table, and proves that nothing is missing or different.
async fn copy_all(
    source: &mut dyn StoreContent,
    target: &mut dyn StoreTarget,
    master_key: &MasterKey,
) -> anyhow::Result<String> {
    let total = total(source).await.context("cannot read the store")?;
    let (done, mut summaries) = (AtomicU64::new(0), Vec::new());
    let copying = async {
        for table in Table::ALL {
            let summary = transfer::copy(table, source, target, &done).await;
            summaries.push(summary.with_context(|| format!("cannot copy the {}", table.name()))?);
        }
        anyhow::Ok(())
    };
    progress::counting("copying", total, &done, copying).await?;
    prove(source, Some(summaries), &mut *target.content(), master_key).await
}

async fn total(content: &mut dyn StoreContent) -> Result<u64, StoreError> {
    let mut total = 0;
    for table in Table::ALL {
        total += content.count(table).await?;
    }
    Ok(total)
}

/// The two stores are not the same.
#[derive(Debug, Error)]
#[error("the {0} differ after the copy: nothing was changed")]
struct Differs(String);

/// Compares both stores: every row of every table, which keys open, and the JWKS. Returns what they have.
async fn prove(
    source: &mut dyn StoreContent,
    summaries: Option<Vec<Summary>>,
    target: &mut dyn StoreContent,
    master_key: &MasterKey,
) -> anyhow::Result<String> {
    let before = match summaries {
        Some(summaries) => summaries,
        None => summarize("reading", source).await?,
    };
    let after = summarize("comparing", target).await?;
    for ((table, before), after) in Table::ALL.iter().zip(&before).zip(&after) {
        if before != after {
            let what = format!("{} ({} rows, and {} in the copy)", table.name(), before.rows, after.rows);
            return Err(Differs(what).into());
        }
    }
    let now = SystemClock::start().now();
    let (before_keys, after_keys) = (source.keys().await?, target.keys().await?);
    if before_keys.next_kid != after_keys.next_kid || before_keys.newest_signer != after_keys.newest_signer {
        return Err(Differs("numbers of the keys".to_owned()).into());
    }
    let (before_set, after_set) = (
        issuer::published_set(master_key, before_keys, now),
        issuer::published_set(master_key, after_keys, now),
    );
    if before_set != after_set {
        return Err(Differs("keys of the JWKS".to_owned()).into());
    }
    let rows = |wanted| {
        Table::ALL
            .iter()
            .zip(&after)
            .find(|(table, _)| **table == wanted)
            .map_or(0, |(_, summary)| summary.rows)
    };
    Ok(format!(
        "keys: {}; external keys: {}; accounts: {}; sign-ins: {}; every row and the JWKS are the same",
        rows(Table::Keys),
        rows(Table::ExternalKeys),
        rows(Table::Accounts),
        rows(Table::SignIns)
    ))
}

async fn summarize(what: &str, content: &mut dyn StoreContent) -> anyhow::Result<Vec<Summary>> {
    let total = total(content).await.context("cannot read the store")?;
    let (done, mut summaries) = (AtomicU64::new(0), Vec::new());
    let summing = async {
        for table in Table::ALL {
            let summary = transfer::summarize(table, content, &done).await;
            summaries.push(summary.with_context(|| format!("cannot read the {}", table.name()))?);
        }
        anyhow::Ok(())
    };
    progress::counting(what, total, &done, summing).await?;
    Ok(summaries)
}
