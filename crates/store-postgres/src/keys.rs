//! The tables `store`, `keys`, `key_history`, `revoked_thumbprints` and `external_keys`.

use std::time::Duration;

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{FromRow, Row as _};

use super::error::{ReadOnly, failed};
use jwksd_core::clock::Timestamp;
use jwksd_core::key::lifecycle::{Deletable, KeyMetadata, RotationTimes};
use jwksd_core::key::{KeyProfile, Kid};
use jwksd_core::store::{
    Applied, KeyChange, KeySnapshot, KeyVersion, KnownKey, MAX_DELETABLE, MAX_DELETED_NEXT, MasterKeyRecord,
    Pulse, SealedExternalKey, SealedKey, SealedRows, ServingMode, StoreError, UnloadedKeys,
};

/// The version of the keys and the server's time, from a server that can be written.
pub(crate) async fn pulse(db: &mut PgConnection) -> Result<Pulse, StoreError> {
    let (version, now, is_read_only): (i64, i64, bool) = sqlx::query_as(
        "SELECT key_version, (extract(epoch FROM clock_timestamp()) * 1000)::int8,
                pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'
         FROM jwksd.store",
    )
    .fetch_one(db)
    .await
    .map_err(failed)?;
    if is_read_only {
        return Err(StoreError::unavailable(ReadOnly));
    }
    Ok(Pulse { version: KeyVersion(version), now: Some(Timestamp::from_millis(now)) })
}

/// The row of the table `store`, and the server's time in milliseconds.
#[derive(FromRow)]
struct StoreRow {
    now: i64,
    key_version: i64,
    last_kid: i64,
    master_key_number: Option<i64>,
    master_key_salt: Option<Vec<u8>>,
    master_key_check_value: Option<Vec<u8>>,
    policy_lifetime: Option<i64>,
    policy_retention: Option<i64>,
    policy_lead: Option<i64>,
    policy_token_ttl: Option<i64>,
}

impl StoreRow {
    async fn read(db: &mut PgConnection) -> Result<Self, StoreError> {
        sqlx::query_as(
            "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::int8 AS now, key_version, last_kid,
                    master_key_number, master_key_salt, master_key_check_value,
                    policy_lifetime, policy_retention, policy_lead, policy_token_ttl
             FROM jwksd.store",
        )
        .fetch_one(db)
        .await
        .map_err(failed)
    }

    fn master_key(&self) -> Result<Option<MasterKeyRecord>, StoreError> {
        let (Some(number), Some(salt), Some(check_value)) =
            (self.master_key_number, &self.master_key_salt, &self.master_key_check_value)
        else {
            return Ok(None);
        };
        let salt = salt.as_slice().try_into();
        let salt =
            salt.map_err(|_| StoreError::Corrupt("the salt in its table store was changed".to_owned()))?;
        Ok(Some(MasterKeyRecord { number, salt, check_value: check_value.clone() }))
    }

    fn policy(&self) -> Option<RotationTimes> {
        let seconds = |number: i64| Duration::from_secs(u64::try_from(number).unwrap_or(0));
        Some(RotationTimes {
            lifetime: seconds(self.policy_lifetime?),
            retention: seconds(self.policy_retention?),
            lead: seconds(self.policy_lead?),
            token_ttl: seconds(self.policy_token_ttl?),
        })
    }
}

/// The rotation policy of the server that started last.
pub(crate) async fn policy(db: &mut PgConnection) -> Result<Option<RotationTimes>, StoreError> {
    Ok(StoreRow::read(db).await?.policy())
}

/// The record of the master key, if the store has one.
pub(crate) async fn master_key(db: &mut PgConnection) -> Result<Option<MasterKeyRecord>, StoreError> {
    StoreRow::read(db).await?.master_key()
}

/// Reads everything in the transaction of `db`, so that it belongs to one moment.
pub(crate) async fn snapshot(db: &mut PgConnection, wanted: &SealedRows) -> Result<KeySnapshot, StoreError> {
    let store = StoreRow::read(db).await?;
    let keys = match wanted {
        SealedRows::All | SealedRows::None => metadata(db).await?,
        SealedRows::One(kid) => metadata_of(db, *kid).await?,
        SealedRows::Usable { unreadable, deletable, .. } => {
            needed_metadata(db, unreadable, *deletable).await?
        }
        SealedRows::WithoutThumbprint { .. } => Vec::new(),
    };
    let unloaded = match wanted {
        SealedRows::Usable { .. } => unloaded(db, &keys).await?,
        _ => UnloadedKeys::default(),
    };
    let selected = match wanted {
        SealedRows::WithoutThumbprint { at_most } => without_thumbprint(db, *at_most).await?,
        _ => wanted.select(&keys),
    };
    Ok(KeySnapshot {
        version: KeyVersion(store.key_version),
        store_time: Some(Timestamp::from_millis(store.now)),
        master_key: store.master_key()?,
        policy: store.policy(),
        unloaded,
        sealed: sealed(db, &selected).await?,
        external: external(db).await?,
        next_kid: Kid(store.last_kid.saturating_add(1)),
        newest_signer: newest_signer(db).await?,
        open_mode_keys: open_mode_keys(db).await?,
        lacks_thumbprints: !without_thumbprint(db, 1).await?.is_empty(),
        keys,
        // No other program writes into these tables.
        unmanaged: Vec::new(),
        invalid_exp: Vec::new(),
    })
}

/// The columns of [`KeyMetadata`]. The rest of the query says which rows.
macro_rules! select_metadata {
    ($which:literal) => {
        concat!(
            "SELECT keys.kid, keys.exp, created_at, published_at, activated_at, expired_at, revoked_at, is_taken_over, alg,
                    kid_format
             FROM jwksd.keys JOIN jwksd.key_history ON key_history.kid = keys.kid ",
            $which,
            " ORDER BY keys.kid"
        )
    };
}

/// All keys.
async fn metadata(db: &mut PgConnection) -> Result<Vec<KeyMetadata>, StoreError> {
    let rows = sqlx::query(select_metadata!("")).fetch_all(db).await.map_err(failed)?;
    rows.iter().map(key_metadata).collect::<Result<_, _>>().map_err(failed)
}

async fn metadata_of(db: &mut PgConnection, kid: Kid) -> Result<Vec<KeyMetadata>, StoreError> {
    let rows = sqlx::query(select_metadata!("WHERE keys.kid = $1"));
    let rows = rows.bind(kid.0).fetch_all(db).await.map_err(failed)?;
    rows.iter().map(key_metadata).collect::<Result<_, _>>().map_err(failed)
}

/// The keys that a round of the rotation needs. Each part finds its rows by an index, however many keys were kept.
async fn needed_metadata(
    db: &mut PgConnection,
    unreadable: &[Kid],
    deletable: Deletable,
) -> Result<Vec<KeyMetadata>, StoreError> {
    let unreadable: Vec<_> = unreadable.iter().map(|kid| kid.0).collect();
    let rows = sqlx::query(select_metadata!(
        "WHERE keys.kid IN (
             WITH ended AS (
                 SELECT keys.kid,
                        greatest(exp - $2, CASE WHEN is_taken_over THEN created_at / 1000 - $3 ELSE exp - $2 END) AS seconds_left
                 FROM jwksd.keys JOIN jwksd.key_history ON key_history.kid = keys.kid
                 WHERE expired_at IS NOT NULL OR revoked_at IS NOT NULL)
             (SELECT kid FROM jwksd.key_history WHERE expired_at IS NULL AND revoked_at IS NULL AND deleted_at IS NULL)
             UNION (SELECT unnest($1::int8[]))
             UNION (SELECT max(kid) FROM jwksd.key_history WHERE activated_at IS NOT NULL)
             UNION (SELECT max(kid) FROM jwksd.key_history WHERE revoked_at IS NOT NULL AND deleted_at IS NULL)
             UNION (SELECT keys.kid FROM jwksd.keys JOIN jwksd.key_history ON key_history.kid = keys.kid
                    WHERE expired_at IS NOT NULL AND revoked_at IS NULL AND keys.kid <> ALL ($1::int8[])
                    ORDER BY exp DESC, keys.kid DESC LIMIT 1)
             UNION (SELECT kid FROM ended WHERE seconds_left <= 0 ORDER BY seconds_left LIMIT $4)
             UNION (SELECT kid FROM ended WHERE seconds_left > 0 ORDER BY seconds_left LIMIT $5))"
    ))
    .bind(unreadable)
    .bind(deletable.expired_by.as_secs())
    .bind(deletable.taken_over_by.as_secs())
    .bind(i64::from(MAX_DELETABLE))
    .bind(i64::from(MAX_DELETED_NEXT))
    .fetch_all(db)
    .await
    .map_err(failed)?;
    rows.iter().map(key_metadata).collect::<Result<_, _>>().map_err(failed)
}

fn key_metadata(row: &PgRow) -> Result<KeyMetadata, sqlx::Error> {
    let at = |column| row.try_get::<Option<i64>, _>(column).map(|at| at.map(Timestamp::from_millis));
    Ok(KeyMetadata {
        kid: Kid(row.try_get("kid")?),
        exp: Timestamp::from_secs(row.try_get("exp")?),
        created_at: Timestamp::from_millis(row.try_get("created_at")?),
        published_at: at("published_at")?,
        activated_at: at("activated_at")?,
        expired_at: at("expired_at")?,
        revoked_at: at("revoked_at")?,
        is_taken_over: row.try_get("is_taken_over")?,
        profile: KeyProfile::from_names(row.try_get("alg")?, row.try_get("kid_format")?),
    })
}

/// How many keys have ended that are not among `loaded`.
async fn unloaded(db: &mut PgConnection, loaded: &[KeyMetadata]) -> Result<UnloadedKeys, StoreError> {
    let (expired, revoked): (i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE expired_at IS NOT NULL AND revoked_at IS NULL),
                count(*) FILTER (WHERE revoked_at IS NOT NULL)
         FROM jwksd.key_history WHERE deleted_at IS NULL",
    )
    .fetch_one(db)
    .await
    .map_err(failed)?;
    let count = |number: i64| usize::try_from(number).unwrap_or(0);
    let loaded_revoked = loaded.iter().filter(|key| key.revoked_at.is_some()).count();
    let loaded_expired =
        loaded.iter().filter(|key| key.expired_at.is_some() && key.revoked_at.is_none()).count();
    Ok(UnloadedKeys {
        expired: count(expired).saturating_sub(loaded_expired),
        revoked: count(revoked).saturating_sub(loaded_revoked),
    })
}

async fn sealed(db: &mut PgConnection, kids: &[Kid]) -> Result<Vec<SealedKey>, StoreError> {
    let kids: Vec<_> = kids.iter().map(|kid| kid.0).collect();
    let rows: Vec<(i64, i64, Vec<u8>)> =
        sqlx::query_as("SELECT kid, exp, sealed FROM jwksd.keys WHERE kid = ANY ($1) ORDER BY kid")
            .bind(kids)
            .fetch_all(db)
            .await
            .map_err(failed)?;
    let key = |(kid, exp, bytes)| SealedKey { kid: Kid(kid), exp: Timestamp::from_secs(exp), bytes };
    Ok(rows.into_iter().map(key).collect())
}

async fn external(db: &mut PgConnection) -> Result<Vec<SealedExternalKey>, StoreError> {
    let rows: Vec<(String, Vec<u8>, Option<i64>, i64)> = sqlx::query_as(
        "SELECT kid, sealed, exp, added_at FROM jwksd.external_keys ORDER BY added_at, kid COLLATE \"C\"",
    )
    .fetch_all(db)
    .await
    .map_err(failed)?;
    let key = |(kid, sealed, exp, added_at): (_, _, Option<i64>, _)| SealedExternalKey {
        kid,
        exp: exp.map(Timestamp::from_secs),
        added_at: Timestamp::from_millis(added_at),
        sealed,
    };
    Ok(rows.into_iter().map(key).collect())
}

async fn newest_signer(db: &mut PgConnection) -> Result<Option<Kid>, StoreError> {
    let kid: Option<i64> =
        sqlx::query_scalar("SELECT max(kid) FROM jwksd.key_history WHERE activated_at IS NOT NULL")
            .fetch_one(db)
            .await
            .map_err(failed)?;
    Ok(kid.map(Kid))
}

async fn open_mode_keys(db: &mut PgConnection) -> Result<Vec<Kid>, StoreError> {
    let kids: Vec<i64> = sqlx::query_scalar(
        "SELECT kid FROM jwksd.key_history WHERE signed_in_open_mode AND deleted_at IS NULL ORDER BY kid",
    )
    .fetch_all(db)
    .await
    .map_err(failed)?;
    Ok(kids.into_iter().map(Kid).collect())
}

/// At most `at_most` keys whose thumbprint is not recorded.
async fn without_thumbprint(db: &mut PgConnection, at_most: u32) -> Result<Vec<Kid>, StoreError> {
    let kids: Vec<i64> = sqlx::query_scalar(
        "SELECT kid FROM jwksd.key_history WHERE thumbprint IS NULL AND deleted_at IS NULL ORDER BY kid LIMIT $1",
    )
    .bind(i64::from(at_most))
    .fetch_all(db)
    .await
    .map_err(failed)?;
    Ok(kids.into_iter().map(Kid).collect())
}

/// The keys that are published under their thumbprints.
pub(crate) async fn thumbprint_kids(db: &mut PgConnection) -> Result<Vec<(Kid, String)>, StoreError> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "SELECT kid, thumbprint FROM jwksd.key_history
         WHERE kid_format = 'thumbprint' AND thumbprint IS NOT NULL AND deleted_at IS NULL",
    )
    .fetch_all(db)
    .await
    .map_err(failed)?;
    Ok(rows.into_iter().map(|(kid, thumbprint)| (Kid(kid), thumbprint)).collect())
}

/// Those of these thumbprints that belong to a key of the store, or to one that was revoked.
pub(crate) async fn known(
    db: &mut PgConnection,
    thumbprints: &[String],
) -> Result<Vec<KnownKey>, StoreError> {
    let rows: Vec<(String, Option<i64>, bool, bool)> = sqlx::query_as(
        "SELECT wanted.thumbprint, key_history.kid, revoked_thumbprints.thumbprint IS NOT NULL,
                coalesce(kid_format = 'thumbprint', FALSE)
         FROM unnest($1::text[]) AS wanted(thumbprint)
         LEFT JOIN jwksd.key_history ON key_history.thumbprint = wanted.thumbprint AND deleted_at IS NULL
         LEFT JOIN jwksd.revoked_thumbprints ON revoked_thumbprints.thumbprint = wanted.thumbprint
         WHERE key_history.kid IS NOT NULL OR revoked_thumbprints.thumbprint IS NOT NULL
         ORDER BY key_history.kid",
    )
    .bind(thumbprints)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    let known = |(thumbprint, kid, is_revoked, has_thumbprint_as_kid): (_, Option<i64>, _, _)| KnownKey {
        thumbprint,
        kid: kid.map(Kid),
        has_thumbprint_as_kid,
        is_revoked,
    };
    Ok(rows.into_iter().map(known).collect())
}

/// Counts the version up. Nothing is changed if the keys have another one.
pub(crate) async fn claim(db: &mut PgConnection, version: KeyVersion) -> Result<Applied, StoreError> {
    let claimed = sqlx::query("UPDATE jwksd.store SET key_version = key_version + 1 WHERE key_version = $1")
        .bind(version.0)
        .execute(db)
        .await
        .map_err(failed)?;
    Ok(if claimed.rows_affected() == 1 { Applied::Yes } else { Applied::Conflict })
}

/// Carries out the changes in order. After a conflict the transaction must be rolled back.
pub(crate) async fn apply(db: &mut PgConnection, changes: &[KeyChange]) -> Result<Applied, StoreError> {
    for change in changes {
        match change {
            // Without other programs there is nothing to adopt: a row is only resealed.
            KeyChange::Adopt { key, sealed } => {
                if let Some(sealed) = sealed {
                    reseal(db, key.kid, key.exp, sealed).await?;
                }
            }
            KeyChange::Delete { kid, at } => {
                execute(db, "DELETE FROM jwksd.keys WHERE kid = $1", |query| query.bind(kid.0)).await?;
                mark(db, "UPDATE jwksd.key_history SET deleted_at = $1 WHERE kid = $2", *kid, *at).await?;
            }
            KeyChange::Expire { kid, at } => {
                mark(db, "UPDATE jwksd.key_history SET expired_at = $1 WHERE kid = $2", *kid, *at).await?;
            }
            KeyChange::Insert { key, sealed } => insert(db, key, sealed).await?,
            KeyChange::Promote { kid, at } => {
                mark(db, "UPDATE jwksd.key_history SET activated_at = $1 WHERE kid = $2", *kid, *at).await?;
            }
            KeyChange::Publish(key) => publish(db, key).await?,
            KeyChange::RecordPolicy(times) => record_policy(db, *times).await?,
            KeyChange::RecordThumbprint { kid, thumbprint } => {
                record_thumbprint(db, *kid, thumbprint).await?;
            }
            KeyChange::Reseal { kid, exp, sealed } => reseal(db, *kid, *exp, sealed).await?,
            KeyChange::ResetPublishedAt { kid, at } => {
                mark(db, "UPDATE jwksd.key_history SET published_at = $1 WHERE kid = $2", *kid, *at).await?;
            }
            KeyChange::Revoke { kid, at } => revoke(db, *kid, *at).await?,
            KeyChange::SetMasterKey(record) => {
                if set_master_key(db, record).await? == Applied::Conflict {
                    return Ok(Applied::Conflict);
                }
            }
            KeyChange::Withdraw { kid } => {
                let sql = "DELETE FROM jwksd.external_keys WHERE kid = $1";
                execute(db, sql, |query| query.bind(kid.clone())).await?;
            }
        }
    }
    Ok(Applied::Yes)
}

async fn insert(db: &mut PgConnection, key: &KeyMetadata, sealed: &[u8]) -> Result<(), StoreError> {
    execute(db, "INSERT INTO jwksd.keys (kid, sealed, exp) VALUES ($1, $2, $3)", |query| {
        query.bind(key.kid.0).bind(sealed.to_vec()).bind(key.exp.as_secs())
    })
    .await?;
    let millis = |at: Option<Timestamp>| at.map(Timestamp::as_millis);
    execute(
        db,
        "INSERT INTO jwksd.key_history (kid, created_at, published_at, activated_at, expired_at, revoked_at, is_taken_over, alg,
                                        kid_format, sealed_under)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, (SELECT coalesce(master_key_number, 0) FROM jwksd.store))",
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
    .await?;
    let sql = "UPDATE jwksd.store SET last_kid = greatest(last_kid, $1)";
    execute(db, sql, |query| query.bind(key.kid.0)).await
}

async fn reseal(db: &mut PgConnection, kid: Kid, exp: Timestamp, sealed: &[u8]) -> Result<(), StoreError> {
    execute(db, "UPDATE jwksd.keys SET sealed = $1, exp = $2 WHERE kid = $3", |query| {
        query.bind(sealed.to_vec()).bind(exp.as_secs()).bind(kid.0)
    })
    .await?;
    // In a rekey, SetMasterKey comes first, so this is the number of the new one.
    let sql = "UPDATE jwksd.key_history SET sealed_under = (SELECT coalesce(master_key_number, 0) FROM jwksd.store) WHERE kid = $1";
    execute(db, sql, |query| query.bind(kid.0)).await
}

async fn revoke(db: &mut PgConnection, kid: Kid, at: Timestamp) -> Result<(), StoreError> {
    mark(db, "UPDATE jwksd.key_history SET revoked_at = $1 WHERE kid = $2", kid, at).await?;
    remember_revoked_thumbprint(db, kid).await
}

async fn record_thumbprint(db: &mut PgConnection, kid: Kid, thumbprint: &str) -> Result<(), StoreError> {
    // The key may have been deleted meanwhile, so any number of rows is right.
    sqlx::query("UPDATE jwksd.key_history SET thumbprint = $1 WHERE kid = $2 AND deleted_at IS NULL")
        .bind(thumbprint)
        .bind(kid.0)
        .execute(&mut *db)
        .await
        .map_err(failed)?;
    remember_revoked_thumbprint(db, kid).await
}

async fn remember_revoked_thumbprint(db: &mut PgConnection, kid: Kid) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO jwksd.revoked_thumbprints (thumbprint)
         SELECT thumbprint FROM jwksd.key_history WHERE kid = $1 AND revoked_at IS NOT NULL AND thumbprint <> ''
         ON CONFLICT DO NOTHING",
    )
    .bind(kid.0)
    .execute(db)
    .await
    .map(drop)
    .map_err(failed)
}

async fn publish(db: &mut PgConnection, key: &SealedExternalKey) -> Result<(), StoreError> {
    execute(
        db,
        // A replaced row keeps added_at, and with it its place in the JWKS.
        "INSERT INTO jwksd.external_keys (kid, sealed, exp, added_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (kid) DO UPDATE SET sealed = $2, exp = $3",
        |query| {
            query
                .bind(key.kid.clone())
                .bind(key.sealed.clone())
                .bind(key.exp.map(Timestamp::as_secs))
                .bind(key.added_at.as_millis())
        },
    )
    .await
}

async fn record_policy(db: &mut PgConnection, times: RotationTimes) -> Result<(), StoreError> {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    execute(
        db,
        "UPDATE jwksd.store SET policy_lifetime = $1, policy_retention = $2, policy_lead = $3, policy_token_ttl = $4",
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

/// Stores the first record of a store, or the successor of the one it has.
async fn set_master_key(db: &mut PgConnection, record: &MasterKeyRecord) -> Result<Applied, StoreError> {
    let set = sqlx::query(
        "UPDATE jwksd.store SET master_key_number = $1, master_key_salt = $2, master_key_check_value = $3
         WHERE coalesce(master_key_number, 0) + 1 = $1",
    )
    .bind(record.number)
    .bind(record.salt.to_vec())
    .bind(record.check_value.clone())
    .execute(db)
    .await
    .map_err(failed)?;
    Ok(if set.rows_affected() == 1 { Applied::Yes } else { Applied::Conflict })
}

async fn mark(db: &mut PgConnection, sql: &'static str, kid: Kid, at: Timestamp) -> Result<(), StoreError> {
    execute(db, sql, |query| query.bind(at.as_millis()).bind(kid.0)).await
}

type Query = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// Runs a statement that must change exactly one row.
async fn execute(
    db: &mut PgConnection,
    sql: &'static str,
    bind: impl FnOnce(Query) -> Query,
) -> Result<(), StoreError> {
    // Another count means that the tables contradict each other. Rolling back is safer than half a plan.
    match bind(sqlx::query(sql)).execute(db).await.map_err(failed)?.rows_affected() {
        1 => Ok(()),
        other => Err(StoreError::Corrupt(format!("{other} rows instead of 1 were changed by: {sql}"))),
    }
}

/// The mode that the store was last served in.
pub(crate) async fn serving_mode(db: &mut PgConnection) -> Result<Option<ServingMode>, StoreError> {
    let name: Option<String> =
        sqlx::query_scalar("SELECT serving_mode FROM jwksd.store").fetch_one(db).await.map_err(failed)?;
    let unknown = || StoreError::Corrupt("the serving_mode in its table store was changed".to_owned());
    name.map(|name| ServingMode::from_name(&name).ok_or_else(unknown)).transpose()
}

/// Records the mode, unless one is recorded. Returns the recorded one.
pub(crate) async fn record_serving_mode(
    db: &mut PgConnection,
    mode: ServingMode,
) -> Result<Option<ServingMode>, StoreError> {
    sqlx::query("UPDATE jwksd.store SET serving_mode = $1 WHERE serving_mode IS NULL")
        .bind(mode.name())
        .execute(&mut *db)
        .await
        .map_err(failed)?;
    serving_mode(db).await
}

/// Remembers that a key signs in open mode.
pub(crate) async fn record_open_mode_key(db: &mut PgConnection, kid: Kid) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE jwksd.key_history SET signed_in_open_mode = TRUE WHERE kid = $1 AND NOT signed_in_open_mode",
    )
    .bind(kid.0)
    .execute(db)
    .await
    .map(drop)
    .map_err(failed)
}
