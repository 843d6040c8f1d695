//! The client of a request, as the limits and the queue of sign-ins count it.

// Only the types of addresses: nothing here does I/O.
use core::net::{IpAddr, Ipv6Addr};

/// The client that a request counts for: an IPv4 address, or the /64 network of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientKey(IpAddr);

impl ClientKey {
    /// The address, or the first one of the network.
    #[must_use]
    pub const fn first_address(self) -> IpAddr {
        self.0
    }

    /// The ranges of texts, by their bytes, that contain all addresses of this client, each from its first text to its last. For a
    /// few networks they contain others too.
    #[must_use]
    pub fn text_ranges(self) -> Vec<(String, String)> {
        let first = match self.0 {
            IpAddr::V4(address) => return vec![(address.to_string(), address.to_string())],
            IpAddr::V6(address) => address,
        };
        let [a, b, c, d, ..] = first.segments();
        let [shortest, longest] =
            [first, Ipv6Addr::from_bits(first.to_bits() | 0x1_0001_0001_0001)].map(|it| it.to_string());
        // RFC 5952 writes the longest run of zeros as `::`, which lies before, behind or across the end of the network.
        let mut prefixes = vec![
            format!("{a:x}:{b:x}:{c:x}:{d:x}:"),
            longest.strip_suffix("1:1:1:1").unwrap_or(&longest).to_owned(),
            shortest,
        ];
        prefixes.sort_unstable();
        // A text that begins with the longer one begins with the shorter one too.
        prefixes.dedup_by(|longer, shorter| longer.starts_with(shorter.as_str()));
        // The `g` sorts behind all characters of an address.
        prefixes.into_iter().map(|prefix| (prefix.clone(), prefix + "g")).collect()
    }
}

impl From<IpAddr> for ClientKey {
    fn from(address: IpAddr) -> Self {
        Self(match address {
            IpAddr::V4(_) => address,
            // Providers assign a /64 or more, so one customer can use every address in it.
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        })
    }
}
