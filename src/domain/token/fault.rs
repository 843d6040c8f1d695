//! Tokens that a good verifier refuses, each for a reason of its own: what open mode's `?fault=` gives out.
//!
//! They are made by hand, because no library that is worth using would make them.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Audience, Claims, Token};
use crate::domain::clock::Timestamp;
use crate::domain::key::{KeyError, SigningKey};

/// How far the times of a fault lie from now: beyond what any verifier lets pass as the difference of two clocks.
const FAR: Duration = Duration::from_hours(1);

/// An issuer and an audience that can be nobody's (RFC 6761, 6.4).
const WRONG_ISSUER: &str = "https://wrong-issuer.invalid";
const WRONG_AUDIENCE: &str = "https://wrong-audience.invalid";

/// The extension of a token that nobody can understand.
const UNKNOWN_EXTENSION: &str = "https://unknown-extension.invalid";

/// What is wrong with a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `alg` is HS256, and the secret is the public key.
    AlgHs256WithPublicKey,
    /// `alg` is none.
    AlgNone,
    /// The signature is another one.
    BadSignature,
    /// It is critical to understand what cannot be understood.
    CritUnknown,
    /// The header brings its own key.
    EmbeddedJwk,
    /// It has ended.
    Expired,
    /// It does not end.
    NoExp,
    /// It names no key.
    NoKid,
    /// It has not begun.
    NotYetValid,
    /// Its key was taken back.
    RevokedKey,
    /// It names a key that nobody has published.
    UnknownKid,
    /// It is for somebody else.
    WrongAudience,
    /// It is somebody else's.
    WrongIssuer,
}

/// Whose key signs a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// The key that signs good tokens too.
    Current,
    /// One that was revoked.
    Revoked,
    /// One that was never published.
    Unpublished,
}

impl Fault {
    /// Every fault, in the order of its name.
    pub const ALL: [Self; 13] = [
        Self::AlgHs256WithPublicKey,
        Self::AlgNone,
        Self::BadSignature,
        Self::CritUnknown,
        Self::EmbeddedJwk,
        Self::Expired,
        Self::NoExp,
        Self::NoKid,
        Self::NotYetValid,
        Self::RevokedKey,
        Self::UnknownKid,
        Self::WrongAudience,
        Self::WrongIssuer,
    ];

    /// The fault of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.explained().0
    }

    /// What is wrong with such a token, in one sentence.
    #[must_use]
    pub const fn description(self) -> &'static str {
        self.explained().1
    }

    /// Where it is written that a verifier must refuse it.
    #[must_use]
    pub const fn reference(self) -> &'static str {
        self.explained().2
    }

    const fn explained(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::AlgHs256WithPublicKey => (
                "alg-hs256-with-public-key",
                "The algorithm is HS256, and the secret is the PEM of the public key that the kid names.",
                "RFC 8725, 2.1 and 3.1",
            ),
            Self::AlgNone => {
                ("alg-none", "The algorithm is none, and there is no signature.", "RFC 8725, 2.1 and 3.2")
            }
            Self::BadSignature => {
                ("bad-signature", "One bit of the signature is another one.", "RFC 7515, 5.2")
            }
            Self::CritUnknown => (
                "crit-unknown",
                "The header says that an extension must be understood which nobody can know.",
                "RFC 7515, 4.1.11",
            ),
            Self::EmbeddedJwk => (
                "embedded-jwk",
                "It is signed by a key that nobody has published, and the header brings that key along.",
                "RFC 8725, 3.10; RFC 7515, 4.1.3",
            ),
            Self::Expired => {
                ("expired", "It ended an hour ago; the key that signed it is published.", "RFC 7519, 4.1.4")
            }
            Self::NoExp => ("no-exp", "It has no end.", "RFC 9068, 2.2; RFC 7519, 4.1.4"),
            Self::NoKid => (
                "no-kid",
                "The header names no key, and it is signed by one that nobody has published.",
                "RFC 7515, 4.1.4 and 6",
            ),
            Self::NotYetValid => ("not-yet-valid", "It begins in an hour.", "RFC 7519, 4.1.5"),
            Self::RevokedKey => {
                ("revoked-key", "It is signed by a key that was published and then revoked.", "RFC 7517, 5")
            }
            Self::UnknownKid => (
                "unknown-kid",
                "The header names a key that was never published, and it is signed by such a one.",
                "RFC 7515, 4.1.4 and 6",
            ),
            Self::WrongAudience => {
                ("wrong-audience", "It is meant for another audience.", "RFC 8725, 3.9; RFC 7519, 4.1.3")
            }
            Self::WrongIssuer => {
                ("wrong-issuer", "It says that another issuer has made it.", "RFC 8725, 3.8; RFC 7519, 4.1.1")
            }
        }
    }

    /// Whose key signs it.
    #[must_use]
    pub const fn signer(self) -> Signer {
        match self {
            Self::EmbeddedJwk | Self::NoKid | Self::UnknownKid => Signer::Unpublished,
            Self::RevokedKey => Signer::Revoked,
            _ => Signer::Current,
        }
    }

    /// Makes such a token of good claims. `current` is the key that signs good tokens, `signer` the one that
    /// [`Fault::signer`] asks for.
    ///
    /// # Errors
    /// [`KeyError`] when the cryptographic library fails.
    pub fn token(
        self,
        current: &SigningKey,
        signer: &SigningKey,
        claims: Claims<'_>,
        now: Timestamp,
    ) -> Result<Token, KeyError> {
        let header = URL_SAFE_NO_PAD.encode(self.header(current, signer, &claims.jti).to_string());
        let claims = self.corrupt(claims, now);
        Token::assemble(&header, &claims, |message| match self {
            Self::AlgNone => Ok(Vec::new()),
            Self::AlgHs256WithPublicKey => {
                let secret = current.public_pem()?;
                let secret = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
                Ok(hmac::sign(&secret, message).as_ref().to_vec())
            }
            Self::BadSignature => {
                let mut signature = signer.sign(message)?;
                if let Some(byte) = signature.last_mut() {
                    *byte ^= 1;
                }
                Ok(signature)
            }
            _ => signer.sign(message),
        })
    }

    fn header(self, current: &SigningKey, signer: &SigningKey, unique: &str) -> Value {
        let kid = current.kid().to_string();
        match self {
            Self::AlgHs256WithPublicKey => json!({"alg": "HS256", "typ": "JWT", "kid": kid}),
            Self::AlgNone => json!({"alg": "none", "typ": "JWT", "kid": kid}),
            Self::CritUnknown => json!({
                "alg": "RS256", "typ": "JWT", "kid": kid, "crit": [UNKNOWN_EXTENSION], UNKNOWN_EXTENSION: true,
            }),
            Self::EmbeddedJwk => {
                // The key it brings has a name of nobody's.
                let mut jwk = json!(signer.jwk());
                jwk.as_object_mut().map(|members| members.remove("kid"));
                json!({"alg": "RS256", "typ": "JWT", "kid": kid, "jwk": jwk})
            }
            Self::NoKid => json!({"alg": "RS256", "typ": "JWT"}),
            // Nothing but digits is ours, and nobody can upload a name that is made up now.
            Self::UnknownKid => json!({"alg": "RS256", "typ": "JWT", "kid": format!("unknown-{unique}")}),
            _ => json!({"alg": "RS256", "typ": "JWT", "kid": signer.kid().to_string()}),
        }
    }

    fn corrupt(self, mut claims: Claims<'_>, now: Timestamp) -> Claims<'_> {
        let life = claims.exp.unwrap_or_default().saturating_sub(claims.iat);
        match self {
            Self::Expired => {
                let exp = now.minus(FAR).as_secs();
                claims.exp = Some(exp);
                claims.iat = exp.saturating_sub(life);
                claims.extra.0.remove("nbf");
            }
            Self::NoExp => claims.exp = None,
            Self::NotYetValid => {
                let begin = now.plus(FAR).as_secs();
                claims.extra.0.insert("nbf".to_owned(), begin.into());
                claims.exp = Some(begin.saturating_add(life));
            }
            Self::WrongAudience => claims.aud = Some(Audience::One(WRONG_AUDIENCE.to_owned())),
            Self::WrongIssuer => claims.iss = WRONG_ISSUER,
            _ => {}
        }
        claims
    }
}
