//! Which keys are created, and what is recorded about each of them: its algorithm, and the form of its published `kid`.

use super::kid::Kid;
use jwksd_jose::algorithm::{Algorithm, KeyType};
use jwksd_jose::invalid_jwk::InvalidJwk;
use jwksd_jose::private_key::{NewKey, PrivateKey};
use jwksd_jose::public_key::PublicKey;

/// The algorithms of the server's own keys, the default first. ES512 is not among them, because the library of the
/// self-check does not know it; nor is `Ed25519`, because more verifiers know the name `EdDSA`.
pub const KEY_ALGORITHMS: [Algorithm; 9] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::EdDsa,
];

/// The form in which the `kid` of a key is published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KidFormat {
    /// The number of the key, in decimal.
    #[default]
    Number,
    /// The thumbprint of the public key (RFC 7638). Two issuers never have the same one.
    Thumbprint,
}

impl KidFormat {
    /// Both forms.
    pub(crate) const ALL: [Self; 2] = [Self::Number, Self::Thumbprint];

    /// The name in settings and in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Thumbprint => "thumbprint",
        }
    }

    /// The published `kid` of a key with this number.
    pub(super) fn published(self, kid: Kid, key: &PublicKey) -> String {
        match self {
            Self::Number => kid.to_string(),
            Self::Thumbprint => key.thumbprint(),
        }
    }
}

/// What is recorded about a key and never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyProfile {
    /// The algorithm of all its signatures.
    pub algorithm: Algorithm,
    /// The form in which its `kid` is published.
    pub kid_format: KidFormat,
}

impl KeyProfile {
    /// The profile with these recorded names. `None` if a name is unknown.
    #[must_use]
    pub fn from_names(algorithm: &str, kid_format: &str) -> Option<Self> {
        Some(Self {
            algorithm: KEY_ALGORITHMS.into_iter().find(|known| known.name() == algorithm)?,
            kid_format: KidFormat::ALL.into_iter().find(|known| known.name() == kid_format)?,
        })
    }

    /// The profile of a key about which nothing is recorded. `None` for a key type without one of [`KEY_ALGORITHMS`].
    pub(crate) fn unrecorded(key: &PublicKey) -> Option<Self> {
        let algorithm = key.key_type().default_algorithm();
        // Its tokens name its number, as all tokens of such programs do.
        KEY_ALGORITHMS.contains(&algorithm).then_some(Self { algorithm, kid_format: KidFormat::Number })
    }
}

/// The keys of a store from before profiles were recorded.
impl Default for KeyProfile {
    fn default() -> Self {
        Self { algorithm: Algorithm::Rs256, kid_format: KidFormat::Number }
    }
}

/// The size of new RSA keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RsaBits {
    /// 2048 bits, the minimum (RFC 7518 §3.3).
    #[default]
    Bits2048,
    /// 3072 bits.
    Bits3072,
    /// 4096 bits.
    Bits4096,
}

impl RsaBits {
    const fn number(self) -> usize {
        match self {
            Self::Bits2048 => 2048,
            Self::Bits3072 => 3072,
            Self::Bits4096 => 4096,
        }
    }

    const fn new_key(self) -> NewKey {
        match self {
            Self::Bits2048 => NewKey::Rsa2048,
            Self::Bits3072 => NewKey::Rsa3072,
            Self::Bits4096 => NewKey::Rsa4096,
        }
    }
}

/// Which keys a process creates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeySpec {
    /// What is recorded about them.
    pub profile: KeyProfile,
    /// Their size if they are RSA keys.
    pub rsa_bits: RsaBits,
}

impl KeySpec {
    /// Generates a private key. RSA takes tens of milliseconds to seconds.
    ///
    /// # Errors
    /// [`InvalidJwk::Library`] if aws-lc-rs fails.
    pub(crate) fn generate(self) -> Result<PrivateKey, InvalidJwk> {
        let new = match self.profile.algorithm.key_type() {
            KeyType::Rsa => self.rsa_bits.new_key(),
            _ => NewKey::for_algorithm(self.profile.algorithm),
        };
        PrivateKey::generate(new)
    }

    /// The profile of a key from elsewhere: with the algorithm of new keys if the key fits it, otherwise with the default one
    /// of its type. `None` if the server has no algorithm for it.
    pub(crate) fn profile_of(self, key: &PublicKey) -> Option<KeyProfile> {
        let Self { profile, .. } = self;
        if profile.algorithm.key_type() == key.key_type() {
            return Some(profile);
        }
        KeyProfile::unrecorded(key)
            .map(|unrecorded| KeyProfile { kid_format: profile.kid_format, ..unrecorded })
    }

    /// Whether a key is of the kind that is created.
    pub(crate) fn matches(self, profile: KeyProfile, key: &PublicKey) -> bool {
        profile == self.profile && key.rsa_bits().is_none_or(|bits| bits == self.rsa_bits.number())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jwksd_jose::algorithm::Curve;

    fn spec(algorithm: Algorithm) -> KeySpec {
        KeySpec { profile: KeyProfile { algorithm, ..KeyProfile::default() }, ..KeySpec::default() }
    }

    #[test]
    fn every_algorithm_has_keys_that_match_it_and_no_other() {
        for algorithm in KEY_ALGORITHMS {
            let key = spec(algorithm).generate().unwrap();
            for other in KEY_ALGORITHMS {
                let is_same = other == algorithm;
                let profile = spec(algorithm).profile_of(key.public()).unwrap();
                assert_eq!(spec(other).matches(profile, key.public()), is_same, "{algorithm} {other}");
            }
            assert!(key.sign(algorithm, b"message").is_some());
            assert_eq!(KeyProfile::from_names(algorithm.name(), "number"), Some(spec(algorithm).profile));
        }
    }

    #[test]
    fn rsa_keys_have_the_chosen_size() {
        for (rsa_bits, bits) in
            [(RsaBits::Bits2048, 2048), (RsaBits::Bits3072, 3072), (RsaBits::Bits4096, 4096)]
        {
            let spec = KeySpec { rsa_bits, ..KeySpec::default() };
            let key = spec.generate().unwrap();
            assert_eq!(key.public().rsa_bits(), Some(bits));
            assert!(spec.matches(KeyProfile::default(), key.public()));
            let other = KeySpec { rsa_bits: RsaBits::Bits3072, ..spec };
            assert_eq!(other.matches(KeyProfile::default(), key.public()), bits == 3072);
        }
    }

    #[test]
    fn names_that_no_version_has_recorded_are_unknown() {
        for names in
            [("ES512", "number"), ("Ed25519", "number"), ("none", "number"), ("RS256", "uuid"), ("", "")]
        {
            assert_eq!(KeyProfile::from_names(names.0, names.1), None, "{names:?}");
        }
    }

    #[test]
    fn a_key_from_elsewhere_gets_the_chosen_algorithm_if_it_fits() {
        let rsa = PrivateKey::generate(NewKey::Rsa2048).unwrap();
        let p384 = PrivateKey::generate(NewKey::Ec(Curve::P384)).unwrap();
        let p521 = PrivateKey::generate(NewKey::Ec(Curve::P521)).unwrap();
        let algorithm = |spec: KeySpec, key: &PrivateKey| Some(spec.profile_of(key.public())?.algorithm);
        assert_eq!(algorithm(spec(Algorithm::Ps384), &rsa), Some(Algorithm::Ps384));
        assert_eq!(algorithm(spec(Algorithm::Es256), &rsa), Some(Algorithm::Rs256));
        assert_eq!(algorithm(spec(Algorithm::Es256), &p384), Some(Algorithm::Es384));
        assert_eq!(algorithm(spec(Algorithm::Es256), &p521), None);
        assert_eq!(KeyProfile::unrecorded(p521.public()), None);
    }
}
