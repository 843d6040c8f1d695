//! The fast path: what every request passes before routing, and the responses that must cost next to nothing.
//!
//! Those are the JWKS, for which nothing is allocated, and the 429 of a client over the limit of /auth.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{Method, Request, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use prometheus::IntCounter;
use tower::ServiceExt as _;

use super::browser::{BrowserPolicy, Grant, is_preflight, meant_method, preflight};
use super::client_ip::ClientIp;
use super::config::HttpConfig;
use super::error::ApiError;
use super::host;
use super::issuer_path::IssuerPath;
use super::metrics::{Metrics, RouteMetrics, UNMATCHED};
use super::openapi::{Access, Endpoint, LazyDocument};
use super::rate_limit::refusal;
use super::refusal_log::Refusal;
use super::request_log::{Logs, RequestLog};
use super::request_rest::{self, SharedBody};
use super::response::set_no_store;
use super::router::{RouteLimits, is_checked_before_routing, router};
use super::routes::{self, Route};
use super::state::{AppState, Services};
use jwksd_core::clock::Clock;
use jwksd_core::issuer::{Keyring, RefusedSignIn};
use jwksd_core::rate_limit::{Bucket, Decision, RateLimiter};

/// All routes, behind the fast path. Cheap to clone.
#[derive(Clone)]
pub struct FastPath(Arc<Inner>);

struct Inner {
    router: Router,
    keyring: Arc<Keyring>,
    config: Arc<HttpConfig>,
    clock: Arc<dyn Clock>,
    limiter: Arc<dyn RateLimiter>,
    metrics: Arc<Metrics>,
    browsers: BrowserPolicy,
    issuer_path: IssuerPath,
    endpoints: Vec<Endpoint>,
    jwks: [JwksPath; 2],
    limited: Vec<LimitedEndpoint>,
    logs: Logs,
}

/// A path of the JWKS, with its metrics.
struct JwksPath {
    path: &'static str,
    ok: RouteMetrics,
    not_modified: RouteMetrics,
}

/// An endpoint whose limit is checked before routing, with the metrics of its 429.
struct LimitedEndpoint {
    endpoint: Endpoint,
    bucket: Bucket,
    metrics: RouteMetrics,
    refusals: IntCounter,
}

/// A request that counts for the limit of its endpoint.
struct Counted<'a> {
    limited: &'a LimitedEndpoint,
    client: ClientIp,
    grant: Grant,
    started: Duration,
}

impl FastPath {
    /// Wires all routes. `registration_limit` is for the outer guard of /register, in requests per second and client; 0 for
    /// no guard.
    #[must_use]
    pub fn new(
        services: Services,
        config: HttpConfig,
        metrics: Metrics,
        limiter: Arc<dyn RateLimiter>,
        registration_limit: u32,
    ) -> Self {
        let (config, metrics) = (Arc::new(config), Arc::new(metrics));
        let routes = routes::table();
        let endpoints: Vec<_> = routes.iter().map(|Route { endpoint, .. }| endpoint.clone()).collect();
        for endpoint in endpoints.iter().filter(|endpoint| endpoint.limit.is_some()) {
            metrics.rate_limited(endpoint.path);
        }
        let inner = Inner {
            keyring: Arc::clone(&services.keyring),
            config: Arc::clone(&config),
            clock: metrics.clock(),
            metrics: Arc::clone(&metrics),
            browsers: BrowserPolicy::new(config.browsers.clone(), services.issuer.url()),
            issuer_path: IssuerPath::new(services.issuer.url()),
            endpoints: endpoints.clone(),
            jwks: [routes::jwks::PATH, routes::jwks::ALIAS].map(|path| JwksPath::new(path, &metrics)),
            limited: endpoints.iter().filter_map(|one| LimitedEndpoint::new(one, &metrics)).collect(),
            logs: Logs::new(&metrics.clock()),
            router: {
                let openapi = Arc::new(LazyDocument::new(endpoints, config.auth_mode));
                let limits = RouteLimits { limiter: Arc::clone(&limiter), registration: registration_limit };
                router(routes, AppState { services, config, metrics, openapi }, limits)
            },
            limiter,
        };
        Self(Arc::new(inner))
    }

    /// Evicts idle rate-limit entries and logs outages that have ended. Call it periodically.
    pub(super) fn maintain(&self) {
        self.0.limiter.evict_idle();
        self.0.logs.maintain();
    }

    pub(super) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0.clock)
    }

    /// Whether connections of this address stand for many clients.
    pub(super) fn is_trusted_proxy(&self, peer: IpAddr) -> bool {
        self.0.config.client_ip.trusts(peer)
    }

    /// Whether any proxies are trusted.
    pub(super) fn has_trusted_proxies(&self) -> bool {
        !self.0.config.client_ip.trusted.is_empty()
    }

    /// The response, as bytes, to a request whose head hyper could not read. `refusal` is hyper's own response.
    pub(super) fn refuse_unreadable(&self, error: ApiError, refusal: &[u8]) -> Vec<u8> {
        let Ok(body) = serde_json::to_vec(&error.body()) else {
            return refusal.to_vec();
        };
        let mut response = error.into_response();
        self.0.metrics.count(UNMATCHED, &response, Duration::ZERO);
        RequestLog::unreadable().end(&mut response, &self.0.logs);
        let is_kept = |line: &&[u8]| {
            !line.is_empty()
                && !line.get(..15).is_some_and(|name| name.eq_ignore_ascii_case(b"content-length:"))
        };
        // The status, the date, and that the connection is closed.
        let mut lines: Vec<Vec<u8>> = refusal
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii_end)
            .filter(is_kept)
            .map(<[u8]>::to_vec)
            .collect();
        let headers = response.headers().iter();
        lines.extend(
            headers.map(|(name, value)| [name.as_str().as_bytes(), b": ", value.as_bytes()].concat()),
        );
        lines.push(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
        [lines.join(&b"\r\n"[..]), body].concat()
    }

    /// Answers one request of this peer.
    pub(super) async fn answer<B>(&self, peer: SocketAddr, mut request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + Unpin + 'static,
    {
        let log = RequestLog::begin(&request);
        let waits_for_permission = request_rest::waits_for_permission(&request);
        let early = match self.0.jwks(&request) {
            Some(response) => Some(response),
            None => match self.0.counted(peer, &request) {
                Some(counted) => self.0.refuse(counted).await,
                None => None,
            },
        };
        let mut response = if let Some(mut response) = early {
            request_rest::finish(request.body_mut(), waits_for_permission, &mut response).await;
            response
        } else {
            let request = request.map(SharedBody::new);
            let mut rest = request.body().share();
            let mut response = self.0.check_and_route(peer, request).await;
            request_rest::finish(&mut rest, waits_for_permission, &mut response).await;
            response
        };
        log.end(&mut response, &self.0.logs);
        response
    }
}

impl JwksPath {
    fn new(path: &'static str, metrics: &Metrics) -> Self {
        Self {
            path,
            ok: metrics.route(path, StatusCode::OK),
            not_modified: metrics.route(path, StatusCode::NOT_MODIFIED),
        }
    }
}

impl LimitedEndpoint {
    fn new(endpoint: &Endpoint, metrics: &Metrics) -> Option<Self> {
        let bucket = endpoint.limit.filter(|bucket| is_checked_before_routing(*bucket))?;
        Some(Self {
            endpoint: endpoint.clone(),
            bucket,
            metrics: metrics.route(endpoint.path, refusal(Duration::ZERO).status()),
            refusals: metrics.rate_limited(endpoint.path),
        })
    }
}

impl Inner {
    /// The JWKS, as its route answers it. Returns nothing for other requests, and for failures, which are the route's.
    fn jwks<B>(&self, request: &Request<B>) -> Option<Response> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        let route = self.issuer_path.route(request.uri().path());
        let path = self.jwks.iter().find(|jwks| jwks.path == route)?;
        host::of(request).ok()?;
        let started = self.clock.monotonic();
        // hyper omits the body of a response to HEAD.
        let response = routes::jwks::respond(&self.keyring, &self.config, request.headers()).ok()?;
        let is_ok = response.status() == StatusCode::OK;
        let metrics = if is_ok { &path.ok } else { &path.not_modified };
        metrics.count(started);
        Some(response)
    }

    async fn check_and_route<B>(&self, peer: SocketAddr, mut request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
    {
        let started = self.clock.monotonic();
        let method = meant_method(&request);
        let (route, endpoint) = self.find(request.uri().path(), &method);
        let access = endpoint.map(|endpoint| endpoint.access);
        // What no page can send is not granted to any.
        let is_grantable = |endpoint: &&Endpoint| !is_preflight(&request) || endpoint.serves(&method);
        let granted = endpoint.filter(is_grantable).map(|endpoint| endpoint.access);
        let grant = Grant::new(&self.browsers, &request, granted);
        let mut response = if let Some(mut response) = self.answer_browser(&request, route, access, &grant) {
            if access.is_some_and(|access| access != Access::Public) {
                set_no_store(&mut response);
            }
            let label = endpoint.map_or(UNMATCHED, |endpoint| endpoint.path);
            self.metrics.count(label, &response, self.clock.monotonic().saturating_sub(started));
            response
        } else {
            if let Some(target) = IssuerPath::target(request.uri(), route) {
                *request.uri_mut() = target;
            }
            self.route(peer, request).await
        };
        grant.apply(&mut response);
        response
    }

    /// The path of the route that a request to `path` means, and the endpoint of that route for this method. For a method that
    /// the route does not have, another endpoint of it.
    fn find<'a>(&self, path: &'a str, method: &Method) -> (&'a str, Option<&Endpoint>) {
        let at = |path| endpoint_for(&self.endpoints, path, method);
        let route = self.issuer_path.route(path);
        match at(route) {
            // Not under the issuer's path: proxies are told to block the admin API only at its own paths.
            Some(endpoint) if endpoint.access != Access::Admin => (route, Some(endpoint)),
            _ => (path, at(path)),
        }
    }

    /// The response to a preflight, and to a request that a page may not send. Nothing for all other requests.
    fn answer_browser<B>(
        &self,
        request: &Request<B>,
        route: &str,
        access: Option<Access>,
        grant: &Grant,
    ) -> Option<Response> {
        let checked = host::of(request).and_then(|host| self.browsers.check(request, route, host, access));
        if let Err(error) = checked {
            return Some(error.into_response());
        }
        let of_route = self.endpoints.iter().filter(|endpoint| endpoint.has_path(route));
        let of_route = of_route.filter(|endpoint| Some(endpoint.access) == access);
        preflight(request, grant, of_route.map(|endpoint| endpoint.method.clone()))
    }

    async fn route<B>(&self, peer: SocketAddr, mut request: Request<B>) -> Response
    where
        B: HttpBody<Data = Bytes, Error: Into<axum::BoxError>> + Send + 'static,
    {
        // auth_logs and the limits of other routes use this address.
        let client = self.client(peer, &request);
        request.extensions_mut().insert(client);
        let mut response = match self.router.clone().oneshot(request.map(Body::new)).await {
            Ok(response) => response,
            // The router's error type has no values.
            Err(never) => match never {},
        };
        if let Some(sign_in) = response.extensions_mut().remove::<RefusedSignIn>() {
            response.extensions_mut().insert(Refusal { client: client.0, sign_in });
        }
        response
    }

    /// The one place that reads the client's address; handlers and layers find it in the request.
    fn client<B>(&self, peer: SocketAddr, request: &Request<B>) -> ClientIp {
        ClientIp(self.config.client_ip.client(peer.ip(), request.headers()))
    }

    /// How this request counts for a limit, if it does. Each request of such an endpoint counts, whatever becomes of it.
    fn counted<B>(&self, peer: SocketAddr, request: &Request<B>) -> Option<Counted<'_>> {
        let started = self.clock.monotonic();
        let route = self.issuer_path.route(request.uri().path());
        let is_limited = |limited: &&LimitedEndpoint| limited.endpoint.is_at(request.method(), route);
        let limited = self.limited.iter().find(is_limited)?;
        let grant = Grant::new(&self.browsers, request, Some(limited.endpoint.access));
        Some(Counted { limited, client: self.client(peer, request), grant, started })
    }

    /// Counts a request, before its headers are checked, its body is read, or anything is computed for it. Returns the
    /// response if the client is over the limit.
    async fn refuse(&self, counted: Counted<'_>) -> Option<Response> {
        let Counted { limited, client: ClientIp(client), grant, started } = counted;
        match self.limiter.check(limited.bucket, client.into()).await {
            Decision::Admitted => None,
            Decision::Refused { retry_after } => {
                let mut response = refusal(retry_after);
                // Limited endpoints are private, and this response does not pass the router's layer.
                set_no_store(&mut response);
                grant.apply(&mut response);
                limited.metrics.count(started);
                limited.refusals.inc();
                Some(response)
            }
        }
    }
}

fn endpoint_for<'a>(endpoints: &'a [Endpoint], path: &str, method: &Method) -> Option<&'a Endpoint> {
    let of_path = endpoints.iter().filter(|endpoint| endpoint.has_path(path));
    of_path.min_by_key(|endpoint| (!endpoint.serves(method), endpoint.path != path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_public_for_one_method_only_is_judged_by_the_method() {
        let mut endpoints: Vec<_> = routes::table().into_iter().map(|route| route.endpoint).collect();
        let upload = endpoints.iter_mut().find(|endpoint| endpoint.path == "/upload");
        upload.unwrap().path = "/keys";
        let access = |path, method| endpoint_for(&endpoints, path, &method).map(|endpoint| endpoint.access);
        assert_eq!(access("/keys", Method::GET), Some(Access::Public));
        assert_eq!(access("/keys", Method::HEAD), Some(Access::Public));
        assert_eq!(access("/keys", Method::POST), Some(Access::Admin));
        assert_eq!(access("/keys/1", Method::GET), Some(Access::Admin));
        assert_eq!(access("/nowhere", Method::GET), None);
    }
}
