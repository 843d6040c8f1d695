//! Runs all checks, and prints what they found.

use clap::{ArgMatches, Args};

use super::findings::{Findings, Level};
use super::{environment, settings, store};
use crate::cli::exit::Status;
use crate::config::Config;

#[derive(Args, Clone, Copy, Debug)]
pub(in crate::cli) struct DoctorArgs {
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
}

/// Ends with status 0 when healthy, 1 after warnings, 2 after errors.
pub(in crate::cli) fn run(matches: &ArgMatches, args: DoctorArgs) -> anyhow::Result<()> {
    let mut findings = Findings::default();
    match Config::load(matches) {
        Ok(config) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(examine(&config, &mut findings));
        }
        // Without settings it is unknown where the store is, so the other checks cannot run.
        Err(error) => findings.error("settings", error.to_string()),
    }
    findings.print(args.json)?;
    match findings.worst() {
        Level::Ok => Ok(()),
        Level::Warning => Err(Status(1).into()),
        Level::Error => Err(Status(2).into()),
    }
}

async fn examine(config: &Config, findings: &mut Findings) {
    settings::examine(config, findings);
    // Before the store is opened: closing a file that was opened for a check would end SQLite's locks on it.
    environment::examine_files(config, findings);
    environment::examine_disk(config, findings);
    store::examine(config, findings).await;
    environment::examine_port(config, findings).await;
}
