//! Private keys: made, read out of a JWK, signing. Secret: no `Serialize`, no quoting, wiped when dropped.
//!
//! The library holds the numbers, and wipes them itself; what leaves it here for a moment is wiped too. PEM is `pem`.

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

use super::algorithm::{Algorithm, Curve, KeyType};
use super::json::SecretJson;
use super::jwk::{self, InvalidJwk, PublicJwk};
use super::public_key::{self, PublicKey};

/// What to make a key of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NewKey {
    /// RSA of 2048 bits.
    Rsa2048,
    /// RSA of 3072 bits.
    Rsa3072,
    /// RSA of 4096 bits.
    Rsa4096,
    /// A curve of ECDSA.
    Ec(Curve),
    /// Ed25519.
    Ed25519,
}

/// A private key and its public half.
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
    /// Makes a key, with the library's own randomness. RSA takes tens of milliseconds to seconds.
    ///
    /// # Errors
    /// [`InvalidJwk::Unwritable`] when the library fails.
    pub fn generate(what: NewKey) -> Result<Self, InvalidJwk> {
        let pair = match what {
            NewKey::Rsa2048 => RsaKeyPair::generate(KeySize::Rsa2048).map(Pair::Rsa),
            NewKey::Rsa3072 => RsaKeyPair::generate(KeySize::Rsa3072).map(Pair::Rsa),
            NewKey::Rsa4096 => RsaKeyPair::generate(KeySize::Rsa4096).map(Pair::Rsa),
            NewKey::Ec(curve) => EcdsaKeyPair::generate(curve.signing()).map(Pair::Ec),
            NewKey::Ed25519 => Ed25519KeyPair::generate().map(Pair::Ed25519),
        };
        Self::of_pair(pair.map_err(|_| InvalidJwk::Unwritable)?)
    }

    /// Reads the numbers out of the members of a JWK, and leaves all other members alone.
    ///
    /// # Errors
    /// [`InvalidJwk`] for a public key, for numbers that do not fit each other, and for all that is wrong with the
    /// public ones.
    pub fn of_members(members: &Map<String, Value>) -> Result<Self, InvalidJwk> {
        let public = PublicKey::of_members(members)?;
        if !members.contains_key("d") {
            return Err(InvalidJwk::Public);
        }
        let d = secret(members, "d")?;
        let pair = match public.key_type() {
            KeyType::Rsa => Pair::Rsa(rsa_pair(&public, members, &d)?),
            KeyType::Ec(curve) => {
                check_length(&d, curve.size())?;
                let point = public.octets().unwrap_or_default();
                let pair = EcdsaKeyPair::from_private_key_and_public_key(curve.signing(), &d, &point);
                Pair::Ec(pair.map_err(|_| InvalidJwk::Inconsistent)?)
            }
            KeyType::Ed25519 => {
                check_length(&d, public_key::ED25519_LEN)?;
                let point = public.octets().unwrap_or_default();
                let pair = Ed25519KeyPair::from_seed_and_public_key(&d, &point);
                Pair::Ed25519(pair.map_err(|_| InvalidJwk::Inconsistent)?)
            }
        };
        Ok(Self { public, pair })
    }

    /// Reads the PKCS#1 DER of an RSA key.
    pub(super) fn of_pkcs1(der: &[u8]) -> Result<Self, InvalidJwk> {
        // The size is looked at first: the library refuses without saying that it was that.
        let numbers = pkcs1::RsaPrivateKey::from_der(der).map_err(|_| InvalidJwk::Inconsistent)?;
        PublicKey::rsa(numbers.modulus.as_bytes().to_vec(), numbers.public_exponent.as_bytes().to_vec())?;
        Self::of_pair(Pair::Rsa(RsaKeyPair::from_der(der).map_err(|_| InvalidJwk::Inconsistent)?))
    }

    /// Reads the PKCS#8 or SEC 1 DER of a key on this curve.
    pub(super) fn of_ec_der(curve: Curve, der: &[u8]) -> Result<Self, InvalidJwk> {
        let pair = EcdsaKeyPair::from_private_key_der(curve.signing(), der);
        Self::of_pair(Pair::Ec(pair.map_err(|_| InvalidJwk::Inconsistent)?))
    }

    /// Reads the PKCS#8 DER of an Ed25519 key.
    pub(super) fn of_ed25519_pkcs8(der: &[u8]) -> Result<Self, InvalidJwk> {
        let pair = Ed25519KeyPair::from_pkcs8(der);
        Self::of_pair(Pair::Ed25519(pair.map_err(|_| InvalidJwk::Inconsistent)?))
    }

    fn of_pair(pair: Pair) -> Result<Self, InvalidJwk> {
        let public = match &pair {
            Pair::Rsa(pair) => {
                let der = pair.public_key().as_ref();
                let numbers = pkcs1::RsaPublicKey::from_der(der).map_err(|_| InvalidJwk::Unwritable)?;
                PublicKey::rsa(
                    numbers.modulus.as_bytes().to_vec(),
                    numbers.public_exponent.as_bytes().to_vec(),
                )
            }
            Pair::Ec(pair) => {
                let curve = Curve::ALL.into_iter().find(|curve| curve.signing() == pair.algorithm());
                PublicKey::ec_point(curve.ok_or(InvalidJwk::Unwritable)?, pair.public_key().as_ref())
            }
            Pair::Ed25519(pair) => PublicKey::ed25519(pair.public_key().as_ref().to_vec()),
        }?;
        Ok(Self { public, pair })
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs a message; nothing comes of an algorithm for another kind of key.
    #[must_use]
    pub fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(algorithm.rsa_signing()?, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            _ if algorithm.key_type() != self.public.key_type() => None,
            Pair::Ec(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Some(pair.try_sign(message).ok()?.as_ref().to_vec()),
        }
    }

    /// PKCS#8 (RFC 5208) in DER.
    ///
    /// # Errors
    /// [`InvalidJwk::Unwritable`] when the library fails.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, InvalidJwk> {
        let der = match &self.pair {
            Pair::Rsa(pair) => pair.as_der().map(|der| der.as_ref().to_vec()),
            Pair::Ec(pair) => pair.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
            Pair::Ed25519(pair) => pair.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
        };
        der.map(Zeroizing::new).map_err(|_| InvalidJwk::Unwritable)
    }

    /// The private numbers, each with the name of its member.
    fn private_members(&self) -> Result<Vec<(&'static str, String)>, InvalidJwk> {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match &self.pair {
            Pair::Rsa(_) => {
                let pkcs8 = self.to_pkcs8()?;
                let info = PrivateKeyInfo::from_der(&pkcs8).map_err(|_| InvalidJwk::Unwritable)?;
                let key = pkcs1::RsaPrivateKey::from_der(info.private_key);
                let key = key.map_err(|_| InvalidJwk::Unwritable)?;
                let numbers = [
                    ("d", key.private_exponent),
                    ("p", key.prime1),
                    ("q", key.prime2),
                    ("dp", key.exponent1),
                    ("dq", key.exponent2),
                    ("qi", key.coefficient),
                ];
                Ok(numbers.into_iter().map(|(name, number)| (name, encode(number.as_bytes()))).collect())
            }
            Pair::Ec(pair) => {
                let d: EcPrivateKeyBin<'_> =
                    pair.private_key().as_be_bytes().map_err(|_| InvalidJwk::Unwritable)?;
                Ok(vec![("d", encode(d.as_ref()))])
            }
            Pair::Ed25519(pair) => {
                let seed = pair.seed().map_err(|_| InvalidJwk::Unwritable)?;
                let d = seed.as_be_bytes().map_err(|_| InvalidJwk::Unwritable)?;
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

/// The five numbers are checked against each other, or found anew where none of them is there.
fn rsa_pair(public: &PublicKey, members: &Map<String, Value>, d: &[u8]) -> Result<RsaKeyPair, InvalidJwk> {
    if members.contains_key("oth") {
        return Err(InvalidJwk::MultiPrime);
    }
    let (n, e) = public.rsa_numbers().ok_or(InvalidJwk::Inconsistent)?;
    let names = ["p", "q", "dp", "dq", "qi"];
    let pair = match names.iter().filter(|name| members.contains_key(**name)).count() {
        0 => {
            let number = |bytes: &[u8]| BigUint::from_bytes_be(bytes);
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
        _ => return Err(InvalidJwk::SomePrimes),
    };
    pair.map_err(|_| InvalidJwk::Inconsistent)
}

fn secret(members: &Map<String, Value>, name: &'static str) -> Result<Zeroizing<Vec<u8>>, InvalidJwk> {
    public_key::bytes(members, name).map(Zeroizing::new)
}

fn check_length(d: &[u8], expected: usize) -> Result<(), InvalidJwk> {
    if d.len() == expected { Ok(()) } else { Err(InvalidJwk::Length { member: "d", expected }) }
}

/// A private key for signing, with what it says about itself.
#[derive(Debug)]
pub struct PrivateJwk {
    key: PrivateKey,
    kid: Option<String>,
    algorithm: Option<Algorithm>,
}

impl PrivateJwk {
    /// A key that says nothing about itself.
    #[must_use]
    pub fn bare(key: PrivateKey) -> Self {
        Self { key, kid: None, algorithm: None }
    }

    /// Reads a JWK. Members it does not know are left aside (RFC 7517, 4).
    ///
    /// # Errors
    /// [`InvalidJwk`] for a key that is public, symmetric, weak, not for signatures, or none.
    pub fn parse(json: &SecretJson) -> Result<Self, InvalidJwk> {
        let members = json.reveal().as_object().ok_or(InvalidJwk::NoObject)?;
        let key = PrivateKey::of_members(members)?;
        jwk::check_purpose(members, "sign")?;
        let (kid, algorithm) = (jwk::kid(members)?, jwk::algorithm(members, key.public().key_type())?);
        Ok(Self { key, kid, algorithm })
    }

    /// The key itself.
    #[must_use]
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Which key this is: what it says, else its thumbprint.
    #[must_use]
    pub fn kid(&self) -> String {
        self.kid.clone().unwrap_or_else(|| self.key.public().thumbprint())
    }

    /// The one algorithm that it is for, if it says so.
    #[must_use]
    pub fn algorithm(&self) -> Option<Algorithm> {
        self.algorithm
    }
}

/// The private half beside what the public JWK says.
///
/// # Errors
/// [`InvalidJwk::Unwritable`] when the library fails.
pub fn private_jwk(key: &PrivateKey, public: &PublicJwk) -> Result<SecretJson, InvalidJwk> {
    let Ok(Value::Object(mut members)) = serde_json::to_value(public) else {
        return Err(InvalidJwk::Unwritable);
    };
    for (name, value) in key.private_members()? {
        members.insert(name.to_owned(), Value::String(value));
    }
    Ok(SecretJson::of(Value::Object(members)))
}
