//! The [`Store`] in PostgreSQL.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use thiserror::Error;

use super::connections::{Begin, Connections, act};
use super::error::{failed, is_lock_timeout, is_unknown_commit, not_writable};
use super::inspect::{self, Inspection};
use super::server::ServerUrl;
use super::{accounts, keys, schema, sign_in_batch, sign_ins};
use jwksd_core::account::{AccountReport, NewAccount, TokenHolder, UserId};
use jwksd_core::client::ClientKey;
use jwksd_core::clock::Timestamp;
use jwksd_core::key::Kid;
use jwksd_core::password::PasswordHash;
use jwksd_core::store::{
    AccountChange, Applied, Cursor, KeyChange, KeySnapshot, KeyVersion, KnownKey, MasterKeyRecord, NewSignIn,
    NotWritable, Page, Pulse, SealedRows, ServingMode, SignIn, SignInBatcher, SignInCandidate, SignInFilter,
    SignInOutcome, Store, StoreError,
};

/// Maximum wait for the lock before the time in a plan counts as stale.
const LOCK_WAIT: &str = "SET LOCAL lock_timeout = '500ms'";

/// Maximum time of a pulse: after it, the server counts as away.
const POLL_LIMIT: Duration = Duration::from_millis(500);

/// Time in which a sign-in may still be stored after this process has given it up, because it waited for a lock.
const MAX_CLOSING: Duration = Duration::from_secs(5);

/// A store in a database of a PostgreSQL server.
#[derive(Debug)]
pub struct PostgresStore {
    /// For the rotation: it must not wait behind sign-ins.
    rounds: Connections,
    /// For the question whether the server answers: it must not wait behind anything.
    polls: Connections,
    requests: Connections,
    /// Maximum time of an act.
    limit: Duration,
    batcher: SignInBatcher,
    /// Whether the latest pulse failed.
    is_away: AtomicBool,
}

/// The latest pulse failed, so no request is worth its work.
#[derive(Clone, Copy, Debug, Error)]
#[error("the database server did not answer a moment ago")]
struct Away;

impl PostgresStore {
    /// Looks at the database without changing it: the record of its master key, and whether there are accounts. Nothing if it has
    /// no store yet.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn probe(
        server: &ServerUrl,
        limit: Duration,
    ) -> Result<(Option<MasterKeyRecord>, bool), StoreError> {
        let connections = Connections::new(server, 1, limit);
        let probed = Self::probe_on(&connections).await;
        connections.close().await;
        probed
    }

    async fn probe_on(connections: &Connections) -> Result<(Option<MasterKeyRecord>, bool), StoreError> {
        act!(connections, |db| probe(db))
    }

    /// What an operator should know about the server and the store on it.
    ///
    /// # Errors
    /// As [`PostgresStore::open`].
    pub async fn inspect(server: &ServerUrl, limit: Duration) -> Result<Inspection, StoreError> {
        let connections = Connections::new(server, 1, limit);
        let inspected = Self::inspect_on(&connections).await;
        connections.close().await;
        inspected
    }

    async fn inspect_on(connections: &Connections) -> Result<Inspection, StoreError> {
        act!(connections, |db| inspect::inspect(db))
    }

    /// Connects, and brings the schema up to date. At most `connections` serve requests; `limit` ends every act.
    ///
    /// # Errors
    /// [`StoreError`] says in words what is wrong with the database.
    pub async fn open(server: &ServerUrl, connections: u32, limit: Duration) -> Result<Self, StoreError> {
        let rounds = Connections::new(server, 1, limit);
        let requests = rounds.more(connections, limit);
        schema::migrate(&rounds).await?;
        let batcher = SignInBatcher::new({
            let requests = requests.clone();
            move |sign_ins: Vec<NewSignIn>| {
                let requests = requests.clone();
                async move {
                    if sign_ins.is_empty() {
                        return Ok(Vec::new());
                    }
                    act!(requests, |db| sign_in_batch::record(db, &sign_ins))
                }
            }
        });
        let polls = rounds.more(1, limit.min(POLL_LIMIT));
        Ok(Self { rounds, polls, requests, limit, batcher, is_away: AtomicBool::new(false) })
    }
}

impl PostgresStore {
    async fn ask_pulse(&self) -> Result<Pulse, StoreError> {
        act!(self.polls, |db| keys::pulse(db))
    }

    async fn insert(&self, account: &NewAccount, now: Timestamp) -> Result<UserId, StoreError> {
        act!(self.requests, Begin::Write, |db| accounts::insert(db, account, now))
    }

    /// Writes a row that has no other meaning.
    async fn write(&self) -> Result<(), StoreError> {
        act!(self.rounds, |db| write_probe(db))
    }
}

async fn probe(db: &mut PgConnection) -> Result<(Option<MasterKeyRecord>, bool), StoreError> {
    if !schema::exists(db).await? {
        return Ok((None, false));
    }
    schema::expect_readable(db).await?;
    Ok((keys::master_key(db).await?, accounts::any(db).await?))
}

async fn write_probe(db: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("UPDATE jwksd.write_probe SET number = 1 - number")
        .execute(db)
        .await
        .map(drop)
        .map_err(failed)
}

/// Applies the changes, or none of them.
async fn apply(
    db: &mut PgConnection,
    version: KeyVersion,
    changes: &[KeyChange],
) -> Result<Applied, StoreError> {
    // A savepoint: a conflict rolls back to it.
    let mut tx = db.begin().await.map_err(failed)?;
    sqlx::query(LOCK_WAIT).execute(&mut *tx).await.map_err(failed)?;
    match keys::claim(&mut tx, version).await {
        Ok(Applied::Yes) => {}
        Ok(Applied::Conflict) => return Ok(Applied::Conflict),
        Err(error) if is_lock_timeout(&error) => return Ok(Applied::Conflict),
        Err(error) => return Err(error),
    }
    if keys::apply(&mut tx, changes).await? == Applied::Conflict {
        // Dropping `tx` rolls back.
        return Ok(Applied::Conflict);
    }
    tx.commit().await.map_err(failed)?;
    Ok(Applied::Yes)
}

#[async_trait]
impl Store for PostgresStore {
    async fn keys(&self, sealed: &SealedRows) -> Result<KeySnapshot, StoreError> {
        act!(self.rounds, Begin::Snapshot, |db| keys::snapshot(db, sealed))
    }

    async fn known_keys(&self, thumbprints: &[String]) -> Result<Vec<KnownKey>, StoreError> {
        act!(self.rounds, |db| keys::known(db, thumbprints))
    }

    async fn thumbprint_kids(&self) -> Result<Vec<(Kid, String)>, StoreError> {
        act!(self.rounds, |db| keys::thumbprint_kids(db))
    }

    async fn pulse(&self) -> Result<Pulse, StoreError> {
        let pulse = self.ask_pulse().await;
        let was_away = self.is_away.swap(pulse.is_err(), Ordering::Relaxed);
        // One answer that is late may be that of a busy server, to which all should not connect again at once.
        if pulse.is_err() && was_away {
            self.polls.distrust();
        }
        pulse
    }

    fn expect_reachable(&self) -> Result<(), StoreError> {
        if self.is_away.load(Ordering::Relaxed) { Err(StoreError::unavailable(Away)) } else { Ok(()) }
    }

    async fn apply(&self, version: KeyVersion, changes: Vec<KeyChange>) -> Result<Applied, StoreError> {
        act!(self.rounds, Begin::Write, |db| apply(db, version, &changes))
    }

    async fn serving_mode(&self) -> Result<Option<ServingMode>, StoreError> {
        act!(self.rounds, |db| keys::serving_mode(db))
    }

    async fn record_serving_mode(&self, mode: ServingMode) -> Result<Option<ServingMode>, StoreError> {
        act!(self.rounds, |db| keys::record_serving_mode(db, mode))
    }

    async fn record_open_mode_key(&self, kid: Kid) -> Result<(), StoreError> {
        act!(self.requests, |db| keys::record_open_mode_key(db, kid))
    }

    async fn has_accounts(&self) -> Result<bool, StoreError> {
        self.expect_reachable()?;
        act!(self.requests, |db| accounts::any(db))
    }

    async fn register(&self, account: NewAccount, now: Timestamp) -> Result<UserId, StoreError> {
        match self.insert(&account, now).await {
            // Whether it was committed is not known. If it was, its name is given out, and only this answer has its password.
            Err(error) if is_unknown_commit(&error) => {
                act!(self.requests, |db| accounts::find_registered(db, &account))?.ok_or(error)
            }
            known => known,
        }
    }

    async fn sign_in_candidate(&self, username: &str) -> Result<SignInCandidate, StoreError> {
        self.expect_reachable()?;
        act!(self.requests, |db| accounts::candidate(db, username))
    }

    async fn token_holder(&self, user: UserId) -> Result<Option<TokenHolder>, StoreError> {
        self.expect_reachable()?;
        act!(self.requests, |db| accounts::token_holder(db, user))
    }

    async fn account(&self, username: &str) -> Result<Option<AccountReport>, StoreError> {
        act!(self.requests, |db| accounts::report(db, username))
    }

    async fn accounts(&self, after: UserId, at_most: u32) -> Result<Vec<AccountReport>, StoreError> {
        act!(self.requests, |db| accounts::reports(db, after, at_most))
    }

    async fn unusable_hashes(&self) -> Result<u64, StoreError> {
        // Page by page, because there may be millions.
        let (mut after, mut unusable) = (i64::MIN, 0);
        loop {
            let page = act!(self.requests, |db| accounts::hashes(db, after))?;
            let Some((last, _)) = page.last() else {
                return Ok(unusable);
            };
            after = *last;
            for (_, hash) in page {
                unusable += u64::from(!PasswordHash::stored(hash).is_usable());
            }
        }
    }

    async fn change_account(
        &self,
        user: UserId,
        change: &AccountChange,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let changed = act!(self.requests, Begin::Write, |db| accounts::change(db, user, change, now));
        match (changed, change) {
            // Whether it was committed is not known. If it was, only this answer has the new password.
            (Err(error), AccountChange::SetHash { hash, .. }) if is_unknown_commit(&error) => {
                let has_hash = act!(self.requests, |db| accounts::has_hash(db, user, hash))?;
                if has_hash { Ok(true) } else { Err(error) }
            }
            (changed, _) => changed,
        }
    }

    async fn record_sign_in(&self, sign_in: NewSignIn) -> Result<SignInOutcome, StoreError> {
        self.batcher.record(sign_in).await
    }

    async fn has_signed_in(
        &self,
        user: UserId,
        client: ClientKey,
        since: Timestamp,
    ) -> Result<bool, StoreError> {
        act!(self.requests, |db| sign_ins::has_any(db, user, client, since))
    }

    async fn sign_ins(
        &self,
        filter: &SignInFilter,
        page: &Page,
        at_most: u32,
    ) -> Result<Vec<SignIn>, StoreError> {
        act!(self.requests, |db| sign_ins::page(db, filter, page, at_most))
    }

    async fn before_last_sign_ins(
        &self,
        filter: &SignInFilter,
        count: u32,
        up_to: i64,
    ) -> Result<Option<Cursor>, StoreError> {
        act!(self.requests, |db| sign_ins::before_last(db, filter, count, up_to))
    }

    async fn newest_sign_in(&self) -> Result<i64, StoreError> {
        act!(self.requests, |db| sign_ins::newest(db))
    }

    /// Numbers are drawn before the commit, and an act ends by its time limit.
    fn sign_in_delay(&self) -> Duration {
        self.limit * 2 + MAX_CLOSING
    }

    async fn delete_sign_ins_before(&self, before: Timestamp, at_most: u32) -> Result<u64, StoreError> {
        act!(self.requests, |db| sign_ins::delete_before(db, before, at_most))
    }

    async fn probe_write(&self) -> Result<(), NotWritable> {
        self.write().await.map_err(not_writable)
    }

    async fn close(&self) {
        self.rounds.close().await;
        self.polls.close().await;
        self.requests.close().await;
    }
}
