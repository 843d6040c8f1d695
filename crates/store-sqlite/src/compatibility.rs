//! Whether jwksd can work with the tables that another program has made. Everything is checked before the first write.

use sqlx::SqliteConnection;

use super::course_tables::{Column, CourseTables};
use super::error::{WAY_OUT, failed};
use super::schema::has_table;
use jwksd_core::key::LAST_KID;
use jwksd_core::store::StoreError;

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

/// Refuses tables that have the course's names and other columns, or columns that cannot hold what jwksd stores in them.
///
/// # Errors
/// [`StoreError::Foreign`] names the column, its type, and the way out; [`StoreError::Corrupt`] for other columns in a
/// store of ours.
pub(super) async fn expect_usable_tables(db: &mut SqliteConnection) -> Result<(), StoreError> {
    expect_utf8(db).await?;
    let tables = CourseTables::read(db).await?;
    match tables.expect_names() {
        // A backup helps only if jwksd has made the file.
        Err(StoreError::Corrupt(what)) if !has_table(db, "_sqlx_migrations").await? => {
            return Err(StoreError::Foreign(format!("{what}: {WAY_OUT}")));
        }
        names => names?,
    }
    for (table, column, need) in NEEDS {
        if let Some(column) = tables.column(table, column) {
            expect_usable(&tables, column, need)?;
        }
    }
    expect_optional_last_login(&tables)
}

/// Texts are read as bytes, so that a file that was written by hand cannot stop a start: they must be UTF-8.
async fn expect_utf8(db: &mut SqliteConnection) -> Result<(), StoreError> {
    let encoding: String = sqlx::query_scalar("PRAGMA encoding").fetch_one(db).await.map_err(failed)?;
    if encoding == "UTF-8" {
        return Ok(());
    }
    Err(StoreError::Foreign(format!(
        "its texts are in {encoding} instead of UTF-8: nothing was changed; copy them to another file with \
         `(umask 077; sqlite3 old.db .dump | sqlite3 new.db)`, and name that one"
    )))
}

fn expect_usable(tables: &CourseTables, column: &Column, need: Need) -> Result<(), StoreError> {
    let (table, kind) = (&column.table_name, &column.table_kind);
    if kind != "table" {
        return Err(StoreError::Foreign(format!("its {table} is a {kind} and not a table: {WAY_OUT}")));
    }
    if column.is_generated {
        let name = &column.name;
        return Err(StoreError::Foreign(format!(
            "its table {table} computes {name} (GENERATED ALWAYS), so nothing can be stored in it: {WAY_OUT}"
        )));
    }
    let is_usable = match need {
        Need::RowId => is_row_id(tables, column),
        _ => need.is_met_by(&column.declared, column.is_strict),
    };
    if is_usable { Ok(()) } else { Err(StoreError::Foreign(refusal(column, need))) }
}

/// Whether the column is the row number of its table.
fn is_row_id(tables: &CourseTables, column: &Column) -> bool {
    let is_only_key =
        tables.columns(&column.table_name).all(|it| (it.name == column.name) == (it.key_place > 0));
    // A primary key of another kind has an index of its own: of another type, DESC, or WITHOUT ROWID.
    is_only_key && column.declared.eq_ignore_ascii_case("INTEGER") && !column.has_key_index
}

/// The only column that a new account leaves empty.
fn expect_optional_last_login(tables: &CourseTables) -> Result<(), StoreError> {
    match tables.column("users", "last_login") {
        Some(column) if column.is_not_null && !column.has_default => Err(StoreError::Foreign(format!(
            "its table users declares last_login as NOT NULL, so no account could be registered: {WAY_OUT}"
        ))),
        _ => Ok(()),
    }
}

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

fn refusal(column: &Column, need: Need) -> String {
    let Column { table_name, name, declared, .. } = column;
    let declared = match (&**declared, need) {
        ("", _) => "without a type".to_owned(),
        // A type of the right name that is not the row number: `INTEGER` without PRIMARY KEY, or WITHOUT ROWID.
        (declared, Need::RowId) if declared.eq_ignore_ascii_case("INTEGER") => {
            format!("as {declared}, which is not the number of the row,")
        }
        (declared, _) => format!("as {declared}"),
    };
    format!("its table {table_name} declares {name} {declared} instead of {}: {WAY_OUT}", need.expected())
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
            sqlx::query_scalar(
                "SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = ? COLLATE NOCASE",
            )
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
