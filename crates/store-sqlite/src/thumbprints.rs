//! The tables `key_thumbprints`, `revoked_thumbprints` and `keys_without_thumbprint`.

use sqlx::SqliteConnection;

use super::error::{failed, unavailable};
use jwksd_core::key::{Kid, LATEST_EXP};
use jwksd_core::store::{KnownKey, StoreError};

/// Records the thumbprint of a key.
pub(super) async fn record(db: &mut SqliteConnection, kid: Kid, thumbprint: &str) -> Result<(), StoreError> {
    // A trigger takes the key from keys_without_thumbprint. Its row may have been deleted meanwhile.
    sqlx::query(
        "INSERT OR REPLACE INTO key_thumbprints (kid, thumbprint) SELECT kid, ?2 FROM keys WHERE kid = ?1",
    )
    .bind(kid.0)
    .bind(thumbprint)
    .execute(db)
    .await
    .map(drop)
    .map_err(failed)
}

/// At most `at_most` managed keys without one.
pub(super) async fn unrecorded(db: &mut SqliteConnection, at_most: u32) -> Result<Vec<Kid>, StoreError> {
    // Rows that nothing is recorded about may stay in that table for as long as they do not open, and so may those whose
    // `exp` is not believed (a text is greater than every number): nothing of them is deleted before it is.
    let kids: Vec<i64> = sqlx::query_scalar(
        "SELECT kid FROM keys_without_thumbprint JOIN keys USING (kid)
         WHERE keys.exp < ? + 1 AND kid IN (SELECT kid FROM key_lives) ORDER BY kid LIMIT ?",
    )
    .bind(LATEST_EXP)
    .bind(at_most)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    Ok(kids.into_iter().map(Kid).collect())
}

/// The keys that are published under their thumbprints.
pub(super) async fn as_kids(db: &mut SqliteConnection) -> Result<Vec<(Kid, String)>, StoreError> {
    let rows: Vec<(i64, String)> = sqlx::query_as(
        "SELECT kid, thumbprint FROM key_thumbprints JOIN key_lives USING (kid) WHERE kid_format = 'thumbprint'",
    )
    .fetch_all(db)
    .await
    .map_err(failed)?;
    Ok(rows.into_iter().map(|(kid, thumbprint)| (Kid(kid), thumbprint)).collect())
}

/// Those of these thumbprints that belong to a key of the store, or to one that was revoked.
pub(super) async fn known(
    db: &mut SqliteConnection,
    thumbprints: &[String],
) -> Result<Vec<KnownKey>, StoreError> {
    let rows: Vec<(String, Option<i64>, bool, bool)> = sqlx::query_as(
        "SELECT wanted.value, key_thumbprints.kid, revoked.thumbprint IS NOT NULL,
                coalesce(key_lives.kid_format = 'thumbprint', 0)
         FROM json_each(?) AS wanted
         LEFT JOIN key_thumbprints ON key_thumbprints.thumbprint = wanted.value
         LEFT JOIN key_lives ON key_lives.kid = key_thumbprints.kid
         LEFT JOIN revoked_thumbprints AS revoked ON revoked.thumbprint = wanted.value
         WHERE key_thumbprints.kid IS NOT NULL OR revoked.thumbprint IS NOT NULL
         ORDER BY key_thumbprints.kid",
    )
    .bind(serde_json::to_string(thumbprints).map_err(unavailable)?)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    let known = |(thumbprint, kid, is_revoked, has_thumbprint_as_kid): (String, Option<i64>, bool, bool)| {
        KnownKey { thumbprint, kid: kid.map(Kid), has_thumbprint_as_kid, is_revoked }
    };
    Ok(rows.into_iter().map(known).collect())
}
