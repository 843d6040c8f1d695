//! The one door through which slow computations (Argon2, RSA key generation) leave the async threads.

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::Semaphore;

/// Runs slow computations beside the async threads, no more at once than there are cores.
#[derive(Clone, Debug)]
pub struct Workers {
    free: Arc<Semaphore>,
}

impl Workers {
    /// Workers for this many computations at once; at least one.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(at_once.max(1))) }
    }

    /// Runs one computation when its turn has come.
    ///
    /// A caller who goes away gives up his turn; a computation that has begun holds its place until it is done.
    ///
    /// # Errors
    /// [`Lost`] when the computation panicked or the program is ending.
    pub async fn run<T: Send + 'static>(
        &self,
        compute: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let place = Arc::clone(&self.free).acquire_owned().await.map_err(|_| Lost)?;
        tokio::task::spawn_blocking(move || {
            let _place = place;
            compute()
        })
        .await
        .map_err(|_| Lost)
    }
}

/// A computation did not come back.
#[derive(Clone, Copy, Debug, Error)]
#[error("a computation panicked or was cut off by the end of the program")]
pub struct Lost;
