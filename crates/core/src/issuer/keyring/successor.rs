//! The master key that a rekey will move the store to, in processes that were given it beforehand.

use std::sync::Mutex;

use crate::issuer::mutex::lock;
use crate::key::seal::MasterSecret;
use crate::store::MasterKeyRecord;

/// `NEW_NOT_MY_KEY` of a server.
#[derive(Default)]
pub(super) struct Successor {
    secret: Option<MasterSecret>,
    /// The record that it did not unlock last.
    refused_by: Mutex<Option<MasterKeyRecord>>,
}

impl Successor {
    pub(super) fn new(secret: Option<MasterSecret>) -> Self {
        Self { secret, refused_by: Mutex::default() }
    }

    /// The secret, unless it is known not to unlock a store with this record.
    pub(super) fn for_record(&self, record: &MasterKeyRecord) -> Option<MasterSecret> {
        let is_refused = lock(&self.refused_by).as_ref() == Some(record);
        self.secret.clone().filter(|_| !is_refused)
    }

    /// It did not unlock a store with this record.
    pub(super) fn refuse(&self, record: MasterKeyRecord) {
        *lock(&self.refused_by) = Some(record);
    }
}
