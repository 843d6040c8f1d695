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
