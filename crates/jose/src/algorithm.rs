//! Signature algorithms (RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864 §2.2), the key types they need, and their names in aws-lc-rs.

use std::fmt;

use aws_lc_rs::signature as lib;

/// Allowed sizes of an RSA modulus in bits. RFC 7518 §3.3 sets the minimum, aws-lc-rs the maximum.
pub const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Maximum size of an RSA public exponent in bits, set by aws-lc-rs.
pub const RSA_EXPONENT_BITS: usize = 33;

/// Length in bytes of an Ed25519 public key, and of its seed.
pub(crate) const ED25519_LEN: usize = 32;

/// A signature algorithm. `none` and HMAC are missing on purpose: keys are never shared secrets (RFC 8725 §3.1, §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// ECDSA on P-521 with SHA-512.
    Es512,
    /// Ed25519, under the name that all verifiers know.
    EdDsa,
    /// Ed25519, under the name of RFC 9864 §2.2. The signatures are the same.
    Ed25519,
}

impl Algorithm {
    /// All algorithms. The default algorithm of each key type comes first.
    pub const ALL: [Self; 11] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::Es512,
        Self::EdDsa,
        Self::Ed25519,
    ];

    /// Finds the algorithm with this `alg` value. The comparison is case-sensitive (RFC 7515 §4.1.1).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The `alg` value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Es512 => "ES512",
            Self::EdDsa => "EdDSA",
            Self::Ed25519 => "Ed25519",
        }
    }

    /// Whether both names stand for the same signatures: only `EdDSA` and `Ed25519` do, with an Ed25519 key.
    #[must_use]
    pub fn is_same_as(self, other: Self) -> bool {
        // With any other key type, each name stands for one algorithm.
        self == other || (self.key_type() == KeyType::Ed25519 && other.key_type() == KeyType::Ed25519)
    }

    /// The key type this algorithm needs.
    #[must_use]
    pub const fn key_type(self) -> KeyType {
        match self {
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => KeyType::Rsa,
            // RFC 7518 §3.4 binds each ECDSA algorithm to one curve.
            Self::Es256 => KeyType::Ec(Curve::P256),
            Self::Es384 => KeyType::Ec(Curve::P384),
            Self::Es512 => KeyType::Ec(Curve::P521),
            Self::EdDsa | Self::Ed25519 => KeyType::Ed25519,
        }
    }

    /// The verification parameters of an RSA algorithm; `None` for all others.
    pub(crate) const fn rsa_verification(self) -> Option<&'static lib::RsaParameters> {
        match self {
            Self::Rs256 => Some(&lib::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&lib::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&lib::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&lib::RSA_PSS_2048_8192_SHA256),
            Self::Ps384 => Some(&lib::RSA_PSS_2048_8192_SHA384),
            Self::Ps512 => Some(&lib::RSA_PSS_2048_8192_SHA512),
            Self::Es256 | Self::Es384 | Self::Es512 | Self::EdDsa | Self::Ed25519 => None,
        }
    }

    /// The signing parameters of an RSA algorithm; `None` for all others.
    // These PSS encodings use a salt as long as the hash, as RFC 7518 §3.5 requires.
    pub(crate) const fn rsa_signing(self) -> Option<&'static dyn lib::RsaEncoding> {
        match self {
            Self::Rs256 => Some(&lib::RSA_PKCS1_SHA256),
            Self::Rs384 => Some(&lib::RSA_PKCS1_SHA384),
            Self::Rs512 => Some(&lib::RSA_PKCS1_SHA512),
            Self::Ps256 => Some(&lib::RSA_PSS_SHA256),
            Self::Ps384 => Some(&lib::RSA_PSS_SHA384),
            Self::Ps512 => Some(&lib::RSA_PSS_SHA512),
            Self::Es256 | Self::Es384 | Self::Es512 | Self::EdDsa | Self::Ed25519 => None,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A key type: `kty`, together with `crv` where the type has curves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// `RSA`, of any size.
    Rsa,
    /// `EC`.
    Ec(Curve),
    /// `OKP` with `Ed25519` (RFC 8037).
    Ed25519,
}

impl KeyType {
    /// The algorithm a key of this type uses if its JWK names none.
    #[must_use]
    pub const fn default_algorithm(self) -> Algorithm {
        match self {
            // The RSA algorithm that most verifiers support.
            Self::Rsa => Algorithm::Rs256,
            Self::Ec(Curve::P256) => Algorithm::Es256,
            Self::Ec(Curve::P384) => Algorithm::Es384,
            Self::Ec(Curve::P521) => Algorithm::Es512,
            Self::Ed25519 => Algorithm::EdDsa,
        }
    }

    /// The names of all algorithms for this key type, separated by commas.
    #[must_use]
    pub fn algorithm_names(self) -> String {
        let names: Vec<_> = Algorithm::ALL
            .into_iter()
            .filter(|algorithm| algorithm.key_type() == self)
            .map(Algorithm::name)
            .collect();
        names.join(", ")
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa => f.write_str("RSA"),
            Self::Ec(curve) => write!(f, "EC {}", curve.name()),
            Self::Ed25519 => f.write_str("Ed25519"),
        }
    }
}

/// An elliptic curve for ECDSA (RFC 7518 §6.2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Curve {
    /// NIST P-256, secp256r1.
    P256,
    /// NIST P-384, secp384r1.
    P384,
    /// NIST P-521, secp521r1.
    P521,
}

impl Curve {
    /// All curves.
    pub const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// The `crv` value.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }

    /// Length in bytes of a coordinate and of the private key. Leading zeros count (RFC 7518 §6.2.1.2).
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            // 521 bits do not fit into 65 bytes.
            Self::P521 => 66,
        }
    }

    pub(crate) const fn verification(self) -> &'static lib::EcdsaVerificationAlgorithm {
        match self {
            // FIXED is `r ‖ s`, which JWS requires (RFC 7518 §3.4); X.509 uses ASN.1 instead.
            Self::P256 => &lib::ECDSA_P256_SHA256_FIXED,
            Self::P384 => &lib::ECDSA_P384_SHA384_FIXED,
            Self::P521 => &lib::ECDSA_P521_SHA512_FIXED,
        }
    }

    pub(crate) const fn signing(self) -> &'static lib::EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &lib::ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &lib::ECDSA_P384_SHA384_FIXED_SIGNING,
            Self::P521 => &lib::ECDSA_P521_SHA512_FIXED_SIGNING,
        }
    }
}
