//! One picture of the keys, opened and ready: what is published, who signs. It never changes; the keyring swaps it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use crate::domain::clock::Timestamp;
use crate::domain::jose::external_key::ExternalKey;
use crate::domain::jose::jwk_set::JwkSet;
use crate::domain::jose::pem;
use crate::domain::jose::private_key::PrivateKey;
use crate::domain::key::lifecycle::{KeyMetadata, KeyTimeline};
use crate::domain::key::seal::{SealContext, Sealer};
use crate::domain::key::{Kid, SigningKey};
use crate::store::{KeySnapshot, SealedKey, UploadedKey};

/// The keys of a store, opened.
#[derive(Debug)]
pub(super) struct KeyringSnapshot {
    changes: i64,
    lives: Vec<KeyMetadata>,
    /// Of those, the published ones: a signature does not look through all that have expired.
    alive: Vec<KeyMetadata>,
    newest_signer: Option<Kid>,
    /// Published keys with their lives, oldest first.
    published: Vec<(KeyMetadata, Arc<SigningKey>)>,
    expired: Option<Arc<SigningKey>>,
    /// KeyTimeline of others, published beside ours.
    uploaded: Arc<[ExternalKey]>,
    /// The names of those that do not open.
    changed_uploads: Vec<String>,
    unreadable: Vec<Unreadable>,
    /// Whether there are rows that open, but whose life nobody has recorded.
    has_adoptable: bool,
    /// What to publish from now to the first expiry, from there to the second, and so on.
    documents: Vec<Document>,
    /// How many of the documents are over. It only grows: a key that has expired stays so when the clock goes back.
    over: AtomicUsize,
    /// KeyTimeline that had been seen to expire before this picture was taken, whatever the clock says now.
    ended_before: Ended,
}

/// What has been seen to expire.
#[derive(Clone, Debug, Default)]
pub(super) struct Ended {
    pub(super) keys: Vec<Kid>,
    uploaded: Vec<(String, Timestamp)>,
}

impl KeyringSnapshot {
    /// Opens the keys of a picture, less those that have been seen to end.
    pub(super) fn open(picture: KeySnapshot, sealer: &Sealer, now: Timestamp, ended_before: Ended) -> Self {
        let (keys, mut unreadable) = open_keys(&picture.sealed, sealer);
        let (adoptable, foreign) = open_keys(&picture.unmanaged, sealer);
        unreadable.extend(foreign);
        let is_unreadable = |life: &KeyMetadata| unreadable.iter().any(|row| row.kid == life.kid);
        let lives: Vec<_> = picture.lives.into_iter().filter(|life| !is_unreadable(life)).collect();
        let key_of = |life: &KeyMetadata| keys.iter().find(|key| key.kid() == life.kid).cloned();
        let published: Vec<_> = lives
            .iter()
            .filter(|life| life.is_published(now) && !ended_before.keys.contains(&life.kid))
            .filter_map(|life| Some((*life, key_of(life)?)))
            .collect();
        let expired = KeyTimeline::at(&lives, now).newest_expired().and_then(key_of);
        let uploaded: Arc<[ExternalKey]> = picture
            .uploaded
            .iter()
            .filter_map(|row| open_uploaded(row, sealer))
            .filter(|upload| !ended_before.has(upload))
            .collect();
        let changed_uploads = picture
            .uploaded
            .iter()
            .filter(|row| open_uploaded(row, sealer).is_none())
            .map(|row| row.kid.clone())
            .collect();
        let documents = documents(&published, &uploaded);
        Self {
            uploaded,
            changed_uploads,
            changes: picture.changes,
            lives,
            alive: lives_of(&published),
            newest_signer: picture.newest_signer,
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
            alive: Vec::new(),
            newest_signer: None,
            published: Vec::new(),
            expired: None,
            uploaded: Arc::default(),
            changed_uploads: Vec::new(),
            unreadable: Vec::new(),
            has_adoptable: false,
            documents: Vec::new(),
            over: 0.into(),
            ended_before: Ended::default(),
        }
    }

    /// How many changes to the store led to this picture.
    pub(super) fn changes(&self) -> i64 {
        self.changes
    }

    /// The lives of all keys that can be used.
    pub(super) fn lives(&self) -> &[KeyMetadata] {
        &self.lives
    }

    /// Rows that stay out of everything.
    pub(super) fn unreadable(&self) -> &[Unreadable] {
        &self.unreadable
    }

    /// KeyTimeline of others that stay out of the JWKS: they were changed after they were sealed.
    pub(super) fn changed_uploads(&self) -> &[String] {
        &self.changed_uploads
    }

    /// What is published and who signs, for the log.
    pub(super) fn in_words(&self, now: Timestamp) -> String {
        let kids: Vec<_> = self.published.iter().map(|(life, _)| life.kid.to_string()).collect();
        let signer = self.keys(now).current().map_or_else(|| "none".to_owned(), |life| life.kid.to_string());
        format!("{} published, {signer} signs", kids.join(", "))
    }

    /// Whether a row is there that the keyring should take in.
    pub(super) fn has_adoptable(&self) -> bool {
        self.has_adoptable
    }

    /// Whether the key that `?expired` should sign with did not open: then an older one is to be opened.
    pub(super) fn lacks_expired(&self, now: Timestamp) -> bool {
        self.expired.is_none() && KeyTimeline::at(&self.lives, now).newest_expired().is_some()
    }

    /// The keys that have been seen to expire, by the latest clock that was seen.
    pub(super) fn ended(&self) -> Ended {
        let over = self.over.load(Ordering::Relaxed);
        let until = self.documents.iter().take(over).map(|document| document.until).max();
        let mut ended = self.ended_before.clone();
        let own = self.published.iter().filter(|(life, _)| Some(life.exp) <= until);
        ended.keys.extend(own.map(|(life, _)| life.kid));
        let others = self.uploaded.iter().filter(|upload| Some(end(upload)) <= until);
        ended.uploaded.extend(others.map(|upload| (upload.kid().to_owned(), end(upload))));
        ended
    }

    /// Whether a key has expired of which that is not recorded.
    pub(super) fn has_unrecorded_end(&self) -> bool {
        let ended = self.ended().keys;
        self.lives.iter().any(|life| life.expired_at.is_none() && ended.contains(&life.kid))
    }

    /// The same ring without the keys that a later picture shows to have ended.
    pub(super) fn without_ended(&self, later: &[KeyMetadata], now: Timestamp) -> Self {
        let goes_on =
            |life: &KeyMetadata| later.iter().any(|later| later.kid == life.kid && later.is_published(now));
        let published: Vec<_> = self.published.iter().filter(|(life, _)| goes_on(life)).cloned().collect();
        Self {
            changes: self.changes,
            lives: self.lives.iter().filter(|life| goes_on(life)).copied().collect(),
            alive: lives_of(&published),
            newest_signer: self.newest_signer,
            documents: documents(&published, &self.uploaded),
            published,
            expired: self.expired.clone(),
            uploaded: Arc::clone(&self.uploaded),
            changed_uploads: self.changed_uploads.clone(),
            unreadable: self.unreadable.clone(),
            has_adoptable: false,
            over: 0.into(),
            ended_before: self.ended(),
        }
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
    /// then a next one, and in the last resort the current one with a shorter token.
    pub(super) fn signer(&self, now: Timestamp, ttl: Duration) -> Option<Arc<SigningKey>> {
        let until = self.document(now)?.until;
        let keys = self.keys(now);
        let alive = |life: &KeyMetadata| {
            self.published.iter().find(|(key, _)| key.kid == life.kid && key.exp >= until)
        };
        let current = keys.current().and_then(alive);
        let covers = |(life, _): &&(KeyMetadata, _)| life.covers(now, ttl);
        let next = || keys.next().filter_map(alive).find(covers);
        current.filter(covers).or_else(next).or(current).map(|(_, key)| Arc::clone(key))
    }

    /// The published keys and their phases.
    fn keys(&self, now: Timestamp) -> KeyTimeline<'_> {
        KeyTimeline::at(&self.alive, now).after(self.newest_signer)
    }

    /// The newest key that has ever signed.
    pub(super) fn newest_signer(&self) -> Option<Kid> {
        self.newest_signer
    }

    /// KeyTimeline of others that are published at this moment.
    pub(super) fn uploaded(&self, now: Timestamp) -> impl Iterator<Item = &ExternalKey> {
        let until = self.document(now).map(|document| document.until);
        self.uploaded.iter().filter(move |upload| until.is_some_and(|until| end(upload) >= until))
    }

    /// The key that `?expired` signs with.
    pub(super) fn expired_signer(&self) -> Option<Arc<SigningKey>> {
        self.expired.clone()
    }

    fn document(&self, now: Timestamp) -> Option<&Document> {
        let over = self.documents.iter().take_while(|document| document.until <= now).count();
        let seen = self.over.load(Ordering::Relaxed);
        // Written only when it grows: all threads read it with every request.
        if over > seen {
            self.over.fetch_max(over, Ordering::Relaxed);
        }
        self.documents.get(over.max(seen))
    }
}

/// The JWKS as it is published for a while.
#[derive(Clone, Debug)]
pub struct Publication {
    /// A JWK Set (RFC 7517, 5), serialised.
    pub body: Bytes,
    /// A strong entity tag (RFC 9110, 8.8.3) with its quotes: a digest of the body.
    pub etag: Bytes,
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
    etag: Bytes,
}

fn documents(published: &[(KeyMetadata, Arc<SigningKey>)], uploaded: &[ExternalKey]) -> Vec<Document> {
    let mut ends: Vec<_> =
        published.iter().map(|(life, _)| life.exp).chain(uploaded.iter().map(end)).collect();
    ends.sort_unstable();
    ends.dedup();
    let document = |until: Timestamp| {
        let alive = published.iter().filter(|(life, _)| life.exp >= until);
        let own = alive.map(|(_, key)| key.jwk());
        let others = uploaded.iter().filter(|upload| end(upload) >= until);
        let set = JwkSet { keys: own.chain(others.map(ExternalKey::jwk)).collect() };
        let body = Bytes::from(serde_json::to_vec(&set).ok()?);
        let digest = digest::digest(&digest::SHA256, &body);
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest)).into();
        Some(Document { until, body, etag })
    };
    ends.into_iter().filter_map(document).collect()
}

fn lives_of(published: &[(KeyMetadata, Arc<SigningKey>)]) -> Vec<KeyMetadata> {
    published.iter().map(|(life, _)| *life).collect()
}

/// Until when a key of others is published.
fn end(upload: &ExternalKey) -> Timestamp {
    upload.exp().unwrap_or(Timestamp::from_millis(i64::MAX))
}

impl Ended {
    fn has(&self, upload: &ExternalKey) -> bool {
        self.uploaded.iter().any(|(kid, exp)| kid == upload.kid() && *exp == end(upload))
    }
}

/// Opens a key of others; whoever only wrote it into the file has not sealed it.
pub(super) fn open_uploaded(row: &UploadedKey, sealer: &Sealer) -> Option<ExternalKey> {
    let opened = sealer.open(SealContext::Uploaded(&row.kid, row.exp), &row.sealed).ok();
    opened.and_then(|jwk| ExternalKey::stored(&jwk, row.exp)).filter(|upload| upload.kid() == row.kid)
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
    let key = open_private_key(row, sealer)?;
    // The store does not record the algorithm of a key: every key uses the default one of its type.
    let algorithm = key.public().key_type().default_algorithm();
    SigningKey::new(row.kid, row.exp, key, algorithm).map_err(|error| error.to_string())
}

/// Opens a row down to its private key, or says in words why that is not possible.
pub(super) fn open_private_key(row: &SealedKey, sealer: &Sealer) -> Result<PrivateKey, String> {
    let pem =
        sealer.open(SealContext::Key(row.kid, row.exp), &row.bytes).map_err(|error| error.to_string())?;
    let pem = std::str::from_utf8(&pem).map_err(|_| "what was sealed is no text".to_owned())?;
    pem::from_pkcs1_pem(pem).map_err(|error| error.to_string())
}
