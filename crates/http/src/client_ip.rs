//! The client's address: the peer's, or behind a trusted proxy the one that the proxy forwards.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderValue};
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
        let lines: Vec<&[u8]> =
            headers.get_all(self.header.name()).iter().map(HeaderValue::as_bytes).collect();
        for part in lines.iter().rev().flat_map(|line| self.header.parts_from_the_right(line)) {
            match self.header.address(part) {
                Some(address) => client = address,
                // RFC 9110 §5.6.1: empty list elements are ignored.
                None if part.trim_ascii().is_empty() => {}
                None => return client,
            }
            if !self.trusts(client) {
                return client;
            }
        }
        client
    }

    /// Whether this address is a trusted proxy's.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
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

    /// Splits bytes, not text: a client may send bytes that are not text in its part, and its proxy appends another.
    fn parts_from_the_right(self, line: &[u8]) -> Vec<&[u8]> {
        match self {
            Self::Forwarded => split_from_the_right(line),
            Self::XForwardedFor | Self::XRealIp => line.rsplit(|byte| *byte == b',').collect(),
        }
    }

    fn address(self, part: &[u8]) -> Option<IpAddr> {
        let node = match self {
            Self::XForwardedFor | Self::XRealIp => part,
            Self::Forwarded => {
                let mut nodes = split(part, b';').into_iter().filter_map(|pair| {
                    let equals = pair.iter().position(|byte| *byte == b'=')?;
                    let (name, value) = pair.split_at_checked(equals)?;
                    name.trim_ascii().eq_ignore_ascii_case(b"for").then_some(value.get(1..)?)
                });
                match (nodes.next(), nodes.next()) {
                    // RFC 7239 §4 allows one `for` per element. Of two, the client could have written either.
                    (Some(node), None) => node,
                    _ => return None,
                }
            }
        };
        let node = node.trim_ascii();
        let node = match node.strip_prefix(b"\"") {
            Some(quoted) => quoted.strip_suffix(b"\"")?,
            None => node,
        };
        // Only now must it be text: what stands next to the address does not matter.
        parse_node(std::str::from_utf8(node).ok()?)
    }
}

/// Splits at commas outside quoted strings, the last part first.
///
/// From the right, because a proxy appends its part: quotes that the client left open cannot swallow it.
fn split_from_the_right(line: &[u8]) -> Vec<&[u8]> {
    let (mut is_quoted, mut at) = (false, line.len());
    line.rsplit(|byte| {
        at -= 1;
        if *byte == b'"' && !is_escaped(line, at) {
            is_quoted = !is_quoted;
        }
        *byte == b',' && !is_quoted
    })
    .collect()
}

/// Whether a backslash that is not itself escaped stands before this position.
fn is_escaped(line: &[u8], at: usize) -> bool {
    // An even number of backslashes escapes itself.
    let before = line.get(..at).unwrap_or_default();
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Splits at separators outside quoted strings (RFC 9110 §5.6.4).
fn split(part: &[u8], separator: u8) -> Vec<&[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    part.split(|byte| {
        let separates = *byte == separator && !is_quoted;
        match *byte {
            _ if is_escaped => is_escaped = false,
            // A backslash escapes only inside quotes.
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
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
        let lines: Vec<&[u8]> = lines.iter().map(|line| line.as_bytes()).collect();
        client_of_bytes(header, peer, &lines)
    }

    fn client_of_bytes(header: ClientIpHeader, peer: &str, lines: &[&[u8]]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8:ffff::/48".parse().unwrap()];
        let policy = ClientIpPolicy { trusted: trusted.into(), header };
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header.name(), HeaderValue::from_bytes(line).unwrap());
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
    fn bytes_that_are_not_text_do_not_hide_what_a_proxy_appends() {
        let sent: [&[u8]; 8] = [
            b"\xff",
            b"6.6.6.6\xff",
            b"\xff6.6.6.6",
            b"\xc3\xa9",
            "6.6.6.6, \u{2603}".as_bytes(),
            b"for=\"\xe2\x82",
            b"\xa06.6.6.6\xa0",
            b"caf\xe9, 10.0.0.2",
        ];
        for sent in sent {
            let appended = |by: &str| [sent, by.as_bytes()].concat();
            let line = appended(", 192.0.2.1");
            assert_eq!(client_of_bytes(ClientIpHeader::XForwardedFor, "10.0.0.1", &[&line]), "192.0.2.1");
            let line = appended(", 192.0.2.1, 10.0.0.2");
            assert_eq!(client_of_bytes(ClientIpHeader::XForwardedFor, "10.0.0.1", &[&line]), "192.0.2.1");
            let line = appended(", for=192.0.2.1;by=caf\u{e9}");
            assert_eq!(client_of_bytes(ClientIpHeader::Forwarded, "10.0.0.1", &[&line]), "192.0.2.1");
            let lines: [&[u8]; 2] = [sent, b"192.0.2.1"];
            assert_eq!(client_of_bytes(ClientIpHeader::XForwardedFor, "10.0.0.1", &lines), "192.0.2.1");
        }
        // What only the client wrote names no address.
        for sent in [&b"6.6.6.6\xff"[..], b"\xa06.6.6.6", b"6.6.6.6, \xff", "6.6.6.6\u{a0}".as_bytes()] {
            assert_eq!(client_of_bytes(ClientIpHeader::XForwardedFor, "10.0.0.1", &[sent]), "10.0.0.1");
            assert_eq!(client_of_bytes(ClientIpHeader::XRealIp, "10.0.0.1", &[sent]), "10.0.0.1");
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
