//! Invalid tokens for testing verifiers: open mode issues them for `?fault=`.
//!
//! They are built by hand, because good JWT libraries refuse to create them.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::claims::Claims;
use super::overrides::Audience;
use super::signed::Token;
use crate::clock::Timestamp;
use crate::key::{KeyError, SigningKey};
use jwksd_jose::algorithm::{Algorithm, KeyType};
use jwksd_jose::invalid_jwk::InvalidJwk;
use jwksd_jose::jwk::Jwk;
use jwksd_jose::{jws, pem};

/// Distance between now and the times in a fault token. Longer than any verifier allows for clock differences.
const FAR: Duration = Duration::from_hours(1);

/// An issuer and an audience that cannot exist (RFC 6761 §6.4).
const WRONG_ISSUER: &str = "https://wrong-issuer.invalid";
const WRONG_AUDIENCE: &str = "https://wrong-audience.invalid";

/// An extension that no verifier supports.
const UNKNOWN_EXTENSION: &str = "https://unknown-extension.invalid";

/// The reason why a token is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `alg` is HS256 with the public key in DER as the secret.
    AlgHs256WithPublicDer,
    /// `alg` is HS256 with the public JWK as the secret.
    AlgHs256WithPublicJwk,
    /// `alg` is HS256 with the public key in PEM as the secret.
    AlgHs256WithPublicKey,
    /// `alg` is HS256 with the bytes of the public key as the secret.
    AlgHs256WithPublicRaw,
    /// `alg` is `none`.
    AlgNone,
    /// The signature is wrong.
    BadSignature,
    /// `crit` lists an unknown extension.
    CritUnknown,
    /// The ECDSA signature is in DER.
    DerSignature,
    /// The header contains its own key.
    EmbeddedJwk,
    /// The token has expired.
    Expired,
    /// The token has no `exp`.
    NoExp,
    /// The token has no `kid`.
    NoKid,
    /// The token is not valid yet.
    NotYetValid,
    /// The key was revoked.
    RevokedKey,
    /// The token names a key that was never published.
    UnknownKid,
    /// The token is for another audience.
    WrongAudience,
    /// `alg` belongs to another curve than the key.
    WrongCurve,
    /// The token names another issuer.
    WrongIssuer,
}

/// Which key signs a fault token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The key that signs valid tokens.
    Current,
    /// A key on another curve that was never published.
    OtherCurve,
    /// A revoked key.
    Revoked,
    /// A key that was never published, for the algorithm of the current key.
    Unpublished,
}

/// The format in which the public key is the secret of an HMAC.
#[derive(Clone, Copy)]
enum SecretFormat {
    Der,
    Jwk,
    Pem,
    Raw,
}

impl SecretFormat {
    /// Whichever of them a verifier has in memory, it may hand to its JWT library as "the key".
    fn encode(self, jwk: &Jwk) -> Result<Vec<u8>, InvalidJwk> {
        match self {
            Self::Der => jwk.key().to_spki(),
            Self::Jwk => serde_json::to_vec(jwk).map_err(|_| InvalidJwk::Library),
            // The text itself, byte for byte.
            Self::Pem => pem::public_pem(jwk.key()).map(String::into_bytes),
            Self::Raw => Ok(jwk.key().raw()),
        }
    }
}

impl Fault {
    /// All faults, sorted by name.
    pub const ALL: [Self; 18] = [
        Self::AlgHs256WithPublicDer,
        Self::AlgHs256WithPublicJwk,
        Self::AlgHs256WithPublicKey,
        Self::AlgHs256WithPublicRaw,
        Self::AlgNone,
        Self::BadSignature,
        Self::CritUnknown,
        Self::DerSignature,
        Self::EmbeddedJwk,
        Self::Expired,
        Self::NoExp,
        Self::NoKid,
        Self::NotYetValid,
        Self::RevokedKey,
        Self::UnknownKid,
        Self::WrongAudience,
        Self::WrongCurve,
        Self::WrongIssuer,
    ];

    /// Finds the fault with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// The name of the fault.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.explained().0
    }

    /// Describes the fault in one sentence.
    #[must_use]
    pub const fn description(self) -> &'static str {
        self.explained().1
    }

    /// The standard that requires verifiers to reject it.
    #[must_use]
    pub const fn reference(self) -> &'static str {
        self.explained().2
    }

    const fn explained(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::AlgHs256WithPublicDer => (
                "alg-hs256-with-public-der",
                "The algorithm is HS256, and the secret is the DER (SPKI) of the public key that the kid names.",
                "RFC 8725 §2.1 and §3.1",
            ),
            Self::AlgHs256WithPublicJwk => (
                "alg-hs256-with-public-jwk",
                "The algorithm is HS256, and the secret is the JWK that the kid names, byte for byte as it is published.",
                "RFC 8725 §2.1 and §3.1",
            ),
            Self::AlgHs256WithPublicKey => (
                "alg-hs256-with-public-key",
                "The algorithm is HS256, and the secret is the PEM of the public key that the kid names.",
                "RFC 8725 §2.1 and §3.1",
            ),
            Self::AlgHs256WithPublicRaw => (
                "alg-hs256-with-public-raw",
                "The algorithm is HS256, and the secret is the bytes of the public key that the kid names: the modulus (RSA), \
                 the uncompressed point (EC) or x (Ed25519).",
                "RFC 8725 §2.1 and §3.1",
            ),
            Self::AlgNone => {
                ("alg-none", "`alg` is `none`, and there is no signature.", "RFC 8725 §2.1 and §3.2")
            }
            Self::BadSignature => ("bad-signature", "One bit of the signature is flipped.", "RFC 7515 §5.2"),
            Self::CritUnknown => (
                "crit-unknown",
                "The header requires an extension that no verifier supports.",
                "RFC 7515 §4.1.11",
            ),
            Self::DerSignature => (
                "der-signature",
                "The ECDSA signature is in DER, not the two numbers one after the other. Only while an EC key signs.",
                "RFC 7518 §3.4",
            ),
            Self::EmbeddedJwk => (
                "embedded-jwk",
                "It is signed by a key that was never published, and the header contains that key.",
                "RFC 8725 §3.10; RFC 7515 §4.1.3",
            ),
            Self::Expired => {
                ("expired", "It expired an hour ago; the key that signed it is published.", "RFC 7519 §4.1.4")
            }
            Self::NoExp => {
                ("no-exp", "It has no exp, so it never expires.", "RFC 9068 §2.2; RFC 7519 §4.1.4")
            }
            Self::NoKid => (
                "no-kid",
                "The header names no key, and it is signed by a key that was never published.",
                "RFC 7515 §4.1.4 and §6",
            ),
            Self::NotYetValid => ("not-yet-valid", "It becomes valid in an hour.", "RFC 7519 §4.1.5"),
            Self::RevokedKey => {
                ("revoked-key", "It is signed by a key that was published and then revoked.", "RFC 7517 §5")
            }
            Self::UnknownKid => (
                "unknown-kid",
                "The header names a key that was never published, and such a key signed it.",
                "RFC 7515 §4.1.4 and §6",
            ),
            Self::WrongAudience => {
                ("wrong-audience", "It is for another audience.", "RFC 8725 §3.9; RFC 7519 §4.1.3")
            }
            Self::WrongCurve => (
                "wrong-curve",
                "The algorithm belongs to another curve than the key that the kid names, and a key on that other curve signed \
                 it. Only while an EC key signs.",
                "RFC 7518 §3.4; RFC 8725 §3.1",
            ),
            Self::WrongIssuer => {
                ("wrong-issuer", "It names another issuer.", "RFC 8725 §3.8; RFC 7519 §4.1.1")
            }
        }
    }

    /// Which key signs it.
    #[must_use]
    pub const fn signer(self) -> Signer {
        match self {
            Self::EmbeddedJwk | Self::NoKid | Self::UnknownKid => Signer::Unpublished,
            Self::RevokedKey => Signer::Revoked,
            Self::WrongCurve => Signer::OtherCurve,
            _ => Signer::Current,
        }
    }

    /// Whether a token of a key with this algorithm can have the fault.
    #[must_use]
    pub(crate) fn is_possible(self, algorithm: Algorithm) -> bool {
        match self {
            Self::DerSignature | Self::WrongCurve => matches!(algorithm.key_type(), KeyType::Ec(_)),
            _ => true,
        }
    }

    fn secret_format(self) -> Option<SecretFormat> {
        match self {
            Self::AlgHs256WithPublicDer => Some(SecretFormat::Der),
            Self::AlgHs256WithPublicJwk => Some(SecretFormat::Jwk),
            Self::AlgHs256WithPublicKey => Some(SecretFormat::Pem),
            Self::AlgHs256WithPublicRaw => Some(SecretFormat::Raw),
            _ => None,
        }
    }

    /// Builds a token with this fault from valid claims. `current` signs valid tokens; `signer` is the key that
    /// [`Fault::signer`] names.
    ///
    /// # Errors
    /// [`KeyError`] if aws-lc-rs fails.
    pub fn token(
        self,
        current: &SigningKey,
        signer: &SigningKey,
        claims: Claims<'_>,
        now: Timestamp,
    ) -> Result<Token, KeyError> {
        let header = URL_SAFE_NO_PAD.encode(self.header(current, signer, &claims).to_string());
        let claims = self.corrupt(claims, now);
        Token::assemble(&header, &claims, |message| self.sign(current, signer, message))
    }

    fn sign(self, current: &SigningKey, signer: &SigningKey, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        if let Some(format) = self.secret_format() {
            let secret = hmac::Key::new(hmac::HMAC_SHA256, &format.encode(current.jwk())?);
            return Ok(hmac::sign(&secret, message).as_ref().to_vec());
        }
        match self {
            Self::AlgNone => Ok(Vec::new()),
            Self::BadSignature => {
                let mut signature = signer.sign(message)?;
                if let Some(byte) = signature.last_mut() {
                    // One bit keeps the length, so that only verification can notice it.
                    *byte ^= 1;
                }
                Ok(signature)
            }
            Self::DerSignature => jws::ecdsa_der(&signer.sign(message)?).ok_or(KeyError::Signature),
            _ => signer.sign(message),
        }
    }

    fn header(self, current: &SigningKey, signer: &SigningKey, claims: &Claims<'_>) -> Value {
        let (alg, kid) = (signer.algorithm().name(), current.published_kid());
        let typ = claims.typ.name();
        if self.secret_format().is_some() {
            return json!({"alg": "HS256", "typ": typ, "kid": kid});
        }
        match self {
            Self::AlgNone => json!({"alg": "none", "typ": typ, "kid": kid}),
            Self::CritUnknown => json!({
                "alg": alg, "typ": typ, "kid": kid, "crit": [UNKNOWN_EXTENSION], UNKNOWN_EXTENSION: true,
            }),
            Self::EmbeddedJwk => {
                // Without a kid, the embedded key cannot be mistaken for a published one.
                let mut jwk = json!(signer.jwk());
                jwk.as_object_mut().map(|members| members.remove("kid"));
                // The kid is that of the published key, so that only the embedded key verifies the signature.
                json!({"alg": alg, "typ": typ, "kid": kid, "jwk": jwk})
            }
            Self::NoKid => json!({"alg": alg, "typ": typ}),
            // Our own kids are digits or thumbprints, and no external key can have a kid that is random.
            Self::UnknownKid => json!({"alg": alg, "typ": typ, "kid": format!("unknown-{}", claims.jti)}),
            Self::WrongCurve => json!({"alg": alg, "typ": typ, "kid": kid}),
            _ => json!({"alg": alg, "typ": typ, "kid": signer.published_kid()}),
        }
    }

    fn corrupt(self, mut claims: Claims<'_>, now: Timestamp) -> Claims<'_> {
        let ttl = claims.exp.unwrap_or_default().saturating_sub(claims.iat);
        match self {
            Self::Expired => {
                let exp = now.minus(FAR).as_secs();
                claims.exp = Some(exp);
                claims.iat = exp.saturating_sub(ttl);
                // A caller's `nbf` could make the token invalid for a second reason.
                claims.extra.0.remove("nbf");
            }
            Self::NoExp => claims.exp = None,
            Self::NotYetValid => {
                let nbf = now.plus(FAR).as_secs();
                claims.extra.0.insert("nbf".to_owned(), nbf.into());
                // `exp` moves too, so that the token is not expired by then.
                claims.exp = Some(nbf.saturating_add(ttl));
            }
            Self::WrongAudience => claims.aud = Some(Audience::One(WRONG_AUDIENCE.to_owned())),
            Self::WrongIssuer => claims.iss = WRONG_ISSUER,
            _ => {}
        }
        claims
    }
}
