//! The rules about `Host`, `Origin` and `Sec-Fetch-Site`. They are checked before routing.

use axum::http::header::ORIGIN;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request};

use super::config::BrowserConfig;
use super::known_hosts::KnownHosts;
use super::origin::{AllowedOrigins, Origin};
use crate::error::ApiError;
use crate::host::Authority;
use crate::openapi::{Access, changes_something};

/// Which relation the page has to this server (Fetch Metadata Request Headers §2.3).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Paths, with all below them, that are kept for pages and the admin API. They are under the rule of the admin surface
/// even while they have no route.
const OWN_PAGES: [&str; 2] = ["/console", "/admin"];

/// Decides what pages in browsers may do.
pub(crate) struct BrowserPolicy {
    known: KnownHosts,
    origins: AllowedOrigins,
}

impl BrowserPolicy {
    /// `issuer` is the issuer's URL.
    pub(crate) fn new(config: BrowserConfig, issuer: &str) -> Self {
        Self { known: KnownHosts::new(config.hosts, issuer), origins: config.origins }
    }

    /// Refuses what a page of another origin may not do. `access` is that of the route, if there is one.
    ///
    /// # Errors
    /// [`ApiError::UnknownHost`] and [`ApiError::CrossSite`].
    pub(crate) fn check<B>(
        &self,
        request: &Request<B>,
        path: &str,
        host: Option<Authority<'_>>,
        access: Option<Access>,
    ) -> Result<(), ApiError> {
        // Every browser sends a host. A request without one is HTTP/1.0 of another client.
        let is_foreign = || host.is_some_and(|host| !self.known.knows(host));
        if needs_known_host(path, access) && is_foreign() {
            return Err(ApiError::UnknownHost);
        }
        if changes_something(request.method()) && self.is_cross_site(request.headers(), host, access) {
            return Err(ApiError::CrossSite);
        }
        Ok(())
    }

    fn is_cross_site(
        &self,
        headers: &HeaderMap,
        host: Option<Authority<'_>>,
        access: Option<Access>,
    ) -> bool {
        if self.allowed_origin(headers, access).is_some() {
            return false;
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        let (origin, is_repeated) = (origins.next(), origins.next().is_some());
        let is_other_site = |site: &HeaderValue| ![&b"same-origin"[..], b"none"].contains(&site.as_bytes());
        is_repeated
            || headers.get_all(SEC_FETCH_SITE).iter().any(is_other_site)
            || origin
                .is_some_and(|origin| !self.origins.lists(origin.as_bytes()) && !self.is_own(origin, host))
    }

    /// The origin of a page that may call the routes of this access, although it is of another site.
    pub(super) fn allowed_origin<'a>(
        &self,
        headers: &'a HeaderMap,
        access: Option<Access>,
    ) -> Option<&'a HeaderValue> {
        let mut origins = headers.get_all(ORIGIN).iter();
        let origin = origins.next().filter(|_| access == Some(Access::Account))?;
        let is_allowed = self.origins == AllowedOrigins::Any || self.origins.lists(origin.as_bytes());
        (is_allowed && origins.next().is_none()).then_some(origin)
    }

    /// The origins whose pages may call /auth, /register and /password.
    pub(super) fn origins(&self) -> &AllowedOrigins {
        &self.origins
    }

    /// That the origin is the one under which this very request was sent is not enough: DNS rebinding sends that, too.
    fn is_own(&self, origin: &HeaderValue, host: Option<Authority<'_>>) -> bool {
        let origin = origin.to_str().ok().and_then(Origin::parse);
        origin.is_some_and(|origin| self.known.serves(&origin, host))
    }
}

fn needs_known_host(path: &str, access: Option<Access>) -> bool {
    let is_below =
        |page: &&str| path.strip_prefix(page).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match access {
        Some(access) => matches!(access, Access::Admin | Access::Introspection),
        None => path == "/" || OWN_PAGES.iter().any(is_below),
    }
}
