//! A verified copy of a store: what `jwksd backup` keeps, and what `jwksd restore` puts in place of the store.

use std::path::Path;

use anyhow::{Context as _, bail};
use tempfile::{NamedTempFile, TempDir};

use super::exit::{NotFound, UsageError};
use super::shutdown_signal::shutdown_signal;
use super::{bootstrap, output, progress};
use crate::config::Config;
use jwksd_core::issuer::{self, MasterKey};
use jwksd_core::key::Kid;
use jwksd_core::store::StoreError;
use jwksd_store_sqlite::directory::directory_of;
use jwksd_store_sqlite::{Contents, Counts, DatabaseFile, Depth, ExclusiveLock, Inspection, Probe};

/// Prefix of the directory in which a copy is made. `doctor` looks for directories that a killed command left.
pub(super) const DIRECTORY_PREFIX: &str = ".jwksd-copy-";

/// A copy that nothing else uses yet. Only its owner can read it, and it is deleted unless it is kept.
pub(super) struct StoreCopy {
    pub(super) file: NamedTempFile,
    _directory: TempDir,
}

impl StoreCopy {
    /// An empty file, on the disk on which `file` will be.
    pub(super) fn empty(file: &Path) -> anyhow::Result<Self> {
        let parent = directory_of(file);
        let failing = || format!("cannot write to the directory {}", parent.display());
        // On Unix, temporary directories have mode 0700, and temporary files 0600.
        // A directory of its own, so that SQLite's side files are deleted together with the copy.
        let directory =
            tempfile::Builder::new().prefix(DIRECTORY_PREFIX).tempdir_in(parent).with_context(failing)?;
        let file = NamedTempFile::new_in(directory.path()).with_context(failing)?;
        Ok(Self { file, _directory: directory })
    }

    /// Copies a store, to the disk on which `file` will be.
    pub(super) async fn new(store: &DatabaseFile, file: &Path) -> anyhow::Result<Self> {
        let copy = Self::empty(file)?;
        let failing = || format!("cannot copy {}", store.path().display());
        let bytes = store.size().await.with_context(failing)?;
        let copying = store.copy_to(copy.file.path());
        progress::growing("copying", copy.file.path(), bytes, copying).await.with_context(failing)?;
        Ok(copy)
    }

    pub(super) fn database(&self) -> DatabaseFile {
        DatabaseFile::new(self.file.path().to_owned())
    }

    /// Checks every page, every row and every key of the copy.
    pub(super) async fn verify(&self, master_key: &MasterKey) -> anyhow::Result<Inspection> {
        let inspection = progress::busy("checking", self.database().inspect(Depth::Full)).await;
        let inspection = inspection.context("cannot read the copy, which was deleted")?;
        if let Some(complaint) = inspection.complaints.first() {
            bail!("the copy is damaged, and was deleted: {complaint}");
        }
        if let Some(fault) = inspection.schema_faults.iter().find(|fault| fault.is_serious()) {
            bail!("the copy was deleted: {fault}");
        }
        // Single keys may not open in the original either. If all fail, the master key is wrong.
        let rows = inspection.keys.len() + inspection.invalid_exp.len();
        if !inspection.keys.is_empty() && unopened_kids(master_key, &inspection).len() == rows {
            bail!("none of the keys in the copy opens, so it was deleted");
        }
        Ok(inspection)
    }
}

/// The master key, if it is the one of this store.
pub(super) async fn master_key_of(config: &Config, store: &DatabaseFile) -> anyhow::Result<MasterKey> {
    let name = store.path().display();
    let probe = store.probe().await.map_err(|error| match error {
        StoreError::Corrupt(what) | StoreError::Foreign(what) => {
            UsageError(format!("cannot use {name}: {what}")).into()
        }
        other => anyhow::Error::new(other).context(format!("cannot read {name}")),
    });
    let probe: Probe = probe?;
    if let Some(why) = probe.refusal() {
        return refuse(format!("cannot use {name}: {why}"));
    }
    match probe.contents {
        Contents::Ours(record) => bootstrap::unlock(config, &name, record),
        Contents::Nothing if store.path().exists() => refuse(format!("there is no store in {name}")),
        Contents::Nothing => Err(NotFound(format!("there is no store in {name}")).into()),
        Contents::Foreign => refuse(format!(
            "{name} holds keys that another program wrote: start `jwksd serve` on it once, which adopts them"
        )),
    }
}

/// The keys that the master key does not open.
pub(super) fn unopened_kids(master_key: &MasterKey, inspection: &Inspection) -> Vec<Kid> {
    let (rows, invalid_exp) = (&inspection.keys, &inspection.invalid_exp);
    let rows = issuer::unreadable_rows(master_key, rows, invalid_exp, &inspection.key_metadata);
    rows.into_iter().map(|row| row.kid).collect()
}

/// What a verified copy contains, for a message.
pub(super) fn summary(verified: &Inspection, unopened: &[Kid]) -> String {
    let Counts { keys, accounts, sign_ins } = verified.counts;
    let opening = if unopened.is_empty() {
        "which all open".to_owned()
    } else {
        let listed: Vec<_> = unopened.iter().map(Kid::to_string).collect();
        format!("of which NOT_MY_KEY does not open {}, as in the original", listed.join(", "))
    };
    format!("keys: {keys}, {opening}; accounts: {accounts}; sign-ins: {sign_ins}; integrity: ok")
}

/// Names the differences of a copy's schema that do not keep it from being used, such as a missing index.
pub(super) fn print_faults(name: &Path, verified: &Inspection) {
    for fault in &verified.schema_faults {
        output::message(&format!("{} can be used, but {fault}", name.display()));
    }
}

/// Cancels the work at a shutdown signal. Dropping a copy deletes it.
pub(super) async fn unless_interrupted<T>(
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<T> {
    tokio::select! {
        done = work => done,
        () = shutdown_signal()? => bail!("interrupted; nothing was changed"),
    }
}

/// Refuses a name that a copy cannot get. Checked early, because copying may take minutes; `persist_new` checks again at the end.
pub(super) fn expect_vacant(file: &Path) -> anyhow::Result<()> {
    if file.symlink_metadata().is_ok() {
        return refuse(format!("{} already exists: use another name", file.display()));
    }
    if file.to_str().is_none() {
        return refuse(format!("{} is not UTF-8: use another name", file.display()));
    }
    Ok(())
}

/// From here on no server can start on the store, and no command can create one in its place.
pub(super) async fn lock(store: &DatabaseFile) -> anyhow::Result<ExclusiveLock> {
    let name = store.path().display();
    ExclusiveLock::take(store).await.map_err(|error| match error {
        StoreError::InUse => {
            UsageError(format!("{name} is in use, by a server or another program: stop it first")).into()
        }
        other => anyhow::Error::new(other).context(format!("cannot lock {name}")),
    })
}

/// The file of the store. Other stores have tools of their own.
pub(super) fn file_of<'a>(config: &'a Config, command: &str) -> anyhow::Result<&'a DatabaseFile> {
    match config.database.file() {
        Some(file) => Ok(file),
        None => refuse(format!(
            "`jwksd {command}` is for SQLite files, and DATABASE_URL names {}: use `jwksd move --to FILE` for a copy, or the tools \
             of PostgreSQL, such as pg_dump and pg_restore",
            config.database
        )),
    }
}

pub(super) fn refuse<T>(why: String) -> anyhow::Result<T> {
    Err(UsageError(why).into())
}
