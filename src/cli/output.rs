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

/// Prints a secret that is shown only once, on standard output. Fails also where the system loses it without an error.
pub(super) fn secret(line: &str) -> io::Result<()> {
    if let Some(why) = why_lost() {
        return Err(io::Error::new(io::ErrorKind::NotConnected, why));
    }
    value(line)
}

/// Why standard output would lose what is written, without an error: it was closed when the program started, or is open only
/// for reading.
#[cfg(unix)]
fn why_lost() -> Option<&'static str> {
    use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, stat};
    let stdout = io::stdout();
    let Ok(mode) = fcntl_getfl(&stdout).map(|flags| flags & OFlags::RWMODE) else {
        return Some("standard output is closed");
    };
    // Rust opens /dev/null for reading and writing in place of a closed standard output, and so do programs that discard the
    // output of others (Python, Node). `>/dev/null` opens it only for writing.
    let is_null = || match (fstat(&stdout), stat("/dev/null")) {
        (Ok(stdout), Ok(null)) => {
            FileType::from_raw_mode(stdout.st_mode) == FileType::CharacterDevice
                && stdout.st_rdev == null.st_rdev
        }
        _ => false,
    };
    // Rust takes the error of a file that is open only for reading for a closed output, and ignores it.
    if mode == OFlags::RDONLY {
        return Some("standard output is closed");
    }
    (mode == OFlags::RDWR && is_null())
        .then_some("standard output is closed, or /dev/null opened for reading and writing")
}

/// Not known on other systems.
#[cfg(not(unix))]
const fn why_lost() -> Option<&'static str> {
    None
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
