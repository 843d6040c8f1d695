//! What commands print: messages on standard error, data on standard output.

use std::io::{self, Write as _};

use super::text::printable;

/// Prints a message for people, on standard error. Whatever text of others is in it, it stays one line.
pub(super) fn message(line: &str) {
    // Nothing can be done about a standard error that is closed.
    let _ = writeln!(io::stderr(), "{}", printable(line));
}

/// Prints one line of data, on standard output. Fails if it cannot be written: it may be the only copy of a secret.
pub(super) fn value(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{line}")?;
    // Flushed here, because an error at the end of the process would be lost.
    stdout.flush()
}

/// Prints the only copy of a secret on standard output. Fails also where the system loses it without an error.
pub(super) fn secret(line: &str) -> io::Result<()> {
    if is_closed() {
        return Err(io::Error::new(io::ErrorKind::NotConnected, "standard output is closed or discarded"));
    }
    value(line)
}

/// Whether standard output was closed when the program started, or cannot be written.
#[cfg(unix)]
fn is_closed() -> bool {
    use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, stat};
    let stdout = io::stdout();
    let Ok(mode) = fcntl_getfl(&stdout).map(|flags| flags & OFlags::RWMODE) else {
        return true;
    };
    // Rust opens /dev/null for reading and writing in place of a closed standard output, and so do other programs for a
    // discarded one: the two look the same here. `>/dev/null` of a shell opens it only for writing.
    let is_null = || match (fstat(&stdout), stat("/dev/null")) {
        (Ok(stdout), Ok(null)) => {
            FileType::from_raw_mode(stdout.st_mode) == FileType::CharacterDevice
                && stdout.st_rdev == null.st_rdev
        }
        _ => false,
    };
    // Rust takes the error of a file that is open only for reading for a closed output, and ignores it.
    mode == OFlags::RDONLY || (mode == OFlags::RDWR && is_null())
}

/// Not known on other systems.
#[cfg(not(unix))]
const fn is_closed() -> bool {
    false
}

/// Prints lines of data, on standard output. Returns false if the reader has closed the pipe, which is not an error.
pub(super) fn lines(lines: impl IntoIterator<Item = String>) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    let written = lines.into_iter().try_for_each(|line| writeln!(stdout, "{line}"));
    match written.and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// The cell of a table: the value, or a dash.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
