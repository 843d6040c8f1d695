//! The public half of a key as a JWK (RFC 7517), the only half that serialises.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, CommonParameters, KeyAlgorithm, PublicKeyUse, RSAKeyParameters, RSAKeyType,
};

pub use jsonwebtoken::jwk::Jwk;

use super::Kid;

/// An RSA key for verifying RS256 signatures (RFC 7518, 6.3.1), from its big-endian numbers without leading zeros.
pub(super) fn signature_key(kid: Kid, modulus: &[u8], exponent: &[u8]) -> Jwk {
    Jwk {
        common: CommonParameters {
            public_key_use: Some(PublicKeyUse::Signature),
            key_algorithm: Some(KeyAlgorithm::RS256),
            key_id: Some(kid.to_string()),
            ..CommonParameters::default()
        },
        algorithm: AlgorithmParameters::RSA(RSAKeyParameters {
            key_type: RSAKeyType::RSA,
            n: URL_SAFE_NO_PAD.encode(modulus),
            e: URL_SAFE_NO_PAD.encode(exponent),
        }),
    }
}

/// A JWK Set (RFC 7517, 5).
#[derive(Debug, serde::Serialize)]
pub struct JwkSet<K> {
    /// The keys, in the order verifiers see them.
    pub keys: Vec<K>,
}
