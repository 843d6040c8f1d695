//! Small files, with settings or a secret: read up to a limit, and without waiting endlessly for what a pipe brings.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;

use thiserror::Error;
use zeroize::Zeroizing;

/// Maximum length in bytes.
const MAX_LENGTH: u64 = 64 * 1024;

/// Time between two looks into an empty pipe.
const PAUSE: Duration = Duration::from_millis(10);

/// How often to look into a pipe that no program has written to: for five seconds.
const LOOKS_WITHOUT_WRITER: u32 = 500;

/// How often to look into a pipe whose writer is still there: for a minute, because it may ask a vault or a user.
const LOOKS_WITH_WRITER: u32 = 6000;

/// Whether a pipe may stand in place of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pipes {
    /// For files that are read several times, by several processes.
    Refused,
    /// As a shell passes the output of a command: `<(command)`, `/dev/stdin`.
    Read,
}

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
    /// It is a pipe, and its content did not arrive.
    #[error("nothing came through the pipe in time")]
    Silent,
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
pub(super) fn read(path: &Path, pipes: Pipes) -> Result<SmallFile, UnreadableFile> {
    let mut options = File::options();
    options.read(true);
    // Opening a FIFO would otherwise wait until a program writes to it.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, NONBLOCK);
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(UnreadableFile::Kind("a directory"));
    }
    // One byte more, to notice a file that is too long. Reserved at once: a growing buffer leaves copies of secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(MAX_LENGTH).unwrap_or(0) + 64));
    let mut content = file.take(MAX_LENGTH + 1);
    match (is_pipe(&metadata), pipes) {
        (true, Pipes::Refused) => return Err(UnreadableFile::Kind("a FIFO")),
        (true, Pipes::Read) => read_pipe(&mut content, &mut bytes)?,
        (false, _) => content.read_to_end(&mut bytes).map(drop)?,
    }
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_LENGTH) {
        return Err(UnreadableFile::TooLong);
    }
    Ok(SmallFile { bytes, metadata })
}

/// Reads a pipe to its end. A pipe without content may have ended, or not have begun: both look the same.
fn read_pipe(pipe: &mut impl io::Read, bytes: &mut Zeroizing<Vec<u8>>) -> Result<(), UnreadableFile> {
    let (mut without_writer, mut with_writer) = (0, 0);
    loop {
        // It keeps what it has read before an error.
        match pipe.read_to_end(bytes) {
            Ok(_) if !bytes.is_empty() => return Ok(()),
            Ok(_) => without_writer += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => with_writer += 1,
            Err(error) => return Err(error.into()),
        }
        if without_writer >= LOOKS_WITHOUT_WRITER || with_writer >= LOOKS_WITH_WRITER {
            return Err(UnreadableFile::Silent);
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(unix)]
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

#[cfg(unix)]
fn is_pipe(metadata: &Metadata) -> bool {
    std::os::unix::fs::FileTypeExt::is_fifo(&metadata.file_type())
}

#[cfg(not(unix))]
const fn is_pipe(_: &Metadata) -> bool {
    false
}

/// Bytes of UTF-16, with a byte order mark or without one: ASCII has a zero in every second byte.
pub(super) fn is_utf16(bytes: &[u8]) -> bool {
    matches!(bytes, [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, ..] | [_, 0, ..])
}
