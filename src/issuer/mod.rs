//! The use cases: publish keys, issue tokens, register accounts, sign people in, rotate.
//!
//! An `Issuer` (RFC 7519, 4.1.1) is what the program is; HTTP and the command line only translate for it.

mod account_admin;
mod accounts;
mod blocking_pool;
pub(crate) mod config;
mod external_keys;
mod key_commands;
mod keyring;
mod master_key;
mod open_mode;
mod proof;
mod rekey;
mod retention;
mod rotation;
mod snapshot;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use thiserror::Error;
use tokio::sync::OnceCell;

use crate::domain::account::UserId;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::key::{KeyError, SigningKey};
use crate::domain::password::{CredentialCache, HashError, Hasher};
use crate::domain::token::{Claims, Subject, Token, TokenKind, TokenPolicy};
use crate::store::{Store, StoreError};

pub use self::blocking_pool::{BlockingPool, Record, WorkError};
pub use self::config::{BackendChoice, KeyConfig, PasswordConfig, TokenConfig};
pub use self::external_keys::{ExternalKeyError, PublishedKey, Uploaded};
pub use self::key_commands::KeyCommandError;
pub use self::keyring::{Keyring, NotReady};
pub use self::master_key::{MasterKey, MasterKeyError, initialize, unlock};
pub use self::proof::{opened_uploads, unopened};
pub use self::rekey::{RekeyError, RekeyReport, rekey};
pub use self::retention::{Retention, Swept};
pub use self::snapshot::{Publication, Unreadable};

/// Issues tokens to accounts and publishes the keys that verify them.
#[derive(Clone)]
pub struct Issuer {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    rng: SharedRng,
    pool: BlockingPool,
    hasher: Hasher,
    credential_cache: Arc<CredentialCache>,
    /// Accounts whose hash is just being brought to today's cost: once each is enough.
    rehashing: Arc<Mutex<HashSet<UserId>>>,
    tokens: Arc<TokenPolicy>,
    keyring: Arc<Keyring>,
    unpublished_key: Arc<OnceCell<Arc<SigningKey>>>,
}

/// What the keys and the accounts of an issuer have in common.
#[derive(Clone)]
pub struct Context {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where nonces, salts, passwords and ids come from.
    pub rng: SharedRng,
    /// Where passwords are hashed.
    pub pool: BlockingPool,
}

impl Issuer {
    /// Puts an issuer together.
    #[must_use]
    pub fn new(
        context: Context,
        hasher: Hasher,
        credential_cache: CredentialCache,
        tokens: TokenPolicy,
        keyring: Keyring,
    ) -> Self {
        let Context { store, clock, rng, pool } = context;
        Self {
            store,
            clock,
            rng,
            pool,
            hasher,
            credential_cache: Arc::new(credential_cache),
            rehashing: Arc::default(),
            tokens: Arc::new(tokens),
            keyring: Arc::new(keyring),
            unpublished_key: Arc::default(),
        }
    }

    /// The same issuer, with other workers for its passwords.
    #[must_use]
    pub fn at(self, pool: BlockingPool) -> Self {
        Self { pool, ..self }
    }

    /// The issuer's URL: the `iss` claim, from which discovery derives the other URLs.
    pub(crate) fn url(&self) -> &str {
        &self.tokens.issuer
    }

    /// The keys.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// How many passwords are being checked, and how many wait for it.
    #[must_use]
    pub fn hashes(&self) -> (usize, usize) {
        self.pool.load()
    }

    /// What is published for verifiers now: nothing if no key may be.
    #[must_use]
    pub fn publication(&self) -> Option<Publication> {
        self.keyring.publication(self.clock.now())
    }

    /// Whether this issuer can do its work, and if not, why.
    ///
    /// # Errors
    /// [`NotReady`] is the reason.
    pub async fn readiness(&self) -> Result<(), NotReady> {
        self.keyring.readiness().await
    }

    fn issue(&self, subject: Subject<'_>, kind: TokenKind) -> Result<Token, IssuerError> {
        let now = self.clock.now();
        let key = self.key_for(kind, now)?;
        let claims = self.rng.with(|rng| Claims::new(&self.tokens, subject, kind, &key, now, rng));
        Ok(Token::sign(&key, &claims)?)
    }

    fn key_for(&self, kind: TokenKind, now: Timestamp) -> Result<Arc<SigningKey>, IssuerError> {
        let key = match kind {
            TokenKind::Valid => self.keyring.signer(now),
            TokenKind::Expired => self.keyring.expired_signer(),
        };
        key.ok_or(IssuerError::NoSuitableKey)
    }
}

/// Why an issuer did not do what was asked.
#[derive(Debug, Error)]
pub enum IssuerError {
    /// A hash could not be computed.
    #[error("a password could not be hashed")]
    Hash(#[from] HashError),
    /// Unknown name or wrong password; nobody is told which.
    #[error("the username or the password is wrong")]
    InvalidCredentials,
    /// A key could not do its work.
    #[error("a key failed")]
    Key(#[from] KeyError),
    /// Nobody has that name, or not any more.
    #[error("there is no account of that name")]
    NoSuchAccount,
    /// There is no key of the kind asked for.
    #[error("there is no suitable key")]
    NoSuitableKey,
    /// What an operator asked for cannot be done to these keys.
    #[error(transparent)]
    KeyCommand(#[from] KeyCommandError),
    /// The store did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No key lives long enough for such a token.
    #[error("a token may live for {} s now: it never outlives its key", most.as_secs())]
    TtlTooLong {
        /// The most that it may.
        most: Duration,
    },
    /// A key of others cannot be published, or taken back.
    #[error(transparent)]
    ExternalKey(#[from] ExternalKeyError),
    /// A slow computation was not done.
    #[error("a computation was not done")]
    Worker(#[from] WorkError),
}

/// The generator that everything random is drawn from: seeded once, shared by all.
#[derive(Clone)]
pub struct SharedRng(Arc<Mutex<StdRng>>);

impl SharedRng {
    /// Shares this generator.
    #[must_use]
    pub fn new(rng: StdRng) -> Self {
        Self(Arc::new(Mutex::new(rng)))
    }

    /// Draws from it.
    pub fn with<T>(&self, draw: impl FnOnce(&mut StdRng) -> T) -> T {
        draw(&mut lock(&self.0))
    }
}

/// A panic elsewhere has left nothing half done in what we keep behind a lock.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
