//! The numbers of the server's own keys.

use std::fmt;

/// The number of a key: `keys.kid`. Never reused. It is also the published key ID (RFC 7515 §4.1.4), in decimal, unless the
/// key is published under its thumbprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kid(pub i64);

/// The last `kid` that is given out. The numbers count up, so the rest of the range is kept free: a restore without the
/// previous store skips a million.
pub const LAST_KID: Kid = Kid(i64::MAX - (1 << 32));

impl fmt::Display for Kid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
