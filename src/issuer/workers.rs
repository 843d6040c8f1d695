//! The one door through which slow computations (Argon2, RSA key generation) leave the async threads.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Semaphore;

use crate::domain::clock::Clock;

/// How many computations may wait for each that runs. At Argon2's default cost the last of them waits for four seconds.
const WAITING_PER_PLACE: usize = 256;

/// Runs slow computations beside the async threads, a bounded number at once, with a bounded queue before them.
#[derive(Clone, Debug)]
pub struct Workers {
    at_once: usize,
    places: Arc<Semaphore>,
    tickets: Arc<Semaphore>,
    observer: Option<Observer>,
}

/// Told how long a computation waited, and how long it took.
pub type Record = Arc<dyn Fn(Duration, Duration) + Send + Sync>;

#[derive(Clone)]
struct Observer {
    clock: Arc<dyn Clock>,
    record: Record,
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observer")
    }
}

impl Workers {
    /// Workers for this many computations at once; at least one.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        let at_once = at_once.max(1);
        Self {
            at_once,
            places: Arc::new(Semaphore::new(at_once)),
            tickets: Arc::new(Semaphore::new(tickets(at_once))),
            observer: None,
        }
    }

    /// The same workers, through a door at which somebody notes the times.
    #[must_use]
    pub fn observed(&self, clock: Arc<dyn Clock>, record: Record) -> Self {
        Self { observer: Some(Observer { clock, record }), ..self.clone() }
    }

    /// How many computations run, and how many wait.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let running = self.at_once.saturating_sub(self.places.available_permits());
        let inside = tickets(self.at_once).saturating_sub(self.tickets.available_permits());
        (running, inside.saturating_sub(running))
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
        let observer = self.observer.clone();
        let came = observer.as_ref().map(Observer::time);
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| WorkError::Lost)?;
        tokio::task::spawn_blocking(move || {
            let _held = (place, ticket);
            let begun = observer.as_ref().map(Observer::time);
            let computed = compute();
            if let (Some(observer), Some(came), Some(begun)) = (observer, came, begun) {
                let ran = observer.time().saturating_sub(begun);
                (observer.record)(begun.saturating_sub(came), ran);
            }
            computed
        })
        .await
        .map_err(|_| WorkError::Lost)
    }
}

impl Observer {
    fn time(&self) -> Duration {
        self.clock.elapsed()
    }
}

fn tickets(at_once: usize) -> usize {
    at_once.saturating_mul(1 + WAITING_PER_PLACE)
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
