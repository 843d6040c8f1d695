//! Connections to the server, each act on them with an end, and with another attempt where that is safe.
//!
//! Not the driver's pool: that one asks each connection which is given back whether it still works, without a time limit, and the
//! place stays taken while the network swallows the question.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::error::{NoConnection, TimedOut, is_of_connection, is_repeatable, not_connected};
use super::server::ServerUrl;
use jwksd_core::store::StoreError;

/// How often an act is tried that other transactions keep from being done.
const ATTEMPTS: u32 = 5;

/// Pause before the second attempt. Later ones are longer.
const PAUSE: Duration = Duration::from_millis(10);

/// Maximum wait for a connection. When all of them are busy for so long, the server does not keep up.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Maximum lifetime of a connection: a new one may reach a server that has joined behind the address.
const LIFETIME: Duration = Duration::from_mins(10);

/// Maximum time to say goodbye to the server.
const CLOSING: Duration = Duration::from_millis(200);

/// Time after which the server ends a transaction whose process does not go on, and gives its locks back.
const IDLE_LIMIT: Duration = Duration::from_secs(5);

/// Some connections to the server.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    places: Arc<Places>,
    /// Maximum time of one act.
    limit: Duration,
}

/// A place for each connection that may be open, and those that are open and not in use.
#[derive(Debug)]
struct Places {
    options: PgConnectOptions,
    free: Semaphore,
    idle: Mutex<Vec<Idle>>,
    staleness: Arc<Staleness>,
    /// Whether a pooler stands before the server that does not know prepared statements.
    is_pooled: bool,
}

#[derive(Debug)]
struct Idle {
    connection: PgConnection,
    opened: Instant,
}

impl Connections {
    /// At most `number` connections. None is opened before it is needed.
    pub(crate) fn new(server: &ServerUrl, number: u32, limit: Duration) -> Self {
        let staleness = Arc::new(Staleness::new());
        Self::with_staleness(server.options(), server.is_pooled(), number, limit, staleness)
    }

    /// More connections to the same server. What one of these finds out about it counts for the others.
    pub(crate) fn more(&self, number: u32, limit: Duration) -> Self {
        let Places { options, is_pooled, staleness, .. } = self.places.as_ref();
        Self::with_staleness(options.clone(), *is_pooled, number, limit, Arc::clone(staleness))
    }

    fn with_staleness(
        options: PgConnectOptions,
        is_pooled: bool,
        number: u32,
        limit: Duration,
        staleness: Arc<Staleness>,
    ) -> Self {
        let free = Semaphore::new(usize::try_from(number).unwrap_or(Semaphore::MAX_PERMITS));
        let places = Places { options, free, idle: Mutex::default(), staleness, is_pooled };
        Self { places: Arc::new(places), limit }
    }

    /// The same connections, for acts that may take this long.
    pub(crate) fn with_limit(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// One of them, for one attempt at an act.
    pub(crate) async fn lease(&self) -> Result<Lease<'_>, StoreError> {
        let until = Instant::now() + self.limit.min(MAX_WAIT);
        let no_connection = |_| StoreError::unavailable(NoConnection);
        let place = timeout_at(until, self.places.free.acquire()).await.map_err(no_connection)?;
        let place = place.map_err(StoreError::unavailable)?;
        let idle = if let Some(idle) = self.places.take() {
            idle
        } else {
            let connecting = timeout_at(until, self.places.options.connect()).await;
            let connection = connecting.map_err(no_connection)?.map_err(not_connected)?;
            Idle { connection, opened: Instant::now() }
        };
        Ok(Lease { idle, connections: self, _place: place })
    }

    /// Uses none of those that are open now again: they may lead to a server that is away, or was demoted.
    pub(crate) fn distrust(&self) {
        self.places.staleness.begin();
    }

    /// Closes all of them.
    pub(crate) async fn close(&self) {
        self.places.free.close();
        let idle = std::mem::take(&mut *self.places.idle());
        for Idle { connection, .. } in idle {
            let _ = timeout(CLOSING, connection.close()).await;
        }
    }
}

impl Places {
    /// The latest one that was given back and can still be used.
    fn take(&self) -> Option<Idle> {
        let mut idle = self.idle();
        while let Some(last) = idle.pop() {
            if last.opened.elapsed() < LIFETIME && !self.staleness.includes(last.opened) {
                return Some(last);
            }
        }
        None
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The transaction around an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// None, because the act is one statement that may be carried out late; but behind a pooler, one keeps its messages together.
    IfPooled,
    /// All queries see the same commit.
    Snapshot,
    /// Statements see what others have committed before. Nothing of it is stored after this process has given it up.
    Write,
}

impl Begin {
    /// How to begin such a transaction, in which each statement may take this long; nothing if none is needed.
    ///
    /// Behind a pooler that gives each transaction another connection, statements that were prepared before, by any client, may have
    /// the names of ours.
    pub(crate) fn sql(self, is_pooled: bool, limit: Duration) -> Option<String> {
        let begin = match self {
            Self::IfPooled if !is_pooled => return None,
            Self::IfPooled => "BEGIN",
            Self::Snapshot => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
            Self::Write => "BEGIN ISOLATION LEVEL READ COMMITTED",
        };
        let forget = if is_pooled { "; DEALLOCATE ALL" } else { "" };
        // A connection that is dropped does not end what the server does for it, and one that is frozen keeps its locks.
        Some(format!(
            "{begin}{forget}; SET LOCAL statement_timeout = {}; SET LOCAL idle_in_transaction_session_timeout = {}",
            limit.as_millis(),
            IDLE_LIMIT.as_millis()
        ))
    }
}

/// Does something on one of these connections, again if another transaction was in its way. When it takes too long, its connection is
/// dropped.
///
/// A macro, because the compiler cannot prove of a closure's future that it is `Send` if it borrows from its connection and from
/// other places.
macro_rules! act {
    ($connections:expr, |$db:ident| $act:expr) => {
        $crate::connections::act!($connections, $crate::connections::Begin::IfPooled, |$db| $act)
    };
    ($connections:expr, $begin:expr, |$db:ident| $act:expr) => {{
        let mut attempts = $crate::connections::Attempts::default();
        loop {
            let mut lease = $connections.lease().await?;
            let done = {
                let (limit, begin) = (lease.limit(), lease.sql_of($begin));
                let connection = lease.connection();
                tokio::time::timeout(limit, async {
                    let Some(begin) = begin else {
                        let $db = connection;
                        return $act.await;
                    };
                    // Made of literals and numbers of this crate.
                    let begun = sqlx::Connection::begin_with(connection, sqlx::AssertSqlSafe(begin)).await;
                    let mut tx = begun.map_err($crate::error::failed)?;
                    let done = {
                        let $db: &mut sqlx::postgres::PgConnection = &mut tx;
                        $act.await
                    };
                    match done {
                        Ok(done) => tx.commit().await.map(|()| done).map_err($crate::error::failed),
                        Err(error) => {
                            // A connection on which that fails is dropped by the next act.
                            let _ = tx.rollback().await;
                            Err(error)
                        }
                    }
                })
                .await
            };
            match lease.end(done) {
                Err(error) if attempts.allow_another_after(&error) => attempts.pause().await,
                done => break done,
            }
        }
    }};
}
pub(crate) use act;

/// A connection for one attempt. Dropped without [`end`](Self::end), as by a caller that was cancelled, it is closed.
pub(crate) struct Lease<'a> {
    idle: Idle,
    connections: &'a Connections,
    _place: SemaphorePermit<'a>,
}

impl Lease<'_> {
    pub(crate) fn limit(&self) -> Duration {
        self.connections.limit
    }

    pub(crate) fn sql_of(&self, begin: Begin) -> Option<String> {
        begin.sql(self.connections.places.is_pooled, self.connections.limit)
    }

    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.idle.connection
    }

    /// Gives the connection back, unless it is broken.
    pub(crate) fn end<T>(self, done: Result<Result<T, StoreError>, Elapsed>) -> Result<T, StoreError> {
        let done = done.unwrap_or_else(|_| Err(StoreError::unavailable(TimedOut)));
        let places = &self.connections.places;
        match &done {
            Err(error) if is_of_connection(error) => self.connections.distrust(),
            // One act that took too long or failed says nothing about the other connections.
            Err(error) if is_timeout(error) || places.is_pooled => {}
            _ => places.idle().push(self.idle),
        }
        done
    }
}

/// Counts the attempts at an act.
#[derive(Default)]
pub(crate) struct Attempts(u32);

impl Attempts {
    pub(crate) fn allow_another_after(&mut self, error: &StoreError) -> bool {
        self.0 += 1;
        self.0 < ATTEMPTS && is_repeatable(error)
    }

    pub(crate) async fn pause(&self) {
        sleep(PAUSE * self.0 * self.0).await;
    }
}

fn is_timeout(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(cause) if cause.is::<TimedOut>())
}

/// Since when older connections are not used any more: they may lead to a server that has been demoted.
#[derive(Debug)]
struct Staleness {
    started: Instant,
    /// In milliseconds since the start.
    since: AtomicU64,
}

impl Staleness {
    fn new() -> Self {
        Self { started: Instant::now(), since: AtomicU64::new(0) }
    }

    fn begin(&self) {
        self.since.store(self.millis(Instant::now()), Ordering::Relaxed);
    }

    /// Whether a connection was opened before.
    fn includes(&self, opened: Instant) -> bool {
        self.millis(opened) < self.since.load(Ordering::Relaxed)
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}
