//! Whether jwksd can work with the tables that another program has made. Everything is checked before the first write.

use sqlx::SqliteConnection;

use super::error::failed;
use super::schema::{expect_course_columns, has_table};
use crate::domain::key::LAST_KID;
use crate::store::StoreError;

/// What a column of the course's tables must be able to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// The number that SQLite gives each row (`INTEGER PRIMARY KEY`).
    RowId,
    /// An integer that comes back as one.
    Integer,
    /// A number, also if it comes back with a fraction.
    Number,
    /// A text that comes back as one. Only a STRICT table can refuse it.
    Text,
    /// Bytes. Only a STRICT table can refuse them.
    Bytes,
}

const NEEDS: [(&str, &str, Need); 13] = [
    ("keys", "kid", Need::RowId),
    ("keys", "key", Need::Bytes),
    ("keys", "exp", Need::Number),
    ("users", "id", Need::RowId),
    ("users", "username", Need::Text),
    ("users", "password_hash", Need::Text),
    ("users", "email", Need::Text),
    ("users", "date_registered", Need::Text),
    ("users", "last_login", Need::Text),
    ("auth_logs", "id", Need::RowId),
    ("auth_logs", "request_ip", Need::Text),
    ("auth_logs", "request_timestamp", Need::Text),
    ("auth_logs", "user_id", Need::Integer),
];

/// Refuses tables of another program whose columns cannot hold what jwksd stores in them.
///
/// # Errors
/// [`StoreError::Foreign`] names the column, its type, and the way out.
pub(super) async fn expect_usable_columns(db: &mut SqliteConnection) -> Result<(), StoreError> {
    for (table, column, need) in NEEDS {
        let kind: Option<(String, bool)> = sqlx::query_as(
            "SELECT type, strict FROM pragma_table_list(?) WHERE schema = 'main' COLLATE NOCASE",
        )
        .bind(table)
        .fetch_optional(&mut *db)
        .await
        .map_err(failed)?;
        match kind {
            // The first migration creates it.
            None => {}
            Some((kind, is_strict)) if kind == "table" => {
                expect_usable(db, (table, column, need), is_strict).await?;
            }
            Some((kind, _)) => {
                return Err(StoreError::Foreign(format!(
                    "its {table} is a {kind} and not a table: {WAY_OUT}"
                )));
            }
        }
    }
    expect_optional_last_login(db).await
}

async fn expect_usable(
    db: &mut SqliteConnection,
    (table, column, need): (&str, &str, Need),
    is_strict: bool,
) -> Result<(), StoreError> {
    let declared: Option<String> =
        sqlx::query_scalar("SELECT type FROM pragma_table_info(?) WHERE name = ? COLLATE NOCASE")
            .bind(table)
            .bind(column)
            .fetch_optional(&mut *db)
            .await
            .map_err(failed)?;
    let declared = declared.unwrap_or_default();
    let is_usable = match need {
        Need::RowId => is_row_id(db, table, column).await?,
        _ => need.is_met_by(&declared, is_strict),
    };
    if is_usable { Ok(()) } else { Err(StoreError::Foreign(refusal(table, column, &declared, need))) }
}

/// The only column that a new account leaves empty.
async fn expect_optional_last_login(db: &mut SqliteConnection) -> Result<(), StoreError> {
    let is_required: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pragma_table_info('users')
                        WHERE name = 'last_login' AND \"notnull\" AND dflt_value IS NULL)",
    )
    .fetch_one(db)
    .await
    .map_err(failed)?;
    if is_required {
        return Err(StoreError::Foreign(format!(
            "its table users declares last_login as NOT NULL, so no account could be registered: {WAY_OUT}"
        )));
    }
    Ok(())
}

/// Refuses tables that have the course's names and other columns.
///
/// # Errors
/// [`StoreError::Foreign`] for a database of another program, [`StoreError::Corrupt`] for a store of ours.
pub(super) async fn expect_known_columns(db: &mut SqliteConnection) -> Result<(), StoreError> {
    match expect_course_columns(db).await {
        // A backup helps only if jwksd has made the file.
        Err(StoreError::Corrupt(what)) if !has_table(db, "_sqlx_migrations").await? => {
            Err(StoreError::Foreign(format!("{what}: {WAY_OUT}")))
        }
        other => other,
    }
}

/// The way out of a database that cannot be taken over.
const WAY_OUT: &str = "nothing was changed; change that table, or name another file and add the keys of this one there \
                       with `jwksd keys import`";

impl Need {
    /// By the affinity that a declared type gives (<https://sqlite.org/datatype3.html>, §3.1).
    fn is_met_by(self, declared: &str, is_strict: bool) -> bool {
        let declared = declared.to_ascii_uppercase();
        let has = |part: &str| declared.contains(part);
        // In this order: CHARINT has the affinity INTEGER.
        let is_integer = has("INT");
        let is_text = !is_integer && (has("CHAR") || has("CLOB") || has("TEXT"));
        let is_real = !is_integer && !is_text && (has("REAL") || has("FLOA") || has("DOUB"));
        match self {
            Self::RowId => is_integer,
            // Without a type, a column keeps what it is given.
            Self::Integer => !(is_text || is_real || is_strict && has("BLOB")),
            Self::Number => !(is_text || is_strict && has("BLOB")),
            Self::Text => !is_strict || is_text || declared == "ANY",
            Self::Bytes => !is_strict || has("BLOB") || declared == "ANY",
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::RowId => "INTEGER PRIMARY KEY",
            Self::Integer | Self::Number => "INTEGER",
            Self::Text => "TEXT",
            Self::Bytes => "BLOB",
        }
    }
}

fn refusal(table: &str, column: &str, declared: &str, need: Need) -> String {
    let declared = match (declared, need) {
        ("", _) => "without a type".to_owned(),
        // A type of the right name that is not the row number: `INTEGER` without PRIMARY KEY, or WITHOUT ROWID.
        (declared, Need::RowId) if declared.eq_ignore_ascii_case("INTEGER") => {
            format!("as {declared}, which is not the number of the row,")
        }
        (declared, _) => format!("as {declared}"),
    };
    format!("its table {table} declares {column} {declared} instead of {}: {WAY_OUT}", need.expected())
}

/// Whether the column is the row number of its table.
async fn is_row_id(db: &mut SqliteConnection, table: &str, column: &str) -> Result<bool, StoreError> {
    // A primary key of another kind has an index of its own: of another type, DESC, or WITHOUT ROWID.
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pragma_table_info(?1)
                        WHERE name = ?2 COLLATE NOCASE AND pk = 1 AND type = 'INTEGER' COLLATE NOCASE)
            AND NOT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE pk > 1)
            AND NOT EXISTS (SELECT 1 FROM pragma_index_list(?1) WHERE origin = 'pk')",
    )
    .bind(table)
    .bind(column)
    .fetch_one(db)
    .await
    .map_err(failed)
}

/// Refuses numbers near the end of their range: they count up, so there would soon be none left.
///
/// # Errors
/// [`StoreError::Foreign`] names the table, the number, and the way out.
pub(super) async fn expect_numbers_left(db: &mut SqliteConnection) -> Result<(), StoreError> {
    let has_sequence = has_table(db, "sqlite_sequence").await?;
    for (table, column, greatest) in [
        ("keys", "kid", "SELECT max(kid) FROM keys"),
        ("users", "id", "SELECT max(id) FROM users"),
        ("auth_logs", "id", "SELECT max(id) FROM auth_logs"),
    ] {
        if !has_table(db, table).await? {
            continue;
        }
        let row: Option<i64> = sqlx::query_scalar(greatest).fetch_one(&mut *db).await.map_err(failed)?;
        let counted: Option<i64> = if has_sequence {
            sqlx::query_scalar("SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = ?")
                .bind(table)
                .fetch_optional(&mut *db)
                .await
                .map_err(failed)?
                .flatten()
        } else {
            None
        };
        if let Some(number) = row.max(counted).filter(|number| *number > LAST_KID.0) {
            let whose = if row == Some(number) { "has" } else { "has had" };
            return Err(StoreError::Foreign(format!(
                "its table {table} {whose} the {column} {number}, and numbers count up from there to \
                 {}: none would be left for new rows; {WAY_OUT}",
                i64::MAX
            )));
        }
    }
    Ok(())
}
