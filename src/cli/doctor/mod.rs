//! `jwksd doctor`: what would keep this service from working, and what is to be done about it. It changes nothing.
//!
//! Each finding is one line that ends with the way out. `settings` looks at what is configured, `store` at the file,
//! `surroundings` at the machine.

mod settings;
mod store;
mod surroundings;

use clap::{ArgMatches, Args};
use serde::Serialize;

use super::exit::Status;
use super::list;
use super::text::printable;
use crate::config::Config;

#[derive(Args, Clone, Copy, Debug)]
pub(super) struct DoctorArgs {
    /// As JSON, an object a line
    #[arg(long)]
    json: bool,
}

/// What was found, in the order in which it was looked for.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    about: &'static str,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    Warning,
    Error,
}

impl Findings {
    fn ok(&mut self, about: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level: Level::Ok, about, text: text.into() });
    }

    fn warning(&mut self, about: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level: Level::Warning, about, text: text.into() });
    }

    fn error(&mut self, about: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level: Level::Error, about, text: text.into() });
    }

    /// All is well with this, unless something else was found about it.
    fn ok_otherwise(&mut self, about: &'static str, text: impl Into<String>) {
        if !self.0.iter().any(|finding| finding.about == about) {
            self.ok(about, text);
        }
    }

    fn worst(&self) -> Level {
        self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }
}

impl Finding {
    fn line(&self) -> String {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        format!("{level:<8}  {:<9}  {}", self.about, printable(&self.text))
    }
}

/// Ends with status 0 if all is well, 1 after warnings, 2 after errors.
pub(super) fn run(matches: &ArgMatches, args: DoctorArgs) -> anyhow::Result<()> {
    let mut findings = Findings::default();
    match Config::load(matches) {
        Ok(config) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(examine(&config, &mut findings));
        }
        Err(error) => findings.error("settings", error.to_string()),
    }
    if args.json {
        let lines: Result<Vec<String>, _> = findings.0.iter().map(serde_json::to_string).collect();
        list(lines?.iter().map(|line| printable(line)))?;
    } else {
        list(findings.0.iter().map(Finding::line))?;
    }
    match findings.worst() {
        Level::Ok => Ok(()),
        Level::Warning => Err(Status(1).into()),
        Level::Error => Err(Status(2).into()),
    }
}

async fn examine(config: &Config, findings: &mut Findings) {
    settings::examine(config, findings);
    surroundings::examine_files(config, findings);
    surroundings::examine_disk(config, findings);
    store::examine(config, findings).await;
    surroundings::examine_port(config, findings).await;
}
