//! JOSE: JWK (RFC 7517), JWS in compact form (RFC 7515), JWT (RFC 7519) and their algorithms (RFC 7518, RFC 8037).
//!
//! Asymmetric keys only. The key chooses the algorithm, never the token (RFC 8725 §3.1); input is untrusted until it is
//! checked, and every failure says its reason in words. There is no I/O, and the time is a parameter.
//!
//! `jwksd` signs and publishes through these types; its commands `jwk` and `jwt` use them for keys and tokens of any issuer.
//!
//! ```
//! use jwksd_jose::algorithm::{Algorithm, Curve};
//! use jwksd_jose::jwk::Jwk;
//! use jwksd_jose::jwk_set::TrustedKeys;
//! use jwksd_jose::jws::{self, Jws};
//! use jwksd_jose::private_key::{NewKey, PrivateKey};
//! use jwksd_jose::timestamp::Timestamp;
//! use jwksd_jose::validation::{Validation, validate};
//! use serde_json::json;
//!
//! let key = PrivateKey::generate(NewKey::Ec(Curve::P256))?;
//! let claims = json!({"iss": "https://issuer.example", "sub": "alice", "exp": 1_800_000_900});
//! let token = jws::sign(&key, Algorithm::Es256, "2026-11", claims.as_object().unwrap()).unwrap();
//!
//! // What the issuer publishes is all that a verifier needs.
//! let published = json!({"keys": [Jwk::new(key.public().clone(), "2026-11".to_owned(), Algorithm::Es256)?]});
//! let trusted = TrustedKeys::parse(&published)?;
//! let claims = Jws::parse(&token)?.verify(&trusted)?;
//! let expected = Validation { issuer: Some("https://issuer.example".to_owned()), ..Validation::default() };
//! validate(&claims, &expected, Timestamp::from_secs(1_800_000_000))?;
//! assert_eq!(claims["sub"], "alice");
//!
//! let another = PrivateKey::generate(NewKey::Ec(Curve::P256))?;
//! let forged = jws::sign(&another, Algorithm::Es256, "2026-11", &claims).unwrap();
//! assert!(Jws::parse(&forged)?.verify(&trusted).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::todo, clippy::unwrap_used)]

pub mod algorithm;
pub mod claims;
mod ed25519;
pub mod inspect;
pub mod invalid_jwk;
pub mod invalid_pem;
pub mod json;
pub mod jwk;
pub mod jwk_set;
pub mod jws;
pub mod key_encoding;
mod key_format;
pub mod members;
pub mod numeric_date;
pub mod pem;
mod pem_block;
pub mod private_key;
pub mod public_key;
pub mod text_encoding;
pub mod timestamp;
pub mod token_type;
pub mod validation;
pub mod verify_error;
