//! Private keys: generating, reading, signing. Secrets have no `Serialize` and are zeroised when dropped.
//!
//! aws-lc-rs holds the parameters and zeroises them; temporary copies here are zeroised too. PEM is in `pem`.

use std::fmt;

use aws_lc_rs::encoding::{AsBigEndian, AsDer as _, EcPrivateKeyBin};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPairComponents, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::pkcs1::{self, EncodeRsaPrivateKey as _};
use rsa::pkcs8::PrivateKeyInfo;
use rsa::pkcs8::der::Decode as _;
use rsa::{BigUint, RsaPrivateKey};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::algorithm::{Algorithm, Curve, ED25519_LEN, KeyType};
use super::invalid_jwk::InvalidJwk;
use super::json::SecretJson;
use super::jwk::Jwk;
use super::members;
use super::public_key::PublicKey;

/// The type and size of a key to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewKey {
    /// RSA of 2048 bits.
    Rsa2048,
    /// RSA of 3072 bits.
    Rsa3072,
    /// RSA of 4096 bits.
    Rsa4096,
    /// ECDSA on this curve.
    Ec(Curve),
    /// Ed25519.
    Ed25519,
}

impl NewKey {
    /// The key to generate for an algorithm; RSA keys have the minimum size.
    #[must_use]
    pub const fn for_algorithm(algorithm: Algorithm) -> Self {
        match algorithm.key_type() {
            KeyType::Rsa => Self::Rsa2048,
            KeyType::Ec(curve) => Self::Ec(curve),
            KeyType::Ed25519 => Self::Ed25519,
        }
    }
}

/// A private key with its public key.
pub struct PrivateKey {
    public: PublicKey,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl PrivateKey {
    /// Generates a key with the random generator of aws-lc-rs. RSA takes tens of milliseconds to seconds.
    ///
    /// # Errors
    /// [`InvalidJwk::Library`] if aws-lc-rs fails.
    pub fn generate(new: NewKey) -> Result<Self, InvalidJwk> {
        let pair = match new {
            NewKey::Rsa2048 => RsaKeyPair::generate(KeySize::Rsa2048).map(Pair::Rsa),
            NewKey::Rsa3072 => RsaKeyPair::generate(KeySize::Rsa3072).map(Pair::Rsa),
            NewKey::Rsa4096 => RsaKeyPair::generate(KeySize::Rsa4096).map(Pair::Rsa),
            NewKey::Ec(curve) => EcdsaKeyPair::generate(curve.signing()).map(Pair::Ec),
            NewKey::Ed25519 => Ed25519KeyPair::generate().map(Pair::Ed25519),
        };
        Self::from_pair(pair.map_err(|_| InvalidJwk::Library)?)
    }

    /// Reads the key parameters of a JWK and ignores all other members.
    ///
    /// # Errors
    /// [`InvalidJwk`] for a public key, for parameters that do not match, and for invalid public parameters.
    pub fn from_members(members: &Map<String, Value>) -> Result<Self, InvalidJwk> {
        // First, so that a weak key is reported as weak and not as inconsistent.
        let public = PublicKey::from_members(members)?;
        if !members.contains_key("d") {
            return Err(InvalidJwk::Public);
        }
        let d = secret(members, "d")?;
        let pair = match public.key_type() {
            KeyType::Rsa => Pair::Rsa(rsa_pair(&public, members, &d)?),
            KeyType::Ec(curve) => {
                // RFC 7518 §6.2.2.1 fixes the length of `d`, including leading zeros.
                check_length(&d, curve.size())?;
                let point = public.octets().unwrap_or_default();
                // aws-lc-rs checks that `d` belongs to the point.
                let pair = EcdsaKeyPair::from_private_key_and_public_key(curve.signing(), &d, &point);
                Pair::Ec(pair.map_err(|_| InvalidJwk::Inconsistent)?)
            }
            KeyType::Ed25519 => {
                check_length(&d, ED25519_LEN)?;
                let point = public.octets().unwrap_or_default();
                let pair = Ed25519KeyPair::from_seed_and_public_key(&d, &point);
                Pair::Ed25519(pair.map_err(|_| InvalidJwk::Inconsistent)?)
            }
        };
        Ok(Self { public, pair })
    }

    /// Reads the PKCS#1 DER of an RSA key.
    pub(crate) fn from_pkcs1(der: &[u8]) -> Result<Self, InvalidJwk> {
        // The size is checked first, because aws-lc-rs rejects short keys without saying why.
        let numbers = pkcs1::RsaPrivateKey::from_der(der).map_err(|_| InvalidJwk::Inconsistent)?;
        if numbers.other_prime_infos.is_some() {
            return Err(InvalidJwk::MultiPrime);
        }
        PublicKey::rsa(numbers.modulus.as_bytes().to_vec(), numbers.public_exponent.as_bytes().to_vec())?;
        Self::from_pair(Pair::Rsa(RsaKeyPair::from_der(der).map_err(|_| InvalidJwk::Inconsistent)?))
    }

    /// Reads the PKCS#8 or SEC 1 DER of a key on this curve.
    pub(crate) fn from_ec_der(curve: Curve, der: &[u8]) -> Result<Self, InvalidJwk> {
        let pair = EcdsaKeyPair::from_private_key_der(curve.signing(), der);
        Self::from_pair(Pair::Ec(pair.map_err(|_| InvalidJwk::Inconsistent)?))
    }

    /// Reads the PKCS#8 DER of an Ed25519 key.
    pub(crate) fn from_ed25519_pkcs8(der: &[u8]) -> Result<Self, InvalidJwk> {
        let pair = Ed25519KeyPair::from_pkcs8(der);
        Self::from_pair(Pair::Ed25519(pair.map_err(|_| InvalidJwk::Inconsistent)?))
    }

    fn from_pair(pair: Pair) -> Result<Self, InvalidJwk> {
        let public = match &pair {
            Pair::Rsa(pair) => {
                let der = pair.public_key().as_ref();
                // Generated and imported keys pass the same checks as any public key.
                let numbers = pkcs1::RsaPublicKey::from_der(der).map_err(|_| InvalidJwk::Library)?;
                PublicKey::rsa(
                    numbers.modulus.as_bytes().to_vec(),
                    numbers.public_exponent.as_bytes().to_vec(),
                )
            }
            Pair::Ec(pair) => {
                let curve = Curve::ALL.into_iter().find(|curve| curve.signing() == pair.algorithm());
                PublicKey::ec_point(curve.ok_or(InvalidJwk::Library)?, pair.public_key().as_ref())
            }
            Pair::Ed25519(pair) => PublicKey::ed25519(pair.public_key().as_ref().to_vec()),
        }?;
        Ok(Self { public, pair })
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message. `None` if the algorithm does not fit the key type, or aws-lc-rs fails.
    #[must_use]
    pub fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Option<Vec<u8>> {
        // PSS and ECDSA need it; PKCS#1 v1.5 and Ed25519 signatures are deterministic.
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(algorithm.rsa_signing()?, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            // Otherwise a token could name an algorithm that did not sign it.
            _ if algorithm.key_type() != self.public.key_type() => None,
            Pair::Ec(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Some(pair.try_sign(message).ok()?.as_ref().to_vec()),
        }
    }

    /// PKCS#8 (RFC 5208) in DER.
    ///
    /// # Errors
    /// [`InvalidJwk::Library`] if aws-lc-rs fails.
    pub(crate) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, InvalidJwk> {
        let der = match &self.pair {
            Pair::Rsa(pair) => pair.as_der().map(|der| der.as_ref().to_vec()),
            Pair::Ec(pair) => pair.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
            Pair::Ed25519(pair) => pair.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
        };
        der.map(Zeroizing::new).map_err(|_| InvalidJwk::Library)
    }

    /// PKCS#1 (RFC 8017 §A.1.2) in DER; `None` for a key that is not RSA.
    pub(crate) fn to_pkcs1(&self) -> Result<Option<Zeroizing<Vec<u8>>>, InvalidJwk> {
        if self.public.key_type() != KeyType::Rsa {
            return Ok(None);
        }
        let pkcs8 = self.to_pkcs8()?;
        // aws-lc-rs writes only PKCS#8, which contains PKCS#1.
        let info = PrivateKeyInfo::from_der(&pkcs8).map_err(|_| InvalidJwk::Library)?;
        Ok(Some(Zeroizing::new(info.private_key.to_vec())))
    }

    /// The private parameters as JWK members.
    fn private_members(&self) -> Result<Vec<(&'static str, String)>, InvalidJwk> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.pair {
            Pair::Rsa(_) => {
                let der = self.to_pkcs1()?.ok_or(InvalidJwk::Library)?;
                let key = pkcs1::RsaPrivateKey::from_der(&der).map_err(|_| InvalidJwk::Library)?;
                let parameters = [
                    ("d", key.private_exponent),
                    ("p", key.prime1),
                    ("q", key.prime2),
                    ("dp", key.exponent1),
                    ("dq", key.exponent2),
                    ("qi", key.coefficient),
                ];
                Ok(parameters.into_iter().map(|(name, value)| (name, encode(value.as_bytes()))).collect())
            }
            Pair::Ec(pair) => {
                let d: EcPrivateKeyBin<'_> =
                    pair.private_key().as_be_bytes().map_err(|_| InvalidJwk::Library)?;
                Ok(vec![("d", encode(d.as_ref()))])
            }
            Pair::Ed25519(pair) => {
                let seed = pair.seed().map_err(|_| InvalidJwk::Library)?;
                let d = seed.as_be_bytes().map_err(|_| InvalidJwk::Library)?;
                Ok(vec![("d", encode(d.as_ref()))])
            }
        }
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

/// Builds the key pair. aws-lc-rs checks the five optional parameters; if all are missing, `rsa` recomputes them.
fn rsa_pair(public: &PublicKey, members: &Map<String, Value>, d: &[u8]) -> Result<RsaKeyPair, InvalidJwk> {
    // Ignoring it would use the key as if it had two primes.
    if members.contains_key("oth") {
        return Err(InvalidJwk::MultiPrime);
    }
    let (n, e) = public.rsa_parameters().ok_or(InvalidJwk::Inconsistent)?;
    let names = ["p", "q", "dp", "dq", "qi"];
    let pair = match names.iter().filter(|name| members.contains_key(**name)).count() {
        0 => {
            let number = |bytes: &[u8]| BigUint::from_bytes_be(bytes);
            // The only private-key operation of the `rsa` crate, and only for commands (see deny.toml).
            let key = RsaPrivateKey::from_components(number(n), number(e), number(d), Vec::new())
                .map_err(|_| InvalidJwk::Inconsistent)?;
            let der = key.to_pkcs1_der().map_err(|_| InvalidJwk::Inconsistent)?;
            RsaKeyPair::from_der(der.as_bytes())
        }
        5 => RsaKeyPair::from_components(&KeyPairComponents {
            public_key: PublicKeyComponents { n, e },
            d,
            p: &secret(members, "p")?,
            q: &secret(members, "q")?,
            dP: &secret(members, "dp")?,
            dQ: &secret(members, "dq")?,
            qInv: &secret(members, "qi")?,
        }),
        // RFC 7518 §6.3.2: all five, or none.
        _ => return Err(InvalidJwk::SomePrimes),
    };
    pair.map_err(|_| InvalidJwk::Inconsistent)
}

fn secret(members: &Map<String, Value>, name: &'static str) -> Result<Zeroizing<Vec<u8>>, InvalidJwk> {
    members::bytes(members, name).map(Zeroizing::new)
}

fn check_length(d: &[u8], expected: usize) -> Result<(), InvalidJwk> {
    if d.len() == expected { Ok(()) } else { Err(InvalidJwk::Length { member: "d", expected }) }
}

/// A private JWK for signing: a key with optional `kid` and `alg`.
#[derive(Debug)]
pub struct PrivateJwk {
    key: PrivateKey,
    kid: Option<String>,
    algorithm: Option<Algorithm>,
}

impl PrivateJwk {
    /// A key without `kid` and `alg`.
    #[must_use]
    pub fn from_key(key: PrivateKey) -> Self {
        Self { key, kid: None, algorithm: None }
    }

    /// Reads a private JWK. Unknown members are ignored (RFC 7517 §4).
    ///
    /// # Errors
    /// [`InvalidJwk`] for a key that is public, symmetric, weak, malformed, or not for signatures.
    pub fn parse(json: &SecretJson) -> Result<Self, InvalidJwk> {
        let members = json.reveal().as_object().ok_or(InvalidJwk::NotObject)?;
        let key = PrivateKey::from_members(members)?;
        members::check_purpose(members, "sign")?;
        let (kid, algorithm) =
            (members::kid(members)?, members::algorithm(members, key.public().key_type())?);
        Ok(Self { key, kid, algorithm })
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// The `kid`, or the thumbprint of a key without one.
    #[must_use]
    pub fn kid(&self) -> String {
        self.kid.clone().unwrap_or_else(|| self.key.public().thumbprint())
    }

    /// The `alg`, if present.
    #[must_use]
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }
}

/// The members of a public JWK together with the private parameters of its key.
///
/// # Errors
/// [`InvalidJwk::Library`] if aws-lc-rs fails.
pub fn private_jwk(key: &PrivateKey, public: &Jwk) -> Result<SecretJson, InvalidJwk> {
    let Ok(Value::Object(mut members)) = serde_json::to_value(public) else {
        return Err(InvalidJwk::Library);
    };
    for (name, value) in key.private_members()? {
        members.insert(name.to_owned(), Value::String(value));
    }
    Ok(SecretJson::new(Value::Object(members)))
}
