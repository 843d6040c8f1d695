//! `jwksd rekey`: moves the store to another master key.

use std::io::IsTerminal as _;

use anyhow::{Context as _, bail};
use clap::Args;
use zeroize::Zeroizing;

use super::exit::UsageError;
use super::{bootstrap, master_key, output};
use crate::config::Config;
use jwksd_core::issuer::config::NEW_MASTER_KEY;
use jwksd_core::issuer::{self, RekeyReport};
use jwksd_core::key::Kid;
use jwksd_core::key::seal::MasterSecret;

#[derive(Args, Debug)]
pub(super) struct RekeyArgs {
    /// Do and verify everything, but store nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(config: Config, args: RekeyArgs) -> anyhow::Result<()> {
    // Asked before the store is opened, so that it is not kept open while the operator types.
    let new = match &config.keys.new_master_key {
        Some(secret) => secret.clone(),
        None => ask()?,
    };
    master_key::refuse_wrapped(NEW_MASTER_KEY.name, &new)?;
    let open_store = bootstrap::open(&config).await?;
    let moved = issuer::rekey(&open_store.context, &open_store.master_key, &new, args.dry_run).await;
    let report = open_store.close(moved.context("cannot move the store to another master key")).await?;
    print(&report, args.dry_run);
    Ok(())
}

/// Asks twice on the terminal, without echo.
fn ask() -> anyhow::Result<MasterSecret> {
    if !std::io::stdin().is_terminal() {
        return Err(UsageError(
            "NEW_NOT_MY_KEY is not set, and there is no terminal to enter it on: set it in the environment"
                .to_owned(),
        )
        .into());
    }
    let ask = |prompt| {
        rpassword::prompt_password(prompt).map(Zeroizing::new).context("cannot read the new master key")
    };
    let first = ask("The new master key: ")?;
    // A typo would seal every key under a passphrase that the operator does not know.
    if ask("Repeat the new master key: ")? != first {
        bail!("the two differ; nothing was changed");
    }
    Ok(NEW_MASTER_KEY.parse(&first)?)
}

fn print(report: &RekeyReport, dry_run: bool) {
    let listed = |kids: &[Kid]| kids.iter().map(Kid::to_string).collect::<Vec<_>>().join(", ");
    let RekeyReport { moved, left } = report;
    let verb = if dry_run { "would be sealed" } else { "are sealed" };
    let (count, moved) = (moved.len(), listed(moved));
    output::message(&format!("{count} keys {verb} under the new master key, and open with it: {moved}"));
    if !left.is_empty() {
        output::message(&format!("left unchanged, because NOT_MY_KEY does not open them: {}", listed(left)));
    }
    output::message(if dry_run {
        "nothing was changed (--dry-run)"
    } else {
        "now set NOT_MY_KEY to the new master key, in .env or wherever it is set, and restart every server on this \
         store: until then, those that do not have NEW_NOT_MY_KEY sign and publish from memory, but rotate nothing"
    });
}
