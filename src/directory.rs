//! Directories of files that must survive a power cut.

use std::io;
use std::path::Path;

/// The directory that a file is in.
#[must_use]
pub(crate) fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

/// Makes the new name of a file durable. Where directories cannot be synced, the file system does it by itself.
pub(crate) fn sync_directory_of(file: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        std::fs::File::open(directory_of(file))?.sync_all()?;
    }
    #[cfg(not(unix))]
    let _ = file;
    Ok(())
}
