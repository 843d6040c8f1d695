//! The token that `jwt verify` and `jwt inspect` read.

use clap::Args;

use crate::cli::files;
use jwksd_jose::text_encoding::{is_utf16, without_bom};

/// The token to read.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(in crate::cli) struct TokenArgs {
    /// The token; on a shared machine, other users can see the command line
    #[arg(long = "token", value_name = "TOKEN")]
    flag: Option<String>,
    /// The token, or - for standard input
    #[arg(value_name = "TOKEN")]
    word: Option<String>,
}

impl TokenArgs {
    /// The argument on the command line.
    pub(super) fn argument(&self) -> &str {
        self.flag.as_deref().or(self.word.as_deref()).unwrap_or("-")
    }

    pub(super) fn is_stdin(&self) -> bool {
        self.argument() == "-"
    }

    pub(super) fn read(&self) -> anyhow::Result<String> {
        if !self.is_stdin() {
            return Ok(self.argument().trim().to_owned());
        }
        let text = files::read("-")?;
        // The output of `>` in Windows PowerShell.
        if is_utf16(&text) {
            anyhow::bail!("the token is UTF-16 text: convert it with `iconv -f UTF-16 -t UTF-8`");
        }
        // A token is ASCII, so the parser rejects replacement characters.
        Ok(String::from_utf8_lossy(without_bom(&text)).trim().to_owned())
    }
}
