//! A file as the source or the target of a move between stores.

use std::path::Path;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use super::error::failed;
use super::restore::ExclusiveLock;
use super::{file, keys, schema};
use jwksd_core::store::transfer::{Kind, Row, StoreContent, StoreTarget, Table, Value};
use jwksd_core::store::{KeySnapshot, SealedRows, StoreError};

/// What a file holds. Nothing else writes to it meanwhile.
#[derive(Debug)]
pub struct FileContent<'a>(&'a mut SqliteConnection);

impl ExclusiveLock {
    /// What the store holds, brought up to date as by a start.
    ///
    /// # Errors
    /// [`StoreError`] when it is not a database, or cannot be brought up to date.
    pub async fn content(&mut self) -> Result<FileContent<'_>, StoreError> {
        let Some(db) = self.connection() else {
            return Err(StoreError::Corrupt("it is not a SQLite database".to_owned()));
        };
        schema::migrate(db).await?;
        Ok(FileContent(db))
    }
}

/// A new file that is being filled.
#[derive(Debug)]
pub struct FileTarget(SqliteConnection);

impl FileTarget {
    /// Begins to fill an empty file.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot be written.
    pub async fn begin(path: &Path) -> Result<Self, StoreError> {
        let mut db = file::options(path).connect().await.map_err(failed)?;
        schema::migrate(&mut db).await?;
        // The copy gets its name only when it is complete. Sign-ins of accounts that do not exist are copied as they are.
        sqlx::raw_sql(
            "PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; PRAGMA cache_size = -262144; PRAGMA foreign_keys = OFF; BEGIN",
        )
            .execute(&mut db)
            .await
            .map_err(failed)?;
        Ok(Self(db))
    }

    /// Keeps what was written.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot be written.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        sqlx::raw_sql("COMMIT").execute(&mut self.0).await.map_err(failed)?;
        self.0.close().await.map_err(failed)
    }
}

#[async_trait]
impl StoreContent for FileContent<'_> {
    async fn obstacles(&mut self) -> Result<Vec<String>, StoreError> {
        obstacles(self.0).await
    }

    async fn count(&mut self, table: Table) -> Result<u64, StoreError> {
        count(self.0, table).await
    }

    async fn rows(
        &mut self,
        table: Table,
        after: Option<&Row>,
        at_most: u32,
    ) -> Result<Vec<Row>, StoreError> {
        rows(self.0, table, after, at_most).await
    }

    async fn keys(&mut self) -> Result<KeySnapshot, StoreError> {
        keys::snapshot(self.0, &SealedRows::All).await
    }
}

#[async_trait]
impl StoreTarget for FileTarget {
    async fn write(&mut self, table: Table, rows: &[Row]) -> Result<(), StoreError> {
        for row in rows {
            for sql in inserts(table) {
                insert(&mut self.0, sql, row).await?;
            }
        }
        Ok(())
    }

    fn content(&mut self) -> Box<dyn StoreContent + '_> {
        Box::new(FileContent(&mut self.0))
    }
}

/// Rows that other stores cannot hold, each with what they are. The query gives the numbers of some of them.
const OBSTACLES: [(&str, &str); 8] = [
    (
        "keys that jwksd does not manage: remove them from the table keys, or let a start of `jwksd serve` take them over",
        "SELECT kid FROM keys WHERE kid NOT IN (SELECT kid FROM key_lives) OR typeof(exp) <> 'integer' OR typeof(key) <> 'blob'",
    ),
    (
        "accounts whose date_registered or last_login is not a time: correct it, or set it to NULL",
        "SELECT id FROM users WHERE (date_registered IS NOT NULL AND unixepoch(date_registered) IS NULL)
             OR (last_login IS NOT NULL AND unixepoch(last_login) IS NULL)",
    ),
    (
        "accounts whose username, email or password_hash has a NUL character or is not text, or whose username is empty: correct it",
        "SELECT id FROM users WHERE username = '' OR instr(CAST(username AS BLOB), x'00') > 0 OR typeof(username) <> 'text'
             OR instr(CAST(email AS BLOB), x'00') > 0 OR typeof(email) NOT IN ('text', 'null')
             OR instr(CAST(password_hash AS BLOB), x'00') > 0 OR password_hash IS NULL",
    ),
    (
        "accounts whose username differs from that of another one only by case: give one of them another",
        "SELECT id FROM users WHERE lower(username) IN (SELECT lower(username) FROM users GROUP BY 1 HAVING count(*) > 1)",
    ),
    (
        "accounts whose email differs from that of another one only by case: correct one with `jwksd users set-email`",
        "SELECT id FROM users WHERE lower(email) IN (SELECT lower(email) FROM users GROUP BY 1 HAVING count(*) > 1)",
    ),
    (
        "sign-ins whose request_timestamp is not a time: correct it, or delete them",
        "SELECT id FROM auth_logs WHERE unixepoch(request_timestamp) IS NULL",
    ),
    (
        "sign-ins whose request_ip is not text: correct it, or delete them",
        "SELECT id FROM auth_logs WHERE typeof(request_ip) <> 'text' OR instr(CAST(request_ip AS BLOB), x'00') > 0",
    ),
    (
        "sign-ins whose user_id is not a number: correct it, or delete them",
        "SELECT id FROM auth_logs WHERE typeof(user_id) NOT IN ('integer', 'null')",
    ),
];

/// Maximum number of rows that are named.
const NAMED: usize = 10;

async fn obstacles(db: &mut SqliteConnection) -> Result<Vec<String>, StoreError> {
    let mut sentences = Vec::new();
    for (what, query) in OBSTACLES {
        // Literals of this file, and nothing else.
        let ids: Vec<i64> = sqlx::query_scalar(AssertSqlSafe(format!("{query} LIMIT {}", NAMED + 1)))
            .fetch_all(&mut *db)
            .await
            .map_err(failed)?;
        if ids.is_empty() {
            continue;
        }
        let named: Vec<_> = ids.iter().take(NAMED).map(i64::to_string).collect();
        let more = if ids.len() > NAMED { " and others" } else { "" };
        sentences.push(format!("{what} (numbers {}{more})", named.join(", ")));
    }
    Ok(sentences)
}

async fn count(db: &mut SqliteConnection, table: Table) -> Result<u64, StoreError> {
    let sql = match table {
        Table::Keys => "SELECT count(*) FROM keys",
        Table::KeyHistory => "SELECT count(*) FROM key_lives",
        Table::RevokedThumbprints => "SELECT count(*) FROM revoked_thumbprints",
        Table::ExternalKeys => "SELECT count(*) FROM uploaded_keys",
        Table::Accounts => "SELECT count(*) FROM users",
        Table::ReservedUsernames => "SELECT count(*) FROM names_given",
        Table::SignIns => "SELECT count(*) FROM auth_logs",
        Table::Store => "SELECT 1",
    };
    let count: i64 = sqlx::query_scalar(sql).fetch_one(db).await.map_err(failed)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// The columns of [`Table::columns`], of the rows whose key is greater than `?1`.
const fn select(table: Table) -> &'static str {
    match table {
        Table::Keys => "SELECT kid, key, exp FROM keys WHERE kid > ?1 ORDER BY kid LIMIT ?2",
        Table::KeyHistory => {
            "SELECT key_lives.kid, made_at, published_at, signs_since, expired_at, revoked_at, deleted_at, taken_over, alg,
                    kid_format, sealed_under, EXISTS (SELECT 1 FROM open_mode_keys WHERE open_mode_keys.kid = key_lives.kid),
                    thumbprint
             FROM key_lives LEFT JOIN key_thumbprints ON key_thumbprints.kid = key_lives.kid
             WHERE key_lives.kid > ?1 ORDER BY key_lives.kid LIMIT ?2"
        }
        Table::RevokedThumbprints => {
            "SELECT thumbprint FROM revoked_thumbprints WHERE thumbprint > ?1 ORDER BY thumbprint LIMIT ?2"
        }
        Table::ExternalKeys => {
            "SELECT kid, jwk, exp, uploaded_at FROM uploaded_keys WHERE kid > ?1 ORDER BY kid LIMIT ?2"
        }
        Table::Accounts => {
            "SELECT id, username, email, CAST(password_hash AS TEXT), unixepoch(date_registered), unixepoch(last_login),
                    disabled_at, deleted_at, signed_out_at
             FROM users LEFT JOIN account_states ON account_states.user_id = id LEFT JOIN sign_outs ON sign_outs.user_id = id
             WHERE id > ?1 ORDER BY id LIMIT ?2"
        }
        // The collation of the column compares as the lower case of both.
        Table::ReservedUsernames => {
            "SELECT lower(name) FROM names_given
             WHERE name > ?1 AND NOT EXISTS (SELECT 1 FROM users WHERE users.username = names_given.name COLLATE NOCASE)
             ORDER BY name LIMIT ?2"
        }
        Table::SignIns => {
            "SELECT id, request_ip, unixepoch(request_timestamp), user_id FROM auth_logs WHERE id > ?1 ORDER BY id LIMIT ?2"
        }
        Table::Store => {
            "SELECT 1, number, salt, check_value, lifetime, retention, lead, token_ttl,
                    (SELECT mode FROM serving_mode),
                    max(coalesce((SELECT max(kid) FROM key_lives), 0),
                        coalesce((SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = 'keys' COLLATE NOCASE), 0)),
                    max(coalesce((SELECT max(id) FROM users), 0),
                        coalesce((SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = 'users' COLLATE NOCASE), 0)),
                    max(coalesce((SELECT max(id) FROM auth_logs), 0),
                        coalesce((SELECT CAST(seq AS INTEGER) FROM sqlite_sequence WHERE name = 'auth_logs' COLLATE NOCASE), 0))
             FROM master_key LEFT JOIN rotation_policy ON TRUE WHERE 1 > ?1 LIMIT ?2"
        }
    }
}

async fn rows(
    db: &mut SqliteConnection,
    table: Table,
    after: Option<&Row>,
    at_most: u32,
) -> Result<Vec<Row>, StoreError> {
    let query = sqlx::query(select(table));
    let query = match after.and_then(|row| row.first()) {
        Some(Value::Number(key)) => query.bind(*key),
        Some(Value::Text(key)) => query.bind(key.clone()),
        _ if table.columns().first() == Some(&Kind::Number) => query.bind(i64::MIN),
        _ => query.bind(""),
    };
    let rows = query.bind(at_most).fetch_all(db).await.map_err(failed)?;
    rows.iter().map(|row| read(table, row)).collect()
}

fn read(table: Table, row: &SqliteRow) -> Result<Row, StoreError> {
    let value = |(at, kind): (usize, &Kind)| {
        let value = match kind {
            Kind::Number => row.try_get_unchecked::<Option<i64>, _>(at).map(|it| it.map(Value::Number)),
            Kind::Text => row.try_get_unchecked::<Option<String>, _>(at).map(|it| it.map(Value::Text)),
            Kind::Bytes => row.try_get_unchecked::<Option<Vec<u8>>, _>(at).map(|it| it.map(Value::Bytes)),
        };
        value.map(|value| value.unwrap_or(Value::Null))
    };
    let row: Result<Row, _> = table.columns().iter().enumerate().map(value).collect();
    row.map_err(|error| StoreError::Corrupt(format!("its {} cannot be read: {error}", table.name())))
}

/// The statements that write a row. Triggers add the rest, such as the costs of hashes.
const fn inserts(table: Table) -> &'static [&'static str] {
    match table {
        Table::Keys => &["INSERT INTO keys (kid, key, exp) VALUES (?1, ?2, ?3)"],
        Table::KeyHistory => &[
            "INSERT INTO key_lives (kid, made_at, published_at, signs_since, expired_at, revoked_at, deleted_at, taken_over, alg,
                                    kid_format, sealed_under)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            "INSERT INTO open_mode_keys (kid) SELECT ?1 WHERE ?12",
            "INSERT INTO key_thumbprints (kid, thumbprint) SELECT ?1, ?13 WHERE ?13 IS NOT NULL",
        ],
        Table::RevokedThumbprints => &["INSERT OR IGNORE INTO revoked_thumbprints (thumbprint) VALUES (?1)"],
        Table::ExternalKeys => {
            &["INSERT INTO uploaded_keys (kid, jwk, exp, uploaded_at) VALUES (?1, ?2, ?3, ?4)"]
        }
        Table::Accounts => &[
            "INSERT INTO users (id, username, email, password_hash, date_registered, last_login)
             VALUES (?1, ?2, ?3, ?4, datetime(?5, 'unixepoch'), datetime(?6, 'unixepoch'))",
            "INSERT INTO account_states (user_id, disabled_at, deleted_at)
             SELECT ?1, ?7, ?8 WHERE ?7 IS NOT NULL OR ?8 IS NOT NULL",
            "INSERT INTO sign_outs (user_id, signed_out_at) SELECT ?1, ?9 WHERE ?9 IS NOT NULL",
        ],
        Table::ReservedUsernames => &["INSERT OR IGNORE INTO names_given (name) VALUES (?1)"],
        Table::SignIns => &[
            "INSERT INTO auth_logs (id, request_ip, request_timestamp, user_id)
             VALUES (?1, ?2, datetime(?3, 'unixepoch'), ?4)",
        ],
        Table::Store => &[
            "INSERT INTO master_key (id, number, salt, check_value) VALUES (?1, ?2, ?3, ?4)",
            "INSERT INTO rotation_policy (id, lifetime, retention, lead, token_ttl)
             SELECT ?1, ?5, ?6, ?7, ?8 WHERE ?5 IS NOT NULL",
            "INSERT INTO serving_mode (id, mode) SELECT ?1, ?9 WHERE ?9 IS NOT NULL",
            "DELETE FROM sqlite_sequence WHERE name IN ('keys', 'users', 'auth_logs')",
            "INSERT INTO sqlite_sequence (name, seq) VALUES ('keys', ?10), ('users', ?11), ('auth_logs', ?12)",
        ],
    }
}

async fn insert(db: &mut SqliteConnection, sql: &'static str, row: &Row) -> Result<(), StoreError> {
    let mut query = sqlx::query(sql);
    for value in row {
        query = match value {
            Value::Null => query.bind(None::<i64>),
            Value::Number(number) => query.bind(*number),
            Value::Text(text) => query.bind(text.as_str()),
            Value::Bytes(bytes) => query.bind(bytes.as_slice()),
        };
    }
    query.execute(db).await.map(drop).map_err(failed)
}
