//! The client's address: the peer's, or behind a trusted proxy the one that the proxy forwards.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use axum::http::HeaderMap;
use ipnet::IpNet;
use thiserror::Error;

/// Which peers may forward a client's address, and in which header.
#[derive(Clone, Debug)]
pub struct ClientIpPolicy {
    /// The networks of trusted proxies.
    pub trusted: Vec<IpNet>,
    /// The only header that is read.
    pub header: ClientIpHeader,
}

/// The header that names the client behind a trusted proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientIpHeader {
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-For`: the addresses that a request passed, nearest last.
    XForwardedFor,
    /// `X-Real-IP`: one address.
    XRealIp,
}

impl FromStr for ClientIpHeader {
    type Err = UnknownHeader;

    fn from_str(name: &str) -> Result<Self, UnknownHeader> {
        match name.to_ascii_lowercase().as_str() {
            "forwarded" => Ok(Self::Forwarded),
            "x-forwarded-for" => Ok(Self::XForwardedFor),
            "x-real-ip" => Ok(Self::XRealIp),
            _ => Err(UnknownHeader),
        }
    }
}

/// The name is not that of a supported header.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("use x-forwarded-for, forwarded or x-real-ip")]
pub struct UnknownHeader;

/// The client's address, as an extension of the request. The fast path inserts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientIp(pub(super) IpAddr);

impl ClientIpPolicy {
    /// The right-most address that is not a trusted proxy. An unreadable part ends the search, because no trusted proxy
    /// vouches for what stands left of it.
    #[must_use]
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        // A dual-stack listener sees IPv4 clients as ::ffff:a.b.c.d.
        let mut client = peer.to_canonical();
        if !self.trusts(client) {
            return client;
        }
        // A line that is not text becomes a part that is no address, and so ends the search.
        let lines: Vec<&str> =
            headers.get_all(self.header.name()).iter().map(|value| value.to_str().unwrap_or("?")).collect();
        for part in lines.iter().rev().flat_map(|line| self.header.parts_from_the_right(line)) {
            match self.header.address(part) {
                Some(address) => client = address,
                // RFC 9110 §5.6.1: empty list elements are ignored.
                None if part.trim().is_empty() => {}
                None => return client,
            }
            if !self.trusts(client) {
                return client;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

impl ClientIpHeader {
    /// The header's name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::XForwardedFor => "x-forwarded-for",
            Self::XRealIp => "x-real-ip",
        }
    }

    fn parts_from_the_right(self, line: &str) -> Vec<&str> {
        match self {
            Self::Forwarded => split_from_the_right(line),
            Self::XForwardedFor | Self::XRealIp => line.rsplit(',').collect(),
        }
    }

    fn address(self, part: &str) -> Option<IpAddr> {
        let node = match self {
            Self::XForwardedFor | Self::XRealIp => part,
            Self::Forwarded => {
                let mut nodes = split(part, ';').into_iter().filter_map(|pair| {
                    let (name, value) = pair.split_once('=')?;
                    name.trim().eq_ignore_ascii_case("for").then_some(value)
                });
                match (nodes.next(), nodes.next()) {
                    // RFC 7239 §4 allows one `for` per element. Of two, the client could have written either.
                    (Some(node), None) => node,
                    _ => return None,
                }
            }
        };
        let node = node.trim();
        parse_node(match node.strip_prefix('"') {
            Some(quoted) => quoted.strip_suffix('"')?,
            None => node,
        })
    }
}

/// Splits at commas outside quoted strings, the last part first.
///
/// From the right, because a proxy appends its part: quotes that the client left open cannot swallow it.
fn split_from_the_right(line: &str) -> Vec<&str> {
    let (mut is_quoted, mut at) = (false, line.len());
    line.rsplit(|c: char| {
        at -= c.len_utf8();
        if c == '"' && !is_escaped(line, at) {
            is_quoted = !is_quoted;
        }
        c == ',' && !is_quoted
    })
    .collect()
}

/// Whether a backslash that is not itself escaped stands before this position.
fn is_escaped(line: &str, at: usize) -> bool {
    // An even number of backslashes escapes itself.
    let before = line.get(..at).unwrap_or_default();
    before.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Splits at separators outside quoted strings (RFC 9110 §5.6.4).
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(|c: char| {
        let separates = c == separator && !is_quoted;
        match c {
            _ if is_escaped => is_escaped = false,
            // A backslash escapes only inside quotes.
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        separates
    })
    .collect()
}

/// An address, with or without a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn parse_node(text: &str) -> Option<IpAddr> {
    let address = text
        .parse::<IpAddr>()
        .or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip()))
        .ok()
        .or_else(|| {
            let inner = text.strip_prefix('[')?.strip_suffix(']')?;
            inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
        });
    address.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn client(header: ClientIpHeader, peer: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8:ffff::/48".parse().unwrap()];
        let policy = ClientIpPolicy { trusted: trusted.into(), header };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header.name(), HeaderValue::from_str(line).unwrap());
        }
        policy.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn an_untrusted_peer_is_the_client_whatever_headers_it_sends() {
        assert_eq!(client(ClientIpHeader::XForwardedFor, "192.0.2.9", &["198.51.100.1"]), "192.0.2.9");
    }

    #[test]
    fn behind_trusted_proxies_the_right_most_untrusted_address_is_the_client() {
        let xff = |lines| client(ClientIpHeader::XForwardedFor, "10.0.0.1", lines);
        assert_eq!(xff(&[]), "10.0.0.1");
        assert_eq!(xff(&["198.51.100.1"]), "198.51.100.1");
        assert_eq!(xff(&["6.6.6.6, 198.51.100.1, 10.2.3.4"]), "198.51.100.1");
        assert_eq!(xff(&["6.6.6.6", "198.51.100.1,10.2.3.4"]), "198.51.100.1");
        assert_eq!(xff(&["10.9.9.9, 10.2.3.4"]), "10.9.9.9");
        assert_eq!(xff(&["198.51.100.1:1234"]), "198.51.100.1");
        assert_eq!(xff(&["198.51.100.1,", " "]), "198.51.100.1");
        assert_eq!(xff(&["6.6.6.6, unknown, 10.2.3.4"]), "10.2.3.4");
        assert_eq!(xff(&["2001:db8::1"]), "2001:db8::1");
        assert_eq!(xff(&["::ffff:198.51.100.1"]), "198.51.100.1");
        assert_eq!(
            client(ClientIpHeader::XForwardedFor, "::ffff:10.0.0.1", &["198.51.100.1"]),
            "198.51.100.1"
        );
    }

    #[test]
    fn forwarded_is_parsed_by_rfc_7239() {
        let forwarded = |line| client(ClientIpHeader::Forwarded, "10.0.0.1", &[line]);
        assert_eq!(forwarded("for=192.0.2.43, For=\"[2001:db8:cafe::17]:4711\""), "2001:db8:cafe::17");
        assert_eq!(forwarded("for=192.0.2.60;proto=http;by=203.0.113.43"), "192.0.2.60");
        assert_eq!(forwarded("for=192.0.2.43, for=_hidden"), "10.0.0.1");
        assert_eq!(forwarded("proto=http"), "10.0.0.1");
        assert_eq!(forwarded("host=\"a;for=4.4.4.4\""), "10.0.0.1");
        assert_eq!(forwarded("host=\"a,for=4.4.4.4\""), "10.0.0.1");
        assert_eq!(forwarded("host=\"a\\\",for=4.4.4.4\";for=192.0.2.1"), "192.0.2.1");
        assert_eq!(forwarded("for=\"6.6.6.6, for=5.5.5.5\""), "10.0.0.1");
        assert_eq!(forwarded("for=6.6.6.6;for=5.5.5.5"), "10.0.0.1");
    }

    #[test]
    fn open_quotes_of_a_client_do_not_hide_what_its_proxy_appends() {
        let prefixes =
            ["x=\"", "for=6.6.6.6;x=\"", "for=6.6.6.6;x=\"\\", "for=6.6.6.6;x=\"\\\"", "\"", "\\", ",\",\""];
        for prefix in prefixes {
            for appended in ["for=192.0.2.1", "for=\"192.0.2.1:80\"", "for=192.0.2.1;host=\"a\\\",b\""] {
                let line = format!("{prefix}, {appended}");
                assert_eq!(client(ClientIpHeader::Forwarded, "10.0.0.1", &[&line]), "192.0.2.1", "{line}");
            }
            let line = format!("{prefix}, 192.0.2.1");
            assert_eq!(client(ClientIpHeader::XForwardedFor, "10.0.0.1", &[&line]), "192.0.2.1", "{line}");
        }
    }

    #[test]
    fn only_the_chosen_header_is_read() {
        let policy =
            ClientIpPolicy { trusted: vec!["10.0.0.0/8".parse().unwrap()], header: ClientIpHeader::XRealIp };
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", HeaderValue::from_static("6.6.6.6"));
        headers.insert("x-real-ip", HeaderValue::from_static("198.51.100.1"));
        assert_eq!(policy.client("10.0.0.1".parse().unwrap(), &headers).to_string(), "198.51.100.1");
    }
}
