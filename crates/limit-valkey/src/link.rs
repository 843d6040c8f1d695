//! The connection to the server: one for all requests, given up at the first failure and opened again in the background.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError};
use thiserror::Error;
use tokio::time::{Instant, timeout};

use jwksd_core::outage::{Outage, error_chain};

use super::url::LimitUrl;

/// Maximum time of an answer. A request waits for it before anything else happens.
const ANSWER_LIMIT: Duration = Duration::from_millis(50);

/// Maximum time to connect. No request waits for that.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// Time after a failure in which the server is not asked.
const PAUSE: Duration = Duration::from_secs(1);

/// Why the server did not decide.
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    #[error(transparent)]
    Server(#[from] RedisError),
    #[error("no answer within {0:?}")]
    Silent(Duration),
}

/// The way to the server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link(Arc<Inner>);

struct Inner {
    server: LimitUrl,
    state: Mutex<State>,
    outage: Outage,
    /// How many connections were opened.
    opened: AtomicU64,
}

enum State {
    Open {
        connection: MultiplexedConnection,
        number: u64,
    },
    /// Not asked until then.
    Away {
        until: Instant,
    },
    Connecting,
}

/// The open connection, for one question.
pub(crate) struct Line {
    pub(crate) connection: MultiplexedConnection,
    number: u64,
}

impl Link {
    /// Connects. A server that is away is tried again later.
    pub(crate) async fn open(server: &LimitUrl) -> Self {
        let inner = Inner {
            server: server.clone(),
            state: Mutex::new(State::Connecting),
            outage: Outage::default(),
            opened: AtomicU64::new(0),
        };
        let link = Self(Arc::new(inner));
        link.connect().await;
        link
    }

    /// The connection, if it is open. Otherwise it is opened in the background, if that is due.
    pub(crate) fn line(&self) -> Option<Line> {
        let mut state = self.lock();
        match &*state {
            State::Open { connection, number } => {
                Some(Line { connection: connection.clone(), number: *number })
            }
            State::Away { until } if *until <= Instant::now() => {
                *state = State::Connecting;
                let link = self.clone();
                tokio::spawn(async move { link.connect().await });
                None
            }
            State::Away { .. } | State::Connecting => None,
        }
    }

    /// Waits for an answer on a line. After a failure the line is given up.
    pub(crate) async fn ask<T>(
        &self,
        line: &Line,
        answer: impl Future<Output = Result<T, RedisError>>,
    ) -> Result<T, LinkError> {
        let answered = within(ANSWER_LIMIT, answer).await;
        if let Err(error) = &answered {
            self.give_up(line.number, error);
        }
        answered
    }

    async fn connect(&self) {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_LIMIT))
            .set_response_timeout(Some(CONNECT_LIMIT));
        let connecting = self.0.server.client().get_multiplexed_async_connection_with_config(&config);
        match within(CONNECT_LIMIT, connecting).await {
            Ok(connection) => {
                let number = self.0.opened.fetch_add(1, Ordering::Relaxed);
                *self.lock() = State::Open { connection, number };
                self.0.outage.recovered(|| "the rate limits hold for all processes together again");
            }
            Err(error) => self.pause(&error),
        }
    }

    fn give_up(&self, number: u64, error: &LinkError) {
        // Another request may have done so, and a new connection may be open.
        let is_current = matches!(&*self.lock(), State::Open { number: current, .. } if *current == number);
        if is_current {
            self.pause(error);
        }
    }

    fn pause(&self, error: &LinkError) {
        *self.lock() = State::Away { until: Instant::now() + PAUSE };
        self.0.outage.failed(|| {
            format!(
                "{} is away, so each process limits the rate of requests by itself, at the full limit: {}",
                self.0.server,
                error_chain(error)
            )
        });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn within<T>(
    limit: Duration,
    answer: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, LinkError> {
    timeout(limit, answer).await.map_err(|_| LinkError::Silent(limit))?.map_err(LinkError::from)
}
