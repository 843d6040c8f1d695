//! Directories of files that must survive a power cut.

use std::fs;
use std::io;
use std::path::Path;

use tempfile::{NamedTempFile, PersistError};

/// The directory that a file is in.
#[must_use]
pub fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// Makes the new name of a file durable. Where directories cannot be synced, the file system does it by itself.
pub fn sync_directory_of(file: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let synced = fs::File::open(directory_of(file))?.sync_all();
        // FUSE and network file systems refuse to sync a directory.
        match synced {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {}
            other => other?,
        }
    }
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}

/// Gives a finished temporary file a name that no file has.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if there is such a file.
pub fn persist_new(file: NamedTempFile, name: &Path) -> io::Result<()> {
    let Err(PersistError { file, error }) = file.persist_noclobber(name) else {
        return Ok(());
    };
    if error.kind() == io::ErrorKind::AlreadyExists {
        return Err(error);
    }
    // That takes a rename that overwrites nothing, or hard links, and some file systems have neither. There, an empty
    // file reserves the name.
    fs::File::create_new(name)?;
    file.persist(name).map(drop).map_err(|error| {
        let _ = fs::remove_file(name);
        error.error
    })
}
