//! Changing one's own password.

use std::time::Duration;

use super::accounts::Accounts;
use super::blocking_pool::WorkError;
use super::error::IssuerError;
use super::fair_queue::Requester;
use crate::client::ClientKey;
use crate::password::{ChosenPassword, Password};
use crate::store::AccountChange;

/// How often the old password is checked again because its hash was replaced meanwhile.
const ATTEMPTS: usize = 5;

impl Accounts {
    /// Replaces a password by the chosen one, or by a random one, which is returned for its owner. Issued tokens stay valid.
    ///
    /// Refuses in the same time as a sign-in does, whether or not the account exists.
    ///
    /// # Errors
    /// [`IssuerError::InvalidChoice`] before anything is checked; [`IssuerError::InvalidCredentials`], whatever is wrong with
    /// them.
    pub async fn change_password(
        &self,
        username: &str,
        old: &Password,
        chosen: Option<&Password>,
        client: ClientKey,
    ) -> Result<Option<Password>, IssuerError> {
        // First, because it says nothing of the account and costs no hash.
        let chosen = chosen.map(|new| ChosenPassword::parse(new, username)?.instead_of(old)).transpose()?;
        let chosen = chosen.map(ChosenPassword::into_password);
        for _ in 0..ATTEMPTS {
            let account = self.verify(username, old, client).await?;
            let new = chosen.clone().unwrap_or_else(|| self.context.rng.with(Password::generate));
            let hash = self.hash(new.clone(), Requester::Known(client)).await?;
            // Of two changes at the same time, one finds another hash. Its old password is then wrong.
            let change = AccountChange::SetHash { hash, instead_of: Some(account.password_hash) };
            if self.context.store.change_account(account.id, &change, self.context.clock.now()).await? {
                return Ok(chosen.is_none().then_some(new));
            }
        }
        // The old password was right each time: two processes with different settings keep rehashing it.
        Err(WorkError::Busy { retry_after: Duration::ZERO }.into())
    }
}
