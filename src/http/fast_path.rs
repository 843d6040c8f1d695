//! The front: what every request passes on its way to its route and back, and what is answered right here, because it
//! must cost next to nothing: the JWKS, and a client of /auth that has had its requests of this second.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use prometheus::IntCounter;
use tower::ServiceExt as _;

use super::client_ip::ClientIp;
use super::error::set_no_store;
use super::metrics::{Metrics, RouteMetrics};
use super::rate_limit::{MovingWindow, refusal};
use super::request_log::{self, RequestLog};
use super::{AUTH, HttpConfig, JWKS, jwks};
use crate::domain::clock::Clock;
use crate::issuer::Issuer;
use crate::telemetry::Outages;

/// All routes, behind the front.
#[derive(Clone)]
pub struct FastPath(Arc<Parts>);

struct Parts {
    routes: Router,
    issuer: Issuer,
    settings: Arc<HttpConfig>,
    clock: Arc<dyn Clock>,
    window: MovingWindow,
    published: [Published; JWKS.len()],
    limited: Limited,
    outages: Outages,
}

/// The figures of one path of the JWKS.
struct Published {
    path: &'static str,
    sent: RouteMetrics,
    not_modified: RouteMetrics,
}

/// The figures of /auth's limit.
struct Limited {
    route: RouteMetrics,
    count: IntCounter,
}

impl FastPath {
    pub(super) fn new(routes: Router, issuer: Issuer, settings: Arc<HttpConfig>, metrics: &Metrics) -> Self {
        let published = JWKS.map(|path| Published {
            path,
            sent: metrics.route(path, StatusCode::OK),
            not_modified: metrics.route(path, StatusCode::NOT_MODIFIED),
        });
        let limited = Limited {
            route: metrics.route(AUTH, refusal(Duration::ZERO).status()),
            count: metrics.count_rate_limited(AUTH),
        };
        Self(Arc::new(Parts {
            routes,
            issuer,
            clock: metrics.clock(),
            window: MovingWindow::new(settings.auth_rate_limit),
            settings,
            published,
            limited,
            outages: Outages::new(metrics.clock()),
        }))
    }

    /// Evicts idle rate-limit entries and logs outages that have ended. Call it periodically.
    pub(super) fn maintain(&self) {
        self.0.window.tidy();
        request_log::log_ended(&self.0.outages);
    }

    /// Answers one request of this peer.
    pub(super) async fn answer<B>(&self, peer: SocketAddr, mut request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
    {
        let request_log = RequestLog::begin(&request);
        let mut response = match self.0.at_once(peer, &mut request) {
            Some(response) => response,
            None => self.0.route(peer, request).await,
        };
        request_log.end(&mut response, &self.0.outages);
        response
    }
}

impl Parts {
    /// The answer, if it is one of those that the front gives by itself.
    fn at_once<B>(&self, peer: SocketAddr, request: &mut Request<B>) -> Option<Response> {
        match *request.method() {
            Method::GET | Method::HEAD => self.jwks(request),
            Method::POST if request.uri().path() == AUTH => self.refuse(peer, request),
            _ => None,
        }
    }

    /// The same as its route answers; what is not plain is left to that one.
    fn jwks<B>(&self, request: &Request<B>) -> Option<Response> {
        let published = self.published.iter().find(|published| published.path == request.uri().path())?;
        let begun = self.clock.monotonic();
        let response = jwks::answer(&self.issuer, &self.settings, request.headers()).ok()?;
        let is_sent = response.status() == StatusCode::OK;
        let route = if is_sent { &published.sent } else { &published.not_modified };
        route.count(begun);
        Some(response)
    }

    /// Counts a request for the limit of /auth, before anything is read or computed for it.
    fn refuse<B>(&self, peer: SocketAddr, request: &mut Request<B>) -> Option<Response> {
        let begun = self.clock.monotonic();
        let client = self.settings.client_ip.client(peer.ip(), request.headers());
        let Err(wait) = self.window.check(client) else {
            request.extensions_mut().insert(ClientIp(client));
            return None;
        };
        let mut response = refusal(wait);
        set_no_store(&mut response);
        self.limited.route.count(begun);
        self.limited.count.inc();
        Some(response)
    }

    async fn route<B>(&self, peer: SocketAddr, mut request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
    {
        request.extensions_mut().insert(ConnectInfo(peer));
        match self.routes.clone().oneshot(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
