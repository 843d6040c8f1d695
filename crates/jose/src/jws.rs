//! Parses, verifies and signs a JWS in compact form (RFC 7515 §7.1).
//!
//! The trusted key decides which algorithms are allowed, not the header (RFC 8725 §3.1). `validation` checks the
//! claims, and only after the signature was verified.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rsa::pkcs8::der::Encode as _;
use rsa::pkcs8::der::asn1::UintRef;
use serde_json::{Map, Value, json};

use super::algorithm::Algorithm;
use super::json;
use super::jwk::Jwk;
use super::jwk_set::{Entry, TrustedKeys};
use super::private_key::PrivateKey;
use super::token_type::TokenType;
use super::verify_error::{Reason, VerifyError};

/// Header parameters that contain a key or a URL of one (RFC 7515 §4.1.2, §4.1.3, §4.1.5 and §4.1.6).
pub(crate) const EMBEDDED: [&str; 4] = ["jku", "jwk", "x5u", "x5c"];

/// Maximum number of characters of an untrusted value that a message quotes.
const QUOTE_MAX: usize = 80;

/// A parsed token. Its content is untrusted until [`Jws::verify`] succeeds.
#[derive(Clone, Debug)]
pub struct Jws {
    signed: String,
    header: Map<String, Value>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Jws {
    /// Parses a token.
    ///
    /// # Errors
    /// [`Reason::Malformed`] unless it is three parts of base64url, the first of them a JSON object.
    pub fn parse(token: &str) -> Result<Self, VerifyError> {
        let parts: Vec<_> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else {
            return Err(malformed(wrong_shape(token, parts.len())));
        };
        // Checked before base64url, because pasted tokens often contain line breaks.
        if token.contains(char::is_whitespace) {
            return Err(malformed(
                "the token contains white space: remove it, and any \"Bearer\" before the token",
            ));
        }
        let decode = |name, part| {
            json::bytes(part).ok_or_else(|| malformed(format!("the {name} is not base64url without padding")))
        };
        let header = json::object(&decode("header", header)?)
            .map_err(|error| malformed(format!("the header is invalid: {error}")))?;
        let (payload, signature) = (decode("payload", payload)?, decode("signature", signature)?);
        let signed = token.rsplit_once('.').map(|(signed, _)| signed.to_owned()).unwrap_or_default();
        Ok(Self { signed, header, payload, signature })
    }

    /// The unverified header.
    #[must_use]
    pub fn header(&self) -> &Map<String, Value> {
        &self.header
    }

    /// The unverified claims.
    ///
    /// # Errors
    /// [`Reason::Malformed`] for a payload that is not a JSON object.
    pub fn unverified_claims(&self) -> Result<Map<String, Value>, VerifyError> {
        json::object(&self.payload).map_err(|error| malformed(format!("the payload is invalid: {error}")))
    }

    /// Verifies the signature with one of the keys, and returns the claims.
    ///
    /// # Errors
    /// [`VerifyError`] for the first error in the header, the key or the signature.
    pub fn verify(&self, keys: &TrustedKeys) -> Result<Map<String, Value>, VerifyError> {
        let algorithm = self.algorithm()?;
        // Header checks come first: they are cheap, and need no key.
        self.reject_embedded_keys()?;
        self.reject_crit()?;
        let named = self.keys_named(keys)?;
        let is_valid = keys_for_algorithm(&named, algorithm)?
            .into_iter()
            .any(|key| key.key().verifies(algorithm, self.signed.as_bytes(), &self.signature));
        if is_valid {
            // Only now are the claims parsed, so that forged ones reach as little code as possible.
            return self.unverified_claims();
        }
        Err(VerifyError::new(
            Reason::BadSignature,
            "the signature does not match the key, the header and the claims",
        ))
    }

    /// Checks the `typ` of the header. Its case does not matter, nor does `application/` before it (RFC 7515 §4.1.9).
    ///
    /// # Errors
    /// [`Reason::WrongTyp`] for another type, or none.
    pub fn expect_typ(&self, expected: &str) -> Result<(), VerifyError> {
        let typ = self.header.get("typ").and_then(Value::as_str);
        if typ.is_some_and(|typ| media_type(typ) == media_type(expected)) {
            return Ok(());
        }
        let found = typ.map_or_else(
            || "the header has no \"typ\"".to_owned(),
            |typ| format!("the type is {}", quoted(typ)),
        );
        Err(VerifyError::new(Reason::WrongTyp, format!("{found}; it must be {}", quoted(expected))))
    }

    /// The algorithm that the header names.
    pub(crate) fn algorithm(&self) -> Result<Algorithm, VerifyError> {
        let name = match self.header.get("alg") {
            Some(Value::String(name)) => name,
            Some(_) => return Err(malformed("\"alg\" in the header is not a string")),
            None => return Err(malformed("the header has no \"alg\"")),
        };
        // In any case, because filters that compare exactly were bypassed with `nOnE`.
        if name.eq_ignore_ascii_case("none") {
            return Err(VerifyError::new(Reason::AlgNone, "the token is not signed (\"alg\" is \"none\")"));
        }
        // A separate reason, because it is a known attack (RFC 8725 §2.1), not just an unknown name.
        if ["HS256", "HS384", "HS512"].contains(&name.as_str()) {
            return Err(VerifyError::new(
                Reason::AlgHmac,
                format!(
                    "{name} uses a shared secret: with a public key as the secret, anyone could have signed the token"
                ),
            ));
        }
        Algorithm::from_name(name).ok_or_else(|| {
            VerifyError::new(Reason::AlgUnsupported, format!("{} is not a supported algorithm", quoted(name)))
        })
    }

    fn reject_embedded_keys(&self) -> Result<(), VerifyError> {
        match EMBEDDED.into_iter().find(|name| self.header.contains_key(*name)) {
            None => Ok(()),
            Some(name) => Err(VerifyError::new(
                Reason::EmbeddedKey,
                format!("the header brings its own key ({name:?}): an attacker could have chosen it"),
            )),
        }
    }

    fn reject_crit(&self) -> Result<(), VerifyError> {
        // RFC 7515 §4.1.11: an empty list is invalid, and unsupported extensions must be rejected.
        let listed = match self.header.get("crit") {
            None => return Ok(()),
            Some(Value::Array(listed)) if !listed.is_empty() => listed,
            Some(_) => {
                return Err(VerifyError::new(
                    Reason::Crit,
                    "\"crit\" must be a list of names that is not empty",
                ));
            }
        };
        let names: Vec<_> = listed.iter().map(|name| quoted(name.as_str().unwrap_or_default())).collect();
        let message =
            format!("the token requires extensions that are not supported: {} (\"crit\")", names.join(", "));
        Err(VerifyError::new(Reason::Crit, message))
    }

    /// The keys that the header names by its `kid`.
    fn keys_named<'a>(&self, keys: &'a TrustedKeys) -> Result<Vec<&'a Jwk>, VerifyError> {
        let kid = match self.header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.as_str()),
            Some(_) => return Err(malformed("\"kid\" in the header is not a string")),
        };
        match (keys, kid) {
            (TrustedKeys::One(key), Some(kid)) if key.kid().is_some_and(|own| own != kid) => {
                let own = quoted(key.kid().unwrap_or_default());
                let message =
                    format!("the token names the key {}, but the trusted key is {own}", quoted(kid));
                Err(VerifyError::new(Reason::UnknownKid, message))
            }
            // The caller chose this key, so the token does not have to name it.
            (TrustedKeys::One(key), _) => Ok(vec![key]),
            (TrustedKeys::Set(entries), None) => Err(VerifyError::new(
                Reason::NoKid,
                format!("the token names no key (no \"kid\"); {}", key_list(entries)),
            )),
            (TrustedKeys::Set(entries), Some(kid)) => keys_with_kid(entries, kid),
        }
    }
}

/// Finds the usable keys with this `kid`. Several keys of a set may share one (RFC 7517 §4.5).
fn keys_with_kid<'a>(entries: &'a [Entry], kid: &str) -> Result<Vec<&'a Jwk>, VerifyError> {
    let named: Vec<_> = entries.iter().filter(|entry| entry.kid.as_deref() == Some(kid)).collect();
    let usable: Vec<_> = named.iter().filter_map(|entry| entry.key.as_ref().ok()).collect();
    match named.first().map(|entry| &entry.key) {
        None => Err(VerifyError::new(
            Reason::UnknownKid,
            format!("the token names the key {}; {}", quoted(kid), key_list(entries)),
        )),
        Some(Err(error)) if usable.is_empty() => Err(VerifyError::key(error)),
        Some(_) => Ok(usable),
    }
}

/// Filters the keys that allow this algorithm.
fn keys_for_algorithm<'a>(keys: &[&'a Jwk], algorithm: Algorithm) -> Result<Vec<&'a Jwk>, VerifyError> {
    // A key without "alg" allows every algorithm of its type.
    let fits = |key: &Jwk| {
        key.key().key_type() == algorithm.key_type()
            && key.algorithm().is_none_or(|own| own.is_same_as(algorithm))
    };
    let allowed: Vec<_> = keys.iter().copied().filter(|key| fits(key)).collect();
    if !allowed.is_empty() {
        return Ok(allowed);
    }
    let own = keys.first().map(|key| match key.algorithm() {
        Some(own) => format!("the key is only for {own}"),
        None => {
            format!(
                "the key is an {} key, for {}",
                key.key().key_type(),
                key.key().key_type().algorithm_names()
            )
        }
    });
    let message = format!("\"alg\" is {algorithm}, but {}", own.unwrap_or_default());
    Err(VerifyError::new(Reason::AlgMismatch, message))
}

/// Describes the keys of a set.
fn key_list(entries: &[Entry]) -> String {
    let kids: Vec<_> = entries
        .iter()
        .map(|entry| entry.kid.as_deref().map_or_else(|| "a key without a kid".to_owned(), quoted))
        .collect();
    match kids[..] {
        [] => "the set has no keys".to_owned(),
        _ => format!("the set has {}", kids.join(", ")),
    }
}

/// Signs claims (RFC 7515 §5.1). `None` if the algorithm does not fit the key.
#[must_use]
pub fn sign(
    key: &PrivateKey,
    algorithm: Algorithm,
    kid: &str,
    claims: &Map<String, Value>,
) -> Option<String> {
    let claims = serde_json::to_vec(claims).ok()?;
    compact(&header(TokenType::Jwt, algorithm, kid), &claims, |message| {
        key.sign(algorithm, message).ok_or(())
    })
    .ok()
}

/// The base64url of the header that all our tokens have: `alg`, `kid`, `typ`.
#[must_use]
pub fn header(typ: TokenType, algorithm: Algorithm, kid: &str) -> String {
    // Written as JSON, because `jwt sign` takes any kid from the user.
    let header = json!({"alg": algorithm.name(), "kid": kid, "typ": typ.name()});
    URL_SAFE_NO_PAD.encode(header.to_string())
}

/// Joins an encoded header, a payload and the signature that `sign` makes of both.
pub fn compact<E>(
    header: &str,
    payload: &[u8],
    sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<String, E> {
    // Enough for an RSA 2048 signature and common claims, so that the text does not have to grow.
    let mut token = String::with_capacity(1024);
    token.push_str(header);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(payload, &mut token);
    let signature = sign(token.as_bytes())?;
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token)
}

/// The DER form (RFC 3279 §2.2.3) of an ECDSA signature. JWS uses the other one, `r ‖ s` (RFC 7518 §3.4).
#[must_use]
pub fn ecdsa_der(signature: &[u8]) -> Option<Vec<u8>> {
    let (r, s) = signature.split_at_checked(signature.len() / 2)?;
    // A sequence of two INTEGERs, whatever their types are called.
    [UintRef::new(r).ok()?, UintRef::new(s).ok()?].to_der().ok()
}

/// A `typ` in the form in which types are compared.
fn media_type(typ: &str) -> String {
    let typ = typ.to_ascii_lowercase();
    typ.strip_prefix("application/").map_or_else(|| typ.clone(), str::to_owned)
}

fn malformed(message: impl Into<String>) -> VerifyError {
    VerifyError::new(Reason::Malformed, message)
}

fn wrong_shape(token: &str, parts: usize) -> String {
    match parts {
        _ if token.is_empty() => "there is no token".to_owned(),
        5 => "the token is encrypted (a JWE with five parts): decrypt it and verify the token inside"
            .to_owned(),
        _ => format!("a token has three parts separated by dots, but this one has {parts}"),
    }
}

fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(QUOTE_MAX).collect::<String>())
}
