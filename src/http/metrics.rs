//! `GET /metrics`: what the service does in figures, in the Prometheus text format.
//!
//! Counters and histograms are kept here, where requests come by; what the floors below know by themselves is asked of
//! them at each scrape.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, Opts, Registry, TextEncoder,
};

use super::error::{ApiError, Failure, was_rate_limited};
use crate::domain::clock::Clock;
use crate::domain::key::lifecycle::Phase;
use crate::issuer::{BlockingPool, Issuer};

/// Upper bounds in seconds: from a JWKS to a sign-in that waits in a long queue.
const BUCKETS: [f64; 13] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];

/// The route of a request that no route matched: the paths that strangers think of are not counted one by one.
const UNMATCHED: &str = "unmatched";

/// The routes of which one can have had too much; their counts are there from the start.
const LIMITED: [&str; 3] = ["/auth", "/metrics", "/register"];

/// The figures of one server.
pub struct Metrics {
    clock: Arc<dyn Clock>,
    registry: Registry,
    requests: IntCounterVec,
    latency: HistogramVec,
    rate_limited: IntCounterVec,
    sign_ins: IntCounterVec,
    store_errors: IntCounter,
    hashing: Histogram,
    hash_wait: Histogram,
    hashes_running: IntGauge,
    hashes_waiting: IntGauge,
    keys: GaugeVec,
    signing_key_age: Gauge,
    next_rotation: Gauge,
    rotation_failures: Gauge,
}

/// The figures of one route and status, looked up once: to find them costs more than to count.
pub(super) struct RouteMetrics {
    clock: Arc<dyn Clock>,
    requests: IntCounter,
    latency: Histogram,
}

impl RouteMetrics {
    pub(super) fn count(&self, begun: Duration) {
        self.requests.inc();
        self.latency.observe(self.clock.monotonic().saturating_sub(begun).as_secs_f64());
    }
}

/// What came of a sign-in.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Accepted,
    Failed,
    Refused,
}

impl Metrics {
    /// All figures at zero.
    ///
    /// # Errors
    /// When two of them have the same name.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, prometheus::Error> {
        let counters = |name, help, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let seconds = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        let metrics = Self {
            clock,
            registry: Registry::new_custom(Some("jwksd".to_owned()), None)?,
            requests: counters("http_requests_total", "Answered requests", &["route", "status"])?,
            latency: HistogramVec::new(
                seconds("http_request_duration_seconds", "From a request's head to its answer's"),
                &["route"],
            )?,
            rate_limited: counters("http_rate_limited_total", "Requests answered 429", &["route"])?,
            sign_ins: counters("sign_ins_total", "Sign-ins of password mode", &["outcome"])?,
            store_errors: IntCounter::new("store_errors_total", "Requests that the store did not serve")?,
            hashing: Histogram::with_opts(seconds("argon2_duration_seconds", "Hashing for one request"))?,
            hash_wait: Histogram::with_opts(seconds("argon2_wait_seconds", "Waiting for a core to do so"))?,
            hashes_running: IntGauge::new("argon2_running", "Requests for which a password is being hashed")?,
            hashes_waiting: IntGauge::new("argon2_waiting", "Requests whose password waits for a core")?,
            keys: GaugeVec::new(Opts::new("keys", "Keys by phase"), &["phase"])?,
            signing_key_age: Gauge::new("signing_key_age_seconds", "How long the current key has signed")?,
            next_rotation: Gauge::new(
                "next_rotation_seconds",
                "Until another key signs; negative when overdue",
            )?,
            rotation_failures: Gauge::new("rotation_failures", "Failed rounds of the rotation in a row")?,
        };
        metrics.register()?;
        for outcome in [Outcome::Accepted, Outcome::Failed, Outcome::Refused] {
            metrics.sign_ins.with_label_values(&[outcome.name()]);
        }
        for route in LIMITED {
            metrics.rate_limited.with_label_values(&[route]);
        }
        Ok(metrics)
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    fn register(&self) -> Result<(), prometheus::Error> {
        let collectors: [Box<dyn prometheus::core::Collector>; 14] = [
            Box::new(self.requests.clone()),
            Box::new(self.latency.clone()),
            Box::new(self.rate_limited.clone()),
            Box::new(self.sign_ins.clone()),
            Box::new(self.store_errors.clone()),
            Box::new(self.hashing.clone()),
            Box::new(self.hash_wait.clone()),
            Box::new(self.hashes_running.clone()),
            Box::new(self.hashes_waiting.clone()),
            Box::new(self.keys.clone()),
            Box::new(self.signing_key_age.clone()),
            Box::new(self.next_rotation.clone()),
            Box::new(self.rotation_failures.clone()),
            Box::new(
                IntGauge::with_opts(
                    Opts::new("build_info", "Which jwksd this is")
                        .const_label("version", env!("CARGO_PKG_VERSION")),
                )
                .inspect(|info| info.set(1))?,
            ),
        ];
        collectors.into_iter().try_for_each(|collector| self.registry.register(collector))
    }

    /// BlockingPool whose computations are measured.
    #[must_use]
    pub fn observe(&self, pool: &BlockingPool) -> BlockingPool {
        let (wait, hashing) = (self.hash_wait.clone(), self.hashing.clone());
        let record = move |waited: Duration, ran: Duration| {
            wait.observe(waited.as_secs_f64());
            hashing.observe(ran.as_secs_f64());
        };
        pool.observed(Arc::new(record))
    }

    pub(super) fn count_sign_in(&self, outcome: Outcome) {
        self.sign_ins.with_label_values(&[outcome.name()]).inc();
    }

    /// The figures of one route and status.
    pub(super) fn route(&self, route: &str, status: StatusCode) -> RouteMetrics {
        RouteMetrics {
            clock: Arc::clone(&self.clock),
            requests: self.requests.with_label_values(&[route, status.as_str()]),
            latency: self.latency.with_label_values(&[route]),
        }
    }

    pub(super) fn count_rate_limited(&self, route: &str) -> IntCounter {
        self.rate_limited.with_label_values(&[route])
    }

    fn count(&self, route: &str, response: &Response, took: Duration) {
        let status = response.status();
        self.requests.with_label_values(&[route, status.as_str()]).inc();
        self.latency.with_label_values(&[route]).observe(took.as_secs_f64());
        if was_rate_limited(response) {
            self.rate_limited.with_label_values(&[route]).inc();
        }
        if response.extensions().get().is_some_and(Failure::is_of_the_store) {
            self.store_errors.inc();
        }
    }

    /// Asks the floors below for what they know by themselves.
    fn ask(&self, issuer: &Issuer) {
        let (running, waiting) = issuer.hashes();
        self.hashes_running.set(i64::try_from(running).unwrap_or(i64::MAX));
        self.hashes_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        let figures = issuer.keyring().rotation_status();
        for phase in Phase::ALL {
            let keys = figures.by_phase.get(&phase).copied().unwrap_or(0);
            self.keys
                .with_label_values(&[phase.name()])
                .set(f64::from(u32::try_from(keys).unwrap_or(u32::MAX)));
        }
        // Nothing signs: there is no such figure.
        self.signing_key_age.set(figures.signing_for.map_or(f64::NAN, |age| age.as_secs_f64()));
        let now = self.clock.now();
        self.next_rotation.set(figures.next_rotation.map_or(f64::NAN, |next| {
            if next >= now { next.since(now).as_secs_f64() } else { -now.since(next).as_secs_f64() }
        }));
        self.rotation_failures.set(issuer.keyring().failures().into());
    }
}

impl Outcome {
    const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}

/// Counts an answer by its route and its status.
pub(super) async fn measure(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let begun = metrics.clock.monotonic();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
    metrics.count(route, &response, metrics.clock.monotonic().saturating_sub(begun));
    response
}

pub(super) async fn get(
    State(issuer): State<Issuer>,
    State(metrics): State<Arc<Metrics>>,
) -> Result<Response, ApiError> {
    metrics.ask(&issuer);
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    encoder
        .encode(&metrics.registry.gather(), &mut text)
        .map_err(|error| ApiError::Internal(Box::new(error)))?;
    Ok(([(CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response())
}
