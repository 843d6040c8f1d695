//! Whether the keyring can do its work, for `/readyz`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use thiserror::Error;

use super::state::Keyring;
use crate::issuer::mutex::lock;
use crate::key::self_check::SelfCheckError;
use crate::store::{NotWritable, StoreError};

/// Maximum time between two completed ticks of the rotation. They are due four times a second.
const TICK_OVERDUE: Duration = Duration::from_mins(1);

impl Keyring {
    /// Whether keys rotate, the store answers, and tokens of full lifetime can be signed and verified.
    ///
    /// # Errors
    /// [`NotReady`] is the reason.
    pub async fn readiness(&self) -> Result<(), NotReady> {
        if self.master_key_changed.load(Ordering::Relaxed) {
            return Err(NotReady::MasterKeyChanged);
        }
        if let Some(error) = self.self_check_log.failure() {
            return Err(NotReady::SelfCheck(error));
        }
        let (now, ttl) = (self.context.clock.now(), self.policy.token_ttl());
        // If the rotation is late, a key signs that is about to expire, and its tokens are too short.
        if self.signer(now).is_none_or(|key| now.plus(ttl).as_secs() > key.exp().as_secs()) {
            return Err(NotReady::NoSigner);
        }
        let last_tick = *lock(&self.last_tick);
        if self.context.clock.monotonic().saturating_sub(last_tick) > TICK_OVERDUE {
            return Err(NotReady::RotationStalled);
        }
        // Last, because it is the only check that may have to wait.
        self.expect_store().await.map_err(NotReady::Store)
    }

    /// Whether the store answers. A server that did so a moment ago is not asked.
    async fn expect_store(&self) -> Result<(), StoreError> {
        let store = &self.context.store;
        store.expect_reachable()?;
        if self.last_pulse.is_recent(self.context.clock.monotonic()) {
            return Ok(());
        }
        self.observe_pulse().await.map(drop)
    }
}

/// Why the keyring cannot do its work.
#[derive(Debug, Error)]
pub enum NotReady {
    /// The store is sealed under another master key by now.
    #[error("the store was moved to another master key: restart with the new NOT_MY_KEY")]
    MasterKeyChanged,
    /// No key can sign a token of full lifetime.
    #[error("no key can sign a token of full TOKEN_TTL")]
    NoSigner,
    /// In password mode: no sign-in can be recorded.
    #[error(transparent)]
    NotWritable(#[from] Arc<NotWritable>),
    /// The rotation has not completed a tick for a minute.
    #[error("the key rotation has made no progress for {} s", TICK_OVERDUE.as_secs())]
    RotationStalled,
    /// A token of a key that may sign does not verify through the key set that should be published.
    #[error("the new key set is not published, because a probe token does not verify: {0}")]
    SelfCheck(SelfCheckError),
    /// The store does not answer.
    #[error("the store does not answer")]
    Store(#[source] StoreError),
}
