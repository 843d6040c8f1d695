//! A bounded thread pool for slow computations (Argon2, RSA key generation), which must not block the async threads.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use crate::domain::clock::Clock;

/// Maximum number of queued jobs per thread. Bounded, because a queued job holds its inputs in memory.
const QUEUED_PER_THREAD: usize = 256;

/// Maximum expected wait of a job. A longer one is refused immediately: its client would give up before.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Idle timeout of a thread. Its Argon2 memory is freed with it.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Niceness of the threads relative to the process, so that many sign-ins do not delay the JWKS.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// A pool of threads for slow computations, with a bounded queue.
#[derive(Clone)]
pub struct BlockingPool {
    threads: Arc<Threads>,
    clock: Arc<dyn Clock>,
    record: Option<Record>,
}

/// Called after each job with its queue time and its run time.
pub type Record = Arc<dyn Fn(Duration, Duration) + Send + Sync>;

/// The blocking threads of a runtime of our own, which starts them on demand and ends idle ones.
struct Threads {
    runtime: Option<Runtime>,
    handle: Handle,
    at_once: usize,
    /// Number of jobs that wait or run.
    queued: AtomicUsize,
    running: AtomicUsize,
    /// Moving average of run times in microseconds; 0 before the first job.
    typical: AtomicU64,
}

impl BlockingPool {
    /// A pool of at most `at_once` threads, and at least one.
    ///
    /// # Errors
    /// [`WorkError::Lost`] when the system cannot start threads.
    pub fn new(at_once: usize, clock: Arc<dyn Clock>) -> Result<Self, WorkError> {
        let at_once = at_once.max(1);
        // Not the blocking threads that Tokio shares: there, file access and DNS would queue behind passwords.
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

    /// Returns a handle to the same pool that reports queue and run times to `record`.
    #[must_use]
    pub fn observed(&self, record: Record) -> Self {
        Self { record: Some(record), ..self.clone() }
    }

    /// How many jobs run, and how many wait.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        let running = self.threads.running.load(Ordering::Relaxed);
        (running, self.threads.queued.load(Ordering::Relaxed).saturating_sub(running))
    }

    /// Queues a computation and waits for its result.
    ///
    /// Dropping the future removes the job from the queue. A job that has started is finished.
    ///
    /// # Errors
    /// [`WorkError::Busy`] when too many jobs wait already, [`WorkError::Lost`] when the computation panicked or the
    /// program is ending.
    pub async fn run<T: Send + 'static>(
        &self,
        compute: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        let job = self.enqueue()?;
        let (answer, answered) = oneshot::channel();
        let work = move || {
            // If the client has disconnected, the result is of no use, and others wait for the thread.
            if !answer.is_closed() {
                // Sending fails if the caller is dropped at this moment, which changes nothing.
                let _ = answer.send(job.run(compute));
            }
        };
        self.threads.handle.spawn_blocking(work);
        answered.await.map_err(|_| WorkError::Lost)
    }

    /// A place in the queue, unless the wait is too long.
    fn enqueue(&self) -> Result<Job, WorkError> {
        let threads = &self.threads;
        // Counted before the check, so that two callers cannot both take the last place. Dropping `job` undoes it.
        let ahead = threads.queued.fetch_add(1, Ordering::Relaxed);
        let job = Job { pool: self.clone(), came: self.clock.monotonic() };
        let wait = threads.wait_behind(ahead);
        if ahead >= threads.at_once.saturating_mul(QUEUED_PER_THREAD) || wait > LONGEST_WAIT {
            return Err(WorkError::Busy { retry_after: wait });
        }
        Ok(job)
    }
}

/// A place in the queue and then on a thread. Dropping it frees the place, also after a panic.
struct Job {
    pool: BlockingPool,
    came: Duration,
}

impl Job {
    fn run<T>(self, compute: impl FnOnce() -> T) -> T {
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

/// Counts a running job until it ends or panics.
struct Running<'a>(&'a Threads);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Threads {
    /// Expected wait behind this many jobs, from the average run time.
    fn wait_behind(&self, ahead: usize) -> Duration {
        let rounds = u64::try_from(ahead / self.at_once).unwrap_or(u64::MAX);
        Duration::from_micros(self.typical.load(Ordering::Relaxed).saturating_mul(rounds))
    }

    /// Updates the moving average, in which the last eight jobs weigh about two thirds. Two threads that update it at the
    /// same time may lose one value.
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
        // Waiting for a job would block the thread that drops the last handle.
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

/// Only Linux has a priority per thread.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICENESS) {
        // Once is enough: idle threads end, and each new one would fail in the same way.
        static LOGGED: std::sync::Once = std::sync::Once::new();
        LOGGED.call_once(|| {
            tracing::warn!(
                "the threads that hash passwords keep the priority of the process, so many sign-ins delay other requests \
                 ({error}): allow the system call setpriority"
            );
        });
    }
}

/// Why a computation was not done.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WorkError {
    /// Too many jobs wait already.
    #[error("too many computations are waiting already")]
    Busy {
        /// Expected time until the waiting jobs are done.
        retry_after: Duration,
    },
    /// It panicked, or the program ended before.
    #[error("a computation panicked or the program ended before it was done")]
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

    /// Jobs that do not end before the returned sender is dropped.
    async fn occupied(pool: &BlockingPool, computations: usize) -> std::sync::mpsc::Sender<()> {
        let (keep, kept) = std::sync::mpsc::channel::<()>();
        let kept = Arc::new(std::sync::Mutex::new(kept));
        for n in 0..computations {
            let (pool, kept) = (pool.clone(), Arc::clone(&kept));
            let mut work =
                Box::pin(async move { pool.run(move || kept.lock().unwrap().recv().is_err()).await });
            // Polled once, it is in the queue.
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
    async fn a_job_with_too_long_a_wait_is_refused_with_that_wait() {
        let (pool, clock) = pool(1);
        pool.run(move || clock.advance(Duration::from_secs(2))).await.unwrap();
        let _busy = occupied(&pool, 3).await;
        let refused = pool.run(|| ()).await;
        assert_eq!(refused, Err(WorkError::Busy { retry_after: Duration::from_secs(6) }));
        assert_eq!(pool.threads.queued.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_before_any_run_time_is_known() {
        let (pool, _) = pool(2);
        let _busy = occupied(&pool, 2 * QUEUED_PER_THREAD).await;
        assert!(matches!(pool.run(|| ()).await, Err(WorkError::Busy { .. })));
    }

    #[tokio::test]
    async fn a_panic_loses_only_its_own_job() {
        let (pool, _) = pool(1);
        assert_eq!(pool.run(|| panic!("on purpose")).await, Err::<(), _>(WorkError::Lost));
        assert_eq!(pool.run(|| 7).await, Ok(7));
        assert_eq!(pool.load(), (0, 0));
    }

    #[tokio::test]
    async fn a_dropped_future_leaves_the_queue() {
        let (pool, _) = pool(1);
        let busy = occupied(&pool, 1).await;
        let mut work = Box::pin(pool.run(|| panic!("its caller is gone")));
        assert!(poll_once(&mut work).await.is_none());
        drop(work);
        drop(busy);
        assert_eq!(pool.run(|| 7).await, Ok(7));
        assert_eq!(pool.load(), (0, 0));
    }
}
