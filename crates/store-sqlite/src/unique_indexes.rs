//! UNIQUE indexes on the tables of the course that demand more than jwksd keeps unique.

use sqlx::SqliteConnection;

use super::error::failed;
use super::text::lossy;
use jwksd_core::store::StoreError;

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

/// The table, the name, the columns, whether it is a constraint, and its SQL.
type IndexRow = (Vec<u8>, Vec<u8>, Vec<u8>, bool, Vec<u8>);

/// All of them.
///
/// With the number of the row, a sealed key, a username or an e-mail address among its columns, an index is always
/// satisfied: these are unique in any case. Other programs declare the last two as indexes, also with `lower` or `upper`,
/// which tell apart less than jwksd does only for letters outside of ASCII.
pub(super) async fn excessive(db: &mut SqliteConnection) -> Result<Vec<ExcessiveIndex>, StoreError> {
    let rows: Vec<IndexRow> = sqlx::query_as(
        "SELECT CAST(course.name AS BLOB), CAST(found.name AS BLOB),
                CAST(group_concat(coalesce(part.name, 'an expression'), ', ') AS BLOB), found.origin <> 'c',
                (SELECT CAST(coalesce(sql, '') AS BLOB) FROM sqlite_schema WHERE type = 'index' AND name = found.name)
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
    let rows = rows.into_iter().filter(|(table, .., sql)| !is_by_any_case(table, &lossy(sql.clone())));
    let index = |(table, name, columns, is_constraint, _): IndexRow| ExcessiveIndex {
        table: lossy(table),
        name: lossy(name),
        columns: lossy(columns),
        is_constraint,
    };
    Ok(rows.map(index).collect())
}

/// Whether the index has a username or an e-mail address in one case among its columns.
///
/// jwksd keeps both unique regardless of the case of ASCII letters, and SQLite's `lower` and `upper` know only those.
fn is_by_any_case(table: &[u8], sql: &str) -> bool {
    table.eq_ignore_ascii_case(b"users")
        && terms(sql).lines().any(|term| {
            let term = term.trim_end_matches("asc").trim_end_matches("desc");
            let term = term.trim_end_matches("collatenocase").trim_end_matches("collatebinary");
            matches!(term, "lower(username)" | "upper(username)" | "lower(email)" | "upper(email)")
        })
}

/// The columns and expressions of an index, one per line, in lower case, without white space and without quotes around names.
fn terms(sql: &str) -> String {
    let (mut terms, mut depth, mut closing) = (String::new(), 0_u32, None);
    for letter in sql.chars() {
        match (closing, letter) {
            (Some(end), _) if letter == end => closing = None,
            // The names of the index and of the table stand before the first parenthesis, and may contain one.
            (Some(_), _) if depth == 0 => {}
            (None, '"' | '`') => closing = Some(letter),
            (None, '[') => closing = Some(']'),
            (None, '(') => {
                if depth > 0 {
                    terms.push(letter);
                }
                depth += 1;
            }
            (None, ')') if depth <= 1 => break,
            (None, ',') if depth == 1 => terms.push('\n'),
            _ if depth == 0 || letter.is_whitespace() => {}
            (_, letter) => {
                depth -= u32::from(closing.is_none() && letter == ')');
                terms.push(letter.to_ascii_lowercase());
            }
        }
    }
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_in_one_case_are_found_among_the_columns_of_an_index() {
        for sql in [
            "CREATE UNIQUE INDEX i ON users(lower(username))",
            "CREATE UNIQUE INDEX \"i (on users(x\" ON \"users\" ( id , UPPER ( \"email\" ) COLLATE nocase DESC ) WHERE 1",
            "CREATE UNIQUE INDEX i ON Users([password_hash], Lower(`Email`) ASC)",
        ] {
            assert!(is_by_any_case(b"Users", sql), "{sql}");
            assert!(!is_by_any_case(b"keys", sql), "{sql}");
        }
        for sql in [
            "",
            "CREATE UNIQUE INDEX \"i ON users(lower(username))\" ON users(lower(password_hash))",
            "CREATE UNIQUE INDEX i ON users(lower('username'))",
            "CREATE UNIQUE INDEX i ON users(lower(substr(username, 1, 2)))",
            "CREATE UNIQUE INDEX i ON users(substr(lower(username), 1))",
            "CREATE UNIQUE INDEX i ON users(lower(username) = 'a')",
            "CREATE UNIQUE INDEX i ON users(password_hash) WHERE lower(username)",
        ] {
            assert!(!is_by_any_case(b"users", sql), "{sql}");
        }
    }
}
