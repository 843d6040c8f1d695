//! A thorough look into the file of a store, which changes nothing: is it whole, and what is in it.

use sqlx::SqliteConnection;

use super::super::{SealedKey, StoreError};
use super::files::{has_table, schema_version};
use super::{MIGRATIONS, keys, unavailable};
use crate::domain::clock::Timestamp;
use crate::domain::key::Kid;
use crate::domain::key::lifecycle::KeyLife;

/// How many complaints about one file are enough.
const COMPLAINTS: usize = 10;

/// What is in the file of a store.
#[derive(Debug)]
pub struct Inspection {
    /// The version of its schema; nothing if another program made it.
    pub schema: Option<i64>,
    /// What SQLite has to say against it, at most ten lines.
    pub complaints: Vec<String>,
    /// How many rows there are.
    pub counts: Counts,
    /// Every row of `keys`.
    pub keys: Vec<SealedKey>,
    /// What is known of the keys' lives.
    pub lives: Vec<KeyLife>,
    /// The newest key that has ever signed.
    pub newest_signer: Option<Kid>,
    /// The latest time that it remembers.
    pub latest: Option<Timestamp>,
    /// Its size, as of what was written back.
    pub bytes: u64,
}

/// How many rows the tables of the course have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Keys, expired ones too.
    pub keys: i64,
    /// Accounts, deleted ones too.
    pub accounts: i64,
    /// Rows of `auth_logs`.
    pub sign_ins: i64,
}

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// At what is in it, and not at whether it is whole.
    Rows,
    /// At every page.
    Quick,
    /// At every page, and at every row of every index.
    Full,
}

/// The version that a store has when this program has opened it.
#[must_use]
pub fn newest_schema() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}

pub(super) async fn inspect(db: &mut SqliteConnection, depth: Depth) -> Result<Inspection, StoreError> {
    let has_lives = has_table(db, "key_lives").await?;
    Ok(Inspection {
        schema: schema_version(db).await?,
        complaints: complaints(db, depth).await?,
        counts: counts(db).await?,
        keys: if has_table(db, "keys").await? { keys::rows(db).await? } else { Vec::new() },
        lives: if has_lives { keys::lives(db).await? } else { Vec::new() },
        newest_signer: if has_lives { keys::newest_signer(db).await? } else { None },
        latest: latest(db, has_lives).await?,
        bytes: bytes(db).await?,
    })
}

async fn complaints(db: &mut SqliteConnection, depth: Depth) -> Result<Vec<String>, StoreError> {
    let check = match depth {
        Depth::Rows => return Ok(Vec::new()),
        Depth::Quick => "PRAGMA quick_check(10)",
        Depth::Full => "PRAGMA integrity_check(10)",
    };
    // What cannot be read at all is a complaint too.
    let mut found: Vec<String> = match sqlx::query_scalar(check).fetch_all(&mut *db).await {
        Ok(lines) => lines,
        Err(error) => vec![error.to_string()],
    };
    found.retain(|line| line != "ok");
    let orphans: Vec<(String, Option<i64>)> =
        sqlx::query_as("SELECT \"table\", rowid FROM pragma_foreign_key_check LIMIT 10")
            .fetch_all(db)
            .await
            .map_err(unavailable)?;
    found.extend(orphans.into_iter().map(|(table, row)| {
        let row = row.map(|row| format!(" {row}")).unwrap_or_default();
        format!("row{row} of {table} names an account that is not there")
    }));
    found.truncate(COMPLAINTS);
    Ok(found)
}

pub(super) async fn counts(db: &mut SqliteConnection) -> Result<Counts, StoreError> {
    if !has_table(db, "auth_logs").await? {
        return Ok(Counts { keys: 0, accounts: 0, sign_ins: 0 });
    }
    let (keys, accounts, sign_ins) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM keys), (SELECT count(*) FROM users), (SELECT count(*) FROM auth_logs)",
    )
    .fetch_one(db)
    .await
    .map_err(unavailable)?;
    Ok(Counts { keys, accounts, sign_ins })
}

async fn latest(db: &mut SqliteConnection, has_lives: bool) -> Result<Option<Timestamp>, StoreError> {
    let mut latest: Option<i64> = None;
    if has_lives {
        latest = sqlx::query_scalar("SELECT max(made_at) FROM key_lives")
            .fetch_one(&mut *db)
            .await
            .map_err(unavailable)?;
    }
    if has_table(db, "auth_logs").await? {
        let signed_in: Option<i64> = sqlx::query_scalar(
            "SELECT unixepoch(request_timestamp) * 1000 FROM auth_logs ORDER BY id DESC LIMIT 1",
        )
        .fetch_optional(db)
        .await
        .map_err(unavailable)?
        .flatten();
        latest = latest.max(signed_in);
    }
    Ok(latest.map(Timestamp::from_millis))
}

pub(super) async fn bytes(db: &mut SqliteConnection) -> Result<u64, StoreError> {
    let bytes: i64 =
        sqlx::query_scalar("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")
            .fetch_one(db)
            .await
            .map_err(unavailable)?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}
