//! The seam to what is remembered: one trait, one file for each database behind it.
//!
//! Its methods are whole, atomic acts, so transactions never cross it. What is to be written is decided by the issuer,
//! from the picture that the store takes inside the same transaction.

pub(crate) mod config;
mod keys;
mod sign_ins;
mod sqlite;

use std::fmt;
use std::net::IpAddr;

use async_trait::async_trait;
use thiserror::Error;

use crate::domain::account::{Account, AccountReport, Email, NewAccount, UserId};
use crate::domain::clock::Timestamp;
use crate::domain::key::Kid;
use crate::domain::key::lifecycle::KeyMetadata;
use crate::domain::password::{HashCost, PasswordHash};

pub use self::keys::{KeyChange, KeySnapshot, MasterKeyRecord, SealedKey, UploadedKey};
pub use self::sign_ins::{Cursor, Page, SignIn, SignInFilter};
pub use self::sqlite::{
    Contents, Counts, DatabaseFile, Depth, ExclusiveLock, Inspection, InvalidDatabaseUrl, MergeOutcome,
    Probe, SqliteStore, directory_of, newest_schema, sync_directory_of,
};

/// Where keys, accounts and sign-ins are kept.
///
/// What a method has answered survives the end of the process at any point; keys and accounts a power cut as well.
#[async_trait]
pub trait Store: Send + Sync {
    /// The master key this store is sealed under, once it has one.
    async fn master_key(&self) -> Result<Option<MasterKeyRecord>, StoreError>;

    /// Gives a store without a master key this one, with the changes `decide` makes of the keys that are there already.
    /// Returns the master key the store has afterwards: another one if another process was faster.
    async fn initialize(
        &self,
        record: MasterKeyRecord,
        decide: Decide<'_>,
    ) -> Result<MasterKeyRecord, StoreError>;

    /// Takes a picture of the keys, with the sealed bytes of those that `select` names.
    async fn keys(&self, select: Select<'_>) -> Result<KeySnapshot, StoreError>;

    /// Changes the keys: takes a picture, asks `decide`, carries it out, all in one transaction.
    ///
    /// # Errors
    /// [`StoreError::MasterKeyChanged`] when the store is sealed under another master key than `expected` by now:
    /// nothing was decided or written.
    async fn change_keys(
        &self,
        expected: &MasterKeyRecord,
        select: Select<'_>,
        decide: Decide<'_>,
    ) -> Result<(), StoreError>;

    /// Moves the store to another master key: `decide` seals every row anew, `check` sees what became of them, and only
    /// if it agrees is any of it kept.
    ///
    /// # Errors
    /// As [`Store::change_keys`]; [`StoreError::Refused`] when `check` does not agree.
    async fn replace_master_key(
        &self,
        expected: &MasterKeyRecord,
        new: &MasterKeyRecord,
        decide: Decide<'_>,
        check: Check<'_>,
    ) -> Result<(), StoreError>;

    /// The number of changes to the keys so far; cheap, and untouched by registrations and sign-ins.
    async fn key_changes(&self) -> Result<i64, StoreError>;

    /// Makes an account.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when its name or its address was given out before.
    async fn register(&self, account: NewAccount, now: Timestamp) -> Result<UserId, StoreError>;

    /// The account that signs in by this name, if there is one, and what hashes cost in this store.
    async fn sign_in_candidate(&self, username: &str) -> Result<SignInCandidate, StoreError>;

    /// The account that signs in by this name, as an operator sees it.
    async fn account(&self, username: &str) -> Result<Option<AccountReport>, StoreError>;

    /// Accounts in the order of their numbers, from after this one on, at most so many.
    async fn accounts(&self, after: UserId, at_most: u32) -> Result<Vec<AccountReport>, StoreError>;

    /// Changes an account. Returns whether there was one to change: not deleted, and with the hash that was expected.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a new address is another account's.
    async fn change_account(
        &self,
        user: UserId,
        change: &AccountChange,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// Leaves the trace of a sign-in, in `auth_logs` and `last_login`, provided that the account may still sign
    /// in and has the hash that was checked. Returns whether that was so.
    async fn record_sign_in(
        &self,
        user: UserId,
        checked: &PasswordHash,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<bool, StoreError>;

    /// A page of `auth_logs`, at most so many rows.
    async fn sign_ins(
        &self,
        filter: &SignInFilter,
        page: &Page,
        at_most: u32,
    ) -> Result<Vec<SignIn>, StoreError>;

    /// Where the last so many rows of `auth_logs` begin, not counting those with a number above `up_to`; nothing if they
    /// begin with the first.
    async fn before_last_sign_ins(
        &self,
        filter: &SignInFilter,
        count: u32,
        up_to: i64,
    ) -> Result<Option<Cursor>, StoreError>;

    /// The greatest number in `auth_logs`; later rows have greater ones.
    async fn newest_sign_in(&self) -> Result<i64, StoreError>;

    /// Removes rows of `auth_logs` from before this time, at most so many. Returns how many.
    async fn delete_sign_ins_before(&self, before: Timestamp, at_most: u32) -> Result<u64, StoreError>;

    /// Writes back what is in flight and closes; the store answers nothing afterwards.
    async fn close(&self);
}

/// Names the keys whose sealed bytes are wanted.
pub type Select<'a> = &'a (dyn Fn(&[KeyMetadata]) -> Vec<Kid> + Send + Sync);

/// Decides what to change, from a picture taken inside the transaction. Refusing leaves the store as it was.
pub type Decide<'a> = &'a mut (dyn FnMut(&KeySnapshot) -> Result<Vec<KeyChange>, Refusal> + Send);

/// Looks at what a transaction is about to leave behind. Refusing leaves the store as it was.
pub type Check<'a> = &'a (dyn Fn(&KeySnapshot) -> Result<(), Refusal> + Send + Sync);

/// Why a decision was not made; the decider knows more.
#[derive(Clone, Copy, Debug)]
pub struct Refusal;

/// What is needed to check somebody's password, whether or not they have an account.
#[derive(Debug)]
pub struct SignInCandidate {
    /// The account of that name, if it may sign in.
    pub account: Option<Account>,
    /// The costs that the hashes in the store have.
    pub costs: Vec<HashCost>,
}

/// One change to an account.
#[derive(Debug)]
pub enum AccountChange {
    /// Leave nothing of it but its number; its name is used up.
    Delete,
    /// It may not sign in until it is enabled.
    Disable,
    /// It may sign in again.
    Enable,
    /// Another address, or none.
    SetEmail(Option<Email>),
    /// Another password.
    SetHash {
        /// What it is checked against from now on.
        hash: PasswordHash,
        /// What it must have been checked against until now; anything, if nothing is said.
        instead_of: Option<PasswordHash>,
    },
}

/// What must be unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unique {
    /// An e-mail address.
    Email,
    /// A name, also one whose account is gone.
    Username,
}

impl fmt::Display for Unique {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Email => "email",
            Self::Username => "username",
        })
    }
}

/// Why the store did not do what was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Several accounts have that name, in another spelling each.
    #[error("there are {0:?} and {1:?}: spell it as one of them")]
    Ambiguous(String, String),
    /// Something that must be unique was given out before.
    #[error("the {0} is taken")]
    Conflict(Unique),
    /// The data are not what a store of ours holds.
    #[error("{0}")]
    Corrupt(String),
    /// Another process has it open.
    #[error("another process has it open")]
    InUse,
    /// The file that was opened has lost its name: it was removed, or a restore has put another one in its place.
    #[error("the file that was opened is gone, or another has taken its place: put it back, or start again")]
    Replaced,
    /// The store is sealed under another master key than this process holds.
    #[error("the master key of the store has changed: restart with the new NOT_MY_KEY")]
    MasterKeyChanged,
    /// The decider refused.
    #[error("the change was not decided")]
    Refused,
    /// It cannot answer now: locked, full, unreadable.
    #[error("the store does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}
