//! A database of a server as the source or the target of a move between stores.

use async_trait::async_trait;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions, PgRow};
use sqlx::{ConnectOptions as _, Postgres, Row as _, Transaction};

use super::error::{failed, not_connected};
use super::server::ServerUrl;
use super::{keys, schema};
use jwksd_core::password::PasswordHash;
use jwksd_core::store::transfer::{Kind, Row, StoreContent, StoreTarget, Table, Value};
use jwksd_core::store::{KeySnapshot, SealedRows, StoreError};

/// A long transaction. Behind a pooler, statements of others may have the names of ours.
const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; DEALLOCATE ALL";
const FILLING: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; DEALLOCATE ALL";

/// What a database holds for one transaction.
#[derive(Debug)]
pub struct ServerContent<'a>(&'a mut PgConnection);

/// A database that is read in one transaction. Other processes go on working meanwhile.
#[derive(Debug)]
pub struct ServerSource(PgConnection);

impl ServerSource {
    /// Looks at the database as it is now.
    ///
    /// # Errors
    /// [`StoreError`] says in words what is wrong with it.
    pub async fn open(server: &ServerUrl) -> Result<Self, StoreError> {
        let mut db = server.options().connect().await.map_err(not_connected)?;
        sqlx::raw_sql(SNAPSHOT).execute(&mut db).await.map_err(failed)?;
        schema::expect_readable(&mut db).await?;
        Ok(Self(db))
    }

    /// What it holds.
    pub fn content(&mut self) -> ServerContent<'_> {
        ServerContent(&mut self.0)
    }
}

/// A database that is being filled, in one transaction.
#[derive(Debug)]
pub struct ServerTarget {
    pool: PgPool,
    db: Transaction<'static, Postgres>,
    is_empty: bool,
}

impl ServerTarget {
    /// Begins to fill a database, whose schema is created. No process can open its store meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] says in words what is wrong with it.
    pub async fn begin(server: &ServerUrl) -> Result<Self, StoreError> {
        // A pool of one, because its transactions own their connection.
        let pool = PgPoolOptions::new().max_connections(1).connect_with(server.options()).await;
        let pool = pool.map_err(not_connected)?;
        let mut db = pool.begin_with(FILLING).await.map_err(failed)?;
        schema::expect_server(&mut db).await?;
        // A process that starts now waits for the lock on this row.
        schema::migrate_in(&mut db).await.map_err(schema::in_words)?;
        sqlx::query("SELECT one FROM jwksd.store FOR UPDATE").execute(&mut *db).await.map_err(failed)?;
        let is_empty = sqlx::query_scalar(
            "SELECT master_key_number IS NULL AND NOT EXISTS (SELECT 1 FROM jwksd.keys)
                    AND NOT EXISTS (SELECT 1 FROM jwksd.accounts)
             FROM jwksd.store",
        );
        let is_empty = is_empty.fetch_one(&mut *db).await.map_err(failed)?;
        Ok(Self { pool, db, is_empty })
    }

    /// Whether it has no store yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// Keeps what was written.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the server did not confirm it: it may have been kept all the same.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.db.commit().await.map_err(failed)?;
        // What the planner knows about the tables is of the time when they were empty. The store is complete without it.
        let _ = sqlx::raw_sql("ANALYZE jwksd.accounts; ANALYZE jwksd.auth_logs").execute(&self.pool).await;
        self.pool.close().await;
        Ok(())
    }
}

#[async_trait]
impl StoreContent for ServerContent<'_> {
    /// None: what this store holds, every other can hold.
    async fn obstacles(&mut self) -> Result<Vec<String>, StoreError> {
        Ok(Vec::new())
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
impl StoreTarget for ServerTarget {
    async fn write(&mut self, table: Table, rows: &[Row]) -> Result<(), StoreError> {
        if table == Table::Store {
            for row in rows {
                write_store(&mut self.db, row).await?;
            }
            return Ok(());
        }
        let mut lines = String::new();
        for row in rows {
            push_line(&mut lines, table, row);
        }
        let mut copying = self.db.copy_in_raw(copy(table)).await.map_err(failed)?;
        copying.send(lines.into_bytes()).await.map_err(failed)?;
        copying.finish().await.map(drop).map_err(failed)
    }
    fn content(&mut self) -> Box<dyn StoreContent + '_> {
        Box::new(ServerContent(&mut self.db))
    }
}

async fn count(db: &mut PgConnection, table: Table) -> Result<u64, StoreError> {
    let sql = match table {
        Table::Keys => "SELECT count(*) FROM jwksd.keys",
        Table::KeyHistory => "SELECT count(*) FROM jwksd.key_history",
        Table::RevokedThumbprints => "SELECT count(*) FROM jwksd.revoked_thumbprints",
        Table::ExternalKeys => "SELECT count(*) FROM jwksd.external_keys",
        Table::Accounts => "SELECT count(*) FROM jwksd.accounts",
        Table::ReservedUsernames => "SELECT count(*) FROM jwksd.reserved_usernames",
        Table::SignIns => "SELECT count(*) FROM jwksd.auth_logs",
        Table::Store => "SELECT count(*) FROM jwksd.store",
    };
    let count: i64 = sqlx::query_scalar(sql).fetch_one(db).await.map_err(failed)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// The columns of [`Table::columns`], of the rows whose key is greater than `$1`.
const fn select(table: Table) -> &'static str {
    match table {
        Table::Keys => "SELECT kid, sealed, exp FROM jwksd.keys WHERE kid > $1 ORDER BY kid LIMIT $2",
        Table::KeyHistory => {
            "SELECT kid, created_at, published_at, activated_at, expired_at, revoked_at, deleted_at, is_taken_over::int::int8, alg,
                    kid_format, sealed_under, (signed_in_open_mode AND deleted_at IS NULL)::int::int8,
                    CASE WHEN deleted_at IS NULL THEN thumbprint END
             FROM jwksd.key_history WHERE kid > $1 ORDER BY kid LIMIT $2"
        }
        Table::RevokedThumbprints => {
            "SELECT thumbprint FROM jwksd.revoked_thumbprints WHERE thumbprint COLLATE \"C\" > $1
             ORDER BY thumbprint COLLATE \"C\" LIMIT $2"
        }
        Table::ExternalKeys => {
            "SELECT kid, sealed, exp, added_at FROM jwksd.external_keys WHERE kid COLLATE \"C\" > $1
             ORDER BY kid COLLATE \"C\" LIMIT $2"
        }
        Table::Accounts => {
            "SELECT id, username, email, password_hash, registered_at_seconds, last_login_seconds, disabled_at, deleted_at,
                    signed_out_at
             FROM jwksd.accounts WHERE id > $1 ORDER BY id LIMIT $2"
        }
        Table::ReservedUsernames => {
            "SELECT username_key FROM jwksd.reserved_usernames WHERE username_key COLLATE \"C\" > $1
                 AND NOT EXISTS (SELECT 1 FROM jwksd.accounts WHERE accounts.username_key = reserved_usernames.username_key)
             ORDER BY username_key COLLATE \"C\" LIMIT $2"
        }
        Table::SignIns => {
            "SELECT id, request_ip, at_seconds, user_id FROM jwksd.auth_logs WHERE id > $1 ORDER BY id LIMIT $2"
        }
        Table::Store => {
            "SELECT 1::int8, master_key_number, master_key_salt, master_key_check_value, policy_lifetime, policy_retention,
                    policy_lead, policy_token_ttl, serving_mode, last_kid,
                    (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM jwksd.accounts_id_seq),
                    (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM jwksd.auth_logs_id_seq)
             FROM jwksd.store WHERE 1 > $1 LIMIT $2"
        }
    }
}

async fn rows(
    db: &mut PgConnection,
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
    let rows = query.bind(i64::from(at_most)).fetch_all(db).await.map_err(failed)?;
    rows.iter().map(|row| read(table, row)).collect()
}

fn read(table: Table, row: &PgRow) -> Result<Row, StoreError> {
    let value = |(at, kind): (usize, &Kind)| {
        let value = match kind {
            Kind::Number => row.try_get::<Option<i64>, _>(at).map(|it| it.map(Value::Number)),
            Kind::Text => row.try_get::<Option<String>, _>(at).map(|it| it.map(Value::Text)),
            Kind::Bytes => row.try_get::<Option<Vec<u8>>, _>(at).map(|it| it.map(Value::Bytes)),
        };
        value.map(|value| value.unwrap_or(Value::Null))
    };
    table.columns().iter().enumerate().map(value).collect::<Result<_, _>>().map_err(failed)
}

const fn copy(table: Table) -> &'static str {
    match table {
        Table::Keys => "COPY jwksd.keys (kid, sealed, exp) FROM STDIN",
        Table::KeyHistory => {
            "COPY jwksd.key_history (kid, created_at, published_at, activated_at, expired_at, revoked_at, deleted_at, is_taken_over,
                                     alg, kid_format, sealed_under, signed_in_open_mode, thumbprint) FROM STDIN"
        }
        Table::RevokedThumbprints => "COPY jwksd.revoked_thumbprints (thumbprint) FROM STDIN",
        Table::ExternalKeys => "COPY jwksd.external_keys (kid, sealed, exp, added_at) FROM STDIN",
        Table::Accounts => {
            "COPY jwksd.accounts (id, username, email, password_hash, registered_at_seconds, last_login_seconds, disabled_at,
                                  deleted_at, signed_out_at, username_key, email_key, cost) FROM STDIN"
        }
        Table::ReservedUsernames => "COPY jwksd.reserved_usernames (username_key) FROM STDIN",
        Table::SignIns => "COPY jwksd.auth_logs (id, request_ip, at_seconds, user_id) FROM STDIN",
        // Its row is there.
        Table::Store => "",
    }
}

/// Appends a line in the text format of COPY.
fn push_line(lines: &mut String, table: Table, row: &Row) {
    for (at, value) in row.iter().enumerate() {
        if at > 0 {
            lines.push('\t');
        }
        push_value(lines, value);
    }
    if table == Table::Accounts {
        for value in derived(row) {
            lines.push('\t');
            push_value(lines, &value);
        }
    }
    lines.push('\n');
}

/// The columns of an account that follow from others: username and email in lower case, and the cost of the hash.
fn derived(row: &Row) -> [Value; 3] {
    let text = |at: usize| match row.get(at) {
        Some(Value::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    let lower = |at| text(at).map_or(Value::Null, |text| Value::Text(text.to_ascii_lowercase()));
    let cost = text(3).and_then(|hash| PasswordHash::stored(hash.to_owned()).cost());
    [lower(1), lower(2), cost.map_or(Value::Null, |cost| Value::Text(cost.0))]
}

fn push_value(lines: &mut String, value: &Value) {
    match value {
        Value::Null => lines.push_str("\\N"),
        Value::Number(number) => lines.push_str(&number.to_string()),
        Value::Bytes(bytes) => {
            lines.push_str("\\\\x");
            lines.extend(bytes.iter().map(|byte| format!("{byte:02x}")));
        }
        Value::Text(text) => {
            for character in text.chars() {
                match character {
                    '\\' => lines.push_str("\\\\"),
                    '\n' => lines.push_str("\\n"),
                    '\r' => lines.push_str("\\r"),
                    '\t' => lines.push_str("\\t"),
                    other => lines.push(other),
                }
            }
        }
    }
}

/// Fills the row that every store has, and lets the numbers of new rows continue behind the greatest ones.
async fn write_store(db: &mut PgConnection, row: &Row) -> Result<(), StoreError> {
    let number = |at: usize| match row.get(at) {
        Some(Value::Number(number)) => Some(*number),
        _ => None,
    };
    let bytes = |at: usize| match row.get(at) {
        Some(Value::Bytes(bytes)) => Some(bytes.clone()),
        _ => None,
    };
    let mode = match row.get(8) {
        Some(Value::Text(mode)) => Some(mode.clone()),
        _ => None,
    };
    sqlx::query(
        "UPDATE jwksd.store SET key_version = key_version + 1, master_key_number = $1, master_key_salt = $2,
             master_key_check_value = $3, policy_lifetime = $4, policy_retention = $5, policy_lead = $6, policy_token_ttl = $7,
             serving_mode = $8, last_kid = $9",
    )
    .bind(number(1))
    .bind(bytes(2))
    .bind(bytes(3))
    .bind(number(4))
    .bind(number(5))
    .bind(number(6))
    .bind(number(7))
    .bind(mode)
    .bind(number(9))
    .execute(&mut *db)
    .await
    .map_err(failed)?;
    // The names of accounts are not among the rows that are copied.
    sqlx::query(
        "INSERT INTO jwksd.reserved_usernames (username_key) SELECT username_key FROM jwksd.accounts WHERE deleted_at IS NULL
         ON CONFLICT DO NOTHING",
    )
    .execute(&mut *db)
    .await
    .map_err(failed)?;
    // Zero: none was given out.
    sqlx::query(
        "SELECT setval('jwksd.accounts_id_seq', greatest($1, 1), $1 > 0), setval('jwksd.auth_logs_id_seq', greatest($2, 1), $2 > 0)",
    )
    .bind(number(10).unwrap_or(0))
    .bind(number(11).unwrap_or(0))
    .execute(&mut *db)
    .await
    .map_err(failed)?;
    sqlx::query(
        "INSERT INTO jwksd.hash_costs (cost) SELECT DISTINCT cost FROM jwksd.accounts WHERE cost IS NOT NULL ON CONFLICT DO NOTHING",
    )
    .execute(db)
    .await
    .map(drop)
    .map_err(failed)
}
