//! What the checks found, in order. Each finding is one line that ends with the fix.

use serde::Serialize;

use crate::cli::output;
use crate::cli::text::printable;

#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    about: &'static str,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    Warning,
    Error,
}

impl Findings {
    pub(super) fn ok(&mut self, about: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level: Level::Ok, about, text: text.into() });
    }

    pub(super) fn warning(&mut self, about: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level: Level::Warning, about, text: text.into() });
    }

    pub(super) fn error(&mut self, about: &'static str, text: impl Into<String>) {
        self.0.push(Finding { level: Level::Error, about, text: text.into() });
    }

    /// Adds a finding that all is well with this, unless there is another finding about it.
    pub(super) fn ok_otherwise(&mut self, about: &'static str, text: impl Into<String>) {
        if !self.0.iter().any(|finding| finding.about == about) {
            self.ok(about, text);
        }
    }

    pub(super) fn worst(&self) -> Level {
        self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }

    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            let lines: Result<Vec<String>, _> = self.0.iter().map(serde_json::to_string).collect();
            output::lines(lines?.iter().map(|line| printable(line)))?;
        } else {
            output::lines(self.0.iter().map(Finding::line))?;
        }
        Ok(())
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
