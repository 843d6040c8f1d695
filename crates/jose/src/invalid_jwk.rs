//! The reasons why a key is rejected.

use thiserror::Error;

use super::algorithm::{KeyType, RSA_BITS, RSA_EXPONENT_BITS};

/// Maximum length of a `kid` in bytes. Every token contains one.
pub const KID_MAX: usize = 256;

/// Maximum number of characters of an untrusted value that an error quotes.
const QUOTE_MAX: usize = 40;

/// Why a key cannot be used. Errors never contain private parameters.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidJwk {
    /// `alg` does not fit the key type.
    #[error("\"alg\" is {name:?}, which does not fit an {key_type} key: use {}", key_type.algorithm_names())]
    Algorithm {
        /// The value of `alg`.
        name: String,
        /// The type of the key.
        key_type: KeyType,
    },
    /// An elliptic-curve point in compressed form.
    #[error("the point is compressed: convert the key with `openssl ec -pubin -conv_form uncompressed`")]
    Compressed,
    /// `crv` is not a supported curve.
    #[error("\"crv\" is {crv:?}: use {}", if kty == &"EC" { "P-256, P-384 or P-521" } else { "Ed25519" })]
    Curve {
        /// The value of `kty`.
        kty: &'static str,
        /// The value of `crv`.
        crv: String,
    },
    /// The RSA modulus is even, and so it is trivial to factor.
    #[error("the RSA modulus is even")]
    EvenModulus,
    /// The RSA exponent is even, 1, or longer than aws-lc-rs accepts.
    #[error("the RSA exponent must be odd, at least 3 and at most {RSA_EXPONENT_BITS} bits long: use 65537")]
    Exponent,
    /// The private parameters do not match each other or the public ones.
    #[error("the private and public parameters do not match")]
    Inconsistent,
    /// `key_ops` does not allow this operation.
    #[error("\"key_ops\" does not contain {0:?}")]
    KeyOps(&'static str),
    /// `kty` is not a supported key type.
    #[error("\"kty\" is {0:?}: use RSA, EC or OKP")]
    KeyType(String),
    /// A `kid` that is empty, too long, or contains control characters.
    #[error("\"kid\" must have 1 to {KID_MAX} bytes and no control characters")]
    Kid,
    /// A number that starts with a zero byte (RFC 7518 §2).
    #[error("{0:?} starts with a zero byte: remove the leading zeros")]
    LeadingZero(&'static str),
    /// A coordinate or private key with the wrong length.
    #[error("{member:?} must have {expected} bytes")]
    Length {
        /// The member.
        member: &'static str,
        /// The required length in bytes.
        expected: usize,
    },
    /// aws-lc-rs failed to generate or encode a key.
    #[error("the cryptographic library failed")]
    Library,
    /// A required member is missing.
    #[error("{0:?} is missing")]
    Missing(&'static str),
    /// An RSA key with more than two primes.
    #[error(
        "the RSA key has more than two primes, which is not supported: generate one with two, for example with \
         `jwksd jwk generate --save`"
    )]
    MultiPrime,
    /// Not base64url, or not in its canonical form without padding.
    #[error("{0:?} must be base64url without padding")]
    NotBase64Url(&'static str),
    /// Not a JSON object.
    #[error("a JWK must be a JSON object")]
    NotObject,
    /// A member that must be a string.
    #[error("{0:?} must be a string")]
    NotString(&'static str),
    /// A point that is not on its curve, or has small order.
    #[error("the point is not a valid {0} public key")]
    OffCurve(KeyType),
    /// A private key, where a public key is required.
    #[error("this is a private key (it has {0:?}): get its public key with `jwksd jwk public`")]
    Private(&'static str),
    /// A public key, where a private key is required.
    #[error("this is a public key (it has no \"d\"): use the private key")]
    Public,
    /// An RSA modulus outside `RSA_BITS`.
    #[error("the RSA key has {bits} bits: use {} to {}", RSA_BITS.start(), RSA_BITS.end())]
    RsaSize {
        /// The size of the modulus in bits.
        bits: usize,
    },
    /// A JWK Set, where one key is required.
    #[error("this is a JWK Set: use one key of its \"keys\", for example with `jq '.keys[0]' FILE`")]
    Set,
    /// Some, but not all, of the five optional RSA parameters (RFC 7518 §6.3.2).
    #[error("\"p\", \"q\", \"dp\", \"dq\" and \"qi\" must be all present or all missing")]
    SomePrimes,
    /// A shared secret.
    #[error(
        "this is a symmetric key (\"kty\" is \"oct\"): it has no public key, and everyone who can verify with it can \
         also sign"
    )]
    Symmetric,
    /// `use` is not `sig`.
    #[error("\"use\" is {0:?}: it must be \"sig\"")]
    Use(String),
}

impl InvalidJwk {
    pub(crate) fn algorithm(name: &str, key_type: KeyType) -> Self {
        Self::Algorithm { name: quoted(name), key_type }
    }

    pub(crate) fn curve(kty: &'static str, crv: &str) -> Self {
        Self::Curve { kty, crv: quoted(crv) }
    }

    pub(crate) fn key_type(kty: &str) -> Self {
        Self::KeyType(quoted(kty))
    }

    pub(crate) fn key_use(purpose: &str) -> Self {
        Self::Use(quoted(purpose))
    }
}

fn quoted(text: &str) -> String {
    // Characters, because cutting at a byte could split one.
    text.chars().take(QUOTE_MAX).collect()
}
