//! A bounded thread pool for slow computations (Argon2, RSA key generation), which must not block the async threads.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

use super::fair_queue::{FairQueue, Requester};
use super::mutex::lock;
use crate::clock::Clock;

/// Places per thread in each lane of the queue. Bounded, because a queued job holds its inputs in memory.
const PLACES_PER_THREAD: usize = 256;

/// Maximum wait of a job. One that is expected to wait longer is refused immediately, and one that has waited longer is not
/// started: its client would give up before.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Idle timeout of a thread. Its Argon2 memory is freed with it.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Niceness of the threads relative to the process, so that many sign-ins do not delay the JWKS.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// A pool of threads for slow computations, with a bounded queue that is fair to clients.
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
    queue: Mutex<FairQueue<Waiting>>,
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
            queue: Mutex::new(FairQueue::new(at_once.saturating_mul(PLACES_PER_THREAD))),
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
        (self.threads.running.load(Ordering::Relaxed), lock(&self.threads.queue).len())
    }

    /// Queues a computation of an operator or of the program itself; see [`BlockingPool::run_for`].
    ///
    /// # Errors
    /// As [`BlockingPool::run_for`].
    pub async fn run<T: Send + 'static>(
        &self,
        compute: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        self.run_for(Requester::Operator, compute).await
    }

    /// Queues a computation and waits for its result.
    ///
    /// When the future is dropped, the job is not started any more. A job that has started is finished.
    ///
    /// # Errors
    /// [`WorkError::Busy`] when it would wait or has waited for more than five seconds, or when it gave its place to another
    /// client; [`WorkError::Lost`] when the computation panicked or the program is ending.
    pub async fn run_for<T: Send + 'static>(
        &self,
        requester: Requester,
        compute: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, WorkError> {
        let (answer, answered) = oneshot::channel();
        let job = Box::new(Computation { compute, answer });
        self.enqueue(requester, Waiting { since: self.clock.monotonic(), record: self.record.clone(), job })?;
        answered.await.map_err(|_| WorkError::Lost)?
    }

    /// Puts a job into the queue, unless its wait is too long.
    fn enqueue(&self, requester: Requester, waiting: Waiting) -> Result<(), WorkError> {
        let threads = &self.threads;
        let (wait, displaced) = {
            let mut queue = lock(&threads.queue);
            let wait = threads.wait_behind(queue.ahead_of(requester));
            if wait > LONGEST_WAIT {
                return Err(WorkError::Busy { retry_after: wait });
            }
            (wait, queue.push(requester, waiting))
        };
        if let Some(displaced) = displaced {
            // It may be the new job, whose caller then gets this as any other would.
            displaced.job.refuse(WorkError::Busy { retry_after: wait });
        } else {
            // As many turns as waiting jobs. A job that takes the place of another takes its turn with it.
            let (threads, clock) = (Arc::clone(threads), Arc::clone(&self.clock));
            self.threads.handle.spawn_blocking(move || threads.take_turn(&*clock));
        }
        Ok(())
    }
}

/// A job in the queue.
struct Waiting {
    since: Duration,
    record: Option<Record>,
    job: Box<dyn Job>,
}

/// A computation whose type of result the queue does not know.
trait Job: Send {
    /// Whether the result is of no use, because the client has disconnected.
    fn is_abandoned(&self) -> bool;
    /// Computes, then calls `measure`, then answers: the counts include the job when its caller goes on.
    fn run(self: Box<Self>, measure: Box<dyn FnOnce() + '_>);
    fn refuse(self: Box<Self>, reason: WorkError);
}

struct Computation<F, T> {
    compute: F,
    answer: oneshot::Sender<Result<T, WorkError>>,
}

impl<F: FnOnce() -> T + Send, T: Send> Job for Computation<F, T> {
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn run(self: Box<Self>, measure: Box<dyn FnOnce() + '_>) {
        let Self { compute, answer } = *self;
        let computed = compute();
        measure();
        // Sending fails if the caller is dropped at this moment, which changes nothing.
        let _ = answer.send(Ok(computed));
    }

    fn refuse(self: Box<Self>, reason: WorkError) {
        // As above.
        let _ = self.answer.send(Err(reason));
    }
}

/// Counts a running job until it ends or panics.
struct Running<'a>(&'a Threads);

impl<'a> Running<'a> {
    fn new(threads: &'a Threads) -> Self {
        threads.running.fetch_add(1, Ordering::Relaxed);
        Self(threads)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Threads {
    /// Does the job whose turn it is, which may have come later than the one that started this turn.
    fn take_turn(&self, clock: &dyn Clock) {
        let Some(Waiting { since, record, job }) = lock(&self.queue).pop() else {
            return;
        };
        if job.is_abandoned() {
            return;
        }
        let begun = clock.monotonic();
        let waited = begun.saturating_sub(since);
        if waited > LONGEST_WAIT {
            // Jobs that came later have overtaken it.
            job.refuse(WorkError::Busy { retry_after: waited });
            return;
        }
        let running = Running::new(self);
        job.run(Box::new(move || {
            drop(running);
            let ran = clock.monotonic().saturating_sub(begun);
            self.learn(ran);
            if let Some(record) = record {
                record(waited, ran);
            }
        }));
    }

    /// Expected wait behind this many queued jobs and those that run, from the average run time.
    fn wait_behind(&self, queued: usize) -> Duration {
        let ahead = queued + self.running.load(Ordering::Relaxed);
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
    /// Too many jobs wait already, of this client or of all.
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
    use crate::clock::{ManualClock, Timestamp};

    fn pool(at_once: usize) -> (BlockingPool, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(0)));
        (BlockingPool::new(at_once, Arc::clone(&clock) as _).unwrap(), clock)
    }

    /// Jobs that do not end before the returned sender is dropped.
    async fn occupied(pool: &BlockingPool, computations: usize) -> std::sync::mpsc::Sender<()> {
        let (keep, kept) = std::sync::mpsc::channel::<()>();
        let kept = Arc::new(Mutex::new(kept));
        for n in 0..computations {
            let (own, kept) = (pool.clone(), Arc::clone(&kept));
            let mut work =
                Box::pin(async move { own.run(move || kept.lock().unwrap().recv().is_err()).await });
            // Polled once, it is in the queue.
            assert!(poll_once(&mut work).await.is_none(), "{n}");
            tokio::spawn(work);
            while pool.load().0 < pool.threads.at_once.min(n + 1) {
                tokio::task::yield_now().await;
            }
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
        assert_eq!(pool.load(), (1, 2));
    }

    #[tokio::test]
    async fn the_queue_is_bounded_before_any_run_time_is_known() {
        let (pool, _) = pool(2);
        let _busy = occupied(&pool, 2 + 2 * PLACES_PER_THREAD).await;
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
    #[tokio::test]
    async fn a_job_that_has_waited_too_long_is_not_started() {
        let (pool, clock) = pool(1);
        let busy = occupied(&pool, 1).await;
        let mut late = Box::pin(pool.run(|| panic!("its client has given up")));
        assert!(poll_once(&mut late).await.is_none());
        let waited = LONGEST_WAIT + Duration::from_nanos(1);
        clock.advance(waited);
        drop(busy);
        assert_eq!(late.await, Err(WorkError::Busy { retry_after: waited }));
    }

    #[tokio::test]
    async fn the_newest_job_of_the_client_with_the_most_gives_its_place_to_another_client() {
        let (pool, _) = pool(1);
        let busy = occupied(&pool, 1).await;
        let client = |n| Requester::Other(std::net::IpAddr::from([192, 0, 2, n]).into());
        let mut works: Vec<_> =
            (0..PLACES_PER_THREAD).map(|n| Box::pin(pool.run_for(client(1), move || n))).collect();
        for work in &mut works {
            assert!(poll_once(work).await.is_none());
        }
        let mut other = Box::pin(pool.run_for(client(2), || 7));
        assert!(poll_once(&mut other).await.is_none());
        let newest = works.pop().unwrap();
        assert!(matches!(newest.await, Err(WorkError::Busy { .. })));
        drop(busy);
        assert_eq!(other.await, Ok(7));
        for (n, work) in works.into_iter().enumerate() {
            assert_eq!(work.await, Ok(n));
        }
        assert_eq!(pool.load(), (0, 0));
    }
}
