//! Accounts: register, sign in, and the trace that a sign-in leaves.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{Issuer, IssuerError, WorkError, lock};
use crate::domain::account::{Account, Email, NewAccount, UserId, Username};
use crate::domain::password::{HashCost, HashError, Hasher, Password, PasswordHash, Salt, VerifyOutcome};
use crate::domain::token::{Subject, Token, TokenKind};
use crate::store::{AccountChange, SignInCandidate};

/// How often a password is checked anew because the hash it was checked against has changed meanwhile: another sign-in
/// has brought it to today's cost, or it was reset.
const ATTEMPTS: usize = 5;

impl Issuer {
    /// Makes an account with a random password, which its owner is shown this once.
    ///
    /// # Errors
    /// [`StoreError::Conflict`](crate::store::StoreError::Conflict) when the name or the address was given out before.
    pub async fn register(&self, username: Username, email: Option<Email>) -> Result<Password, IssuerError> {
        let password = self.rng.with(Password::generate);
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
        let password_hash = self.hash(password).await?;
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
        for _ in 0..ATTEMPTS {
            let account = self.check(username, password.clone()).await?;
            let subject = Subject { name: &account.username, uid: Some(account.id) };
            let token = self.issue(subject, kind)?;
            let now = self.clock.now();
            if self.store.record_sign_in(account.id, &account.password_hash, from, now).await? {
                self.hash_anew(account, password);
                return Ok(token);
            }
        }
        // The password was right each time; two processes with other settings each undo what the other has done.
        Err(WorkError::Busy { retry_after: Duration::ZERO }.into())
    }

    /// Brings an old hash to today's cost, after the answer. It is no failure if that does not come about: the next
    /// sign-in tries again.
    fn hash_anew(&self, account: Account, password: Password) {
        if account.password_hash.has_cost(&self.hasher.cost()) {
            return;
        }
        let (issuer, id) = (self.clone(), account.id);
        let Some(turn) = Turn::take(&self.rehashing, id) else {
            return;
        };
        tokio::spawn(async move {
            let _turn = turn;
            match issuer.replace_hash(account, password).await {
                Ok(()) => {
                    tracing::debug!(user.id = %id, "the password of account {id} is hashed at today's cost");
                }
                Err(error) => {
                    tracing::debug!(user.id = %id, %error, "the password of account {id} keeps its old hash");
                }
            }
        });
    }

    async fn replace_hash(&self, account: Account, password: Password) -> Result<(), IssuerError> {
        let hash = self.hash(password).await?;
        let change = AccountChange::SetHash { hash, instead_of: Some(account.password_hash) };
        self.store.change_account(account.id, &change, self.clock.now()).await?;
        Ok(())
    }

    pub(super) async fn hash(&self, password: Password) -> Result<PasswordHash, IssuerError> {
        let hasher = self.hasher.clone();
        let salt = self.rng.with(Salt::generate);
        Ok(self.pool.run(move || hasher.hash(&password, &salt)).await??)
    }

    /// A refusal costs one hash of each cost that the store holds, whoever is asked for and whatever their hash is:
    /// otherwise a stopwatch would tell the names that have accounts from those that have none.
    async fn check(&self, username: &str, password: Password) -> Result<Account, IssuerError> {
        let SignInCandidate { account, costs } = self.store.sign_in_candidate(username).await?;
        let stored = account.as_ref().map(|account| account.password_hash.clone());
        let account = match (self.is_cached(account.as_ref(), &password), account) {
            (true, Some(account)) => return Ok(account),
            (_, account) => account,
        };
        let costs = if costs.is_empty() { vec![self.hasher.cost()] } else { costs };
        let (hasher, checked) = (self.hasher.clone(), password.clone());
        let verdict = self.pool.run(move || verdict(&hasher, &checked, stored.as_ref(), &costs)).await?;
        match (account, verdict) {
            (Some(account), VerifyOutcome::Match) => {
                self.credential_cache.insert(&password, &account.password_hash, self.clock.monotonic());
                Ok(account)
            }
            (Some(account), VerifyOutcome::Unreadable) => {
                tracing::debug!(user.id = %account.id, "the password hash of account {} is none that can be checked", account.id);
                Err(IssuerError::InvalidCredentials)
            }
            (_, VerifyOutcome::NotComputed) => Err(HashError.into()),
            _ => Err(IssuerError::InvalidCredentials),
        }
    }

    /// Whether this password has lately been verified for this account; nobody's is looked for in the same way.
    fn is_cached(&self, account: Option<&Account>, password: &Password) -> bool {
        let nobody = PasswordHash::dummy(&self.hasher.cost());
        let hash = account.map_or(&nobody, |account| &account.password_hash);
        self.credential_cache.contains(password, hash, self.clock.monotonic())
    }
}

/// Checks one hash of each cost, always in the same order: the stored one where its cost comes, and for every other cost
/// one that nothing matches. Even the order would tell by what it leaves in the caches. Only a match ends it early, and
/// where one of them could not be computed, nobody but who matches is told more.
fn verdict(
    hasher: &Hasher,
    password: &Password,
    stored: Option<&PasswordHash>,
    costs: &[HashCost],
) -> VerifyOutcome {
    // A hash without one of these costs is no Argon2 hash, and costs nothing to check.
    let is_listed = |stored: &PasswordHash| costs.iter().any(|cost| stored.has_cost(cost));
    let unlisted = stored.filter(|stored| !is_listed(stored));
    let mut verdict = unlisted.map_or(VerifyOutcome::Mismatch, |stored| hasher.verify(password, stored));
    let mut is_computed = verdict != VerifyOutcome::NotComputed;
    for cost in costs {
        let real =
            stored.filter(|stored| stored.has_cost(cost)).map(|stored| hasher.verify(password, stored));
        verdict = real.unwrap_or(verdict);
        if verdict == VerifyOutcome::Match {
            return verdict;
        }
        // What only begins like a hash has cost nothing to check.
        let dummy = matches!(real, None | Some(VerifyOutcome::Unreadable))
            .then(|| hasher.verify(password, &PasswordHash::dummy(cost)));
        is_computed &= ![real, dummy].contains(&Some(VerifyOutcome::NotComputed));
    }
    if is_computed { verdict } else { VerifyOutcome::NotComputed }
}

/// An account whose hash is being made anew. Others that would do the same leave it to this one.
struct Turn {
    taken: Arc<Mutex<HashSet<UserId>>>,
    id: UserId,
}

impl Turn {
    fn take(taken: &Arc<Mutex<HashSet<UserId>>>, id: UserId) -> Option<Self> {
        lock(taken).insert(id).then(|| Self { taken: Arc::clone(taken), id })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.taken).remove(&self.id);
    }
}
