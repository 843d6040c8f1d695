//! `jwksd backup`: a verified copy of the store.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use super::store_copy::{
    StoreCopy, expect_vacant, file_of, master_key_of, print_faults, summary, unless_interrupted,
    unopened_kids,
};
use super::{output, progress};
use crate::config::Config;
use jwksd_core::issuer::MasterKey;
use jwksd_store_sqlite::directory::{persist_new, sync_directory_of};
use jwksd_store_sqlite::{Counts, DatabaseFile, Depth, Inspection};

#[derive(Args, Debug)]
pub(super) struct BackupArgs {
    /// The copy, which must not exist yet
    file: PathBuf,
}

pub(super) async fn run(config: Config, args: BackupArgs) -> anyhow::Result<()> {
    let (store, file) = (file_of(&config, "backup")?, &args.file);
    expect_vacant(file)?;
    // A backup whose keys do not open is worthless, so the master key is needed to verify it.
    let master_key = master_key_of(&config, store).await?;
    unless_interrupted(Box::pin(back_up(store, file, &master_key))).await
}

async fn back_up(store: &DatabaseFile, file: &Path, master_key: &MasterKey) -> anyhow::Result<()> {
    // The store may change during the copy, so its counts before and after bound those of the copy.
    let before = inspect(store).await?;
    let copy = StoreCopy::new(store, file).await?;
    let verified = copy.verify(master_key).await?;
    let after = inspect(store).await?;
    check_counts(&before.counts, &verified.counts, &after.counts)?;
    let unopened = unopened_kids(master_key, &verified);
    // A key that does not open in the store either is not a fault of the copy.
    let unopened_before = unopened_kids(master_key, &before);
    if let Some(kid) = unopened.iter().find(|kid| !unopened_before.contains(kid)) {
        bail!("key {kid} opens in {}, but not in the copy, which was deleted", store.path().display());
    }
    // Synced before it gets its name, so that a crash cannot leave half a copy under that name.
    copy.file.as_file().sync_all().context("cannot write the copy to the disk")?;
    persist_new(copy.file, file).with_context(|| format!("cannot keep the copy as {}", file.display()))?;
    sync_directory_of(file).context("cannot write the copy to the disk")?;
    output::message(&format!("{} is a complete copy: {}", file.display(), summary(&verified, &unopened)));
    print_faults(file, &verified);
    output::message("it does not contain NOT_MY_KEY: keep that too, in another place");
    Ok(())
}

async fn inspect(store: &DatabaseFile) -> anyhow::Result<Inspection> {
    let inspection = progress::busy("reading", store.inspect(Depth::Rows)).await;
    inspection.with_context(|| format!("cannot read {}", store.path().display()))
}

/// Only accounts are compared: keys and sign-ins may be deleted during the copy, rows of accounts never are.
fn check_counts(before: &Counts, copy: &Counts, after: &Counts) -> anyhow::Result<()> {
    if !(before.accounts..=after.accounts).contains(&copy.accounts) {
        bail!("the copy has other rows than the store ({copy:?}, {before:?}, {after:?}), and was deleted");
    }
    Ok(())
}
