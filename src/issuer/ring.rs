//! One picture of the keys, opened and ready: what is published, who signs. It never changes; the keyring swaps it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::domain::clock::Timestamp;
use crate::domain::key::jwk::JwkSet;
use crate::domain::key::lifecycle::{KeyLife, Keys};
use crate::domain::key::seal::{Place, Sealer};
use crate::domain::key::{Kid, PrivateKey, SigningKey};
use crate::store::{KeyPicture, SealedKey};

/// The keys of a store, opened.
#[derive(Debug)]
pub(super) struct Ring {
    changes: i64,
    lives: Vec<KeyLife>,
    /// Published keys with their lives, oldest first.
    published: Vec<(KeyLife, Arc<SigningKey>)>,
    expired: Option<Arc<SigningKey>>,
    unreadable: Vec<Unreadable>,
    /// Whether there are rows that open, but whose life nobody has recorded.
    has_adoptable: bool,
    /// What to publish from now to the first expiry, from there to the second, and so on.
    documents: Vec<Document>,
    /// How many of the documents are over. It only grows: a key that has expired stays so when the clock goes back.
    over: AtomicUsize,
    /// The latest expiry that had passed before this picture was taken.
    ended_before: Timestamp,
}

impl Ring {
    /// Opens the keys of a picture. Keys that expire at `ended_before` or earlier have expired, whatever the clock says.
    pub(super) fn open(
        picture: KeyPicture,
        sealer: &Sealer,
        now: Timestamp,
        ended_before: Timestamp,
    ) -> Self {
        let (keys, mut unreadable) = open_keys(&picture.sealed, sealer);
        let (adoptable, foreign) = open_keys(&picture.strays, sealer);
        unreadable.extend(foreign);
        let is_unreadable = |life: &KeyLife| unreadable.iter().any(|row| row.kid == life.kid);
        let lives: Vec<_> = picture.lives.into_iter().filter(|life| !is_unreadable(life)).collect();
        let key_of = |life: &KeyLife| keys.iter().find(|key| key.kid() == life.kid).cloned();
        let published: Vec<_> = lives
            .iter()
            .filter(|life| life.is_published(now) && life.exp > ended_before)
            .filter_map(|life| Some((*life, key_of(life)?)))
            .collect();
        let expired = Keys::at(&lives, now).newest_expired().and_then(key_of);
        let documents = documents(&published);
        Self {
            changes: picture.changes,
            lives,
            published,
            expired,
            unreadable,
            has_adoptable: !adoptable.is_empty(),
            documents,
            over: 0.into(),
            ended_before,
        }
    }

    /// A ring without keys, to begin with.
    pub(super) fn empty() -> Self {
        Self {
            changes: -1,
            lives: Vec::new(),
            published: Vec::new(),
            expired: None,
            unreadable: Vec::new(),
            has_adoptable: false,
            documents: Vec::new(),
            over: 0.into(),
            ended_before: Timestamp::from_millis(i64::MIN),
        }
    }

    /// How many changes to the store led to this picture.
    pub(super) fn changes(&self) -> i64 {
        self.changes
    }

    /// The lives of all keys that can be used.
    pub(super) fn lives(&self) -> &[KeyLife] {
        &self.lives
    }

    /// Rows that stay out of everything.
    pub(super) fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// What is published and who signs, for the log.
    pub(super) fn in_words(&self) -> String {
        let kids: Vec<_> = self.published.iter().map(|(life, _)| life.kid.to_string()).collect();
        let signers = self.published.iter().filter(|(life, _)| life.signs_since.is_some());
        let signer = signers.map(|(life, _)| life.kid.to_string()).next_back();
        format!("{} published, {} signs", kids.join(", "), signer.as_deref().unwrap_or("none"))
    }

    /// Whether a row is there that the keyring should take in.
    pub(super) fn has_adoptable(&self) -> bool {
        self.has_adoptable
    }

    /// Whether the key that `?expired` should sign with did not open: then an older one is to be opened.
    pub(super) fn lacks_expired(&self, now: Timestamp) -> bool {
        self.expired.is_none() && Keys::at(&self.lives, now).newest_expired().is_some()
    }

    /// The latest expiry that has passed, by the latest clock that was seen.
    pub(super) fn ended(&self) -> Timestamp {
        let over = self.over.load(Ordering::Relaxed);
        self.documents
            .iter()
            .take(over)
            .map(|document| document.until)
            .fold(self.ended_before, Timestamp::max)
    }

    /// Whether a key has expired of which that is not recorded.
    pub(super) fn has_unrecorded_end(&self) -> bool {
        self.lives.iter().any(|life| life.expired_at.is_none() && life.exp <= self.ended())
    }

    /// What verifiers get at this moment.
    pub(super) fn publication(&self, now: Timestamp) -> Option<Publication> {
        let document = self.document(now)?;
        Some(Publication {
            body: document.body.clone(),
            etag: document.etag.clone(),
            fresh_for: document.until.since(now),
        })
    }

    /// The key that signs a token of this life.
    ///
    /// That is the current one. When it does not cover a whole token, the rotation is late (the store does not answer):
    /// then a published newer one, and in the last resort the current one with a shorter token.
    pub(super) fn signer(&self, now: Timestamp, ttl: Duration) -> Option<Arc<SigningKey>> {
        let until = self.document(now)?.until;
        let alive = || self.published.iter().filter(|(life, _)| life.exp >= until).rev();
        let current = Keys::at(&self.lives, now).current().map(|life| life.kid);
        let current = alive().find(|(life, _)| Some(life.kid) == current);
        let covers = |(life, _): &&(KeyLife, _)| life.covers(now, ttl);
        current
            .filter(covers)
            .or_else(|| alive().filter(|(life, _)| life.signs_since.is_none()).find(covers))
            .or(current)
            .map(|(_, key)| Arc::clone(key))
    }

    /// The key that `?expired` signs with.
    pub(super) fn expired_signer(&self) -> Option<Arc<SigningKey>> {
        self.expired.clone()
    }

    fn document(&self, now: Timestamp) -> Option<&Document> {
        let over = self.documents.iter().take_while(|document| document.until <= now).count();
        let over = self.over.fetch_max(over, Ordering::Relaxed).max(over);
        self.documents.get(over)
    }
}

/// The JWKS as it is published for a while.
#[derive(Clone, Debug)]
pub struct Publication {
    /// A JWK Set (RFC 7517, 5), serialised.
    pub body: Bytes,
    /// A strong entity tag (RFC 9110, 8.8.3) with its quotes: a digest of the body.
    pub etag: String,
    /// How long it is until a key of the set expires.
    pub fresh_for: Duration,
}

/// A row of `keys` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Which row.
    pub kid: Kid,
    /// What is wrong with it, in words.
    pub why: String,
}

#[derive(Debug)]
struct Document {
    until: Timestamp,
    body: Bytes,
    etag: String,
}

fn documents(published: &[(KeyLife, Arc<SigningKey>)]) -> Vec<Document> {
    let mut ends: Vec<_> = published.iter().map(|(life, _)| life.exp).collect();
    ends.sort_unstable();
    ends.dedup();
    let document = |until: Timestamp| {
        let alive = published.iter().filter(|(life, _)| life.exp >= until);
        let set = JwkSet { keys: alive.map(|(_, key)| key.jwk()).collect() };
        let body = Bytes::from(serde_json::to_vec(&set).ok()?);
        let digest = digest::digest(&digest::SHA256, &body);
        Some(Document { until, body, etag: format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest)) })
    };
    ends.into_iter().filter_map(document).collect()
}

fn open_keys(rows: &[SealedKey], sealer: &Sealer) -> (Vec<Arc<SigningKey>>, Vec<Unreadable>) {
    let (mut keys, mut unreadable) = (Vec::new(), Vec::new());
    for row in rows {
        match open_key(row, sealer) {
            Ok(key) => keys.push(Arc::new(key)),
            Err(why) => unreadable.push(Unreadable { kid: row.kid, why }),
        }
    }
    (keys, unreadable)
}

/// Opens a row down to its signing key, or says in words why that is not possible.
pub(super) fn open_key(row: &SealedKey, sealer: &Sealer) -> Result<SigningKey, String> {
    let pem = sealer.open(Place::Key(row.kid, row.exp), &row.bytes).map_err(|error| error.to_string())?;
    let pem = std::str::from_utf8(&pem).map_err(|_| "what was sealed is no text".to_owned())?;
    PrivateKey::from_pkcs1_pem(pem)
        .and_then(|key| SigningKey::new(row.kid, row.exp, &key))
        .map_err(|error| error.to_string())
}
