//! From PostgreSQL's SQLSTATE codes to [`StoreError`].

use thiserror::Error;

use jwksd_core::store::{NotWritable, StoreError, Unique};

// https://www.postgresql.org/docs/current/errcodes-appendix.html
const SERIALIZATION_FAILURE: &str = "40001";
const DEADLOCK_DETECTED: &str = "40P01";
const LOCK_NOT_AVAILABLE: &str = "55P03";
const READ_ONLY_SQL_TRANSACTION: &str = "25006";
const DISK_FULL: &str = "53100";
const UNIQUE_VIOLATION: &str = "23505";
const DUPLICATE_TABLE: &str = "42P07";
const DUPLICATE_SCHEMA: &str = "42P06";
const INSUFFICIENT_PRIVILEGE: &str = "42501";
const INVALID_CATALOG_NAME: &str = "3D000";
const INVALID_AUTHORIZATION: &str = "28000";
const INVALID_PASSWORD: &str = "28P01";

/// The act took longer than `DATABASE_TIMEOUT`.
#[derive(Clone, Copy, Debug, Error)]
#[error("it took longer than DATABASE_TIMEOUT")]
pub(crate) struct TimedOut;

/// The server cannot be written: it is a standby, or was demoted to one.
#[derive(Clone, Copy, Debug, Error)]
#[error("the database server can only be read now")]
pub(crate) struct ReadOnly;

/// All connections were in use for too long, or a new one was not open in time.
#[derive(Clone, Copy, Debug, Error)]
#[error("no connection to it was free or could be opened in time")]
pub(crate) struct NoConnection;

/// The error of a connection that was not opened.
pub(crate) fn not_connected(error: sqlx::Error) -> StoreError {
    match (state(&error).as_deref(), &error) {
        (Some(INVALID_CATALOG_NAME), _) => {
            StoreError::Foreign("the server has no such database: create it, or name another".to_owned())
        }
        (Some(INVALID_AUTHORIZATION | INVALID_PASSWORD), _) => StoreError::Foreign(format!(
            "the server refuses its role or password ({}): correct them",
            said(&error)
        )),
        (None, sqlx::Error::Tls(_)) => StoreError::Foreign(format!(
            "the connection cannot be encrypted as sslmode says ({}): let the server use TLS with a certificate for this name, or \
             name its authority by sslrootcert",
            said(&error)
        )),
        _ => failed(error),
    }
}

/// The error of a statement that did not run.
pub(crate) fn failed(error: sqlx::Error) -> StoreError {
    match state(&error).as_deref() {
        Some(SERIALIZATION_FAILURE | DEADLOCK_DETECTED | LOCK_NOT_AVAILABLE) => {
            StoreError::Busy(Box::new(error))
        }
        // Nothing helps but a right.
        Some(INSUFFICIENT_PRIVILEGE) => StoreError::Foreign(format!(
            "its role lacks a right ({}): make it the owner of the database",
            said(&error)
        )),
        _ => StoreError::unavailable(error),
    }
}

/// The sentence of the server, without the rest.
fn said(error: &sqlx::Error) -> String {
    error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned())
}

/// As [`failed`], for a statement that writes what must be unique.
pub(crate) fn conflict(error: sqlx::Error) -> StoreError {
    let constraint = error.as_database_error().and_then(sqlx::error::DatabaseError::constraint);
    match constraint {
        Some("accounts_email") => StoreError::Conflict(Unique::Email),
        Some("accounts_username" | "reserved_usernames_username") => StoreError::Conflict(Unique::Username),
        _ => failed(error),
    }
}

/// Whether the whole act may be done again, because nothing of it was stored: another transaction was in its way, or its connection
/// led to a server that was demoted.
pub(crate) fn is_repeatable(error: &StoreError) -> bool {
    matches!(
        state_of(error).as_deref(),
        Some(SERIALIZATION_FAILURE | DEADLOCK_DETECTED | READ_ONLY_SQL_TRANSACTION)
    )
}

/// Whether a lock was not free in time.
pub(crate) fn is_lock_timeout(error: &StoreError) -> bool {
    state_of(error).as_deref() == Some(LOCK_NOT_AVAILABLE)
}

/// Whether two processes have created the same object at the same time.
pub(crate) fn is_duplicate_object(error: &StoreError) -> bool {
    matches!(state_of(error).as_deref(), Some(UNIQUE_VIOLATION | DUPLICATE_TABLE | DUPLICATE_SCHEMA))
}

/// Whether the connection is broken, or leads to a server that no longer writes: its pool should open new ones.
pub(crate) fn is_of_connection(error: &StoreError) -> bool {
    let (StoreError::Unavailable(cause) | StoreError::Busy(cause)) = error else {
        return false;
    };
    match cause.downcast_ref::<sqlx::Error>() {
        Some(
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed,
        ) => true,
        // Class 08 is about connections, class 57 about a server that is shutting down.
        Some(error) => state(error).is_some_and(|state| {
            state == READ_ONLY_SQL_TRANSACTION || state.starts_with("08") || state.starts_with("57P")
        }),
        None => cause.is::<ReadOnly>(),
    }
}

/// Whether a statement may have been carried out although it failed: the connection ended before its answer.
pub(crate) fn is_unknown_commit(error: &StoreError) -> bool {
    let is_timeout = matches!(error, StoreError::Unavailable(cause) if cause.is::<TimedOut>());
    is_timeout || is_of_connection(error) && state_of(error).as_deref() != Some(READ_ONLY_SQL_TRANSACTION)
}

/// Why a write failed.
pub(crate) fn not_writable(error: StoreError) -> NotWritable {
    match state_of(&error).as_deref() {
        Some(DISK_FULL) => NotWritable::Full(error),
        Some(READ_ONLY_SQL_TRANSACTION) => NotWritable::ReadOnly(error),
        Some(LOCK_NOT_AVAILABLE) => NotWritable::Locked(Some(error)),
        _ => NotWritable::Failed(error),
    }
}

fn state_of(error: &StoreError) -> Option<String> {
    let (StoreError::Unavailable(cause) | StoreError::Busy(cause)) = error else {
        return None;
    };
    state(cause.downcast_ref()?)
}

fn state(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).map(Into::into)
}
