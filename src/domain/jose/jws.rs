//! A JWS in compact form (RFC 7515, 7.1): taken apart, looked at, verified; and made.
//!
//! The header chooses nothing but among what the trusted key allows (RFC 8725, 3.1). What the claims say is not looked
//! at before the signature was right; `check` does that.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::algorithm::Algorithm;
use super::json;
use super::jwk::PublicJwk;
use super::jwk_set::{Entry, TrustedKeys};
use super::private_key::PrivateKey;
use super::verify_error::{Reason, VerifyError};

/// Header parameters that bring a key along or say where to fetch one (RFC 7515, 4.1.2, 4.1.3, 4.1.5 and 4.1.6).
pub(super) const EMBEDDED: [&str; 4] = ["jku", "jwk", "x5u", "x5c"];

/// How much of a foreign value a message quotes.
const QUOTED: usize = 80;

/// A token that was taken apart. Nothing in it is to be believed.
#[derive(Clone, Debug)]
pub struct Jws {
    signed: String,
    header: Map<String, Value>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl Jws {
    /// Takes a token apart.
    ///
    /// # Errors
    /// [`Reason::Malformed`] for what is not three parts of base64url, of which the first is a JSON object.
    pub fn parse(token: &str) -> Result<Self, VerifyError> {
        let parts: Vec<_> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else {
            return Err(malformed(wrong_shape(token, parts.len())));
        };
        if token.contains(char::is_whitespace) {
            return Err(malformed(
                "it has white space in it: a token is one word, without \"Bearer\" before it",
            ));
        }
        let decode = |name, part| {
            json::bytes(part).ok_or_else(|| malformed(format!("its {name} is not base64url without padding")))
        };
        let header = json::object(&decode("header", header)?)
            .map_err(|error| malformed(format!("its header is of no use: {error}")))?;
        let (payload, signature) = (decode("payload", payload)?, decode("signature", signature)?);
        let signed = token.rsplit_once('.').map(|(signed, _)| signed.to_owned()).unwrap_or_default();
        Ok(Self { signed, header, payload, signature })
    }

    /// The header, as it is.
    #[must_use]
    pub fn header(&self) -> &Map<String, Value> {
        &self.header
    }

    /// The claims, whoever made them.
    ///
    /// # Errors
    /// [`Reason::Malformed`] for a payload that is no JSON object.
    pub fn unverified_claims(&self) -> Result<Map<String, Value>, VerifyError> {
        json::object(&self.payload)
            .map_err(|error| malformed(format!("its payload holds no claims: {error}")))
    }

    /// Verifies the signature with one of these keys, and returns the claims.
    ///
    /// # Errors
    /// [`VerifyError`] for the first thing that is wrong with the header, the key or the signature.
    pub fn verify(&self, keys: &TrustedKeys) -> Result<Map<String, Value>, VerifyError> {
        let algorithm = self.algorithm()?;
        self.refuse_embedded_keys()?;
        self.refuse_crit()?;
        let named = self.keys_named(keys)?;
        let is_right = fitting(&named, algorithm)?
            .into_iter()
            .any(|key| key.key().verifies(algorithm, self.signed.as_bytes(), &self.signature));
        if is_right {
            return self.unverified_claims();
        }
        Err(VerifyError::new(
            Reason::BadSignature,
            "the signature is not of this key over this header and these claims",
        ))
    }

    /// What the header says it is signed with.
    pub(super) fn algorithm(&self) -> Result<Algorithm, VerifyError> {
        let name = match self.header.get("alg") {
            Some(Value::String(name)) => name,
            Some(_) => return Err(malformed("\"alg\" in its header is no string")),
            None => return Err(malformed("its header has no \"alg\"")),
        };
        if name.eq_ignore_ascii_case("none") {
            return Err(VerifyError::new(Reason::AlgNone, "it is not signed at all (\"alg\" is \"none\")"));
        }
        if ["HS256", "HS384", "HS512"].contains(&name.as_str()) {
            return Err(VerifyError::new(
                Reason::AlgHmac,
                format!("{name} is a shared secret: with a public key for it, anybody could have signed"),
            ));
        }
        Algorithm::named(name).ok_or_else(|| {
            VerifyError::new(
                Reason::AlgUnsupported,
                format!("{} is no algorithm that is known", quoted(name)),
            )
        })
    }

    fn refuse_embedded_keys(&self) -> Result<(), VerifyError> {
        match EMBEDDED.into_iter().find(|name| self.header.contains_key(*name)) {
            None => Ok(()),
            Some(name) => Err(VerifyError::new(
                Reason::EmbeddedKey,
                format!("its header brings its own key ({name:?}): whoever made it could have chosen that"),
            )),
        }
    }

    fn refuse_crit(&self) -> Result<(), VerifyError> {
        let listed = match self.header.get("crit") {
            None => return Ok(()),
            Some(Value::Array(listed)) if !listed.is_empty() => listed,
            Some(_) => return Err(VerifyError::new(Reason::Crit, "\"crit\" is not a list of names")),
        };
        let names: Vec<_> = listed.iter().map(|name| quoted(name.as_str().unwrap_or_default())).collect();
        let message = format!("it may be used by those alone who understand {} (\"crit\")", names.join(", "));
        Err(VerifyError::new(Reason::Crit, message))
    }

    /// The keys that the header names by its `kid`.
    fn keys_named<'a>(&self, keys: &'a TrustedKeys) -> Result<Vec<&'a PublicJwk>, VerifyError> {
        let kid = match self.header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.as_str()),
            Some(_) => return Err(malformed("\"kid\" in its header is no string")),
        };
        match (keys, kid) {
            (TrustedKeys::One(key), Some(kid)) if key.kid().is_some_and(|own| own != kid) => {
                let own = quoted(key.kid().unwrap_or_default());
                let message =
                    format!("it names the key {}, and the one that is trusted is {own}", quoted(kid));
                Err(VerifyError::new(Reason::UnknownKid, message))
            }
            (TrustedKeys::One(key), _) => Ok(vec![key]),
            (TrustedKeys::Set(entries), None) => Err(VerifyError::new(
                Reason::NoKid,
                format!("it names no key (no \"kid\"), and {}", told(entries)),
            )),
            (TrustedKeys::Set(entries), Some(kid)) => of_kid(entries, kid),
        }
    }
}

/// More than one key of a set may have the same `kid` (RFC 7517, 4.5).
fn of_kid<'a>(entries: &'a [Entry], kid: &str) -> Result<Vec<&'a PublicJwk>, VerifyError> {
    let named: Vec<_> = entries.iter().filter(|entry| entry.kid.as_deref() == Some(kid)).collect();
    let usable: Vec<_> = named.iter().filter_map(|entry| entry.key.as_ref().ok()).collect();
    match named.first().map(|entry| &entry.key) {
        None => Err(VerifyError::new(
            Reason::UnknownKid,
            format!("it names the key {}, and {}", quoted(kid), told(entries)),
        )),
        Some(Err(error)) if usable.is_empty() => Err(VerifyError::key(error)),
        Some(_) => Ok(usable),
    }
}

/// Those of the keys that this algorithm is for.
fn fitting<'a>(keys: &[&'a PublicJwk], algorithm: Algorithm) -> Result<Vec<&'a PublicJwk>, VerifyError> {
    let fits = |key: &PublicJwk| {
        key.key().key_type() == algorithm.key_type() && key.algorithm().is_none_or(|own| own == algorithm)
    };
    let fitting: Vec<_> = keys.iter().copied().filter(|key| fits(key)).collect();
    if !fitting.is_empty() {
        return Ok(fitting);
    }
    let own = keys.first().map(|key| match key.algorithm() {
        Some(own) => format!("the key is for {own} alone"),
        None => {
            format!("the key is an {} key, for {}", key.key().key_type(), key.key().key_type().algorithms())
        }
    });
    let message = format!("it says {algorithm}, and {}", own.unwrap_or_default());
    Err(VerifyError::new(Reason::AlgMismatch, message))
}

/// Which keys a set has.
fn told(entries: &[Entry]) -> String {
    let kids: Vec<_> = entries
        .iter()
        .map(|entry| entry.kid.as_deref().map_or_else(|| "one without a kid".to_owned(), quoted))
        .collect();
    match kids[..] {
        [] => "the set has no keys".to_owned(),
        _ => format!("the set has {}", kids.join(", ")),
    }
}

/// Signs claims (RFC 7515, 5.1); nothing comes of an algorithm for another kind of key.
#[must_use]
pub fn sign(
    key: &PrivateKey,
    algorithm: Algorithm,
    kid: &str,
    claims: &Map<String, Value>,
) -> Option<String> {
    let header = json!({"alg": algorithm.name(), "kid": kid, "typ": "JWT"});
    let encode = |part: &[u8]| URL_SAFE_NO_PAD.encode(part);
    let claims = serde_json::to_vec(claims).ok()?;
    let mut token = format!("{}.{}", encode(header.to_string().as_bytes()), encode(&claims));
    let signature = key.sign(algorithm, token.as_bytes())?;
    token.push('.');
    token.push_str(&encode(&signature));
    Some(token)
}

fn malformed(message: impl Into<String>) -> VerifyError {
    VerifyError::new(Reason::Malformed, message)
}

fn wrong_shape(token: &str, parts: usize) -> String {
    match parts {
        _ if token.is_empty() => "there is no token".to_owned(),
        5 => "it is encrypted (a JWE of five parts): verify what is inside of it".to_owned(),
        _ => format!("a token has three parts with points between, and this has {parts}"),
    }
}

fn quoted(text: &str) -> String {
    format!("{:?}", text.chars().take(QUOTED).collect::<String>())
}
