//! The seam to everything that is stored: one trait, and one crate for each database behind it.
//!
//! Data goes in and data comes out. Each method is one atomic act, so transactions never cross the seam. The issuer
//! decides what to write from a snapshot, and [`Store::apply`] refuses if the keys have changed since.

mod accounts;
mod error;
mod keys;
mod serving_mode;
mod sign_in_batcher;
mod sign_ins;
pub mod transfer;

use std::time::Duration;

use async_trait::async_trait;

use crate::account::{AccountReport, NewAccount, TokenHolder, UserId};
use crate::client::ClientKey;
use crate::clock::Timestamp;
use crate::key::Kid;

pub use self::accounts::{AccountChange, SignInCandidate};
pub use self::error::{NotWritable, StoreError, Unique};
pub use self::keys::{
    Applied, InvalidExpKey, KeyChange, KeySnapshot, KeyVersion, KnownKey, MAX_DELETABLE, MAX_DELETED_NEXT,
    MasterKeyRecord, Pulse, SealedExternalKey, SealedKey, SealedRows, UnloadedKeys,
};
pub use self::serving_mode::ServingMode;
pub use self::sign_in_batcher::SignInBatcher;
pub use self::sign_ins::{Cursor, NewSignIn, Page, SignIn, SignInFilter, SignInOutcome};

/// Where keys, accounts and sign-ins are kept.
///
/// What a method has answered survives the end of the process at any point. Keys and accounts also survive a power cut.
#[async_trait]
pub trait Store: Send + Sync {
    /// A snapshot of the keys, with the sealed rows that `sealed` asks for.
    async fn keys(&self, sealed: &SealedRows) -> Result<KeySnapshot, StoreError>;

    /// What the store knows about the public keys with these thumbprints (RFC 7638). Nothing for an unknown one.
    async fn known_keys(&self, thumbprints: &[String]) -> Result<Vec<KnownKey>, StoreError>;

    /// The keys that are published under their thumbprints, with those.
    async fn thumbprint_kids(&self) -> Result<Vec<(Kid, String)>, StoreError>;

    /// The version of the keys, and the store's own time. Cheap enough to be asked several times a second.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] also when the store can only be read: it may be behind one that can be written.
    async fn pulse(&self) -> Result<Pulse, StoreError>;

    /// The version of the keys.
    async fn key_version(&self) -> Result<KeyVersion, StoreError> {
        self.pulse().await.map(|pulse| pulse.version)
    }

    /// Whether requests may be worth their work: an error if the latest [`pulse`](Self::pulse) failed, at once and without asking.
    fn expect_reachable(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Writes all these changes in one short transaction, if the keys still have this version.
    ///
    /// [`Applied::Conflict`] otherwise, and when the write lock took longer than half a second.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a change names a row that is missing. Then nothing is written.
    async fn apply(&self, version: KeyVersion, changes: Vec<KeyChange>) -> Result<Applied, StoreError>;

    /// The mode that the store was last served in.
    async fn serving_mode(&self) -> Result<Option<ServingMode>, StoreError>;

    /// Records the mode that the store is served in, unless one is recorded. Returns the recorded one.
    async fn record_serving_mode(&self, mode: ServingMode) -> Result<Option<ServingMode>, StoreError>;

    /// Remembers that a key signs in open mode.
    async fn record_open_mode_key(&self, kid: Kid) -> Result<(), StoreError>;

    /// Whether any account could sign in.
    async fn has_accounts(&self) -> Result<bool, StoreError>;

    /// Creates an account.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when its name or its address is taken.
    async fn register(&self, account: NewAccount, now: Timestamp) -> Result<UserId, StoreError>;

    /// The account that signs in by this name, if there is one, and the costs of all hashes in the store.
    async fn sign_in_candidate(&self, username: &str) -> Result<SignInCandidate, StoreError>;

    /// The account with this number, as a token about it needs it. One look-up by the number.
    async fn token_holder(&self, user: UserId) -> Result<Option<TokenHolder>, StoreError>;

    /// The account of this name, as an operator sees it.
    async fn account(&self, username: &str) -> Result<Option<AccountReport>, StoreError>;

    /// At most `at_most` accounts with numbers above `after`, in the order of their numbers.
    async fn accounts(&self, after: UserId, at_most: u32) -> Result<Vec<AccountReport>, StoreError>;

    /// How many accounts have a hash that no password matches, such as those of another program's algorithm. Reads all
    /// accounts. Deleted ones do not count.
    async fn unusable_hashes(&self) -> Result<u64, StoreError>;

    /// Changes an account. Returns false if it is deleted. A change that relies on a hash also returns false if the account
    /// has another one, or is disabled.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a new address is that of another account.
    async fn change_account(
        &self,
        user: UserId,
        change: &AccountChange,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Records a sign-in in `auth_logs` and `last_login`, if the account may still sign in by the hash that was checked
    /// and the key that signed the token has not ended.
    async fn record_sign_in(&self, sign_in: NewSignIn) -> Result<SignInOutcome, StoreError>;

    /// Whether `auth_logs` has a sign-in of this client to this account since then. Takes as long for an account that does
    /// not exist, and hardly longer with many sign-ins.
    async fn has_signed_in(
        &self,
        user: UserId,
        client: ClientKey,
        since: Timestamp,
    ) -> Result<bool, StoreError>;

    /// At most `at_most` rows of one page of `auth_logs`.
    async fn sign_ins(
        &self,
        filter: &SignInFilter,
        page: &Page,
        at_most: u32,
    ) -> Result<Vec<SignIn>, StoreError>;

    /// The cursor before the last `count` rows of `auth_logs` that have numbers up to `up_to`. Nothing if there are not
    /// more rows than that.
    async fn before_last_sign_ins(
        &self,
        filter: &SignInFilter,
        count: u32,
        up_to: i64,
    ) -> Result<Option<Cursor>, StoreError>;

    /// The greatest row number in `auth_logs`. Rows that appear more than [`sign_in_delay`](Self::sign_in_delay) later have greater
    /// ones.
    async fn newest_sign_in(&self) -> Result<i64, StoreError>;

    /// How long after a sign-in got its number it may appear.
    fn sign_in_delay(&self) -> Duration {
        Duration::ZERO
    }

    /// Deletes at most `at_most` rows of `auth_logs` from before this time. Returns how many.
    async fn delete_sign_ins_before(&self, before: Timestamp, at_most: u32) -> Result<u64, StoreError>;

    /// Whether the store can be written now. Writes as little as possible, and changes nothing.
    ///
    /// # Errors
    /// [`NotWritable`] is the reason.
    async fn probe_write(&self) -> Result<(), NotWritable>;

    /// Finishes what is in flight and closes. Later calls fail.
    async fn close(&self);
}
