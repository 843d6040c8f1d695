//! Records sign-ins in batches: those that arrive while a transaction runs share the next one.
//!
//! A sign-in never waits for others to join it. Each is answered when the transaction that holds it is committed.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use sqlx::SqliteConnection;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::error::{failed, unavailable};
use super::pool::{Durability, Writer};
use jwksd_core::clock::Timestamp;
use jwksd_core::store::{NewSignIn, SignInOutcome, StoreError};

/// Maximum number of sign-ins in one transaction. As many again may wait for the next.
const MAX_BATCH: usize = 256;

/// Records sign-ins, one transaction after the other.
#[derive(Clone, Debug)]
pub(super) struct SignInBatcher(mpsc::Sender<Waiting>);

#[derive(Debug)]
struct Waiting {
    sign_in: NewSignIn,
    answer: oneshot::Sender<Result<SignInOutcome, StoreError>>,
}

impl SignInBatcher {
    /// Starts a task that writes through this connection until the batcher is dropped.
    pub(super) fn start(writer: Writer) -> Self {
        Self::with(move |sign_ins| record(writer.clone(), sign_ins))
    }

    fn with<R>(record: impl Fn(Vec<NewSignIn>) -> R + Send + 'static) -> Self
    where
        R: Future<Output = Result<Vec<SignInOutcome>, StoreError>> + Send + 'static,
    {
        // Bounded: on a slow disk, sign-ins wait outside instead of filling the memory.
        let (queue, queued) = mpsc::channel(MAX_BATCH);
        tokio::spawn(batch_loop(queued, record));
        Self(queue)
    }

    /// Records a sign-in, together with others that arrive at the same time.
    pub(super) async fn record(&self, sign_in: NewSignIn) -> Result<SignInOutcome, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Waiting { sign_in, answer }).await.map_err(|_| unavailable(Ended))?;
        answered.await.map_err(|_| unavailable(Ended))?
    }
}

/// The program is ending.
#[derive(Clone, Copy, Debug, Error)]
#[error("sign-ins are no longer recorded")]
struct Ended;

/// The panic itself is on standard error by then.
#[derive(Clone, Copy, Debug, Error)]
#[error("recording sign-ins panicked")]
struct Panicked;

/// Why a transaction was not committed, for every sign-in in it.
#[derive(Clone, Debug, Error)]
#[error(transparent)]
struct NotRecorded(Arc<StoreError>);

async fn batch_loop<R>(mut queued: mpsc::Receiver<Waiting>, record: impl Fn(Vec<NewSignIn>) -> R)
where
    R: Future<Output = Result<Vec<SignInOutcome>, StoreError>> + Send + 'static,
{
    let mut waiting = Vec::new();
    while queued.recv_many(&mut waiting, MAX_BATCH).await > 0 {
        // A client that has disconnected got no answer, so it has not signed in.
        waiting.retain(|waiting| !waiting.answer.is_closed());
        let (sign_ins, answers): (Vec<_>, Vec<_>) =
            waiting.drain(..).map(|waiting| (waiting.sign_in, waiting.answer)).unzip();
        match attempt(record(sign_ins.clone())).await {
            // A rule of another program's table may forbid one of them, such as an IPv6 address. The others are recorded.
            Err(StoreError::Forbidden(_)) if sign_ins.len() > 1 => {
                for (sign_in, answer) in sign_ins.into_iter().zip(answers) {
                    deliver(vec![answer], attempt(record(vec![sign_in])).await);
                }
            }
            recorded => deliver(answers, recorded),
        }
    }
}

/// In a task of its own: a panic then fails only this batch.
async fn attempt(
    record: impl Future<Output = Result<Vec<SignInOutcome>, StoreError>> + Send + 'static,
) -> Result<Vec<SignInOutcome>, StoreError> {
    tokio::spawn(record).await.unwrap_or_else(|_| Err(unavailable(Panicked)))
}

fn deliver(
    answers: Vec<oneshot::Sender<Result<SignInOutcome, StoreError>>>,
    recorded: Result<Vec<SignInOutcome>, StoreError>,
) {
    // Sending fails if the client disconnects at this moment, which changes nothing.
    match recorded {
        Ok(outcomes) => {
            for (answer, outcome) in answers.into_iter().zip(outcomes) {
                let _ = answer.send(Ok(outcome));
            }
        }
        Err(StoreError::Forbidden(why)) => {
            for answer in answers {
                let _ = answer.send(Err(StoreError::Forbidden(why.clone())));
            }
        }
        Err(error) => {
            let cause = NotRecorded(Arc::new(error));
            for answer in answers {
                let _ = answer.send(Err(unavailable(cause.clone())));
            }
        }
    }
}

/// Records the valid ones of a batch. Returns an outcome for each, in order.
async fn record(writer: Writer, sign_ins: Vec<NewSignIn>) -> Result<Vec<SignInOutcome>, StoreError> {
    if sign_ins.is_empty() {
        return Ok(Vec::new());
    }
    // Not Full: one fsync per batch would limit sign-ins to the speed of the disk. A power cut may lose the last
    // rows of the log; in WAL mode it does not damage the file.
    let mut tx = writer.begin(Durability::Normal).await?;
    let rows: Vec<_> = sign_ins.iter().map(Row::new).collect();
    // Under the write lock, so that no account is disabled and no key revoked between this check and the commit.
    let outcomes = check(&mut tx, &json(&rows)?, rows.len()).await?;
    let is_valid = |outcome: &SignInOutcome| *outcome == SignInOutcome::Recorded;
    let valid: Vec<_> =
        rows.iter().zip(&outcomes).filter(|(_, outcome)| is_valid(outcome)).map(|(row, _)| row).collect();
    insert(&mut tx, &json(&valid)?).await?;
    writer.commit(tx).await?;
    Ok(outcomes)
}

/// A sign-in as SQL reads it: user, hash, address, time, key, latest sign-out. A batch is one JSON parameter, so it costs few statements.
#[derive(Serialize)]
struct Row<'a>(i64, &'a str, IpAddr, i64, Option<i64>, Option<i64>);

impl<'a> Row<'a> {
    fn new(sign_in: &'a NewSignIn) -> Self {
        let kid = sign_in.signed_by.map(|kid| kid.0);
        let signed_out_at = sign_in.signed_out_at.map(Timestamp::as_millis);
        Self(sign_in.user.0, sign_in.checked.as_str(), sign_in.from, sign_in.at.as_secs(), kid, signed_out_at)
    }
}

fn json(rows: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(rows).map_err(unavailable)
}

/// An outcome for each row. Rows whose account has changed are not in the result of the query.
async fn check(
    db: &mut SqliteConnection,
    rows: &str,
    count: usize,
) -> Result<Vec<SignInOutcome>, StoreError> {
    // Compares the hash that was checked: a password that was reset meanwhile must not sign in once more. And the sign-out:
    // /verify would refuse the token of an earlier second, and must refuse it even if its `iat` is a later one.
    // The `key` that json_each gives an element of an array is its position.
    let found: Vec<(i64, bool)> = sqlx::query_as(
        "SELECT sign_in.key,
                sign_in.value ->> 4 IS NULL
                OR coalesce(CAST(keys.exp AS INTEGER) > sign_in.value ->> 3
                            AND ended.expired_at IS NULL AND ended.revoked_at IS NULL, 0)
         FROM json_each(?) AS sign_in
         JOIN users ON users.id = sign_in.value ->> 0 AND CAST(password_hash AS TEXT) = sign_in.value ->> 1
         LEFT JOIN account_states ON account_states.user_id = users.id
         LEFT JOIN sign_outs ON sign_outs.user_id = users.id
         LEFT JOIN keys ON keys.kid = sign_in.value ->> 4
         LEFT JOIN key_lives AS ended ON ended.kid = sign_in.value ->> 4
         WHERE disabled_at IS NULL AND account_states.deleted_at IS NULL AND signed_out_at IS sign_in.value ->> 5",
    )
    .bind(rows)
    .fetch_all(db)
    .await
    .map_err(failed)?;
    // Refusal is the default: an answer that the query does not give must not let a token out.
    let mut outcomes = vec![SignInOutcome::AccountChanged; count];
    for (position, has_key) in found {
        if let Some(outcome) = usize::try_from(position).ok().and_then(|index| outcomes.get_mut(index)) {
            *outcome = if has_key { SignInOutcome::Recorded } else { SignInOutcome::KeyEnded };
        }
    }
    Ok(outcomes)
}

/// Inserts these sign-ins, whether or not they are valid.
pub(super) async fn insert_all(db: &mut SqliteConnection, sign_ins: &[NewSignIn]) -> Result<(), StoreError> {
    let rows: Vec<_> = sign_ins.iter().map(Row::new).collect();
    insert(db, &json(&rows)?).await
}

async fn insert(db: &mut SqliteConnection, rows: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO auth_logs (request_ip, request_timestamp, user_id)
         SELECT value ->> 2, datetime(value ->> 3, 'unixepoch'), value ->> 0 FROM json_each(?)",
    )
    .bind(rows)
    .execute(&mut *db)
    .await
    .map_err(failed)?;
    sqlx::query(
        // One batch may hold several sign-ins of one user, of which UPDATE FROM would take an arbitrary one.
        "UPDATE users SET last_login = datetime(latest.at, 'unixepoch')
         FROM (SELECT value ->> 0 AS user, max(value ->> 3) AS at FROM json_each(?) GROUP BY 1) AS latest
         WHERE id = latest.user",
    )
    .bind(rows)
    .execute(db)
    .await
    .map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use jwksd_core::account::UserId;
    use jwksd_core::password::PasswordHash;

    fn sign_in(user: i64) -> NewSignIn {
        NewSignIn {
            user: UserId(user),
            checked: PasswordHash::stored(String::new()),
            signed_out_at: None,
            signed_by: None,
            from: Ipv4Addr::LOCALHOST.into(),
            at: Timestamp::from_secs(0),
        }
    }

    #[tokio::test]
    async fn a_sign_in_that_the_database_forbids_does_not_fail_those_next_to_it() {
        let batcher = SignInBatcher::with(|sign_ins: Vec<NewSignIn>| async move {
            // The others arrive meanwhile, and become one batch.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            if sign_ins.iter().any(|sign_in| sign_in.user == UserId(2)) {
                return Err(StoreError::Forbidden("no".to_owned()));
            }
            Ok(vec![SignInOutcome::Recorded; sign_ins.len()])
        });
        let record = |user| batcher.record(sign_in(user));
        let (first, second, forbidden, last) = tokio::join!(record(0), record(1), record(2), record(3));
        for recorded in [first, second, last] {
            assert_eq!(recorded.unwrap(), SignInOutcome::Recorded);
        }
        assert!(matches!(forbidden, Err(StoreError::Forbidden(why)) if why == "no"));
    }

    #[tokio::test]
    async fn a_panic_fails_only_the_sign_ins_of_its_batch() {
        let batcher = SignInBatcher::with(|sign_ins| async move {
            assert_ne!(sign_ins[0].user, UserId(1));
            Ok(vec![SignInOutcome::Recorded])
        });
        let record = |user| batcher.record(sign_in(user));
        assert!(record(1).await.is_err());
        assert_eq!(record(2).await.unwrap(), SignInOutcome::Recorded);
    }
}
