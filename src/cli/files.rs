//! What `jwk` and `jwt` read and write: a file or standard input, bounded; new files that are the owner's alone.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use zeroize::Zeroizing;

/// The longest input.
const LIMIT: usize = 1024 * 1024;

/// All of a file, or of standard input for `-`. It may be secret.
pub(super) fn read(name: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let source = shown(name);
    let text = if name == "-" {
        read_bounded(&mut io::stdin().lock())
    } else {
        File::open(name).and_then(|mut file| read_bounded(&mut file))
    };
    let text = text.with_context(|| format!("cannot read {source}"))?;
    if text.len() > LIMIT {
        bail!("{source} is longer than {LIMIT} bytes");
    }
    Ok(text)
}

/// What an input is called in a message.
pub(super) fn shown(name: &str) -> &str {
    if name == "-" { "standard input" } else { name }
}

/// Room for all of it is made at once, so that no copy stays behind where it grew.
fn read_bounded(source: &mut impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(Vec::with_capacity(LIMIT + 64));
    let most = u64::try_from(LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    source.take(most).read_to_end(&mut text)?;
    Ok(text)
}

/// Writes a file that was not there. It appears whole, on disk and readable by its owner alone, or not at all.
pub(super) fn write_new(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    write_in(directory, path, text).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("{} is there already, and nothing is overwritten", path.display())
        }
        _ => anyhow::Error::new(error).context(format!("cannot write {}", path.display())),
    })
}

fn write_in(directory: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    // On Unix, temporary files have mode 0600 from the start.
    let mut file = tempfile::Builder::new().prefix(".jwksd.").tempfile_in(directory)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    Ok(())
}

/// Whether others than its owner can do something with a file.
#[cfg(unix)]
pub(super) fn is_open_to_others(name: &str) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    name != "-" && std::fs::metadata(name).is_ok_and(|found| found.permissions().mode() & 0o077 != 0)
}

/// Whether others than its owner can do something with a file: a question that has its answer in other terms here.
#[cfg(not(unix))]
pub(super) fn is_open_to_others(_: &str) -> bool {
    false
}
