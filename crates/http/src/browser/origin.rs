//! Origins (RFC 6454 §6.2): the one of a page, and those that `ALLOWED_ORIGINS` lists.

use url::{Origin as UrlOrigin, Url};

use crate::host::Authority;
use jwksd_core::setting::values::list;

/// The origin of a page, as its browser writes it.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) scheme: &'a str,
    pub(super) authority: Authority<'a>,
}

impl<'a> Origin<'a> {
    /// Returns nothing for `null`, and for origins of other schemes than http and https.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        let is_http = ["http", "https"].iter().any(|http| scheme.eq_ignore_ascii_case(http));
        is_http.then_some(Self { scheme, authority: Authority::parse(authority)? })
    }

    pub(super) fn port(&self) -> u16 {
        self.port_of(self.authority)
    }

    /// The port of a host that is reached by the scheme of this origin.
    pub(super) fn port_of(&self, authority: Authority<'_>) -> u16 {
        authority.port.unwrap_or(if self.scheme.eq_ignore_ascii_case("https") { 443 } else { 80 })
    }
}

/// Origins whose pages may call /auth, /register and /password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// All. Only in open mode, which has no passwords.
    Any,
    /// These, as browsers write them.
    Listed(Vec<String>),
}

impl Default for AllowedOrigins {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

impl AllowedOrigins {
    /// Parses origins with commas between them, or `*`.
    ///
    /// # Errors
    /// What to write instead.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        let remedy = "use origins such as https://app.example, without a path";
        list(text, remedy, normal_form).map(Self::Listed)
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the list names this origin.
    pub(super) fn lists(&self, origin: &[u8]) -> bool {
        match self {
            Self::Any => false,
            Self::Listed(origins) => origins.iter().any(|listed| listed.as_bytes() == origin),
        }
    }
}

/// An origin as browsers write it: in lower case, and without the default port of its scheme.
fn normal_form(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let is_bare = matches!(url.path(), "" | "/") && !text.contains(['?', '#', '@', '*']) && url.has_host();
    match url.origin() {
        _ if !is_bare => None,
        origin @ UrlOrigin::Tuple(..) => Some(origin.ascii_serialization()),
        // Of extensions and applications, such as chrome-extension://ID: `url` does not know these schemes.
        UrlOrigin::Opaque(_) => Some(text.trim_end_matches('/').to_ascii_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Vec<String> {
        match AllowedOrigins::parse(text) {
            Ok(AllowedOrigins::Listed(origins)) => origins,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn origins_are_listed_as_browsers_write_them() {
        for (text, written) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example:443/", "https://app.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:5173", "http://[::1]:5173"),
            ("https://b\u{fc}cher.example", "https://xn--bcher-kva.example"),
            ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
            ("capacitor://localhost", "capacitor://localhost"),
        ] {
            assert_eq!(listed(text), [written], "{text}");
        }
        assert_eq!(
            listed(" https://a.example, https://b.example ,"),
            ["https://a.example", "https://b.example"]
        );
        for text in [
            "app.example",
            "localhost:3000",
            "null",
            "https://",
            "https://a.example/path",
            "https://a.example?b",
            "https://*.example",
            "https://a.example,*",
            "https://user@a.example",
            "data:text/html,x",
            "https://a b",
        ] {
            assert!(AllowedOrigins::parse(text).is_err(), "{text}");
        }
        assert_eq!(AllowedOrigins::parse("*"), Ok(AllowedOrigins::Any));
    }
}
