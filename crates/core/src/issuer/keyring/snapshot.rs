//! The keys of a store at one moment, opened and ready to use. A snapshot never changes; the keyring swaps it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;

use super::duplicates::duplicates;
use super::inspect::{UnreadableRow, open_external, open_signing_key};
use crate::clock::Timestamp;
use crate::key::external_key::ExternalKey;
use crate::key::lifecycle::{KeyMetadata, KeyTimeline, RotationTimes};
use crate::key::seal::Sealer;
use crate::key::self_check::{SelfCheck, SelfCheckError};
use crate::key::{Kid, KidFormat, SigningKey};
use crate::store::{KeyChange, KeySnapshot, KeyVersion, SealedKey, UnloadedKeys};
use jwksd_jose::jwk::Jwk;
use jwksd_jose::jwk_set::{Entry, JwkSet, TrustedKeys};

/// The keys of a store, opened.
#[derive(Debug)]
pub(super) struct KeyringSnapshot {
    /// Nothing before the first snapshot of the store.
    version: Option<KeyVersion>,
    keys: Vec<KeyMetadata>,
    /// The published ones of `keys`. A signature must not search all that have expired.
    alive: Vec<KeyMetadata>,
    newest_signer: Option<Kid>,
    /// The published keys that have signed in open mode.
    open_mode_keys: Vec<Kid>,
    /// Published keys, oldest first.
    published: Vec<(KeyMetadata, Arc<SigningKey>)>,
    /// The rows of `published`, in case the store loses one.
    sealed: Arc<[SealedKey]>,
    expired_signer: Option<Arc<SigningKey>>,
    external: Arc<[ExternalKey]>,
    /// How many keys have ended that are not in `keys`.
    unloaded: UnloadedKeys,
    /// External keys that are keys of our own as well.
    twins: Vec<String>,
    /// External keys that do not open.
    tampered: Vec<String>,
    unreadable: Vec<UnreadableRow>,
    /// The rotation policy of the server that started last.
    policy: Option<RotationTimes>,
    /// How many keys are not published, because there are too many.
    surplus: usize,
    /// Whether there are rows that hold the same key as another one.
    has_duplicates: bool,
    /// Whether another program has added rows that open under our master key.
    has_adoptable: bool,
    /// What to publish until the first expiry, from there until the second, and so on.
    documents: Vec<Document>,
    /// How many documents are over. Only grows: an expired key stays expired when the clock goes back.
    over: AtomicUsize,
    /// Keys whose expiry was seen before this snapshot was made, whatever the clock says now.
    ended_before: Ended,
}

/// Keys that were seen to expire.
#[derive(Clone, Debug, Default)]
pub(super) struct Ended {
    pub keys: Vec<Kid>,
    external: Vec<(String, Timestamp)>,
}

/// The keys that a later state of the store publishes.
pub(super) struct LaterKeys<'a> {
    own: &'a [KeyMetadata],
    external: Vec<LaterExternalKey<'a>>,
}

struct LaterExternalKey<'a> {
    kid: &'a str,
    exp: Option<Timestamp>,
    /// Not known if its row does not open.
    jwk: Option<&'a Jwk>,
}

impl<'a> LaterKeys<'a> {
    /// As far as it is known although no row opens: `kid` and `exp` are not sealed.
    pub(super) fn sealed(stored: &'a KeySnapshot) -> Self {
        let external = stored.external.iter();
        let external = external.map(|row| LaterExternalKey { kid: &row.kid, exp: row.exp, jwk: None });
        Self { own: &stored.keys, external: external.collect() }
    }

    /// Whether an external key may stay published. One that was uploaded with another JWK or an earlier `exp` since may not.
    fn keep(&self, key: &ExternalKey) -> bool {
        self.external.iter().any(|later| {
            later.kid == key.kid()
                && later.jwk.is_none_or(|jwk| jwk == key.jwk())
                && later.exp.is_none_or(|exp| exp >= end(key))
        })
    }
}

impl KeyringSnapshot {
    /// Opens the keys of a stored snapshot, except those that were seen to expire.
    ///
    /// `twins` are external keys that are keys of our own as well. Those are not published a second time.
    pub(super) fn open(
        stored: KeySnapshot,
        sealer: &Sealer,
        now: Timestamp,
        ended_before: Ended,
        twins: Vec<String>,
    ) -> Self {
        let (signing_keys, mut unreadable) = open_all(&stored.sealed, &stored.keys, sealer);
        let (adoptable, foreign) = open_all(&stored.unmanaged, &[], sealer);
        unreadable.extend(foreign);
        unreadable.extend(stored.invalid_exp.iter().map(UnreadableRow::invalid_exp));
        let is_unreadable = |key: &KeyMetadata| unreadable.iter().any(|row| row.kid == key.kid);
        let keys: Vec<_> = stored.keys.into_iter().filter(|key| !is_unreadable(key)).collect();
        let signing_key =
            |key: &KeyMetadata| signing_keys.iter().find(|opened| opened.kid() == key.kid).cloned();
        let mut published: Vec<_> = keys
            .iter()
            .filter(|key| key.is_published(now) && !ended_before.keys.contains(&key.kid))
            .filter_map(|key| Some((*key, signing_key(key)?)))
            .collect();
        let has_duplicates = drop_duplicates(&mut published, stored.newest_signer);
        let surplus = drop_surplus(&mut published, now, stored.newest_signer);
        let expired_signer = KeyTimeline::at(&keys, now).newest_expired().and_then(signing_key);

        let (mut external, mut tampered) = (Vec::new(), Vec::new());
        for row in &stored.external {
            match open_external(row, sealer) {
                Some(key) => external.push(key),
                None => tampered.push(row.kid.clone()),
            }
        }
        external.retain(|key| !ended_before.has(key) && !twins.iter().any(|twin| twin == key.kid()));
        let is_published = |kid: &Kid| published.iter().any(|(key, _)| key.kid == *kid);
        Self {
            version: Some(stored.version),
            keys,
            alive: metadata(&published),
            newest_signer: stored.newest_signer,
            open_mode_keys: stored.open_mode_keys.into_iter().filter(is_published).collect(),
            documents: documents(&published, &external),
            sealed: stored.sealed.into_iter().filter(|row| is_published(&row.kid)).collect(),
            published,
            expired_signer,
            external: external.into(),
            unloaded: stored.unloaded,
            twins,
            tampered,
            unreadable,
            policy: stored.policy,
            surplus,
            has_duplicates,
            has_adoptable: !adoptable.is_empty(),
            over: 0.into(),
            ended_before,
        }
    }

    /// A snapshot without keys, to start with.
    pub(super) fn empty() -> Self {
        Self {
            version: None,
            keys: Vec::new(),
            alive: Vec::new(),
            newest_signer: None,
            open_mode_keys: Vec::new(),
            published: Vec::new(),
            sealed: Arc::default(),
            expired_signer: None,
            external: Arc::default(),
            unloaded: UnloadedKeys::default(),
            twins: Vec::new(),
            tampered: Vec::new(),
            unreadable: Vec::new(),
            policy: None,
            surplus: 0,
            has_duplicates: false,
            has_adoptable: false,
            documents: Vec::new(),
            over: 0.into(),
            ended_before: Ended::default(),
        }
    }

    /// The same keys without those that have ended or were withdrawn by the time of a later snapshot of the store.
    pub(super) fn without_ended(&self, later: &LaterKeys<'_>, now: Timestamp) -> Self {
        let is_still_published =
            |key: &KeyMetadata| later.own.iter().any(|later| later.kid == key.kid && later.is_published(now));
        let ended = self.ended();
        let stays = |(key, _): &&(KeyMetadata, _)| is_still_published(key) && !ended.keys.contains(&key.kid);
        let published: Vec<_> = self.published.iter().filter(stays).cloned().collect();
        let external = self.external.iter().filter(|key| later.keep(key) && !ended.has(key));
        let external: Arc<[_]> = external.cloned().collect();
        Self {
            version: self.version,
            keys: self.keys.iter().filter(|key| is_still_published(key)).copied().collect(),
            alive: metadata(&published),
            newest_signer: self.newest_signer,
            open_mode_keys: self.open_mode_keys.clone(),
            documents: documents(&published, &external),
            published,
            sealed: Arc::clone(&self.sealed),
            expired_signer: self.expired_signer.clone(),
            external,
            unloaded: self.unloaded,
            twins: self.twins.clone(),
            tampered: self.tampered.clone(),
            unreadable: self.unreadable.clone(),
            policy: self.policy,
            surplus: self.surplus,
            has_duplicates: self.has_duplicates,
            // Adopting can wait for the next complete snapshot. Under another master key it is impossible.
            has_adoptable: false,
            over: 0.into(),
            ended_before: ended,
        }
    }

    /// The same keys, none of which is published or signs.
    pub(super) fn withheld(self) -> Self {
        Self {
            // Not that of the store: nothing of it has been taken over.
            version: None,
            alive: Vec::new(),
            published: Vec::new(),
            expired_signer: None,
            external: Arc::default(),
            documents: Vec::new(),
            ..self
        }
    }

    /// The changes that store a published key again, with all that happened to it; none for a key that has ended.
    pub(super) fn insertion(&self, kid: Kid, now: Timestamp) -> Option<[KeyChange; 2]> {
        let is_alive = |key: &KeyMetadata| key.is_published(now) && !self.ended().keys.contains(&kid);
        let (key, signing_key) = self.published.iter().find(|(key, _)| key.kid == kid && is_alive(key))?;
        let row = self.sealed.iter().find(|row| row.kid == kid && row.exp == key.exp)?;
        let thumbprint = signing_key.jwk().key().thumbprint();
        let insert = KeyChange::Insert { key: *key, sealed: row.bytes.clone() };
        Some([insert, KeyChange::RecordThumbprint { kid, thumbprint }])
    }

    /// Which keys it would publish, for an older snapshot that stays in place.
    pub(super) fn present(&self, now: Timestamp) -> LaterKeys<'_> {
        let external = self.external(now);
        let external =
            external.map(|key| LaterExternalKey { kid: key.kid(), exp: key.exp(), jwk: Some(key.jwk()) });
        LaterKeys { own: &self.keys, external: external.collect() }
    }

    /// The version of the store's keys that this snapshot shows.
    pub(super) fn version(&self) -> Option<KeyVersion> {
        self.version
    }

    /// All keys that can be used.
    pub(super) fn keys(&self) -> &[KeyMetadata] {
        &self.keys
    }

    /// The newest key that has ever signed.
    pub(super) fn newest_signer(&self) -> Option<Kid> {
        self.newest_signer
    }

    /// Whether a key is published whose tokens anyone could get.
    pub(super) fn has_open_mode_keys(&self) -> bool {
        !self.open_mode_keys.is_empty()
    }

    /// Rows that are left out of everything.
    pub(super) fn unreadable(&self) -> &[UnreadableRow] {
        &self.unreadable
    }

    /// How many keys have ended that are not in memory.
    pub(super) fn unloaded(&self) -> UnloadedKeys {
        self.unloaded
    }

    /// External keys that are left out of the JWKS, because they are keys of our own as well.
    pub(super) fn twins(&self) -> &[String] {
        &self.twins
    }

    /// External keys that are left out of the JWKS, because they were changed after they were sealed.
    pub(super) fn tampered(&self) -> &[String] {
        &self.tampered
    }

    /// The rotation policy of the server that started last.
    pub(super) fn policy(&self) -> Option<RotationTimes> {
        self.policy
    }

    /// How many keys are not published, because there are too many.
    pub(super) fn surplus(&self) -> usize {
        self.surplus
    }

    /// Whether there are rows that hold the same key as another one. The rotation should end them.
    pub(super) fn has_duplicates(&self) -> bool {
        self.has_duplicates
    }

    /// The published `kid` of a key, if the JWKS has it until it ends.
    pub(super) fn published_kid(&self, kid: Kid) -> Option<&str> {
        let (_, key) = self.published.iter().find(|(key, _)| key.kid == kid)?;
        Some(key.published_kid())
    }

    /// The published keys that have their thumbprint as `kid`.
    pub(super) fn thumbprint_kids(&self) -> Vec<(Kid, String)> {
        let has_thumbprint = |key: &&Arc<SigningKey>| key.profile().kid_format == KidFormat::Thumbprint;
        let keys = self.published.iter().map(|(_, key)| key).filter(has_thumbprint);
        keys.map(|key| (key.kid(), key.published_kid().to_owned())).collect()
    }

    /// Whether there is a row that the keyring should start to manage.
    pub(super) fn has_adoptable(&self) -> bool {
        self.has_adoptable
    }

    /// Whether the newest expired key did not open. Then an older one must be read.
    pub(super) fn lacks_expired(&self, now: Timestamp) -> bool {
        self.expired_signer.is_none() && KeyTimeline::at(&self.keys, now).newest_expired().is_some()
    }

    /// What is published and which key signs, for the log.
    pub(super) fn summary(&self, now: Timestamp) -> String {
        let kids: Vec<_> = self.published.iter().map(|(key, _)| key.kid.to_string()).collect();
        let signer = self
            .timeline(now)
            .current()
            .map_or_else(|| "no key".to_owned(), |key| format!("key {}", key.kid));
        format!("published: {}; {signer} signs", kids.join(", "))
    }

    /// The keys that were seen to expire, by the latest time that was seen.
    pub(super) fn ended(&self) -> Ended {
        let over = self.over.load(Ordering::Relaxed);
        let until = self.documents.iter().take(over).map(|document| document.until).max();
        let mut ended = self.ended_before.clone();
        let own = self.published.iter().filter(|(key, _)| Some(key.exp) <= until);
        ended.keys.extend(own.map(|(key, _)| key.kid));
        let external = self.external.iter().filter(|key| Some(end(key)) <= until);
        ended.external.extend(external.map(|key| (key.kid().to_owned(), end(key))));
        ended
    }

    /// Whether a key has expired and the store does not know yet.
    pub(super) fn has_unrecorded_expiry(&self) -> bool {
        let ended = self.ended().keys;
        self.keys.iter().any(|key| key.expired_at.is_none() && ended.contains(&key.kid))
    }

    /// What verifiers get at this time.
    pub(super) fn publication(&self, now: Timestamp) -> Option<Publication> {
        let document = self.document(now)?;
        Some(Publication {
            body: document.body.clone(),
            etag: document.etag.clone(),
            fresh_for: document.until.since(now),
        })
    }

    /// The key that signs a token of this lifetime: the current one.
    ///
    /// If the current key does not live long enough, the rotation is late (the store does not answer). Then a next key
    /// signs, and without one the current key signs a shorter token.
    pub(super) fn signer(&self, now: Timestamp, ttl: Duration) -> Option<Arc<SigningKey>> {
        let until = self.document(now)?.until;
        let timeline = self.timeline(now);
        let alive = |key: &KeyMetadata| {
            // `until` does not go back with the clock, so a key that was seen to expire does not sign again.
            self.published.iter().find(|(other, _)| other.kid == key.kid && other.exp >= until)
        };
        let current = timeline.current().and_then(alive);
        let covers = |(key, _): &&(KeyMetadata, _)| key.covers(now, ttl);
        let next = || timeline.next().filter_map(alive).find(covers);
        current.filter(covers).or_else(next).or(current).map(|(_, key)| Arc::clone(key))
    }

    /// Checks each key that may sign from this snapshot, now or later, through the document of now and those that begin
    /// when a key of ours expires.
    pub(super) fn check(&self, check: SelfCheck, now: Timestamp) -> Result<(), SelfCheckError> {
        let (timeline, documents) = (self.timeline(now), self.documents_to_check(now));
        let signers: Vec<_> =
            timeline.current().into_iter().chain(timeline.next()).map(|key| key.kid).collect();
        for (metadata, key) in self.published.iter().filter(|(key, _)| signers.contains(&key.kid)) {
            let is_in = |document: &&&Document| document.until <= metadata.exp;
            let sets: Vec<_> =
                documents.iter().filter(is_in).map(|document| document.body.as_ref()).collect();
            check(&sets, key, now)?;
        }
        Ok(())
    }

    /// The document of now, and those that begin when a key of ours expires.
    fn documents_to_check(&self, now: Timestamp) -> Vec<&Document> {
        let ends: Vec<_> = self.published.iter().map(|(key, _)| key.exp).collect();
        let (mut begins_at, mut documents) = (None, Vec::new());
        // Later ones too, because they are served without another reload. Not all: external keys may make a hundred.
        for document in self.documents.iter().filter(|document| document.until > now) {
            if begins_at.is_none_or(|begin| ends.contains(&begin)) {
                documents.push(document);
            }
            begins_at = Some(document.until);
        }
        documents
    }

    /// The key that signs tokens that are made expired.
    pub(super) fn expired_signer(&self) -> Option<Arc<SigningKey>> {
        self.expired_signer.clone()
    }

    /// The `alg` values of the published keys, each once.
    pub(super) fn algorithms(&self, now: Timestamp) -> Vec<&'static str> {
        let own = self.published.iter().filter(|(key, _)| key.is_published(now)).map(|(_, key)| key.jwk());
        let mut names = Vec::new();
        for name in own.chain(self.external(now).map(ExternalKey::jwk)).filter_map(Jwk::algorithm) {
            if !names.contains(&name.name()) {
                names.push(name.name());
            }
        }
        names
    }

    /// The keys of our own that are published at this time, to verify tokens with. Not external ones, which sign for others.
    pub(super) fn trusted(&self, now: Timestamp) -> TrustedKeys {
        let until = self.document(now).map(|document| document.until);
        let own = self.published.iter().filter(|(key, _)| until.is_some_and(|until| key.exp >= until));
        let entry = |jwk: &Jwk| Entry { kid: jwk.kid().map(str::to_owned), key: Ok(jwk.clone()) };
        TrustedKeys::Set(own.map(|(_, key)| entry(key.jwk())).collect())
    }

    /// The external keys that are published at this time.
    pub(super) fn external(&self, now: Timestamp) -> impl Iterator<Item = &ExternalKey> {
        let until = self.document(now).map(|document| document.until);
        self.external.iter().filter(move |key| until.is_some_and(|until| end(key) >= until))
    }

    fn timeline(&self, now: Timestamp) -> KeyTimeline<'_> {
        KeyTimeline::at(&self.alive, now).after(self.newest_signer)
    }

    fn document(&self, now: Timestamp) -> Option<&Document> {
        let over = self.documents.iter().take_while(|document| document.until <= now).count();
        let seen = self.over.load(Ordering::Relaxed);
        // Written only when it grows: every request of every thread reads it.
        if over > seen {
            self.over.fetch_max(over, Ordering::Relaxed);
        }
        self.documents.get(over.max(seen))
    }
}

/// The JWKS as it is published for a while.
#[derive(Clone, Debug)]
pub struct Publication {
    /// A serialised JWK Set (RFC 7517 §5).
    pub body: Bytes,
    /// A strong entity tag (RFC 9110 §8.8.3) in quotes: a digest of the body.
    pub etag: Bytes,
    /// Time until a key of the set expires.
    pub fresh_for: Duration,
}

#[derive(Debug)]
struct Document {
    until: Timestamp,
    body: Bytes,
    etag: Bytes,
}

/// One document for each span between two expiries: our keys first, then external ones.
fn documents(published: &[(KeyMetadata, Arc<SigningKey>)], external: &[ExternalKey]) -> Vec<Document> {
    let mut ends: Vec<_> = published.iter().map(|(key, _)| key.exp).chain(external.iter().map(end)).collect();
    // All serialised in advance: a request only picks one, and an expiry takes effect without a timer.
    ends.sort_unstable();
    ends.dedup();
    let document = |until: Timestamp| {
        let own = published.iter().filter(|(key, _)| key.exp >= until).map(|(_, key)| key.jwk());
        let external = external.iter().filter(|key| end(key) >= until).map(ExternalKey::jwk);
        let set = JwkSet { keys: own.chain(external).collect() };
        let body = Bytes::from(serde_json::to_vec(&set).ok()?);
        let digest = digest::digest(&digest::SHA256, &body);
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(digest)).into();
        Some(Document { until, body, etag })
    };
    ends.into_iter().filter_map(document).collect()
}

/// Drops all but one of the rows that hold the same key. Returns whether there are any.
fn drop_duplicates(published: &mut Vec<(KeyMetadata, Arc<SigningKey>)>, signer: Option<Kid>) -> bool {
    let pairs: Vec<_> = published.iter().map(|(metadata, key)| (metadata, key.as_ref())).collect();
    let dropped = duplicates(&pairs, signer);
    published.retain(|(key, _)| !dropped.contains(&key.kid));
    !dropped.is_empty()
}

/// Drops the keys for which the JWKS has no room. Returns how many.
fn drop_surplus(
    published: &mut Vec<(KeyMetadata, Arc<SigningKey>)>,
    now: Timestamp,
    signer: Option<Kid>,
) -> usize {
    let (alive, before) = (metadata(published), published.len());
    let timeline = KeyTimeline::at(&alive, now).after(signer);
    published.retain(|(key, _)| timeline.publishes(key));
    before - published.len()
}

fn metadata(published: &[(KeyMetadata, Arc<SigningKey>)]) -> Vec<KeyMetadata> {
    published.iter().map(|(key, _)| *key).collect()
}

/// When the publication of an external key ends.
fn end(key: &ExternalKey) -> Timestamp {
    // Later than every expiry, so that the last document contains it.
    key.exp().unwrap_or(Timestamp::from_millis(i64::MAX))
}

impl Ended {
    fn has(&self, key: &ExternalKey) -> bool {
        // Compares `exp` too: uploaded again with a later one, the key is published again.
        self.external.iter().any(|(kid, exp)| kid == key.kid() && *exp == end(key))
    }
}

fn open_all(
    rows: &[SealedKey],
    recorded: &[KeyMetadata],
    sealer: &Sealer,
) -> (Vec<Arc<SigningKey>>, Vec<UnreadableRow>) {
    let (mut keys, mut unreadable) = (Vec::new(), Vec::new());
    for row in rows {
        match open_signing_key(row, recorded, sealer) {
            Ok(key) => keys.push(Arc::new(key)),
            Err(row) => unreadable.push(row),
        }
    }
    (keys, unreadable)
}
