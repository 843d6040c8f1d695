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
