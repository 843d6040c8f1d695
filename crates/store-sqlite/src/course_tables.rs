//! How a file declares the three tables of the course.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::error::failed;
use super::text::lossy;
use jwksd_core::store::StoreError;

/// The tables of the course, with their columns in the order that `SELECT *` gives.
const COURSE_COLUMNS: [(&str, &str); 3] = [
    ("keys", "kid,key,exp"),
    ("users", "id,username,password_hash,email,date_registered,last_login"),
    ("auth_logs", "id,request_ip,request_timestamp,user_id"),
];

/// The columns of these tables. A table that is missing has none: the first migration creates it.
#[derive(Debug)]
pub(super) struct CourseTables(Vec<Column>);

/// A column of one of these tables.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "SQLite reports them, and they do not depend on each other"
)]
pub(super) struct Column {
    /// The name of the table.
    pub(super) table_name: String,
    /// `table`, `view`, `virtual` or `shadow`.
    pub(super) table_kind: String,
    pub(super) is_strict: bool,
    /// Whether the primary key has an index of its own, which the number of the row has not.
    pub(super) has_key_index: bool,
    pub(super) name: String,
    /// The declared type. May be empty.
    pub(super) declared: String,
    pub(super) is_not_null: bool,
    pub(super) has_default: bool,
    /// Whether SQLite computes it, so that nothing can be stored in it.
    pub(super) is_generated: bool,
    /// Its place in the primary key, from 1. 0 if it is not in there.
    pub(super) key_place: i64,
}

impl CourseTables {
    /// Reads all of it in one query: the declarations are read at each start.
    pub(super) async fn read(db: &mut SqliteConnection) -> Result<Self, StoreError> {
        let rows = sqlx::query(
            // Of the hidden columns, SELECT * leaves out only those of virtual tables (1), not generated ones (2, 3).
            // CAST, because names and types may be no UTF-8.
            "SELECT t.name AS table_name, t.type AS table_kind, t.strict AS is_strict,
                    EXISTS (SELECT 1 FROM pragma_index_list(t.name) WHERE origin = 'pk') AS has_key_index,
                    CAST(c.name AS BLOB) AS name, CAST(c.type AS BLOB) AS declared,
                    c.\"notnull\" AS is_not_null, c.dflt_value IS NOT NULL AS has_default,
                    c.hidden IN (2, 3) AS is_generated, c.pk AS key_place
             FROM pragma_table_list AS t, pragma_table_xinfo(t.name) AS c
             WHERE t.schema = 'main' COLLATE NOCASE AND lower(t.name) IN ('keys', 'users', 'auth_logs')
               AND c.hidden <> 1
             ORDER BY t.name, c.cid",
        )
        .fetch_all(db)
        .await
        .map_err(failed)?;
        rows.iter().map(column).collect::<Result<_, sqlx::Error>>().map(Self).map_err(failed)
    }

    /// The columns of a table, in their order.
    pub(super) fn columns(&self, table: &str) -> impl Iterator<Item = &Column> {
        self.0.iter().filter(move |column| column.table_name.eq_ignore_ascii_case(table))
    }

    /// A column of a table.
    pub(super) fn column(&self, table: &str, name: &str) -> Option<&Column> {
        self.columns(table).find(|column| column.name.eq_ignore_ascii_case(name))
    }

    /// Refuses a database of another program whose tables have the course's names and other columns.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] names the table and its columns.
    pub(super) fn expect_names(&self) -> Result<(), StoreError> {
        for (table, expected) in COURSE_COLUMNS {
            let names: Vec<_> = self.columns(table).map(|column| &*column.name).collect();
            if !names.is_empty() && !expected.split(',').eq(names.iter().copied()) {
                let names = names.join(",");
                return Err(StoreError::Corrupt(format!(
                    "its table {table} has the columns {names} instead of {expected}"
                )));
            }
        }
        Ok(())
    }
}

fn column(row: &SqliteRow) -> Result<Column, sqlx::Error> {
    Ok(Column {
        table_name: row.try_get("table_name")?,
        table_kind: row.try_get("table_kind")?,
        is_strict: row.try_get("is_strict")?,
        has_key_index: row.try_get("has_key_index")?,
        name: lossy(row.try_get("name")?),
        declared: lossy(row.try_get("declared")?),
        is_not_null: row.try_get("is_not_null")?,
        has_default: row.try_get("has_default")?,
        is_generated: row.try_get("is_generated")?,
        key_place: row.try_get("key_place")?,
    })
}
