//! The host that a request names (RFC 9112 §3.2, RFC 9110 §7.2).

use std::net::{IpAddr, Ipv6Addr};

use axum::http::header::HOST;
use axum::http::{HeaderValue, Request, Version};

use super::error::ApiError;

/// A host, and its port if one is named (RFC 3986 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Authority<'a> {
    /// A name or an address, without the brackets of an IPv6 address. Empty if the client left it empty.
    pub(super) host: &'a str,
    pub(super) port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Returns nothing for malformed text, such as a port above 65535 or user information before the host.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = if let Some(bracketed) = text.strip_prefix('[') {
            let (host, rest) = bracketed.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (host, if rest.is_empty() { rest } else { rest.strip_prefix(':')? })
        } else {
            let (host, port) = text.split_once(':').unwrap_or((text, ""));
            host.bytes().all(is_name_byte).then_some((host, port))?
        };
        if port.is_empty() {
            return Some(Self { host, port: None });
        }
        // `parse` would also accept a sign.
        let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??;
        Some(Self { host, port: Some(port) })
    }

    /// The host as an address, if it is an IP literal.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok().map(|ip: IpAddr| ip.to_canonical())
    }
}

/// The bytes of a registered name (RFC 3986 §3.2.2).
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(&byte)
}

/// The host of a request: that of an absolute target, otherwise that of `Host`. Nothing if the request names none, which
/// HTTP/1.0 allows.
///
/// # Errors
/// [`ApiError::InvalidHost`] if `Host` is malformed, repeated, or missing in HTTP/1.1.
pub(super) fn of<B>(request: &Request<B>) -> Result<Option<Authority<'_>>, ApiError> {
    let mut lines = request.headers().get_all(HOST).iter();
    let line = match (lines.next(), lines.next()) {
        (Some(line), None) => Some(parse_line(line)?),
        // Health probes of load balancers still speak HTTP/1.0. In HTTP/2 the target names the host.
        (None, _) if request.version() != Version::HTTP_11 => None,
        _ => return Err(ApiError::InvalidHost),
    };
    match request.uri().authority() {
        // RFC 9112 §3.2.2: the target wins.
        Some(target) => Authority::parse(target.as_str()).map(Some).ok_or(ApiError::InvalidHost),
        None => Ok(line),
    }
}

fn parse_line(line: &HeaderValue) -> Result<Authority<'_>, ApiError> {
    line.to_str().ok().and_then(Authority::parse).ok_or(ApiError::InvalidHost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_a_host_and_a_port() {
        for (text, host, port) in [
            ("localhost:8080", "localhost", Some(8080)),
            ("ID.example.", "ID.example.", None),
            ("[::1]:80", "::1", Some(80)),
            ("[::1]", "::1", None),
            ("127.0.0.1:", "127.0.0.1", None),
            ("my_service", "my_service", None),
            ("", "", None),
        ] {
            assert_eq!(Authority::parse(text), Some(Authority { host, port }), "{text}");
        }
        for text in [
            "a b",
            "a, b",
            "user@host",
            "host/path",
            "::1",
            "[::1",
            "[::1]8080",
            "[x]",
            "a:b",
            "a:65536",
            "a:+1",
            "a:1:2",
            "h\u{e9}",
            "http://a",
            "a?b",
            "a#b",
            "a\\b",
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }
}
