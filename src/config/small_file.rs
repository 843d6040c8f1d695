//! Small files, with settings or a secret: opened without waiting for a writer, and read up to a limit.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::Path;

use thiserror::Error;
use zeroize::Zeroizing;

/// Maximum length in bytes.
const MAX_LENGTH: u64 = 64 * 1024;

/// A file that was read.
pub(super) struct SmallFile {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Of the opened file. Its name may belong to another file by now.
    pub(super) metadata: Metadata,
}

/// Why a file was not read.
#[derive(Debug, Error)]
pub(super) enum UnreadableFile {
    /// The system refuses it.
    #[error("the file cannot be read ({0})")]
    Io(#[from] io::Error),
    /// It has no content of its own.
    #[error("it is {0}")]
    Kind(&'static str),
    /// It has more bytes than settings or a secret need.
    #[error("it is longer than 64 KiB")]
    TooLong,
}

impl UnreadableFile {
    /// Whether there is no file of this name.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Reads a file. Its content may be secret.
pub(super) fn read(path: &Path) -> Result<SmallFile, UnreadableFile> {
    let mut options = File::options();
    options.read(true);
    // Opening a FIFO would otherwise wait until a program writes to it.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, NONBLOCK);
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if let Some(kind) = unusable_kind(&metadata) {
        return Err(UnreadableFile::Kind(kind));
    }
    // One byte more, to notice a file that is too long. Reserved at once: a growing buffer leaves copies of secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(MAX_LENGTH).unwrap_or(0) + 64));
    file.take(MAX_LENGTH + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_LENGTH) {
        return Err(UnreadableFile::TooLong);
    }
    Ok(SmallFile { bytes, metadata })
}

#[cfg(unix)]
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// What the file is, if it is something that is not read.
fn unusable_kind(metadata: &Metadata) -> Option<&'static str> {
    if metadata.is_dir() {
        return Some("a directory");
    }
    #[cfg(unix)]
    if std::os::unix::fs::FileTypeExt::is_fifo(&metadata.file_type()) {
        return Some("a FIFO");
    }
    None
}
