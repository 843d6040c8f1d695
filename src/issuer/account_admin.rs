//! Accounts as an operator manages them. What is done here holds from the next request on, in every process on the store.

use super::{Issuer, IssuerError};
use crate::domain::account::{AccountReport, AccountState, Email, UserId};
use crate::domain::password::Password;
use crate::store::AccountChange;

impl Issuer {
    /// The account of this name, whatever its case.
    ///
    /// # Errors
    /// [`IssuerError::NoSuchAccount`] for one that never was, or was deleted under that name.
    pub async fn account(&self, username: &str) -> Result<AccountReport, IssuerError> {
        self.store.account(username).await?.ok_or(IssuerError::NoSuchAccount)
    }

    /// Accounts in the order of their numbers, from after this one on, at most so many; deleted ones too.
    ///
    /// # Errors
    /// Whatever the store says.
    pub async fn accounts(&self, after: UserId, at_most: u32) -> Result<Vec<AccountReport>, IssuerError> {
        Ok(self.store.accounts(after, at_most).await?)
    }

    /// Gives an account this password, or a random one. Returns what its owner is to be told.
    ///
    /// # Errors
    /// As [`Issuer::account`].
    pub async fn reset_password(
        &self,
        username: &str,
        chosen: Option<Password>,
    ) -> Result<Password, IssuerError> {
        let user = self.living(username).await?;
        let password = chosen.unwrap_or_else(|| self.rng.with(Password::generate));
        let hash = self.hash(password.clone()).await?;
        self.change(user, AccountChange::SetHash { hash, instead_of: None }).await?;
        Ok(password)
    }

    /// Gives an account another e-mail address, or none.
    ///
    /// # Errors
    /// As [`Issuer::account`]; a conflict when the address is another account's.
    pub async fn set_email(&self, username: &str, email: Option<Email>) -> Result<(), IssuerError> {
        self.change(self.living(username).await?, AccountChange::SetEmail(email)).await
    }

    /// Keeps an account from signing in, until it is enabled. Tokens that are out stay valid until they expire.
    ///
    /// # Errors
    /// As [`Issuer::account`].
    pub async fn disable(&self, username: &str) -> Result<(), IssuerError> {
        self.change(self.living(username).await?, AccountChange::Disable).await
    }

    /// Lets an account sign in again.
    ///
    /// # Errors
    /// As [`Issuer::account`].
    pub async fn enable(&self, username: &str) -> Result<(), IssuerError> {
        self.change(self.living(username).await?, AccountChange::Enable).await
    }

    /// Deletes an account: what stays is its number, for `auth_logs`, and that its name is used up.
    ///
    /// # Errors
    /// As [`Issuer::account`].
    pub async fn delete(&self, username: &str) -> Result<(), IssuerError> {
        self.change(self.living(username).await?, AccountChange::Delete).await
    }

    async fn living(&self, username: &str) -> Result<UserId, IssuerError> {
        let account = self.account(username).await?;
        if account.state == AccountState::Deleted { Err(IssuerError::NoSuchAccount) } else { Ok(account.id) }
    }

    async fn change(&self, user: UserId, change: AccountChange) -> Result<(), IssuerError> {
        let changed = self.store.change_account(user, &change, self.clock.now()).await?;
        if changed { Ok(()) } else { Err(IssuerError::NoSuchAccount) }
    }
}
