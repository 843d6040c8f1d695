//! What accounts and keys have in common: the store, the time, randomness, a place for slow work.

use std::sync::{Arc, Mutex};

use rand::rngs::StdRng;

use super::blocking_pool::BlockingPool;
use super::mutex::lock;
use crate::clock::Clock;
use crate::store::{Pulse, Store, StoreError};

/// What accounts and keys have in common.
#[derive(Clone)]
pub struct Context {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where nonces, salts, passwords and IDs come from.
    pub rng: SharedRng,
    /// Where passwords are hashed.
    pub pool: BlockingPool,
}

impl Context {
    /// Asks the store for the version of its keys, and takes over its time.
    ///
    /// # Errors
    /// [`StoreError`] when it does not answer.
    pub async fn observe_store(&self) -> Result<Pulse, StoreError> {
        let asked = self.clock.monotonic();
        let pulse = self.store.pulse().await?;
        if let Some(now) = pulse.now {
            self.clock.observe(now, asked, self.clock.monotonic());
        }
        Ok(pulse)
    }
}

/// A random generator that is seeded once and shared by the whole program.
#[derive(Clone)]
pub struct SharedRng(Arc<Mutex<StdRng>>);

impl SharedRng {
    /// Shares this generator.
    #[must_use]
    pub fn new(rng: StdRng) -> Self {
        Self(Arc::new(Mutex::new(rng)))
    }

    /// Draws from it. The lock is held only for this.
    pub fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut lock(&self.0))
    }
}
