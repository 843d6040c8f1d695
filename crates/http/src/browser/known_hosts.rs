//! The names under which browsers may reach the pages and the admin surface of this server.

use super::origin::Origin;
use crate::host::Authority;

/// The names and addresses of this server.
pub(super) struct KnownHosts {
    /// From the settings: names and addresses.
    listed: Vec<String>,
    issuer: String,
}

impl KnownHosts {
    /// `listed` are names and addresses without brackets; `issuer` is the issuer's URL.
    pub(super) fn new(listed: Vec<String>, issuer: &str) -> Self {
        Self { listed, issuer: issuer.to_owned() }
    }

    /// Whether a browser that was led here by a foreign name (DNS rebinding) cannot have sent this host.
    pub(super) fn knows(&self, host: Authority<'_>) -> bool {
        // A browser connects to an IP literal itself, so no DNS answer can lead it here.
        host.ip().is_some() || is_localhost(host) || self.names(host)
    }

    /// Whether a page of this origin is one of this server itself.
    pub(super) fn serves(&self, origin: &Origin<'_>, host: Option<Authority<'_>>) -> bool {
        let of_page = origin.authority;
        if of_page.ip().is_none() && !is_localhost(of_page) {
            return self.names(of_page);
        }
        // Other programs of this machine and pages of other addresses have such origins as well: the port counts, too.
        let is_same = host.is_some_and(|host| {
            let is_same_host =
                of_page.host.eq_ignore_ascii_case(host.host) || is_loopback(of_page) && is_loopback(host);
            is_same_host && origin.port() == origin.port_of(host)
        });
        is_same
            || self.is_listed(of_page)
            || self.issuer_origin().is_some_and(|issuer| is_same_origin(origin, &issuer))
    }

    fn names(&self, host: Authority<'_>) -> bool {
        self.is_listed(host)
            || self.issuer_origin().is_some_and(|issuer| same_name(issuer.authority.host, host.host))
    }

    fn is_listed(&self, host: Authority<'_>) -> bool {
        self.listed.iter().any(|listed| same_name(listed, host.host))
    }

    fn issuer_origin(&self) -> Option<Origin<'_>> {
        let (scheme, rest) = self.issuer.split_once("://")?;
        let authority = rest.split('/').next()?;
        Some(Origin { scheme, authority: Authority::parse(authority)? })
    }
}

fn is_same_origin(one: &Origin<'_>, other: &Origin<'_>) -> bool {
    one.scheme.eq_ignore_ascii_case(other.scheme)
        && same_name(one.authority.host, other.authority.host)
        && one.port() == other.port()
}

/// A dot at the end makes a name absolute, and changes nothing else (RFC 3986 §3.2.2).
fn same_name(one: &str, other: &str) -> bool {
    let without_dot = |name| str::strip_suffix(name, ".").unwrap_or(name);
    !one.is_empty() && without_dot(one).eq_ignore_ascii_case(without_dot(other))
}

fn is_localhost(host: Authority<'_>) -> bool {
    same_name("localhost", host.host)
}

fn is_loopback(host: Authority<'_>) -> bool {
    is_localhost(host) || host.ip().is_some_and(|ip| ip.is_loopback())
}
