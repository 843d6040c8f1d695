//! JOSE: JWK (RFC 7517), JWS in compact form (RFC 7515), JWT (RFC 7519) and their algorithms (RFC 7518, RFC 8037).
//!
//! The server signs and publishes through these types; the commands `jwk` and `jwt` use them for keys and tokens of any
//! issuer. Input is untrusted until it is checked (RFC 8725).

pub mod algorithm;
pub mod claims;
mod ed25519;
pub mod external_key;
pub mod inspect;
pub mod invalid_jwk;
pub mod invalid_pem;
pub mod json;
pub mod jwk;
pub mod jwk_set;
pub mod jws;
pub(crate) mod key_encoding;
mod key_format;
pub mod members;
pub mod numeric_date;
pub mod pem;
mod pem_block;
pub mod private_key;
pub mod public_key;
pub(crate) mod text_encoding;
pub mod token_type;
pub mod uploaded_set;
pub mod validation;
pub mod verify_error;
