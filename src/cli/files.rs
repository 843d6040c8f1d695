//! Files of `jwk` and `jwt`: bounded input from a file or standard input, and new files that only their owner can read.

use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use zeroize::Zeroizing;

use jwksd_store_sqlite::directory::{directory_of, persist_new, sync_directory_of};

/// Maximum length of an input in bytes.
const LIMIT: usize = 1024 * 1024;

/// Reads a file, or standard input for `-`. The content may be secret.
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

/// The name of an input in messages.
pub(super) fn shown(name: &str) -> &str {
    if name == "-" { "standard input" } else { name }
}

/// Reserves the maximum at once: a growing buffer would leave copies of a secret in memory.
fn read_bounded(source: &mut impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // With room to spare, so that `read_to_end` sees the end before the buffer is full and would grow.
    let mut text = Zeroizing::new(Vec::with_capacity(LIMIT + 64));
    // One byte above the limit, so that the caller notices an input that is too long.
    let max = u64::try_from(LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    source.take(max).read_to_end(&mut text)?;
    Ok(text)
}

/// Creates a file with mode 0600. It appears completely and synced to disk, or not at all.
pub(super) fn write_new(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    write_in(directory_of(path), path, text).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("{} already exists, and files are never replaced", path.display())
        }
        _ => anyhow::Error::new(error).context(format!("cannot write {}", path.display())),
    })
}

fn write_in(directory: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    // On Unix, temporary files have mode 0600 from the start.
    let mut file = tempfile::Builder::new().prefix(".jwksd.").tempfile_in(directory)?;
    file.write_all(text)?;
    // Synced before it appears, because the private key may exist nowhere else.
    file.as_file().sync_all()?;
    persist_new(file, path)?;
    sync_directory_of(path)
}

/// Whether users other than its owner have access to a file.
#[cfg(unix)]
pub(super) fn is_open_to_others(name: &str) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    name != "-" && std::fs::metadata(name).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0)
}

/// Always false: other systems do not express access as mode bits.
#[cfg(not(unix))]
pub(super) fn is_open_to_others(_: &str) -> bool {
    false
}
