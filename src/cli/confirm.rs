//! Asks before a command does what cannot be undone.

use std::io::{self, IsTerminal as _};

use anyhow::bail;

use super::exit::UsageError;
use super::output;

/// Asks on the terminal, and returns an error unless the answer is yes. `--yes` answers in advance.
pub(super) fn confirm(warning: &str, yes: bool) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    // Input from a pipe may be meant for something else, so it does not count as an answer.
    if !io::stdin().is_terminal() {
        let text = format!("{warning}, and there is no terminal to confirm it on: add --yes");
        return Err(UsageError(text).into());
    }
    output::message(&format!("{warning}. Type yes to continue:"));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if answer.trim() == "yes" { Ok(()) } else { bail!("nothing was done") }
}
