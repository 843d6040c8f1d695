//! UNIQUE indexes on the tables of the course that demand more than jwksd keeps unique.

use sqlx::SqliteConnection;

use super::error::failed;
use super::text::lossy;
use crate::store::StoreError;

/// A UNIQUE index or constraint that can make a write of ours fail.
#[derive(Debug)]
pub(super) struct ExcessiveIndex {
    /// The table.
    pub(super) table: String,
    /// The name of the index.
    pub(super) name: String,
    /// Its columns; `an expression` for what is not a column.
    pub(super) columns: String,
    /// Whether it is a part of the table's declaration, and not an index of its own.
    pub(super) is_constraint: bool,
}

/// The table, the name, the columns, and whether it is a constraint.
type Row = (Vec<u8>, Vec<u8>, Vec<u8>, bool);

/// All of them.
///
/// With the number of the row, a sealed key, a username or an e-mail address among its columns, an index is always
/// satisfied: these are unique in any case. Other programs declare the last two as indexes.
pub(super) async fn excessive(db: &mut SqliteConnection) -> Result<Vec<ExcessiveIndex>, StoreError> {
    let rows: Vec<Row> = sqlx::query_as(
        "SELECT CAST(course.name AS BLOB), CAST(found.name AS BLOB),
                CAST(group_concat(coalesce(part.name, 'an expression'), ', ') AS BLOB), found.origin <> 'c'
         FROM pragma_table_list AS course, pragma_index_list(course.name) AS found, pragma_index_xinfo(found.name) AS part
         WHERE course.schema = 'main' AND lower(course.name) IN ('keys', 'users', 'auth_logs')
           AND found.\"unique\" AND part.key
         GROUP BY course.name, found.name
         HAVING NOT coalesce(max(
             part.coll IN ('BINARY', 'NOCASE') AND (
                 part.cid = -1
                 OR lower(course.name) = 'keys' AND lower(part.name) IN ('kid', 'key')
                 OR lower(course.name) = 'users' AND lower(part.name) IN ('id', 'username', 'email')
                 OR lower(part.name) = 'id')), 0)
         ORDER BY found.name",
    )
    .fetch_all(db)
    .await
    .map_err(failed)?;
    let index = |(table, name, columns, is_constraint): Row| ExcessiveIndex {
        table: lossy(table),
        name: lossy(name),
        columns: lossy(columns),
        is_constraint,
    };
    Ok(rows.into_iter().map(index).collect())
}
