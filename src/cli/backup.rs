//! `jwksd backup` and `jwksd restore`: a proved copy of the store, and the way back.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use tempfile::NamedTempFile;

use super::opening::{self, Refused};
use super::{progress, say};
use crate::config::Config;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::key::Kid;
use crate::issuer::{self, MasterKey};
use crate::store::{Counts, Depth, Found, Hold, Inspection, Location, StoreError, sync_directory_of};

#[derive(Args, Debug)]
pub(super) struct BackupArgs {
    /// The copy; it must not be there yet
    file: PathBuf,
}

#[derive(Args, Debug)]
pub(super) struct RestoreArgs {
    /// A copy that `jwksd backup` has made
    file: PathBuf,
}

pub(super) async fn backup(config: Config, args: BackupArgs) -> anyhow::Result<()> {
    let (store, file) = (&config.location, &args.file);
    if file.symlink_metadata().is_ok() {
        return Err(Refused(format!("{} is there already; another name would do", file.display())).into());
    }
    let master_key = master_key_of(&config, store).await?;
    // Before and after, because the store goes on meanwhile.
    let before = inspect(store, Depth::Rows).await?;
    let copy = copy_beside(store, file).await?;
    let proved = prove(&copy, &master_key).await?;
    let after = inspect(store, Depth::Rows).await?;
    expect_between(&before.counts, &proved.counts, &after.counts)?;
    let unopened = kids(&master_key, &proved);
    let was_unopened = kids(&master_key, &before);
    if let Some(kid) = unopened.iter().find(|kid| !was_unopened.contains(kid)) {
        bail!("key {kid} opens in {}, but not in the copy, which was thrown away", store.path().display());
    }
    copy.as_file().sync_all().context("cannot write the copy to the disk")?;
    copy.persist_noclobber(file).with_context(|| format!("cannot keep the copy as {}", file.display()))?;
    sync_directory_of(file).context("cannot write the copy to the disk")?;
    say(&format!("{} is a whole copy: {}", file.display(), in_words(&proved, &unopened)));
    say("NOT_MY_KEY is not in it: keep that too, elsewhere");
    Ok(())
}

pub(super) async fn restore(config: Config, args: RestoreArgs) -> anyhow::Result<()> {
    let (store, source) = (&config.location, Location::of(args.file));
    if !source.path().is_file() {
        bail!("cannot restore {}: there is no such file", source.path().display());
    }
    let master_key = master_key_of(&config, &source).await?;
    let copy = copy_beside(&source, store.path()).await?;
    let mut hold = Hold::take(store).await.map_err(|error| match error {
        StoreError::InUse => anyhow::Error::new(Refused(format!(
            "{} is in use, by a server or another program: stop it first",
            store.path().display()
        ))),
        other => anyhow::Error::new(other).context(format!("cannot take hold of {}", store.path().display())),
    })?;
    let told = hold.carry_over(copy.path()).await.context("cannot write the copy")?;
    let proved = prove(&copy, &master_key).await?;
    let unopened = kids(&master_key, &proved);
    // Windows has no colons in names.
    let suffix = format!(".replaced-{}", SystemClock::start().now().to_string().replace(':', "-"));
    let kept =
        hold.replace_by(copy, &suffix).await.context("cannot put the copy in the place of the store")?;

    let (source, store) = (source.path().display(), store.path().display());
    say(&format!("{store} is what {source} holds: {}", in_words(&proved, &unopened)));
    if let Some(kept) = kept {
        say(&format!("what it was before is in {}", kept.display()));
    }
    if told {
        say(
            "names and numbers that were given out since the copy was made stay used up, and what was revoked since \
             stays revoked",
        );
    } else {
        say(
            "there was no store to say what was given out since the copy was made: numbers of keys and accounts go on a \
             million later; names of accounts that were made since can be registered again, and keys that were revoked \
             since are in use again: see `jwksd keys list`",
        );
    }
    Ok(())
}

/// The master key of a store that is there.
async fn master_key_of(config: &Config, store: &Location) -> anyhow::Result<MasterKey> {
    let name = store.path().display();
    let look = store.look().await.map_err(|error| match error {
        StoreError::Damaged(what) => Refused(format!("cannot use {name}: {what}")).into(),
        other => anyhow::Error::new(other).context(format!("cannot read {name}")),
    });
    match look?.found {
        Found::Ours(record) => opening::unlock(config, store, record),
        Found::Nothing => Err(Refused(format!("there is no store in {name}")).into()),
        Found::Foreign => Err(Refused(format!(
            "{name} holds keys that another program wrote: `jwksd serve` takes such a store over"
        ))
        .into()),
    }
}

/// Copies a store to a new file, readable by its owner alone, in the directory of `file`.
async fn copy_beside(store: &Location, file: &Path) -> anyhow::Result<NamedTempFile> {
    let directory = file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    // On Unix, temporary files have mode 0600.
    let copy = tempfile::Builder::new()
        .prefix(".jwksd-copy-")
        .tempfile_in(directory)
        .with_context(|| format!("cannot write to the directory {}", directory.display()))?;
    let failing = || format!("cannot copy {}", store.path().display());
    let bytes = store.bytes().await.with_context(failing)?;
    progress::growing("copying", copy.path(), bytes, store.copy_to(copy.path()))
        .await
        .with_context(failing)?;
    Ok(copy)
}

async fn inspect(store: &Location, depth: Depth) -> anyhow::Result<Inspection> {
    let inspection = progress::busy("reading", store.inspect(depth)).await;
    inspection.with_context(|| format!("cannot read {}", store.path().display()))
}

/// Opens a copy and looks at all of it.
async fn prove(copy: &NamedTempFile, master_key: &MasterKey) -> anyhow::Result<Inspection> {
    let location = Location::of(copy.path().to_owned());
    let inspection = progress::busy("checking", location.inspect(Depth::Full)).await;
    let inspection = inspection.context("cannot read the copy, which was thrown away")?;
    if let Some(complaint) = inspection.complaints.first() {
        bail!("the copy is damaged, and was thrown away: {complaint}");
    }
    if !inspection.keys.is_empty() && kids(master_key, &inspection).len() == inspection.keys.len() {
        bail!("none of its keys opens, so that it was thrown away");
    }
    Ok(inspection)
}

/// Rows of `auth_logs` may have been trimmed meanwhile; accounts never go.
fn expect_between(before: &Counts, copy: &Counts, after: &Counts) -> anyhow::Result<()> {
    let fits =
        (before.accounts..=after.accounts).contains(&copy.accounts) && (before != after || copy == before);
    if !fits {
        bail!(
            "the copy has other rows than the store ({copy:?}, {before:?}, {after:?}), and was thrown away"
        );
    }
    Ok(())
}

fn kids(master_key: &MasterKey, inspection: &Inspection) -> Vec<Kid> {
    issuer::unopened(master_key, &inspection.keys).into_iter().map(|row| row.kid).collect()
}

fn in_words(proved: &Inspection, unopened: &[Kid]) -> String {
    let Counts { keys, accounts, sign_ins } = proved.counts;
    let opening = if unopened.is_empty() {
        "which all open".to_owned()
    } else {
        let listed: Vec<_> = unopened.iter().map(Kid::to_string).collect();
        format!("of which NOT_MY_KEY does not open {}, no more than in the original", listed.join(", "))
    };
    format!("keys: {keys}, {opening}; accounts: {accounts}; sign-ins: {sign_ins}; integrity: ok")
}
