//! The JWK Set or JWK that an administrator uploads: which of its keys are published, and which are skipped.

use serde_json::Value;
use thiserror::Error;

use super::external_key::{EXTERNAL_KEYS_MAX, ExternalKey, InvalidExternalKey};
use jwksd_jose::algorithm::Algorithm;
use jwksd_jose::invalid_jwk::{InvalidJwk, KID_MAX};
use jwksd_jose::json::{InvalidJson, SecretJson};
use jwksd_jose::jwk::Jwk;
use jwksd_jose::jwk_set::SkippedKey;
use jwksd_jose::members::{PRIVATE_MEMBERS, check_purpose};

/// Maximum number of keys in one upload. Above [`EXTERNAL_KEYS_MAX`], because a fetched set may contain our own keys too.
const UPLOAD_MAX: usize = 2 * EXTERNAL_KEYS_MAX;

/// The keys of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadedSet {
    /// The keys to publish. At least one.
    pub keys: Vec<ExternalKey>,
    /// The keys of the set that are not signing keys that we know.
    pub skipped: Vec<SkippedKey>,
}

impl UploadedSet {
    /// Reads a JWK Set or one JWK. Keys of a set that are for another purpose, or of an unknown type, are skipped (RFC 7517
    /// §5). One invalid signing key rejects all of them.
    ///
    /// # Errors
    /// [`InvalidUpload`]. Errors never contain private parameters.
    pub fn parse(text: &[u8]) -> Result<Self, InvalidUpload> {
        // The text may contain a private key by mistake.
        let json = SecretJson::parse(text)?;
        let value = json.reveal();
        let keys: &[Value] = match value.get("keys") {
            Some(Value::Array(keys)) => keys,
            Some(_) => return Err(InvalidUpload::NotArray),
            None if value.get("kty").is_some() => {
                let key = ExternalKey::parse(value).map_err(|why| InvalidUpload::Key { number: 1, why })?;
                return Ok(Self { keys: vec![key], skipped: Vec::new() });
            }
            None => return Err(InvalidUpload::NotSet),
        };
        // Accepting it would report success although nothing was published.
        if keys.is_empty() {
            return Err(InvalidUpload::Empty);
        }
        if keys.len() > UPLOAD_MAX {
            return Err(InvalidUpload::TooMany);
        }
        Self::parse_set(keys)
    }

    fn parse_set(values: &[Value]) -> Result<Self, InvalidUpload> {
        let mut upload = Self { keys: Vec::with_capacity(values.len()), skipped: Vec::new() };
        for (number, value) in (1..).zip(values) {
            if let Some(why) = reason_to_skip(value) {
                let kid = value.get("kid").and_then(Value::as_str).map(quoted);
                upload.skipped.push(SkippedKey { number, kid, why });
                continue;
            }
            let key = ExternalKey::parse(value).map_err(|why| InvalidUpload::Key { number, why })?;
            // A linear search is fast enough: there are at most UPLOAD_MAX keys.
            if upload.keys.iter().any(|earlier| earlier.kid() == key.kid()) {
                return Err(InvalidUpload::Twice(key.kid().to_owned()));
            }
            upload.keys.push(key);
        }
        match upload.skipped.first() {
            Some(SkippedKey { number, why, .. }) if upload.keys.is_empty() => {
                Err(InvalidUpload::AllSkipped { number: *number, why: why.clone() })
            }
            _ => Ok(upload),
        }
    }
}

/// Why a key is not a signing key that we know. `None` for every other key, also for an invalid one.
fn reason_to_skip(value: &Value) -> Option<InvalidJwk> {
    let members = value.as_object()?;
    // A secret in a public set is a mistake, whatever the key is for.
    if PRIVATE_MEMBERS.iter().any(|name| members.contains_key(*name)) {
        return None;
    }
    let is_for_signatures = |name: &Value| name == "sign" || name == "verify";
    let operations = members.get("key_ops").and_then(Value::as_array);
    // The purpose comes first, because a key for encryption may have any size.
    match check_purpose(members, "verify").err() {
        Some(why @ InvalidJwk::Use(_)) => return Some(why),
        Some(why @ InvalidJwk::KeyOps(_)) => {
            return operations.filter(|names| !names.iter().any(is_for_signatures)).map(|_| why);
        }
        _ => {}
    }
    let alg = members.get("alg").and_then(Value::as_str).unwrap_or_default();
    match Jwk::parse(value).err()? {
        why @ (InvalidJwk::KeyType(_) | InvalidJwk::Curve { .. }) => Some(why),
        // RSA-OAEP, for example. With `use`, it is a contradiction.
        why @ InvalidJwk::Algorithm { .. } => (!is_known(alg) && !members.contains_key("use")).then_some(why),
        _ => None,
    }
}

/// `none` and HMAC too: with a public key they are an attack (RFC 8725 §2.1), and no other purpose.
fn is_known(alg: &str) -> bool {
    let attacks = ["none", "HS256", "HS384", "HS512"];
    Algorithm::from_name(alg).is_some() || attacks.iter().any(|name| name.eq_ignore_ascii_case(alg))
}

/// Shortens an untrusted `kid`.
fn quoted(kid: &str) -> String {
    kid.chars().take(KID_MAX).collect()
}

/// Why an upload is rejected.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidUpload {
    /// One of its keys is invalid.
    #[error("key {number}: {why}")]
    Key {
        /// The position of the key, starting at 1.
        number: usize,
        /// Why the key is invalid.
        why: InvalidExternalKey,
    },
    /// A set of which every key was skipped.
    #[error("the set has no signing key that can be published; key {number}: {why}")]
    AllSkipped {
        /// The position of its first key, starting at 1.
        number: usize,
        /// Why this key was skipped.
        why: InvalidJwk,
    },
    /// An empty set.
    #[error("the set has no keys")]
    Empty,
    /// `keys` is not an array.
    #[error("`keys` is not an array")]
    NotArray,
    /// Neither a JWK Set nor a JWK.
    #[error("neither a JWK Set nor a JWK")]
    NotSet,
    /// Not strict JSON.
    #[error(transparent)]
    InvalidJson(#[from] InvalidJson),
    /// Too many keys in one upload.
    #[error("the set has more than {UPLOAD_MAX} keys")]
    TooMany,
    /// Two keys with one `kid`.
    #[error("two keys have the kid {0:?}")]
    Twice(String),
}
