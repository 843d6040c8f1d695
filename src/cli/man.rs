//! `jwksd completions` and `jwksd man`: shell completions and manual pages, generated from the command line.

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use clap_complete::Shell;

use super::output;

#[derive(Args, Clone, Copy, Debug)]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

#[derive(Args, Debug)]
pub(super) struct ManArgs {
    /// Where to write the pages: jwksd.1, jwksd-users.1, …
    directory: PathBuf,
}

pub(super) fn completions(args: CompletionsArgs, mut command: clap::Command) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "jwksd", &mut script);
    // Flushed here, because an error at the end of the process would be lost.
    match io::stdout().write_all(&script).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

pub(super) fn man(args: &ManArgs, command: clap::Command) -> anyhow::Result<()> {
    let directory = args.directory.display();
    std::fs::create_dir_all(&args.directory)
        .with_context(|| format!("cannot create the directory {directory}"))?;
    clap_mangen::generate_to(command, &args.directory)
        .with_context(|| format!("cannot write to {directory}"))?;
    output::message(&format!("wrote the pages to {directory}: read them with `man {directory}/jwksd.1`"));
    Ok(())
}
