//! From SQLite's result codes to [`StoreError`].

use jwksd_core::store::{NotWritable, StoreError};

// Primary result codes, and one extended code: https://sqlite.org/rescode.html.
const SQLITE_ERROR: i32 = 1;
const SQLITE_BUSY: i32 = 5;
const SQLITE_LOCKED: i32 = 6;
const SQLITE_READONLY: i32 = 8;
const SQLITE_CORRUPT: i32 = 11;
const SQLITE_FULL: i32 = 13;
const SQLITE_CONSTRAINT: i32 = 19;
const SQLITE_NOTADB: i32 = 26;
const SQLITE_READONLY_DBMOVED: i32 = SQLITE_READONLY | 4 << 8;

/// The way out of a database that cannot be taken over.
pub(super) const WAY_OUT: &str = "nothing was changed; change that table, or name another file and add the keys of this one there \
                       with `jwksd keys import`";

/// The extended result code. Its low byte is the primary one.
fn code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code)?.parse().ok()
}

fn primary_code(error: &sqlx::Error) -> Option<i32> {
    code(error).map(|code| code & 0xFF)
}

/// Another connection holds a lock.
pub(super) fn is_busy(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(SQLITE_BUSY | SQLITE_LOCKED))
}

/// SQLite could open the file only for reading.
pub(super) fn is_read_only(error: &sqlx::Error) -> bool {
    // The whole code: with an extended one such as DBMOVED, opening the file again would not help.
    code(error) == Some(SQLITE_READONLY)
}

/// The file is not a database, or is damaged.
pub(super) fn is_unreadable(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(SQLITE_CORRUPT | SQLITE_NOTADB))
}

/// The statement does not fit the objects or the rows of the file.
pub(super) fn is_refused(error: &sqlx::Error) -> bool {
    matches!(primary_code(error), Some(SQLITE_ERROR | SQLITE_CONSTRAINT))
}

/// The error of a statement that did not run.
pub(crate) fn failed(error: sqlx::Error) -> StoreError {
    match primary_code(&error) {
        Some(SQLITE_BUSY | SQLITE_LOCKED) => StoreError::Busy(Box::new(error)),
        Some(SQLITE_CORRUPT) => StoreError::Corrupt(format!("it is damaged: {}", sentence(&error))),
        Some(SQLITE_CONSTRAINT) => StoreError::Forbidden(shortened(sentence(&error))),
        Some(SQLITE_NOTADB) => StoreError::Corrupt("it is not a SQLite database".to_owned()),
        // SQLite says so when the file was renamed or removed while it was open.
        _ if code(&error) == Some(SQLITE_READONLY_DBMOVED) => StoreError::Replaced,
        _ => unavailable(error),
    }
}

/// Why a write failed.
pub(super) fn not_writable(error: StoreError) -> NotWritable {
    let code = match &error {
        StoreError::Unavailable(cause) => cause.downcast_ref().and_then(primary_code),
        _ => None,
    };
    match (error, code) {
        (error @ StoreError::Busy(_), _) => NotWritable::Locked(Some(error)),
        (error, Some(SQLITE_FULL)) => NotWritable::Full(error),
        (error, Some(SQLITE_READONLY)) => NotWritable::ReadOnly(error),
        (error, _) => NotWritable::Failed(error),
    }
}

/// Maximum length of a reason in a message, in characters. A constraint of another program may be long.
const MAX_REASON: usize = 200;

/// SQLite's reason, on one line.
pub(super) fn in_words(error: &StoreError) -> String {
    let cause = match error {
        StoreError::Unavailable(cause) | StoreError::Busy(cause) => cause.downcast_ref().map(sentence),
        _ => None,
    };
    match (error, cause) {
        (StoreError::Forbidden(reason), _) => reason.clone(),
        (_, Some(sentence)) => shortened(sentence),
        (error, None) => shortened(&error.to_string()),
    }
}

/// On one line, and not too long.
fn shortened(reason: &str) -> String {
    let words: Vec<_> = reason.split_whitespace().collect();
    words.join(" ").chars().take(MAX_REASON).collect()
}

/// Only SQLite's own sentence. What sqlx adds around it says the same again.
fn sentence(error: &sqlx::Error) -> &str {
    error.as_database_error().map_or("it cannot be read", sqlx::error::DatabaseError::message)
}

pub(super) fn unavailable(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable(Box::new(error))
}
