//! The file `.env` itself: opened without waiting for a writer.

use std::fs::File;
use std::io;

/// The file of settings in the working directory.
pub(crate) const DOTENV: &str = ".env";

/// Opens the file; `None` if it does not exist.
pub(super) fn open() -> io::Result<Option<File>> {
    let mut options = File::options();
    options.read(true);
    // Opening a FIFO would otherwise wait until a program writes to it.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, NONBLOCK);
    match options.open(DOTENV) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

/// What the file is, if it is something that is not read.
pub(super) fn unusable_kind(file: &File) -> Option<&'static str> {
    let kind = file.metadata().ok()?.file_type();
    if kind.is_dir() {
        return Some("a directory");
    }
    #[cfg(unix)]
    if std::os::unix::fs::FileTypeExt::is_fifo(&kind) {
        return Some("a FIFO");
    }
    None
}
