//! JWK Sets (RFC 7517 §5): the set we publish, and the sets of issuers whose tokens we verify.

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use super::invalid_jwk::InvalidJwk;
use super::jwk::Jwk;

/// A JWK Set to publish.
#[derive(Debug, Serialize)]
pub struct JwkSet<'a> {
    /// The keys, in the order verifiers see them.
    pub keys: Vec<&'a Jwk>,
}

/// The keys that a verifier trusts.
#[derive(Clone, Debug)]
pub enum TrustedKeys {
    /// One key chosen by the caller. Tokens may omit `kid`.
    One(Box<Jwk>),
    /// A published set. Tokens name their key by `kid`.
    Set(Vec<Entry>),
}

/// A key of a set. Unusable keys are kept: they are an error only for a token that names one of them.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The `kid` of the key.
    pub kid: Option<String>,
    /// The key, or why it cannot verify signatures.
    pub key: Result<Jwk, InvalidJwk>,
}

impl TrustedKeys {
    /// Reads a JWK Set, or a single public JWK.
    ///
    /// # Errors
    /// [`InvalidSet`] for anything else. Unusable keys of a set are not an error.
    pub fn parse(value: &Value) -> Result<Self, InvalidSet> {
        match value.get("keys") {
            // RFC 7517 §5: verifiers should ignore keys that they do not understand.
            Some(Value::Array(keys)) => Ok(Self::Set(keys.iter().map(Entry::parse).collect())),
            Some(_) => Err(InvalidSet::NotArray),
            None if value.get("kty").is_some() => Ok(Self::One(Box::new(Jwk::parse(value)?))),
            None => Err(InvalidSet::NotSet),
        }
    }
}

impl TrustedKeys {
    /// The keys of the set that cannot verify signatures.
    #[must_use]
    pub fn skipped(&self) -> Vec<SkippedKey> {
        let Self::Set(entries) = self else {
            return Vec::new();
        };
        let skipped = (1..).zip(entries).filter_map(|(number, entry)| {
            Some(SkippedKey { number, kid: entry.kid.clone(), why: entry.key.as_ref().err()?.clone() })
        });
        skipped.collect()
    }
}

/// A key of a set that is not used. It does not spoil the other keys (RFC 7517 §5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedKey {
    /// The position of the key, starting at 1.
    pub number: usize,
    /// The `kid`, if present.
    pub kid: Option<String>,
    /// Why the key was skipped.
    pub why: InvalidJwk,
}

/// One sentence for each skipped key, up to a limit.
#[must_use]
pub fn notes(skipped: &[SkippedKey]) -> Vec<String> {
    let mut notes: Vec<_> = skipped.iter().take(NOTES_MAX).map(SkippedKey::note).collect();
    if let Some(more) = skipped.len().checked_sub(NOTES_MAX).filter(|more| *more > 0) {
        notes.push(format!("{more} more keys of the set were skipped"));
    }
    notes
}

/// Maximum number of notes. The set may be untrusted, and one of 1 MiB can have 200,000 invalid keys.
const NOTES_MAX: usize = 20;

/// Maximum number of characters of a `kid` in a note.
const KID_SHOWN: usize = 80;

impl SkippedKey {
    fn note(&self) -> String {
        let kid: Option<String> = self.kid.as_ref().map(|kid| kid.chars().take(KID_SHOWN).collect());
        let kid = kid.map(|kid| format!(" ({kid:?})")).unwrap_or_default();
        format!("key {} of the set{kid} was skipped: {}", self.number, self.why)
    }
}

impl Entry {
    fn parse(value: &Value) -> Self {
        // Read separately, so that the error for a token can say why the key it names is unusable.
        let kid = value.get("kid").and_then(Value::as_str).map(str::to_owned);
        Self { kid, key: Jwk::parse(value) }
    }
}

/// Why a text is neither a JWK Set nor a public JWK.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidSet {
    /// A single JWK that cannot be used.
    #[error(transparent)]
    Key(#[from] InvalidJwk),
    /// `keys` is not an array.
    #[error("\"keys\" is not an array")]
    NotArray,
    /// Neither a JWK Set nor a JWK.
    #[error("this is not a JWK Set: it has no \"keys\"")]
    NotSet,
}
