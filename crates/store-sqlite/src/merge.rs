//! Merging a store into the backup that replaces it: a restore must not undo what was given out or ended meanwhile.

use std::path::Path;

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions as _, Connection as _};

use super::error::failed;
use super::file;
use super::schema::{has_column, has_table};
use jwksd_core::clock::Timestamp;
use jwksd_core::store::StoreError;

/// How many numbers of keys and accounts are skipped when the store cannot tell which it has given out since the backup.
const SKIPPED_IDS: i64 = 1_000_000;

/// Tables that an older store does not have.
const LATER_TABLES: [&str; 6] = [
    "account_states",
    "key_thumbprints",
    "open_mode_keys",
    "revoked_thumbprints",
    "sign_outs",
    "uploaded_keys",
];

/// The result of a merge.
#[derive(Debug)]
pub enum MergeOutcome {
    /// The copy has everything that must not be undone.
    All {
        /// Whether it also has the keys that were created since. It has not if the master key has changed.
        keys: bool,
        /// Number of accounts that were disabled or deleted since.
        accounts: u64,
    },
    /// There was no store to merge. Numbers continue a million later, and all accounts are signed out.
    NoStore,
    /// The store could not be read, for this reason. Numbers continue a million later, and all accounts are signed out.
    Unreadable(StoreError),
}

/// Merges in one transaction of the connection that holds the old store, which is only read.
pub(super) async fn merge(db: &mut SqliteConnection, copy: &Path) -> Result<MergeOutcome, StoreError> {
    let name = copy.to_str().ok_or_else(|| StoreError::Corrupt("its path is not UTF-8".to_owned()))?;
    for table in ["keys", "users", "names_given", "key_lives"] {
        if !has_table(db, table).await? {
            return Err(StoreError::Corrupt(format!("it has no table {table}")));
        }
    }
    let mut present = Vec::new();
    for table in LATER_TABLES {
        if has_table(db, table).await? {
            present.push(table);
        }
    }
    let has_profiles = has_column(db, "key_lives", "kid_format").await?;
    sqlx::query("ATTACH ? AS copy").bind(name).execute(&mut *db).await.map_err(failed)?;
    let merged = merge_into_copy(db, &present, has_profiles).await;
    if merged.is_err() {
        // Fails if the transaction had not begun, which changes nothing.
        let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *db).await;
    }
    sqlx::raw_sql("DETACH copy").execute(db).await.map_err(failed)?;
    merged.map_err(failed)
}

async fn merge_into_copy(
    db: &mut SqliteConnection,
    present: &[&str],
    has_profiles: bool,
) -> Result<MergeOutcome, sqlx::Error> {
    // AUTOINCREMENT continues from sqlite_sequence: with the older one of the copy, a `kid` would be given out twice.
    // In key_lives, what happened since the backup stays: a restore must not bring a revoked key back.
    sqlx::raw_sql(
        "BEGIN IMMEDIATE;
         UPDATE copy.sqlite_sequence SET seq = max(seq, coalesce(
             (SELECT old.seq FROM main.sqlite_sequence AS old WHERE old.name = copy.sqlite_sequence.name COLLATE NOCASE), 0));
         INSERT INTO copy.sqlite_sequence (name, seq)
             SELECT name, seq FROM main.sqlite_sequence
             WHERE name COLLATE NOCASE NOT IN (SELECT name FROM copy.sqlite_sequence)
               AND name COLLATE NOCASE IN (SELECT name FROM copy.sqlite_schema WHERE type = 'table');
         UPDATE copy.key_lives SET
             signs_since = coalesce(key_lives.signs_since, old.signs_since),
             expired_at = coalesce(key_lives.expired_at, old.expired_at),
             revoked_at = coalesce(key_lives.revoked_at, old.revoked_at)
         FROM main.key_lives AS old WHERE old.kid = key_lives.kid;",
    )
    .execute(&mut *db)
    .await?;
    let keys = merge_keys(db, has_profiles).await?;
    if keys && present.contains(&"key_thumbprints") {
        // Of the keys that were created since. Some are published under their thumbprints.
        sqlx::raw_sql(
            "INSERT OR IGNORE INTO copy.key_thumbprints (kid, thumbprint) SELECT kid, thumbprint FROM main.key_thumbprints
             WHERE kid IN (SELECT kid FROM copy.keys_without_thumbprint)",
        )
        .execute(&mut *db)
        .await?;
    }
    if present.contains(&"revoked_thumbprints") {
        sqlx::raw_sql(
            "INSERT OR IGNORE INTO copy.revoked_thumbprints (thumbprint) SELECT thumbprint FROM main.revoked_thumbprints",
        )
        .execute(&mut *db)
        .await?;
    }
    if present.contains(&"open_mode_keys") {
        // Tokens that anyone could get since the backup stay known as such.
        sqlx::raw_sql(
            "INSERT OR IGNORE INTO copy.open_mode_keys SELECT kid FROM main.open_mode_keys
             WHERE kid IN (SELECT kid FROM copy.keys)",
        )
        .execute(&mut *db)
        .await?;
    }
    if present.contains(&"uploaded_keys") {
        // Withdrawn external keys stay withdrawn. Newer ones would not open under another master key.
        let merge_external = if keys {
            "DELETE FROM copy.uploaded_keys; INSERT INTO copy.uploaded_keys SELECT * FROM main.uploaded_keys"
        } else {
            "DELETE FROM copy.uploaded_keys WHERE NOT EXISTS (
                 SELECT 1 FROM main.uploaded_keys AS old WHERE old.kid = uploaded_keys.kid
                     AND old.uploaded_at = uploaded_keys.uploaded_at AND old.exp IS uploaded_keys.exp)"
        };
        sqlx::raw_sql(merge_external).execute(&mut *db).await?;
    }
    let accounts = if present.contains(&"account_states") { merge_states(db).await? } else { 0 };
    if present.contains(&"sign_outs") {
        merge_sign_outs(db).await?;
    }
    // Last: renaming a deleted account above has already recorded its new name.
    sqlx::query("INSERT OR IGNORE INTO copy.names_given (name) SELECT name FROM main.names_given")
        .execute(&mut *db)
        .await?;
    sqlx::raw_sql("COMMIT").execute(db).await?;
    Ok(MergeOutcome::All { keys, accounts })
}

/// Merges keys that were created since (their tokens are in use) and keys whose expiry was moved forward. Under another
/// master key they would not open.
async fn merge_keys(db: &mut SqliteConnection, has_profiles: bool) -> Result<bool, sqlx::Error> {
    let is_same: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM main.master_key AS old JOIN copy.master_key AS new
                        ON old.salt = new.salt AND old.check_value = new.check_value)",
    )
    .fetch_one(&mut *db)
    .await?;
    if is_same {
        sqlx::raw_sql(
            // `key` moves along with `exp`, because the seal covers both.
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
        .execute(&mut *db)
        .await?;
    }
    if is_same && has_profiles {
        // What was recorded with the keys that were created since. For all others it is the same in both.
        sqlx::raw_sql(
            "UPDATE copy.key_lives SET alg = old.alg, kid_format = old.kid_format
             FROM main.key_lives AS old WHERE old.kid = key_lives.kid",
        )
        .execute(db)
        .await?;
    }
    Ok(is_same)
}

/// Merges accounts that were disabled or deleted since. Number and registration time together identify an account.
async fn merge_states(db: &mut SqliteConnection) -> Result<u64, sqlx::Error> {
    sqlx::query(
        "CREATE TEMP TABLE merged AS
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
    let accounts: i64 = sqlx::query_scalar("SELECT count(*) FROM merged").fetch_one(&mut *db).await?;
    sqlx::raw_sql(
        // `WHERE true` keeps SQLite from reading ON CONFLICT as the ON of a join.
        "UPDATE copy.users SET username = merged.username, password_hash = '', email = NULL, last_login = NULL
             FROM merged WHERE merged.id = users.id AND merged.deleted_at IS NOT NULL;
         INSERT INTO copy.account_states (user_id, disabled_at, deleted_at)
             SELECT id, disabled_at, deleted_at FROM merged WHERE true
             ON CONFLICT (user_id) DO UPDATE SET
                 disabled_at = coalesce(disabled_at, excluded.disabled_at), deleted_at = excluded.deleted_at;
         DROP TABLE merged",
    )
    .execute(db)
    .await?;
    Ok(u64::try_from(accounts).unwrap_or(0))
}

/// Merges the later sign-out of each account, identified as in [`merge_states`].
async fn merge_sign_outs(db: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(
        "INSERT INTO copy.sign_outs (user_id, signed_out_at)
             SELECT old.user_id, old.signed_out_at FROM main.sign_outs AS old
             JOIN main.users AS gone ON gone.id = old.user_id
             JOIN copy.users AS back ON back.id = gone.id AND back.date_registered IS gone.date_registered
             WHERE true
             ON CONFLICT (user_id) DO UPDATE SET signed_out_at = max(signed_out_at, excluded.signed_out_at)",
    )
    .execute(db)
    .await
    .map(drop)
}

/// Prepares a copy for a store whose changes since the copy are lost: its numbers continue far ahead, and every account is
/// signed out as of `now`, because any of them may have been since.
pub(super) async fn assume_lost_changes(copy: &Path, now: Timestamp) -> Result<(), StoreError> {
    let mut db = file::options(copy).connect().await.map_err(failed)?;
    sqlx::query(
        // SQLite writes this row with the first account, so a copy without accounts has no row to update below.
        "INSERT INTO sqlite_sequence (name, seq) SELECT 'users', 0
         WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'users' COLLATE NOCASE)",
    )
    .execute(&mut db)
    .await
    .map_err(failed)?;
    // Tokens contain these numbers, as `kid` and `uid`. Given out twice, an old token would name the wrong user.
    sqlx::query("UPDATE sqlite_sequence SET seq = seq + ? WHERE lower(name) IN ('keys', 'users')")
        .bind(SKIPPED_IDS)
        .execute(&mut db)
        .await
        .map_err(failed)?;
    sqlx::query(
        "INSERT INTO sign_outs (user_id, signed_out_at) SELECT id, ?1 FROM users WHERE true
         ON CONFLICT (user_id) DO UPDATE SET signed_out_at = max(signed_out_at, ?1)",
    )
    .bind(now.as_millis())
    .execute(&mut db)
    .await
    .map_err(failed)?;
    db.close().await.map_err(failed)
}
