//! Text that another program may have written.

/// Replaces what is not UTF-8: a report must not fail because of one odd name.
pub(super) fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
