//! One try with a password: refused, admitted and counted by the limit of guesses.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Sleep;

use super::error::IssuerError;
use super::fair_queue::Requester;
use super::guess_limit::{GuessLimit, NameTag};
use crate::password::VerifyOutcome;

/// How long the answer to a throttled try takes. Longer than the store's look-ups, whose time depends on the account.
const THROTTLED_ANSWER: Duration = Duration::from_millis(20);

/// A try for one name.
pub(super) struct Guess {
    limit: Arc<GuessLimit>,
    name: NameTag,
    /// Whether it is of a client that is new to the account. Others are not counted.
    is_counted: bool,
    /// For the log, if there is an account of that name.
    account: Option<String>,
}

impl Guess {
    /// A try of a client that may be new to the account.
    pub(super) fn new(limit: &Arc<GuessLimit>, username: &str) -> Self {
        Self { limit: Arc::clone(limit), name: limit.tag(username), is_counted: true, account: None }
    }

    /// Whether a new client must wait. Call it before the store is asked for the account.
    pub(super) fn throttled(&self) -> Option<Throttled> {
        let retry_after = self.limit.wait(self.name)?;
        // Started here, so that it includes the time of the store.
        Some(Throttled { retry_after, answer: Box::pin(tokio::time::sleep(THROTTLED_ANSWER)) })
    }

    /// The same try once its client is known, and the account of the name if there is one.
    pub(super) fn of(self, requester: Requester, account: Option<&String>) -> Self {
        let is_counted = !matches!(requester, Requester::Known(_));
        Self { is_counted, account: account.cloned(), ..self }
    }

    /// Checks the password, unless too many were wrong while it waited for this thread. Counts it if it is wrong.
    ///
    /// Counted here, because a client that hangs up ends the future that waits for the outcome.
    pub(super) fn check(&self, check: impl FnOnce() -> VerifyOutcome) -> Result<VerifyOutcome, IssuerError> {
        if !self.is_counted {
            return Ok(check());
        }
        let refusal = |retry_after| IssuerError::TooManyFailures { retry_after };
        self.limit.admit(self.name).map_err(refusal)?;
        let outcome = check();
        let is_wrong = matches!(outcome, VerifyOutcome::Mismatch | VerifyOutcome::Unreadable);
        if is_wrong && self.limit.count_failure(self.name) && self.account.is_some() {
            // Names of stores that were taken over can have any character; the field escapes them.
            let account = self.account.as_deref();
            tracing::warn!(
                account,
                "many passwords of an account were wrong: clients that are new to it must wait"
            );
        }
        Ok(outcome)
    }
}

/// A try that must wait, unless its client is known.
pub(super) struct Throttled {
    retry_after: Duration,
    answer: Pin<Box<Sleep>>,
}

impl Throttled {
    /// The refusal, at a time that does not depend on the account. There is no hash that would hide what the store took.
    pub(super) async fn refusal(self) -> IssuerError {
        self.answer.await;
        IssuerError::TooManyFailures { retry_after: self.retry_after }
    }
}
