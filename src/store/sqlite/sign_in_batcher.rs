//! Sign-ins are recorded together: those that come while a transaction runs share the next one.
//!
//! Nobody waits for company. Each is answered when the transaction that holds it is committed.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;
use sqlx::SqliteConnection;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::super::StoreError;
use super::connections::{Durability, Writer};
use super::unavailable;
use crate::domain::account::UserId;
use crate::domain::clock::Timestamp;
use crate::domain::password::PasswordHash;

/// The most that share one transaction; as many again may wait for the next.
const MAX_BATCH: usize = 256;

/// A sign-in that is to leave its trace.
#[derive(Debug)]
pub(super) struct SignInRecord {
    pub(super) user: UserId,
    /// The hash that was checked.
    pub(super) checked: PasswordHash,
    pub(super) from: IpAddr,
    pub(super) at: Timestamp,
}

/// Records sign-ins, one transaction after the other.
#[derive(Clone, Debug)]
pub(super) struct SignInBatcher(mpsc::Sender<Waiting>);

#[derive(Debug)]
struct Waiting {
    record: SignInRecord,
    answer: oneshot::Sender<Result<bool, StoreError>>,
}

impl SignInBatcher {
    /// A batcher that writes through this connection, until it is dropped.
    pub(super) fn start(writer: Writer) -> Self {
        Self::by(move |records| record(writer.clone(), records))
    }

    fn by<R>(record: impl Fn(Vec<SignInRecord>) -> R + Send + 'static) -> Self
    where
        R: Future<Output = Result<Vec<usize>, StoreError>> + Send + 'static,
    {
        let (queue, queued) = mpsc::channel(MAX_BATCH);
        tokio::spawn(batch_loop(queued, record));
        Self(queue)
    }

    /// Records a sign-in. Returns whether the account may still sign in and has the hash that was checked.
    pub(super) async fn record(&self, record: SignInRecord) -> Result<bool, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Waiting { record, answer }).await.map_err(|_| unavailable(Ended))?;
        answered.await.map_err(|_| unavailable(Ended))?
    }
}

/// The program is ending.
#[derive(Clone, Copy, Debug, Error)]
#[error("no more sign-ins are recorded")]
struct Ended;

/// What happened was written to standard error by then.
#[derive(Clone, Copy, Debug, Error)]
#[error("recording sign-ins has panicked")]
struct Panicked;

/// What kept a transaction from being committed, told to all who shared it.
#[derive(Clone, Debug, Error)]
#[error(transparent)]
struct NotRecorded(Arc<StoreError>);

async fn batch_loop<R>(mut queued: mpsc::Receiver<Waiting>, record: impl Fn(Vec<SignInRecord>) -> R)
where
    R: Future<Output = Result<Vec<usize>, StoreError>> + Send + 'static,
{
    let mut waiting = Vec::new();
    while queued.recv_many(&mut waiting, MAX_BATCH).await > 0 {
        // Who has gone away was told nothing, and has not signed in.
        waiting.retain(|waiting| !waiting.answer.is_closed());
        let (records, answers): (Vec<_>, Vec<_>) =
            waiting.drain(..).map(|waiting| (waiting.record, waiting.answer)).unzip();
        // In a task of its own: a panic fails those, and not all that are still to come.
        let recorded = tokio::spawn(record(records)).await;
        match recorded.unwrap_or_else(|_| Err(unavailable(Panicked))) {
            Ok(recorded) => {
                for (position, answer) in answers.into_iter().enumerate() {
                    // It fails if the caller goes away just now.
                    let _ = answer.send(Ok(recorded.contains(&position)));
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
}

/// Records those whose account may still sign in by the hash that was checked; returns their positions, in order.
async fn record(writer: Writer, records: Vec<SignInRecord>) -> Result<Vec<usize>, StoreError> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let mut tx = writer.begin(Durability::Normal).await?;
    let all: Vec<_> = records.iter().map(Row::of).collect();
    let valid = valid(&mut tx, &json(&all)?).await?;
    let chosen: Vec<_> = valid.iter().filter_map(|position| all.get(*position)).collect();
    insert(&mut tx, &json(&chosen)?).await?;
    tx.commit().await.map_err(unavailable)?;
    Ok(valid)
}

/// A sign-in as SQL reads it: many are one parameter, so that many cost few statements.
#[derive(Serialize)]
struct Row<'a>(i64, &'a str, IpAddr, i64);

impl<'a> Row<'a> {
    fn of(record: &'a SignInRecord) -> Self {
        Self(record.user.0, record.checked.as_str(), record.from, record.at.as_secs())
    }
}

fn json(rows: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(rows).map_err(unavailable)
}

async fn valid(db: &mut SqliteConnection, rows: &str) -> Result<Vec<usize>, StoreError> {
    let positions: Vec<i64> = sqlx::query_scalar(
        "SELECT sign_in.key FROM json_each(?) AS sign_in
         JOIN users ON users.id = sign_in.value ->> 0 AND CAST(password_hash AS TEXT) = sign_in.value ->> 1
         LEFT JOIN account_states ON user_id = users.id
         WHERE disabled_at IS NULL AND deleted_at IS NULL
         ORDER BY sign_in.key",
    )
    .bind(rows)
    .fetch_all(db)
    .await
    .map_err(unavailable)?;
    Ok(positions.into_iter().filter_map(|position| usize::try_from(position).ok()).collect())
}

async fn insert(db: &mut SqliteConnection, rows: &str) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO auth_logs (request_ip, request_timestamp, user_id)
         SELECT value ->> 2, datetime(value ->> 3, 'unixepoch'), value ->> 0 FROM json_each(?)",
    )
    .bind(rows)
    .execute(&mut *db)
    .await
    .map_err(unavailable)?;
    sqlx::query(
        "UPDATE users SET last_login = datetime(latest.at, 'unixepoch')
         FROM (SELECT value ->> 0 AS user, max(value ->> 3) AS at FROM json_each(?) GROUP BY 1) AS latest
         WHERE id = latest.user",
    )
    .bind(rows)
    .execute(db)
    .await
    .map_err(unavailable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[tokio::test]
    async fn a_panic_fails_the_sign_ins_that_it_met_and_none_after_them() {
        let batcher = SignInBatcher::by(|records| async move {
            assert_ne!(records[0].user, UserId(1));
            Ok(vec![0])
        });
        let record = |user| {
            let checked = PasswordHash::stored(String::new());
            let (from, at) = (Ipv4Addr::LOCALHOST.into(), Timestamp::from_secs(0));
            batcher.record(SignInRecord { user: UserId(user), checked, from, at })
        };
        assert!(record(1).await.is_err());
        assert!(record(2).await.unwrap());
    }
}
