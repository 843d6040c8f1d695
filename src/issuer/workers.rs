//! The one door through which slow computations (Argon2, RSA key generation) leave the async threads.

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::Semaphore;

/// How many computations may wait for each that runs. At Argon2's default cost the last of them waits for four seconds.
const WAITING_PER_PLACE: usize = 256;

/// Runs slow computations beside the async threads, a bounded number at once, with a bounded queue before them.
#[derive(Clone, Debug)]
pub struct Workers {
    places: Arc<Semaphore>,
    tickets: Arc<Semaphore>,
}

impl Workers {
    /// Workers for this many computations at once; at least one.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        let at_once = at_once.max(1);
        let tickets = at_once.saturating_mul(1 + WAITING_PER_PLACE);
        Self { places: Arc::new(Semaphore::new(at_once)), tickets: Arc::new(Semaphore::new(tickets)) }
    }

    /// Runs one computation when its turn has come.
    ///
    /// A caller who goes away gives up his turn; a computation that has begun holds its place until it is done.
    ///
    /// # Errors
    /// [`WorkError::Busy`] when too many wait already, [`WorkError::Lost`] when the computation panicked or the program
    /// is ending.
    pub async fn run<T: Send + 'static>(
        &self,
        compute: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        let ticket = Arc::clone(&self.tickets).try_acquire_owned().map_err(|_| WorkError::Busy)?;
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| WorkError::Lost)?;
        tokio::task::spawn_blocking(move || {
            let _held = (place, ticket);
            compute()
        })
        .await
        .map_err(|_| WorkError::Lost)
    }
}

/// A computation was not done.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WorkError {
    /// Too many wait already.
    #[error("too many computations are waiting")]
    Busy,
    /// It panicked, or was cut off by the end of the program.
    #[error("a computation panicked or was cut off by the end of the program")]
    Lost,
}
