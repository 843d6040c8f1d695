//! `jwksd rekey`: moves the store to another master key.

use std::io::IsTerminal as _;

use anyhow::{Context as _, bail};
use clap::Args;
use zeroize::Zeroizing;

use super::opening::{self, Refused};
use super::say;
use crate::config::Config;
use crate::domain::key::Kid;
use crate::domain::key::seal::MasterSecret;
use crate::issuer::config::NEW_MASTER_KEY;
use crate::issuer::{self, RekeyReport};

#[derive(Args, Debug)]
pub(super) struct RekeyArgs {
    /// Do everything, check it, and keep nothing of it
    #[arg(long)]
    dry_run: bool,
}

pub(super) async fn run(config: Config, args: RekeyArgs) -> anyhow::Result<()> {
    let new = match &config.keys.new_master_key {
        Some(secret) => secret.clone(),
        None => asked_for()?,
    };
    let opened = opening::open(&config, opening::look(&config).await?).await?;
    let moved = issuer::rekey(&opened.context, &opened.master_key, &new, args.dry_run).await;
    let report = opened.close(moved.context("cannot move the store to another master key")).await?;
    tell(&report, args.dry_run);
    Ok(())
}

/// Asks twice, on the terminal and without showing it.
fn asked_for() -> anyhow::Result<MasterSecret> {
    if !std::io::stdin().is_terminal() {
        return Err(Refused(
            "NEW_NOT_MY_KEY is not set, and there is no terminal to ask for it: set it in the environment"
                .to_owned(),
        )
        .into());
    }
    let ask =
        |prompt| rpassword::prompt_password(prompt).map(Zeroizing::new).context("cannot read the new key");
    let first = ask("The new master key: ")?;
    if ask("The same again: ")? != first {
        bail!("the two are not the same; nothing was changed");
    }
    Ok(NEW_MASTER_KEY.parse(&first)?)
}

fn tell(report: &RekeyReport, dry_run: bool) {
    let listed = |kids: &[Kid]| kids.iter().map(Kid::to_string).collect::<Vec<_>>().join(", ");
    let RekeyReport { moved, left } = report;
    let verb = if dry_run { "would be sealed" } else { "are sealed" };
    say(&format!("{} keys {verb} under the new master key and open with it: {}", moved.len(), listed(moved)));
    if !left.is_empty() {
        say(&format!("left as they are, because NOT_MY_KEY does not open them: {}", listed(left)));
    }
    if dry_run {
        say("nothing was changed (--dry-run)");
    } else {
        say(
            "now put the new key into .env, or wherever NOT_MY_KEY is set, and restart every server on this store: \
             until then they sign and publish from memory, and rotate nothing",
        );
    }
}
