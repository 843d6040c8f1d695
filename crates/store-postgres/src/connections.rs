//! Connections to the server, each act on them with an end, and with another attempt where that is safe.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep};

use super::error::{TimedOut, is_of_connection, is_repeatable, not_connected};
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

/// Some connections to the server.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    pool: PgPool,
    /// Maximum time of one act.
    limit: Duration,
    staleness: Arc<Staleness>,
    /// Whether a pooler stands before the server that does not know prepared statements.
    is_pooled: bool,
}

impl Connections {
    /// At most `number` connections. None is opened before it is needed.
    pub(crate) fn new(server: &ServerUrl, number: u32, limit: Duration) -> Self {
        let staleness = Arc::new(Staleness::new());
        Self::with_staleness(server.options(), server.is_pooled(), number, limit, staleness)
    }

    /// More connections to the same server. What one of these finds out about it counts for the others.
    pub(crate) fn more(&self, number: u32, limit: Duration) -> Self {
        let options = (*self.pool.connect_options()).clone();
        Self::with_staleness(options, self.is_pooled, number, limit, Arc::clone(&self.staleness))
    }

    fn with_staleness(
        options: PgConnectOptions,
        is_pooled: bool,
        number: u32,
        limit: Duration,
        staleness: Arc<Staleness>,
    ) -> Self {
        let stale = Arc::clone(&staleness);
        let pool = PgPoolOptions::new()
            .max_connections(number)
            .acquire_timeout(limit.min(MAX_WAIT))
            .max_lifetime(LIFETIME)
            // An answer more before each act. A broken connection is noticed by the act itself.
            .test_before_acquire(false)
            .before_acquire(move |_, connection| {
                let is_fresh = !stale.includes(connection.age);
                Box::pin(async move { Ok(is_fresh) })
            })
            .connect_lazy_with(options);
        Self { pool, limit, staleness, is_pooled }
    }

    /// The same connections, for acts that may take this long.
    pub(crate) fn with_limit(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// One of them, for one attempt at an act.
    pub(crate) async fn lease(&self) -> Result<Lease<'_>, StoreError> {
        let connection = self.pool.acquire().await.map_err(not_connected)?;
        Ok(Lease { connection, connections: self })
    }

    /// Uses none of those that are open now again: they may lead to a server that is away, or was demoted.
    pub(crate) fn distrust(&self) {
        self.staleness.begin();
    }

    /// Closes all of them.
    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

/// The transaction around an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// None, because the act is one statement; but behind a pooler, one keeps its messages together.
    IfPooled,
    /// All queries see the same commit.
    Snapshot,
    /// Statements see what others have committed before.
    Write,
}

impl Begin {
    /// How to begin such a transaction; nothing if none is needed.
    ///
    /// Behind a pooler that gives each transaction another connection, statements that were prepared before, by any client, may have
    /// the names of ours.
    pub(crate) const fn sql(self, is_pooled: bool) -> Option<&'static str> {
        match (self, is_pooled) {
            (Self::IfPooled, false) => None,
            (Self::IfPooled, true) => Some("BEGIN; DEALLOCATE ALL"),
            (Self::Snapshot, false) => Some("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"),
            (Self::Snapshot, true) => {
                Some("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; DEALLOCATE ALL")
            }
            (Self::Write, false) => Some("BEGIN ISOLATION LEVEL READ COMMITTED"),
            (Self::Write, true) => Some("BEGIN ISOLATION LEVEL READ COMMITTED; DEALLOCATE ALL"),
        }
    }
}

/// Does something on one of these connections, again if another transaction was in its way. When it takes too long, its connection is
/// dropped, and the server ends what it was asked.
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
                    let begun = sqlx::Connection::begin_with(connection, begin).await;
                    let mut tx = begun.map_err($crate::error::failed)?;
                    let $db: &mut sqlx::postgres::PgConnection = &mut tx;
                    let done = $act.await?;
                    tx.commit().await.map_err($crate::error::failed)?;
                    Ok(done)
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

/// A connection for one attempt.
pub(crate) struct Lease<'a> {
    connection: PoolConnection<Postgres>,
    connections: &'a Connections,
}

impl Lease<'_> {
    pub(crate) fn limit(&self) -> Duration {
        self.connections.limit
    }

    pub(crate) fn sql_of(&self, begin: Begin) -> Option<&'static str> {
        begin.sql(self.connections.is_pooled)
    }

    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }

    /// Gives the connection back, unless it is broken.
    pub(crate) fn end<T>(self, done: Result<Result<T, StoreError>, Elapsed>) -> Result<T, StoreError> {
        let done = done.unwrap_or_else(|_| Err(StoreError::unavailable(TimedOut)));
        if let Err(error) = &done
            && (is_timeout(error) || is_of_connection(error) || self.connections.is_pooled)
        {
            // Detached and dropped: closing it politely would wait for a server that does not answer.
            drop(self.connection.detach());
            // One act that took too long or failed says nothing about the others.
            if is_of_connection(error) {
                self.connections.distrust();
            }
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
        self.since.store(self.now(), Ordering::Relaxed);
    }

    /// Whether a connection of this age was opened before.
    fn includes(&self, age: Duration) -> bool {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.now().saturating_sub(age) < self.since.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
