//! What an operator should know about the server: for `jwksd doctor`.

use sqlx::FromRow;
use sqlx::postgres::PgConnection;

use super::error::failed;
use super::keys;
use jwksd_core::clock::Timestamp;
use jwksd_core::key::lifecycle::RotationTimes;
use jwksd_core::store::StoreError;

/// A server and the store on it.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// Its version, as `15.18`.
    pub version: String,
    /// Its time, when it was asked.
    pub now: Timestamp,
    /// Whether the connection is encrypted.
    pub has_tls: bool,
    /// Whether it can only be read.
    pub is_read_only: bool,
    /// The number of servers that replicate it; nothing if the role may not see them.
    pub replicas: Option<i64>,
    /// How many of those confirm each commit before it is answered.
    pub synchronous_replicas: i64,
    /// The setting by which commits wait: `on`, `off`, `local`, `remote_write` or `remote_apply`.
    pub synchronous_commit: String,
    /// How many connections it accepts in total.
    pub max_connections: i64,
    /// How many of those are open to this database, by all programs.
    pub open_connections: i64,
    /// The rotation policy of the process that started last.
    pub policy: Option<RotationTimes>,
    /// The version of the schema.
    pub schema: i64,
    /// Keys that are kept.
    pub keys: i64,
    /// Accounts that are not deleted.
    pub accounts: i64,
}

#[derive(FromRow)]
struct Row {
    version: String,
    now: i64,
    has_tls: bool,
    is_read_only: bool,
    replicas: i64,
    visible_replicas: i64,
    synchronous_replicas: i64,
    synchronous_commit: String,
    max_connections: i64,
    open_connections: i64,
    schema: i64,
    keys: i64,
    accounts: i64,
}

pub(crate) async fn inspect(db: &mut PgConnection) -> Result<Inspection, StoreError> {
    let row: Row = sqlx::query_as(
        "SELECT current_setting('server_version') AS version,
                (extract(epoch FROM clock_timestamp()) * 1000)::int8 AS now,
                coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), FALSE) AS has_tls,
                pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on' AS is_read_only,
                (SELECT count(*) FROM pg_stat_replication) AS replicas,
                (SELECT count(*) FROM pg_stat_replication WHERE sync_state IS NOT NULL) AS visible_replicas,
                (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS synchronous_replicas,
                current_setting('synchronous_commit') AS synchronous_commit,
                current_setting('max_connections')::int8 AS max_connections,
                (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()) AS open_connections,
                (SELECT max(version) FROM jwksd._sqlx_migrations) AS schema,
                (SELECT count(*) FROM jwksd.keys) AS keys,
                (SELECT count(*) FROM jwksd.accounts WHERE deleted_at IS NULL) AS accounts",
    )
    .fetch_one(&mut *db)
    .await
    .map_err(failed)?;
    Ok(Inspection {
        version: row.version,
        now: Timestamp::from_millis(row.now),
        has_tls: row.has_tls,
        is_read_only: row.is_read_only,
        replicas: (row.visible_replicas == row.replicas).then_some(row.replicas),
        synchronous_replicas: row.synchronous_replicas,
        synchronous_commit: row.synchronous_commit,
        max_connections: row.max_connections,
        open_connections: row.open_connections,
        policy: keys::policy(db).await?,
        schema: row.schema,
        keys: row.keys,
        accounts: row.accounts,
    })
}
