//! `jwksd backup` and `jwksd restore`: a proved copy of the store, and the way back.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use tempfile::{NamedTempFile, TempDir};

use super::opening::{self, Refused};
use super::{progress, say, serve};
use crate::config::Config;
use crate::domain::clock::{Clock as _, SystemClock};
use crate::domain::key::Kid;
use crate::issuer::{self, MasterKey};
use crate::store::{
    Contents, Counts, DatabaseFile, Depth, ExclusiveLock, Inspection, MergeOutcome, StoreError, directory_of,
    sync_directory_of,
};

/// How the directory is called in which a copy is made.
pub(super) const WORKSHOP: &str = ".jwksd-copy-";

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
    let (store, file) = (&config.database, &args.file);
    if file.symlink_metadata().is_ok() {
        return refuse(format!("{} is there already; another name would do", file.display()));
    }
    if file.to_str().is_none() {
        return refuse(format!("{} is not UTF-8; another name would do", file.display()));
    }
    let master_key = master_key_of(&config, store).await?;
    unless_interrupted(Box::pin(make_copy(store, file, &master_key))).await
}

async fn make_copy(store: &DatabaseFile, file: &Path, master_key: &MasterKey) -> anyhow::Result<()> {
    // Before and after, because the store goes on meanwhile.
    let before = inspect(store).await?;
    let copy = Copy::of(store, file).await?;
    let proved = copy.prove(master_key).await?;
    let after = inspect(store).await?;
    expect_between(&before.counts, &proved.counts, &after.counts)?;
    let unopened = kids(master_key, &proved);
    let was_unopened = kids(master_key, &before);
    if let Some(kid) = unopened.iter().find(|kid| !was_unopened.contains(kid)) {
        bail!("key {kid} opens in {}, but not in the copy, which was thrown away", store.path().display());
    }
    copy.file.as_file().sync_all().context("cannot write the copy to the disk")?;
    copy.file
        .persist_noclobber(file)
        .with_context(|| format!("cannot keep the copy as {}", file.display()))?;
    sync_directory_of(file).context("cannot write the copy to the disk")?;
    say(&format!("{} is a whole copy: {}", file.display(), in_words(&proved, &unopened)));
    say("NOT_MY_KEY is not in it: keep that too, elsewhere");
    Ok(())
}

pub(super) async fn restore(config: Config, args: RestoreArgs) -> anyhow::Result<()> {
    let (store, source) = (config.database.resolved(), DatabaseFile::of(args.file));
    if !source.path().exists() {
        return refuse(format!("cannot restore {}: there is no such file", source.path().display()));
    }
    let master_key = master_key_of(&config, &source).await?;
    let copy = unless_interrupted(Box::pin(proved_copy(&source, &store, &master_key))).await?;
    // From here on nobody starts on the store, or founds one in its place.
    let mut hold = ExclusiveLock::take(&store).await.map_err(|error| match error {
        StoreError::InUse => anyhow::Error::new(Refused(format!(
            "{} is in use, by a server or another program: stop it first",
            store.path().display()
        ))),
        other => anyhow::Error::new(other).context(format!("cannot take hold of {}", store.path().display())),
    })?;
    let made = unless_interrupted(Box::pin(finish(&copy, &mut hold, &master_key))).await;
    let (proved, carried) = match made {
        Ok(made) => made,
        Err(error) => {
            hold.give_up().await;
            return Err(error);
        }
    };
    // Windows has no colons in names.
    let suffix = format!(".replaced-{}", SystemClock::start().now().to_string().replace(':', "-"));
    let kept = hold
        .replace_by(copy.file, &suffix)
        .await
        .context("cannot put the copy in the place of the store: run this as the owner of the store")?;
    let (source, store) = (source.path().display(), store.path().display());
    say(&format!("{store} is what {source} holds: {}", in_words(&proved, &kids(&master_key, &proved))));
    if let Some(kept) = kept {
        say(&format!("what it was before is in {}", kept.display()));
    }
    tell(&carried);
    Ok(())
}

/// A copy of the source beside the store: as the source is, and as a start would make it.
async fn proved_copy(
    source: &DatabaseFile,
    store: &DatabaseFile,
    master_key: &MasterKey,
) -> anyhow::Result<Copy> {
    let copy = Copy::of(source, store.path()).await?;
    copy.prove(master_key).await?;
    copy.location().bring_up_to_date().await.context("cannot bring the copy up to date")?;
    Ok(copy)
}

/// Brings the copy to what must not be undone.
async fn finish(
    copy: &Copy,
    hold: &mut ExclusiveLock,
    master_key: &MasterKey,
) -> anyhow::Result<(Inspection, MergeOutcome)> {
    let carried = hold.merge_into(copy.file.path()).await.context("cannot write the copy")?;
    Ok((copy.prove(master_key).await?, carried))
}

fn tell(carried: &MergeOutcome) {
    let unknown = "numbers of keys and accounts go on a million later, but names of accounts that were made since the \
                   copy can be registered again, and what was revoked, disabled or deleted since is not any more: see \
                   `jwksd keys list` and `jwksd users list`";
    match carried {
        MergeOutcome::All { keys, accounts } => {
            say(&format!(
                "what was given out since the copy stays used up, and what was revoked, expired, disabled or deleted \
                 since stays so (accounts: {accounts}); passwords are those of the copy"
            ));
            if !keys {
                say("the store had moved to another master key: keys that were made since are not in it");
            }
        }
        MergeOutcome::NoStore => {
            say(&format!("there was no store to tell what came after the copy: {unknown}"));
        }
        MergeOutcome::Unreadable(why) => {
            say(&format!("the store could not tell what came after the copy ({why}): {unknown}"));
        }
    }
}

/// Breaks off at a signal, and leaves nothing behind.
async fn unless_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        () = serve::signals()? => bail!("interrupted; nothing was changed"),
    }
}

fn refuse<T>(why: String) -> anyhow::Result<T> {
    Err(Refused(why).into())
}

/// The master key of a store that is there.
async fn master_key_of(config: &Config, store: &DatabaseFile) -> anyhow::Result<MasterKey> {
    let name = store.path().display();
    let look = store.probe().await.map_err(|error| match error {
        StoreError::Corrupt(what) => Refused(format!("cannot use {name}: {what}")).into(),
        other => anyhow::Error::new(other).context(format!("cannot read {name}")),
    });
    match look?.contents {
        Contents::Ours(record) => opening::unlock(config, store, record),
        Contents::Nothing => refuse(format!("there is no store in {name}")),
        Contents::Foreign => refuse(format!(
            "{name} holds keys that another program wrote: `jwksd serve` takes such a store over"
        )),
    }
}

/// A copy in the making: readable by its owner alone, in a directory of its own, with which it vanishes unless it is kept.
struct Copy {
    file: NamedTempFile,
    _workshop: TempDir,
}

impl Copy {
    /// Copies a store, on the disk where `file` is to be.
    async fn of(store: &DatabaseFile, file: &Path) -> anyhow::Result<Self> {
        let directory = directory_of(file);
        let failing = || format!("cannot write to the directory {}", directory.display());
        // On Unix, temporary directories have mode 0700, and temporary files 0600.
        let workshop =
            tempfile::Builder::new().prefix(WORKSHOP).tempdir_in(directory).with_context(failing)?;
        let copy =
            Self { file: NamedTempFile::new_in(workshop.path()).with_context(failing)?, _workshop: workshop };
        let failing = || format!("cannot copy {}", store.path().display());
        let bytes = store.bytes().await.with_context(failing)?;
        let copying = store.copy_to(copy.file.path());
        progress::growing("copying", copy.file.path(), bytes, copying).await.with_context(failing)?;
        Ok(copy)
    }

    fn location(&self) -> DatabaseFile {
        DatabaseFile::of(self.file.path().to_owned())
    }

    /// Opens it and looks at all of it.
    async fn prove(&self, master_key: &MasterKey) -> anyhow::Result<Inspection> {
        let inspection = progress::busy("checking", self.location().inspect(Depth::Full)).await;
        let inspection = inspection.context("cannot read the copy, which was thrown away")?;
        if let Some(complaint) = inspection.complaints.first() {
            bail!("the copy is damaged, and was thrown away: {complaint}");
        }
        if !inspection.keys.is_empty() && kids(master_key, &inspection).len() == inspection.keys.len() {
            bail!("none of its keys opens, so that it was thrown away");
        }
        Ok(inspection)
    }
}

async fn inspect(store: &DatabaseFile) -> anyhow::Result<Inspection> {
    let inspection = progress::busy("reading", store.inspect(Depth::Rows)).await;
    inspection.with_context(|| format!("cannot read {}", store.path().display()))
}

/// Keys and rows of `auth_logs` may have gone meanwhile; accounts never go.
fn expect_between(before: &Counts, copy: &Counts, after: &Counts) -> anyhow::Result<()> {
    if !(before.accounts..=after.accounts).contains(&copy.accounts) {
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
