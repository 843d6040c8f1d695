//! Accounts: register, sign in, and the trace that a sign-in leaves.

use std::net::IpAddr;

use super::{Issuer, IssuerError};
use crate::domain::account::{Account, Email, NewAccount, UserId, Username};
use crate::domain::password::{FreshSalt, HashCost, Password, PasswordHash, Verdict};
use crate::domain::token::{Subject, Token, TokenKind};
use crate::store::StoreError;

impl Issuer {
    /// Makes an account with a random password, which its owner is shown this once.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the name or the address was given out before.
    pub async fn register(&self, username: Username, email: Option<Email>) -> Result<Password, IssuerError> {
        let password = self.randomness.with(Password::generate);
        self.add_account(username, email, password.clone()).await?;
        Ok(password)
    }

    /// Makes an account with this password.
    ///
    /// # Errors
    /// As [`Issuer::register`].
    pub async fn add_account(
        &self,
        username: Username,
        email: Option<Email>,
        password: Password,
    ) -> Result<UserId, IssuerError> {
        let hasher = self.hasher.clone();
        let salt = self.randomness.with(FreshSalt::draw);
        let password_hash = self.workers.run(move || hasher.hash(&password, &salt)).await??;
        let account = NewAccount { username, email, password_hash };
        Ok(self.store.register(account, self.clock.now()).await?)
    }

    /// Checks a name and a password, and issues a token about that account.
    ///
    /// Takes the same time whether or not there is such an account. When this returns a token, the sign-in has been
    /// recorded.
    ///
    /// # Errors
    /// [`IssuerError::InvalidCredentials`], whatever is wrong with them; [`IssuerError::NoSuitableKey`].
    pub async fn sign_in(
        &self,
        username: &str,
        password: Password,
        from: IpAddr,
        kind: TokenKind,
    ) -> Result<Token, IssuerError> {
        let account = self.check(username, password).await?;
        let subject = Subject { name: &account.username, uid: Some(account.id) };
        let token = self.issue(subject, kind)?;
        let now = self.clock.now();
        if self.store.record_sign_in(account.id, &account.password_hash, from, now).await? {
            Ok(token)
        } else {
            Err(IssuerError::InvalidCredentials)
        }
    }

    /// Whether anybody has an account.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn has_accounts(&self) -> Result<bool, StoreError> {
        self.store.has_accounts().await
    }

    async fn check(&self, username: &str, password: Password) -> Result<Account, IssuerError> {
        let candidate = self.store.sign_in_candidate(username).await?;
        let stored = match &candidate.account {
            Some(account) => account.password_hash.clone(),
            None => PasswordHash::matching_nothing(&self.cost_for_nobody(username, &candidate.costs)),
        };
        let hasher = self.hasher.clone();
        let verdict = self.workers.run(move || hasher.verify(&password, &stored)).await?;
        if let (Verdict::Unreadable, Some(account)) = (verdict, &candidate.account) {
            tracing::warn!(user.id = %account.id, "the password hash of account {} is not Argon2", account.id);
        }
        candidate.account.filter(|_| verdict == Verdict::Match).ok_or(IssuerError::InvalidCredentials)
    }

    /// What checking the password of a name that nobody has is made to cost.
    ///
    /// Drawn from the costs that real accounts have, as often as they have them, and always the same for one name:
    /// otherwise a stopwatch would tell such names from accounts that have not signed in since the cost was changed.
    fn cost_for_nobody(&self, username: &str, costs: &[(HashCost, u64)]) -> HashCost {
        let accounts: u64 = costs.iter().map(|(_, accounts)| accounts).sum();
        let Some(mut lot) = self.keyring.lot(username).checked_rem(accounts) else {
            return self.hasher.cost();
        };
        for (cost, accounts) in costs {
            match lot.checked_sub(*accounts) {
                Some(rest) => lot = rest,
                None => return cost.clone(),
            }
        }
        self.hasher.cost()
    }
}
