//! `jwksd completions` and `jwksd man`: what the command line knows of itself, for shells and for man.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use clap_complete::Shell;

use super::{command, command_for_man, say};

#[derive(Args, Clone, Copy, Debug)]
pub(super) struct CompletionsArgs {
    /// For which shell
    shell: Shell,
}

#[derive(Args, Debug)]
pub(super) struct ManArgs {
    /// Where the pages are written: jwksd.1, jwksd-users.1, …
    directory: PathBuf,
}

pub(super) fn completions(args: CompletionsArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "jwksd", &mut script);
    match io::stdout().write_all(&script) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

pub(super) fn man(args: &ManArgs) -> anyhow::Result<()> {
    let directory = args.directory.display();
    std::fs::create_dir_all(&args.directory)
        .with_context(|| format!("cannot make the directory {directory}"))?;
    clap_mangen::generate_to(command_for_man(), &args.directory)
        .with_context(|| format!("cannot write to {directory}"))?;
    say(&format!("the pages are in {directory}: man {directory}/jwksd.1"));
    Ok(())
}
