//! What a copy that takes the place of a store must not undo: everything that was given out or ended since it was made.

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::super::StoreError;
use super::files::has_table;
use super::unavailable;

/// How far ahead the numbers of keys and accounts leap, when nobody can say which were given out since the copy.
const SKIPPED_IDS: i64 = 1_000_000;

/// What came of carrying over.
#[derive(Debug)]
pub enum MergeOutcome {
    /// Everything. `keys` says whether the two stores have the same master key, and keys made since are there too;
    /// `accounts` how many accounts were disabled or deleted since.
    All {
        /// Keys too.
        keys: bool,
        /// Accounts that are not as in the copy.
        accounts: u64,
    },
    /// There was nothing to carry over from: numbers go on a million later.
    NoStore,
    /// The store could not tell, for this reason: numbers go on a million later.
    Unreadable(StoreError),
}

/// All in one transaction of the connection that holds the old store, which is only read.
pub(super) async fn merge(db: &mut SqliteConnection, copy: &Path) -> Result<MergeOutcome, StoreError> {
    let name = copy.to_str().ok_or_else(|| StoreError::Corrupt("its path is not UTF-8".to_owned()))?;
    for table in ["keys", "users", "names_given", "key_lives"] {
        if !has_table(db, table).await? {
            return Err(StoreError::Corrupt(format!("it has no table {table}")));
        }
    }
    let has_states = has_table(db, "account_states").await?;
    let has_uploads = has_table(db, "uploaded_keys").await?;
    sqlx::query("ATTACH ? AS copy").bind(name).execute(&mut *db).await.map_err(unavailable)?;
    let carried = merge_into_copy(db, has_states, has_uploads).await;
    if carried.is_err() {
        // Whether or not it was begun.
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *db).await;
    }
    sqlx::raw_sql("DETACH copy").execute(db).await.map_err(unavailable)?;
    carried.map_err(unavailable)
}

async fn merge_into_copy(
    db: &mut SqliteConnection,
    has_states: bool,
    has_uploads: bool,
) -> Result<MergeOutcome, sqlx::Error> {
    sqlx::raw_sql(
        "BEGIN IMMEDIATE;
         UPDATE copy.sqlite_sequence SET seq = max(seq, coalesce(
             (SELECT old.seq FROM main.sqlite_sequence AS old WHERE old.name = copy.sqlite_sequence.name), 0));
         INSERT INTO copy.sqlite_sequence (name, seq)
             SELECT name, seq FROM main.sqlite_sequence
             WHERE name NOT IN (SELECT name FROM copy.sqlite_sequence)
               AND name IN (SELECT name FROM copy.sqlite_schema WHERE type = 'table');
         UPDATE copy.key_lives SET
             signs_since = coalesce(key_lives.signs_since, old.signs_since),
             expired_at = coalesce(key_lives.expired_at, old.expired_at),
             revoked_at = coalesce(key_lives.revoked_at, old.revoked_at)
         FROM main.key_lives AS old WHERE old.kid = key_lives.kid;",
    )
    .execute(&mut *db)
    .await?;
    let keys = merge_keys(db).await?;
    if has_uploads {
        // Keys of others: what was withdrawn stays so, what came since would not open under another master key.
        let of_now = if keys {
            "DELETE FROM copy.uploaded_keys; INSERT INTO copy.uploaded_keys SELECT * FROM main.uploaded_keys"
        } else {
            "DELETE FROM copy.uploaded_keys WHERE NOT EXISTS (
                 SELECT 1 FROM main.uploaded_keys AS old WHERE old.kid = uploaded_keys.kid
                     AND old.uploaded_at = uploaded_keys.uploaded_at AND old.exp IS uploaded_keys.exp)"
        };
        sqlx::raw_sql(of_now).execute(&mut *db).await?;
    }
    let accounts = if has_states { merge_states(db).await? } else { 0 };
    // Last, because a deleted account takes its new name by itself.
    sqlx::query("INSERT OR IGNORE INTO copy.names_given (name) SELECT name FROM main.names_given")
        .execute(&mut *db)
        .await?;
    sqlx::raw_sql("COMMIT").execute(db).await?;
    Ok(MergeOutcome::All { keys, accounts })
}

/// Keys that were made since, because tokens of theirs are out, and keys that were sealed anew to end earlier. Under
/// another master key, they would not open.
async fn merge_keys(db: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let is_same: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM main.master_key AS old JOIN copy.master_key AS new
                        ON old.salt = new.salt AND old.check_value = new.check_value)",
    )
    .fetch_one(&mut *db)
    .await?;
    if is_same {
        sqlx::raw_sql(
            "UPDATE copy.keys SET key = old.key, exp = old.exp
                 FROM main.keys AS old JOIN main.key_lives AS life ON life.kid = old.kid
                 WHERE old.kid = keys.kid AND life.expired_at IS NOT NULL AND old.exp < keys.exp;
             INSERT INTO copy.keys SELECT * FROM main.keys
                 WHERE kid IN (SELECT kid FROM main.key_lives) AND kid NOT IN (SELECT kid FROM copy.key_lives);
             INSERT INTO copy.key_lives
                     (kid, made_at, published_at, signs_since, expired_at, revoked_at, deleted_at, sealed_under)
                 SELECT kid, made_at, published_at, signs_since, expired_at, revoked_at, deleted_at,
                     (SELECT number FROM copy.master_key)
                 FROM main.key_lives WHERE kid NOT IN (SELECT kid FROM copy.key_lives);",
        )
        .execute(db)
        .await?;
    }
    Ok(is_same)
}

/// Accounts that were disabled or deleted since. The same number is the same account if it was made at the same time.
async fn merge_states(db: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    sqlx::query(
        "CREATE TEMP TABLE carried AS
         SELECT state.user_id AS id, state.disabled_at, state.deleted_at, gone.username
         FROM main.account_states AS state
         JOIN main.users AS gone ON gone.id = state.user_id
         JOIN copy.users AS back ON back.id = gone.id AND back.date_registered = gone.date_registered
         LEFT JOIN copy.account_states AS known ON known.user_id = state.user_id
         WHERE (state.disabled_at IS NOT NULL AND known.disabled_at IS NULL)
            OR (state.deleted_at IS NOT NULL AND known.deleted_at IS NULL)",
    )
    .execute(&mut *db)
    .await?;
    let accounts: i64 = sqlx::query_scalar("SELECT count(*) FROM carried").fetch_one(&mut *db).await?;
    sqlx::raw_sql(
        "UPDATE copy.users SET username = carried.username, password_hash = '', email = NULL, last_login = NULL
             FROM carried WHERE carried.id = users.id AND carried.deleted_at IS NOT NULL;
         INSERT INTO copy.account_states (user_id, disabled_at, deleted_at)
             SELECT id, disabled_at, deleted_at FROM carried WHERE true
             ON CONFLICT (user_id) DO UPDATE SET
                 disabled_at = coalesce(disabled_at, excluded.disabled_at), deleted_at = excluded.deleted_at;
         DROP TABLE carried",
    )
    .execute(db)
    .await?;
    Ok(u64::try_from(accounts).unwrap_or(0))
}

/// Has the numbers of a copy go on far ahead.
pub(super) async fn skip_ids(copy: &Path) -> Result<(), StoreError> {
    let options = SqliteConnectOptions::new().filename(copy).disable_statement_logging();
    let mut db = options.connect().await.map_err(unavailable)?;
    sqlx::query(
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'users', 0
         WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'users')",
    )
    .execute(&mut db)
    .await
    .map_err(unavailable)?;
    sqlx::query("UPDATE sqlite_sequence SET seq = seq + ? WHERE name IN ('keys', 'users')")
        .bind(SKIPPED_IDS)
        .execute(&mut db)
        .await
        .map_err(unavailable)?;
    db.close().await.map_err(unavailable)
}
