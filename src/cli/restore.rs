//! `jwksd restore`: replaces the store by a verified copy, and keeps what must not be undone.

use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;

use super::output;
use super::store_copy::{
    StoreCopy, file_of, lock, master_key_of, print_faults, refuse, summary, unless_interrupted, unopened_kids,
};
use crate::config::Config;
use jwksd_core::clock::{Clock as _, SystemClock};
use jwksd_core::issuer::MasterKey;
use jwksd_core::store::StoreError;
use jwksd_store_sqlite::{DatabaseFile, ExclusiveLock, Inspection, MergeOutcome};

#[derive(Args, Debug)]
pub(super) struct RestoreArgs {
    /// A copy that `jwksd backup` made
    file: PathBuf,
}

pub(super) async fn run(config: Config, args: RestoreArgs) -> anyhow::Result<()> {
    // Resolved, because the copy must replace the file and not a symbolic link to it.
    let (store, source) = (file_of(&config, "restore")?.resolved(), DatabaseFile::new(args.file));
    if !source.path().exists() {
        return refuse(format!("cannot restore {}: there is no such file", source.path().display()));
    }
    let master_key = master_key_of(&config, &source).await?;
    // Before the lock, which keeps servers from starting: copying and checking may take minutes.
    let copy = unless_interrupted(Box::pin(copy_next_to(&store, &source, &master_key))).await?;
    let mut lock = lock(&store).await?;
    let merged = unless_interrupted(Box::pin(merge(&copy, &mut lock, &master_key))).await;
    let (verified, outcome) = match merged {
        Ok(merged) => merged,
        Err(error) => {
            lock.give_up().await;
            return Err(error);
        }
    };
    // Windows allows no colons in file names.
    let suffix = format!(".replaced-{}", SystemClock::start().now().to_string().replace(':', "-"));
    // Not in `unless_interrupted`: it is short, and must not stop half-way.
    let kept = lock.replace_by(copy.file, &suffix).await.map_err(cannot_replace)?;
    let summary = summary(&verified, &unopened_kids(&master_key, &verified));
    let (name, source) = (store.path().display(), source.path().display());
    output::message(&format!("restored {name} from {source}: {summary}"));
    print_faults(store.path(), &verified);
    if let Some(kept) = kept {
        output::message(&format!("the old store is kept as {}", kept.display()));
    }
    print(&outcome);
    Ok(())
}

/// Copies the source next to the store, verifies it as it is, and migrates its schema as a start would.
async fn copy_next_to(
    store: &DatabaseFile,
    source: &DatabaseFile,
    master_key: &MasterKey,
) -> anyhow::Result<StoreCopy> {
    let copy = StoreCopy::new(source, store.path()).await?;
    copy.verify(master_key).await?;
    copy.database().migrate().await.context("cannot migrate the schema of the copy")?;
    Ok(copy)
}

/// Merges into the copy what the store has done since and must not be undone, and verifies the result.
async fn merge(
    copy: &StoreCopy,
    lock: &mut ExclusiveLock,
    master_key: &MasterKey,
) -> anyhow::Result<(Inspection, MergeOutcome)> {
    let outcome = lock
        .merge_into(copy.file.path(), SystemClock::start().now())
        .await
        .context("cannot write the copy")?;
    // Verified again, because the merge has written to the copy.
    Ok((copy.verify(master_key).await?, outcome))
}

fn cannot_replace(error: StoreError) -> anyhow::Error {
    let error = anyhow::Error::new(error);
    let is_denied = |cause: &io::Error| cause.kind() == io::ErrorKind::PermissionDenied;
    let hint = if error.chain().filter_map(|cause| cause.downcast_ref()).any(is_denied) {
        ": run this as the owner of the store"
    } else {
        ""
    };
    error.context(format!("cannot replace the store by the copy{hint}"))
}

fn print(outcome: &MergeOutcome) {
    let lost = "numbers of keys and accounts continue a million later, but usernames registered since the copy can be \
                registered again, and keys and accounts that were revoked, disabled or deleted since are back: check \
                `jwksd keys list` and `jwksd users list`; all accounts are signed out as of now";
    match outcome {
        MergeOutcome::All { keys, accounts } => {
            output::message(&format!(
                "numbers and usernames assigned since the copy stay reserved, and what was revoked, expired, disabled, \
                 deleted or signed out since stays so (accounts: {accounts}); passwords are those of the copy"
            ));
            if !keys {
                output::message(
                    "the store had moved to another master key, so keys created since the copy were not merged",
                );
            }
        }
        MergeOutcome::NoStore => {
            output::message(&format!("there was no store with changes since the copy: {lost}"));
        }
        MergeOutcome::Unreadable(reason) => {
            output::message(&format!("changes since the copy could not be read ({reason}): {lost}"));
        }
    }
}
