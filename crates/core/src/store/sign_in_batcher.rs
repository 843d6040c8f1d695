//! Records sign-ins in batches: those that arrive while a transaction runs share the next one.
//!
//! A sign-in never waits for others to join it. Each is answered when the transaction that holds it is committed.

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::{NewSignIn, SignInOutcome, StoreError};

/// Maximum number of sign-ins in one transaction. As many again may wait for the next.
const MAX_BATCH: usize = 256;

/// Records sign-ins, one transaction after the other.
#[derive(Clone, Debug)]
pub struct SignInBatcher(mpsc::Sender<Waiting>);

#[derive(Debug)]
struct Waiting {
    sign_in: NewSignIn,
    answer: oneshot::Sender<Result<SignInOutcome, StoreError>>,
}

impl SignInBatcher {
    /// Starts a task that records batch after batch with this function until the batcher is dropped.
    ///
    /// The function gives an outcome for each sign-in, in order, and records those that are valid.
    pub fn new<R>(record: impl Fn(Vec<NewSignIn>) -> R + Send + 'static) -> Self
    where
        R: Future<Output = Result<Vec<SignInOutcome>, StoreError>> + Send + 'static,
    {
        // Bounded: on a slow disk, sign-ins wait outside instead of filling the memory.
        let (queue, queued) = mpsc::channel(MAX_BATCH);
        tokio::spawn(batch_loop(queued, record));
        Self(queue)
    }

    /// Records a sign-in, together with others that arrive at the same time.
    ///
    /// # Errors
    /// The error of the batch, for each sign-in in it.
    pub async fn record(&self, sign_in: NewSignIn) -> Result<SignInOutcome, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Waiting { sign_in, answer }).await.map_err(|_| StoreError::unavailable(Ended))?;
        answered.await.map_err(|_| StoreError::unavailable(Ended))?
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
    tokio::spawn(record).await.unwrap_or_else(|_| Err(StoreError::unavailable(Panicked)))
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
                let _ = answer.send(Err(StoreError::unavailable(cause.clone())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::account::UserId;
    use crate::clock::Timestamp;
    use crate::password::PasswordHash;

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
        let batcher = SignInBatcher::new(|sign_ins: Vec<NewSignIn>| async move {
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
        let batcher = SignInBatcher::new(|sign_ins| async move {
            assert_ne!(sign_ins[0].user, UserId(1));
            Ok(vec![SignInOutcome::Recorded])
        });
        let record = |user| batcher.record(sign_in(user));
        assert!(record(1).await.is_err());
        assert_eq!(record(2).await.unwrap(), SignInOutcome::Recorded);
    }
}
