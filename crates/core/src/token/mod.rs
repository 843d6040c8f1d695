//! The tokens the server issues: JWTs (RFC 7519) in JWS compact form (RFC 7515 §7.1).

mod claims;
pub mod fault;
mod overrides;
mod signed;

pub use self::claims::{Claims, Subject, TokenKind, TokenPolicy};
pub use self::overrides::RESERVED_CLAIMS;
pub use self::overrides::{Audience, ExtraClaims, InvalidClaim, TokenOverrides};
pub use self::signed::Token;
