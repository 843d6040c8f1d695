//! What an operator can do to accounts. Each change takes effect with the next request, in every process on the store.

use super::accounts::Accounts;
use super::error::IssuerError;
use super::fair_queue::Requester;
use crate::account::{AccountReport, AccountState, Email, UserId};
use crate::password::Password;
use crate::store::AccountChange;

impl Accounts {
    /// The account of this name, regardless of case.
    ///
    /// # Errors
    /// [`IssuerError::NoSuchAccount`] for a name that was never registered, or whose account is deleted.
    pub async fn find(&self, username: &str) -> Result<AccountReport, IssuerError> {
        self.context.store.account(username).await?.ok_or(IssuerError::NoSuchAccount)
    }

    /// At most `at_most` accounts with numbers above `after`, in the order of their numbers, including deleted ones.
    ///
    /// # Errors
    /// [`IssuerError::Store`] when the store fails.
    pub async fn list(&self, after: UserId, at_most: u32) -> Result<Vec<AccountReport>, IssuerError> {
        Ok(self.context.store.accounts(after, at_most).await?)
    }

    /// Sets this password, or a random one. Returns it for its owner.
    ///
    /// # Errors
    /// As [`Accounts::find`].
    pub async fn reset_password(
        &self,
        username: &str,
        chosen: Option<Password>,
    ) -> Result<Password, IssuerError> {
        let user = self.existing(username).await?;
        let password = chosen.unwrap_or_else(|| self.context.rng.with(Password::generate));
        let hash = self.hash(password.clone(), Requester::Operator).await?;
        // Unconditional: the reset wins over a rehash of the old password that runs at the same time.
        self.change(user, AccountChange::SetHash { hash, instead_of: None }).await?;
        Ok(password)
    }

    /// Sets another e-mail address, or none.
    ///
    /// # Errors
    /// As [`Accounts::find`]; a conflict when the address is that of another account.
    pub async fn set_email(&self, username: &str, email: Option<Email>) -> Result<(), IssuerError> {
        self.change(self.existing(username).await?, AccountChange::SetEmail(email)).await
    }

    /// Keeps an account from signing in until it is enabled. Its issued tokens stay valid until they expire.
    ///
    /// # Errors
    /// As [`Accounts::find`].
    pub async fn disable(&self, username: &str) -> Result<(), IssuerError> {
        self.change(self.existing(username).await?, AccountChange::Disable).await
    }

    /// Ends the tokens that an account has until now, for services that ask /verify or /introspect.
    ///
    /// # Errors
    /// As [`Accounts::find`].
    pub async fn sign_out(&self, username: &str) -> Result<(), IssuerError> {
        self.change(self.existing(username).await?, AccountChange::SignOut).await
    }

    /// Lets an account sign in again.
    ///
    /// # Errors
    /// As [`Accounts::find`].
    pub async fn enable(&self, username: &str) -> Result<(), IssuerError> {
        self.change(self.existing(username).await?, AccountChange::Enable).await
    }

    /// Deletes an account. Its number stays, for `auth_logs`, and its name is never given out again.
    ///
    /// # Errors
    /// As [`Accounts::find`].
    pub async fn delete(&self, username: &str) -> Result<(), IssuerError> {
        self.change(self.existing(username).await?, AccountChange::Delete).await
    }

    async fn existing(&self, username: &str) -> Result<UserId, IssuerError> {
        let account = self.find(username).await?;
        if account.state == AccountState::Deleted { Err(IssuerError::NoSuchAccount) } else { Ok(account.id) }
    }

    async fn change(&self, user: UserId, change: AccountChange) -> Result<(), IssuerError> {
        let changed = self.context.store.change_account(user, &change, self.context.clock.now()).await?;
        if changed { Ok(()) } else { Err(IssuerError::NoSuchAccount) }
    }
}
