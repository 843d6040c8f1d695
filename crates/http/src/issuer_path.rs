//! Issuers with a path, such as `https://id.example/tenant`: the public routes answer under that path as well.

use axum::http::uri::{PathAndQuery, Uri};

/// Where discovery is when the path of the issuer follows it (RFC 8414 §3.1).
const DISCOVERY: [&str; 2] = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"];

/// The path of the issuer's URL, without a slash at its end. Empty for most issuers.
pub(super) struct IssuerPath(String);

impl IssuerPath {
    /// Takes the issuer's URL.
    pub(super) fn new(issuer: &str) -> Self {
        let path = issuer.parse::<Uri>().ok().map(|url| url.path().trim_end_matches('/').to_owned());
        Self(path.unwrap_or_default())
    }

    /// The path of the route that a request to `path` means.
    pub(super) fn route<'a>(&self, path: &'a str) -> &'a str {
        if self.0.is_empty() {
            return path;
        }
        let inserted = path.strip_suffix(self.0.as_str()).filter(|before| DISCOVERY.contains(before));
        // A server without a proxy gets the whole path; a proxy may have removed the issuer's.
        let prefixed = || path.strip_prefix(self.0.as_str()).filter(|rest| rest.starts_with('/'));
        inserted.or_else(prefixed).unwrap_or(path)
    }

    /// The target of a request with `route` as its path, if that is another one.
    pub(super) fn target(uri: &Uri, route: &str) -> Option<Uri> {
        if uri.path() == route {
            return None;
        }
        let target = match uri.query() {
            Some(query) => format!("{route}?{query}").parse(),
            None => route.parse::<PathAndQuery>(),
        };
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(target.ok()?);
        Uri::from_parts(parts).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_paths_are_found_under_the_path_of_the_issuer_and_next_to_it() {
        for issuer in ["https://id.example/a/tenant", "https://id.example/a/tenant/"] {
            let path = IssuerPath::new(issuer);
            for (given, route) in [
                ("/a/tenant/jwks", "/jwks"),
                ("/a/tenant/.well-known/openid-configuration", "/.well-known/openid-configuration"),
                ("/.well-known/openid-configuration/a/tenant", "/.well-known/openid-configuration"),
                (
                    "/.well-known/oauth-authorization-server/a/tenant",
                    "/.well-known/oauth-authorization-server",
                ),
                ("/jwks", "/jwks"),
                ("/a/tenantjwks", "/a/tenantjwks"),
                ("/a/tenant", "/a/tenant"),
                ("/jwks/a/tenant", "/jwks/a/tenant"),
            ] {
                assert_eq!(path.route(given), route, "{given}");
            }
        }
        for issuer in ["https://id.example", "https://id.example/"] {
            assert_eq!(IssuerPath::new(issuer).route("/tenant/jwks"), "/tenant/jwks");
        }
    }
}
