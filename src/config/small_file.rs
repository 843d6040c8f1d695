//! Small files, with settings or a secret: opened without waiting for a writer, and read up to a limit.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use thiserror::Error;
use zeroize::Zeroizing;

/// Maximum length in bytes.
const MAX_LENGTH: u64 = 64 * 1024;

/// How long a pipe may take to deliver everything: programs that print a secret may ask a server for it.
const PIPE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause between two reads of a pipe that has nothing yet.
const PIPE_PAUSE: Duration = Duration::from_millis(10);

/// What is done with a pipe, such as that of `<(command)` in a shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pipes {
    /// Read to its end: it holds a secret once.
    Read,
    /// Refused: every command would wait for a writer.
    Refuse,
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
    /// It has more bytes than settings or a secret need.
    #[error("it is longer than 64 KiB")]
    TooLong,
    /// A pipe whose writer is missing, or does not end.
    #[error("it is a pipe, and no program has written to it and closed it within {} s", PIPE_TIMEOUT.as_secs())]
    Unfinished,
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
    let is_pipe = is_pipe(&metadata);
    if is_pipe && pipes == Pipes::Refuse {
        return Err(UnreadableFile::Kind("a FIFO"));
    }
    // One byte more, to notice a file that is too long. Reserved at once: a growing buffer leaves copies of secrets behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(MAX_LENGTH).unwrap_or(0) + 64));
    let mut content = file.take(MAX_LENGTH + 1);
    if is_pipe {
        read_pipe(&mut content, &mut bytes)?;
    } else {
        content.read_to_end(&mut bytes)?;
    }
    if u64::try_from(bytes.len()).is_ok_and(|length| length > MAX_LENGTH) {
        return Err(UnreadableFile::TooLong);
    }
    Ok(SmallFile { bytes, metadata })
}

/// Reads until all writers have closed the pipe. One that no program has opened for writing yet looks
/// closed, but is empty.
fn read_pipe(pipe: &mut impl Read, bytes: &mut Vec<u8>) -> Result<(), UnreadableFile> {
    let mut waited = Duration::ZERO;
    while waited < PIPE_TIMEOUT {
        match pipe.read_to_end(bytes) {
            Ok(_) if !bytes.is_empty() => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
        std::thread::sleep(PIPE_PAUSE);
        waited += PIPE_PAUSE;
    }
    Err(UnreadableFile::Unfinished)
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
