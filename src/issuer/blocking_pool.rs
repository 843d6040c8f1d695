//! The one door through which slow computations (Argon2, RSA key generation) leave the async threads.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::domain::clock::Clock;

/// How many computations may be queued for each that runs: they hold what they work on in memory.
const QUEUED_PER_THREAD: usize = 256;

/// A computation that would wait for longer than this is refused at once: its caller would have gone away.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// How long a thread without work stays, and with it the memory that it works in.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How far the threads stand behind the others of this process: publishing keys does not wait for a crowd that signs in.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// Runs slow computations on threads of their own, a bounded number at once, with a bounded queue before them.
#[derive(Clone)]
pub struct BlockingPool {
    threads: Arc<Threads>,
    clock: Arc<dyn Clock>,
    record: Option<Record>,
}

/// Told how long a computation waited, and how long it took.
pub type Record = Arc<dyn Fn(Duration, Duration) + Send + Sync>;

/// The threads: those that a runtime keeps for what blocks, made when they are needed and ended when they are not.
struct Threads {
    runtime: Option<Runtime>,
    handle: Handle,
    at_once: usize,
    /// Computations that wait or run.
    queued: AtomicUsize,
    running: AtomicUsize,
    /// What a computation has taken lately, in microseconds; 0 before the first.
    typical: AtomicU64,
}

impl BlockingPool {
    /// BlockingPool for this many computations at once; at least one.
    ///
    /// # Errors
    /// [`WorkError::Lost`] when the system gives no threads.
    pub fn new(at_once: usize, clock: Arc<dyn Clock>) -> Result<Self, WorkError> {
        let at_once = at_once.max(1);
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(at_once)
            .thread_keep_alive(KEEP_ALIVE)
            .thread_name("worker")
            .on_thread_start(lower_priority)
            .build()
            .map_err(|_| WorkError::Lost)?;
        let threads = Threads {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            at_once,
            queued: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            typical: AtomicU64::new(0),
        };
        Ok(Self { threads: Arc::new(threads), clock, record: None })
    }

    /// The same pool, through a door at which somebody notes the times.
    #[must_use]
    pub fn observed(&self, record: Record) -> Self {
        Self { record: Some(record), ..self.clone() }
    }

    /// How many computations run, and how many wait.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let running = self.threads.running.load(Ordering::Relaxed);
        (running, self.threads.queued.load(Ordering::Relaxed).saturating_sub(running))
    }

    /// Runs one computation when its job has come.
    ///
    /// A caller who goes away gives up his job; a computation that has begun is finished.
    ///
    /// # Errors
    /// [`WorkError::Busy`] when too many wait already, [`WorkError::Lost`] when the computation panicked or the program
    /// is ending.
    pub async fn run<T: Send + 'static>(
        &self,
        compute: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        let job = self.job()?;
        let (answer, answered) = oneshot::channel();
        let work = move || {
            if !answer.is_closed() {
                // It fails if the caller goes away just now.
                let _ = answer.send(job.take(compute));
            }
        };
        self.threads.handle.spawn_blocking(work);
        answered.await.map_err(|_| WorkError::Lost)
    }

    /// A job in the queue, unless that is too long.
    fn job(&self) -> Result<Job, WorkError> {
        let threads = &self.threads;
        let ahead = threads.queued.fetch_add(1, Ordering::Relaxed);
        let job = Job { pool: self.clone(), came: self.clock.monotonic() };
        let wait = threads.wait_behind(ahead);
        if ahead >= threads.at_once.saturating_mul(QUEUED_PER_THREAD) || wait > LONGEST_WAIT {
            return Err(WorkError::Busy { retry_after: wait });
        }
        Ok(job)
    }
}

/// A place in the queue and then on a thread; given back when dropped, whatever became of it.
struct Job {
    pool: BlockingPool,
    came: Duration,
}

impl Job {
    fn take<T>(self, compute: impl FnOnce() -> T) -> T {
        let BlockingPool { threads, clock, record } = &self.pool;
        threads.running.fetch_add(1, Ordering::Relaxed);
        let _running = Running(threads);
        let begun = clock.monotonic();
        let computed = compute();
        let ran = clock.monotonic().saturating_sub(begun);
        threads.learn(ran);
        if let Some(record) = record {
            record(begun.saturating_sub(self.came), ran);
        }
        computed
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.pool.threads.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a computation that runs, until it ends or panics.
struct Running<'a>(&'a Threads);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Threads {
    /// How long one waits behind so many, as things have been lately.
    fn wait_behind(&self, ahead: usize) -> Duration {
        let rounds = u64::try_from(ahead / self.at_once).unwrap_or(u64::MAX);
        Duration::from_micros(self.typical.load(Ordering::Relaxed).saturating_mul(rounds))
    }

    /// Lets the last eight count for about two thirds. Two threads that do so at once may lose one of them.
    fn learn(&self, ran: Duration) {
        let ran = u64::try_from(ran.as_micros()).unwrap_or(u64::MAX);
        let typical = match self.typical.load(Ordering::Relaxed) {
            0 => ran,
            typical => (typical / 8).saturating_mul(7).saturating_add(ran / 8),
        };
        self.typical.store(typical, Ordering::Relaxed);
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Waiting for a computation would block whoever drops the last handle.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for BlockingPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingPool").field("at_once", &self.threads.at_once).finish_non_exhaustive()
    }
}

/// On Linux alone a thread can stand back by itself.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        tracing::debug!(%error, "a worker keeps the priority of the process");
    }
}

/// A computation was not done.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WorkError {
    /// Too many wait already.
    #[error("too many computations are waiting")]
    Busy {
        /// How long those will take that wait.
        retry_after: Duration,
    },
    /// It panicked, or was cut off by the end of the program.
    #[error("a computation panicked or was cut off by the end of the program")]
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::{ManualClock, Timestamp};

    fn pool(at_once: usize) -> (BlockingPool, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(0)));
        (BlockingPool::new(at_once, Arc::clone(&clock) as _).unwrap(), clock)
    }

    /// Computations that do not end before the returned sender is dropped.
    async fn occupied(pool: &BlockingPool, computations: usize) -> std::sync::mpsc::Sender<()> {
        let (keep, kept) = std::sync::mpsc::channel::<()>();
        let kept = Arc::new(std::sync::Mutex::new(kept));
        for n in 0..computations {
            let (pool, kept) = (pool.clone(), Arc::clone(&kept));
            let mut work =
                Box::pin(async move { pool.run(move || kept.lock().unwrap().recv().is_err()).await });
            // Polled once, it has its job.
            assert!(poll_once(&mut work).await.is_none(), "{n}");
            tokio::spawn(work);
        }
        keep
    }

    async fn poll_once<T>(future: &mut std::pin::Pin<Box<impl Future<Output = T>>>) -> Option<T> {
        std::future::poll_fn(|context| match future.as_mut().poll(context) {
            std::task::Poll::Ready(done) => std::task::Poll::Ready(Some(done)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }

    #[tokio::test]
    async fn who_would_wait_for_too_long_is_refused_and_told_for_how_long() {
        let (pool, clock) = pool(1);
        pool.run(move || clock.advance(Duration::from_secs(2))).await.unwrap();
        let _busy = occupied(&pool, 3).await;
        let refused = pool.run(|| ()).await;
        assert_eq!(refused, Err(WorkError::Busy { retry_after: Duration::from_secs(6) }));
        assert_eq!(pool.threads.queued.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_also_before_anything_has_been_measured() {
        let (pool, _) = pool(2);
        let _busy = occupied(&pool, 2 * QUEUED_PER_THREAD).await;
        assert!(matches!(pool.run(|| ()).await, Err(WorkError::Busy { .. })));
    }

    #[tokio::test]
    async fn a_computation_that_panics_loses_itself_alone() {
        let (pool, _) = pool(1);
        assert_eq!(pool.run(|| panic!("on purpose")).await, Err::<(), _>(WorkError::Lost));
        assert_eq!(pool.run(|| 7).await, Ok(7));
        assert_eq!(pool.load(), (0, 0));
    }

    #[tokio::test]
    async fn who_goes_away_gives_up_his_turn() {
        let (pool, _) = pool(1);
        let busy = occupied(&pool, 1).await;
        let mut work = Box::pin(pool.run(|| panic!("nobody waits for this")));
        assert!(poll_once(&mut work).await.is_none());
        drop(work);
        drop(busy);
        assert_eq!(pool.run(|| 7).await, Ok(7));
        assert_eq!(pool.load(), (0, 0));
    }
}
