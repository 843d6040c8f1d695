//! Metrics in the Prometheus format.
//!
//! Counters and histograms are kept here; gauges are read from the layers below at each scrape.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
pub use prometheus::Error as MetricsError;
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, Opts, Registry, TextEncoder,
};

use super::error::{Failure, was_rate_limited};
use jwksd_core::clock::Clock;
use jwksd_core::issuer::{Accounts, BlockingPool, Keyring};
use jwksd_core::key::lifecycle::Phase;

/// Upper bounds of the histograms in seconds, from a JWKS response to a sign-in in a long queue.
const BUCKETS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// The `route` label of requests that no route matched. Their paths would make the number of series unbounded.
pub(super) const UNMATCHED: &str = "unmatched";

/// The metrics of one server.
pub struct Metrics {
    clock: Arc<dyn Clock>,
    exporting: Mutex<()>,
    registry: Registry,
    requests: IntCounterVec,
    latency: HistogramVec,
    rate_limited: IntCounterVec,
    sign_ins: IntCounterVec,
    password_changes: IntCounterVec,
    throttled_names: IntGauge,
    store_errors: IntCounter,
    hashing: Histogram,
    hash_wait: Histogram,
    hashes_running: IntGauge,
    hashes_waiting: IntGauge,
    keys: GaugeVec,
    signing_key_age: Gauge,
    next_rotation: Gauge,
    rotation_failures: Gauge,
    self_check_failures: IntCounter,
}

/// The metrics of one route and status. Kept where a lookup per request would cost more than the counting.
pub(super) struct RouteMetrics {
    clock: Arc<dyn Clock>,
    requests: IntCounter,
    latency: Histogram,
}

impl RouteMetrics {
    pub(super) fn count(&self, started: Duration) {
        self.requests.inc();
        self.latency.observe(self.clock.monotonic().saturating_sub(started).as_secs_f64());
    }
}

/// The metrics as text, and its media type.
pub(super) struct Exposition {
    pub(super) media_type: String,
    pub(super) text: Vec<u8>,
}

/// The outcome of an attempt with a password: of a sign-in, or of a change of the password.
#[derive(Clone, Copy, Debug)]
pub(super) enum AttemptResult {
    Accepted,
    Failed,
    Refused,
    Throttled,
}

impl Metrics {
    /// Returns metrics that are all zero.
    ///
    /// # Errors
    /// Fails if two metrics have the same name.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, MetricsError> {
        let counters = |name, help, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let seconds = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        let metrics = Self {
            clock,
            exporting: Mutex::default(),
            // Our own registry: the process-wide one would mix the metrics of several servers in one test.
            registry: Registry::new_custom(Some("jwksd".to_owned()), None)?,
            requests: counters("http_requests_total", "Answered requests", &["route", "status"])?,
            latency: HistogramVec::new(
                seconds("http_request_duration_seconds", "Time from a request's head to its response's"),
                &["route"],
            )?,
            rate_limited: counters("http_rate_limited_total", "Requests answered 429", &["route"])?,
            sign_ins: counters("sign_ins_total", "Sign-ins of password mode", &["outcome"])?,
            password_changes: counters("password_changes_total", "Requests to /password", &["outcome"])?,
            throttled_names: IntGauge::new(
                "throttled_names",
                "Usernames for which new clients must wait, with and without an account",
            )?,
            store_errors: IntCounter::new("store_errors_total", "Requests that failed because of the store")?,
            hashing: Histogram::with_opts(seconds("argon2_duration_seconds", "Time to hash a password"))?,
            hash_wait: Histogram::with_opts(seconds(
                "argon2_wait_seconds",
                "Time that a password waits for a hashing thread",
            ))?,
            hashes_running: IntGauge::new("argon2_running", "Passwords that are being hashed")?,
            hashes_waiting: IntGauge::new("argon2_waiting", "Passwords that wait for a hashing thread")?,
            keys: GaugeVec::new(Opts::new("keys", "Keys by phase"), &["phase"])?,
            signing_key_age: Gauge::new(
                "signing_key_age_seconds",
                "Time since the current key first signed",
            )?,
            next_rotation: Gauge::new(
                "next_rotation_seconds",
                "Time until another key signs; negative if overdue",
            )?,
            rotation_failures: Gauge::new("rotation_failures", "Rotation ticks that failed in a row")?,
            self_check_failures: IntCounter::new(
                "self_check_failures_total",
                "Key sets that were not published because a probe token did not verify through them",
            )?,
        };
        metrics.register()?;
        for outcome in AttemptResult::ALL {
            metrics.sign_ins.with_label_values(&[outcome.name()]);
            metrics.password_changes.with_label_values(&[outcome.name()]);
        }
        Ok(metrics)
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    fn register(&self) -> Result<(), MetricsError> {
        let collectors: [Box<dyn prometheus::core::Collector>; 17] = [
            Box::new(self.requests.clone()),
            Box::new(self.latency.clone()),
            Box::new(self.rate_limited.clone()),
            Box::new(self.sign_ins.clone()),
            Box::new(self.password_changes.clone()),
            Box::new(self.throttled_names.clone()),
            Box::new(self.store_errors.clone()),
            Box::new(self.hashing.clone()),
            Box::new(self.hash_wait.clone()),
            Box::new(self.hashes_running.clone()),
            Box::new(self.hashes_waiting.clone()),
            Box::new(self.keys.clone()),
            Box::new(self.signing_key_age.clone()),
            Box::new(self.next_rotation.clone()),
            Box::new(self.rotation_failures.clone()),
            Box::new(self.self_check_failures.clone()),
            Box::new(
                // The value is always 1; the version is a label, so that queries can join on it.
                IntGauge::with_opts(
                    Opts::new("build_info", "The version of jwksd")
                        .const_label("version", env!("CARGO_PKG_VERSION")),
                )
                .inspect(|info| info.set(1))?,
            ),
        ];
        collectors.into_iter().try_for_each(|collector| self.registry.register(collector))
    }

    /// Returns a handle to the same pool that records queue and run times here.
    #[must_use]
    pub fn observe(&self, pool: &BlockingPool) -> BlockingPool {
        let (wait, hashing) = (self.hash_wait.clone(), self.hashing.clone());
        let record = move |waited: Duration, ran: Duration| {
            wait.observe(waited.as_secs_f64());
            hashing.observe(ran.as_secs_f64());
        };
        pool.observed(Arc::new(record))
    }

    pub(super) fn count_sign_in(&self, outcome: AttemptResult) {
        self.sign_ins.with_label_values(&[outcome.name()]).inc();
    }

    pub(super) fn count_password_change(&self, outcome: AttemptResult) {
        self.password_changes.with_label_values(&[outcome.name()]).inc();
    }

    /// The metrics of one route and status.
    pub(super) fn route(&self, route: &str, status: StatusCode) -> RouteMetrics {
        RouteMetrics {
            clock: Arc::clone(&self.clock),
            requests: self.requests.with_label_values(&[route, status.as_str()]),
            latency: self.latency.with_label_values(&[route]),
        }
    }

    /// The count of 429s of one route. It exists from this call on: a counter that appears late hides its first increase
    /// from queries.
    pub(super) fn rate_limited(&self, route: &str) -> IntCounter {
        self.rate_limited.with_label_values(&[route])
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// Fails if the encoder rejects a metric.
    pub(super) fn export(&self, accounts: &Accounts, keyring: &Keyring) -> Result<Exposition, MetricsError> {
        // One export at a time: refreshing resets a counter before it sets it.
        let exporting = self.exporting.lock().unwrap_or_else(PoisonError::into_inner);
        self.refresh(accounts, keyring);
        let families = self.registry.gather();
        drop(exporting);
        let encoder = TextEncoder::new();
        let mut text = Vec::new();
        encoder.encode(&families, &mut text)?;
        Ok(Exposition { media_type: encoder.format_type().to_owned(), text })
    }

    /// Counts a response.
    pub(super) fn count(&self, route: &str, response: &Response, took: Duration) {
        let status = response.status();
        self.requests.with_label_values(&[route, status.as_str()]).inc();
        self.latency.with_label_values(&[route]).observe(took.as_secs_f64());
        if was_rate_limited(response) {
            self.rate_limited.with_label_values(&[route]).inc();
        }
        if response.extensions().get().is_some_and(Failure::is_from_store) {
            self.store_errors.inc();
        }
    }

    /// Reads what the layers below count.
    fn refresh(&self, accounts: &Accounts, keyring: &Keyring) {
        let (running, waiting) = accounts.hashing_load();
        // Prometheus gauges are signed.
        self.hashes_running.set(i64::try_from(running).unwrap_or(i64::MAX));
        self.hashes_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.throttled_names.set(i64::try_from(accounts.throttled_names()).unwrap_or(i64::MAX));
        let status = keyring.rotation_status();
        for phase in Phase::ALL {
            let keys = status.by_phase.get(&phase).copied().unwrap_or(0);
            self.keys
                .with_label_values(&[phase.name()])
                .set(f64::from(u32::try_from(keys).unwrap_or(u32::MAX)));
        }
        // NaN while no key signs: zero would claim a new key.
        self.signing_key_age.set(status.signing_for.map_or(f64::NAN, |age| age.as_secs_f64()));
        let now = self.clock.now();
        self.next_rotation.set(status.next_rotation.map_or(f64::NAN, |next| {
            if next >= now { next.since(now).as_secs_f64() } else { -now.since(next).as_secs_f64() }
        }));
        self.rotation_failures.set(keyring.failed_ticks().into());
        // The keyring counts, because it knows nothing of metrics.
        self.self_check_failures.reset();
        self.self_check_failures.inc_by(keyring.self_check_failures());
    }
}

impl AttemptResult {
    const ALL: [Self; 4] = [Self::Accepted, Self::Failed, Self::Refused, Self::Throttled];

    const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
        }
    }
}

/// Middleware that counts each response by route and status.
pub(super) async fn measure(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let started = metrics.clock.monotonic();
    // Read before the request is consumed.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
    metrics.count(route, &response, metrics.clock.monotonic().saturating_sub(started));
    response
}
