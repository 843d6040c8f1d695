//! JOSE for whoever uses keys and tokens by hand: JWK (RFC 7517), JWS in compact form (RFC 7515), JWT (RFC 7519).
//!
//! What the server issues is `domain/token` and `domain/key`. This is the other side: keys and tokens of any issuer,
//! none of which is trusted before it was looked at (RFC 8725).

pub mod algorithm;
pub mod claims;
mod edwards;
pub mod external_key;
pub mod inspect;
pub mod json;
pub mod jwk;
pub mod jwk_set;
pub mod jws;
pub mod numeric_date;
pub mod pem;
pub mod private_key;
pub mod public_key;
pub mod validation;
#[cfg(test)]
mod vectors;
pub mod verify_error;
