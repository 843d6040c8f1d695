//! The file `.env` itself: opened without waiting for a writer, and which other users can change it.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::file_access::{self, Risk, Strictness};

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

/// Refuses a file that another user than root and this one can change or replace, and returns the risks that remain.
///
/// Such a user could choose the master key, the store and the mode. If `will_be_created`, the risks of a file that does not
/// exist yet are those of its directory.
///
/// # Errors
/// The first risk for which the file is refused.
pub(crate) fn check_dotenv_access(will_be_created: bool) -> Result<Vec<Risk>, Risk> {
    let Ok(risks) = file_access::risks(Path::new(DOTENV), Strictness::NoReplacing) else {
        let directory = file_access::directory_risks(Path::new("."), Strictness::NoReplacing);
        // A first start needs no file that another user could have written.
        return Ok(directory.ok().filter(|_| will_be_created).unwrap_or_default());
    };
    // Root in a container gets its files from a user of the host. Some disks show every file as open to all.
    let is_refused =
        |risk: &&Risk| !(file_access::is_root() && risk.is_owner()) && file_access::keeps_modes(risk.path());
    match risks.iter().find(is_refused) {
        Some(risk) => Err(risk.clone()),
        None => Ok(risks),
    }
}

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
