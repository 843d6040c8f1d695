//! Accounts: registering one, checking its password, and keeping its hash up to date.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use super::config::{BackendChoice, PasswordConfig};
use super::context::Context;
use super::error::IssuerError;
use super::fair_queue::Requester;
use super::guess::{Guess, Throttled};
use super::guess_limit::GuessLimit;
use super::known_clients::KnownClients;
use super::mutex::lock;
use super::refused_sign_in::{RefusalReason, RefusedSignIn};
use crate::account::{Account, Email, NewAccount, UserId, Username};
use crate::client::ClientKey;
use crate::password::{
    Argon2Backend, CredentialCache, HashCost, HashError, Hasher, Password, PasswordHash, Salt, VerifyOutcome,
};
use crate::store::{AccountChange, SignInCandidate, StoreError};

/// The accounts of a store.
#[derive(Clone)]
pub struct Accounts {
    pub(super) context: Context,
    hasher: Hasher,
    credential_cache: Arc<CredentialCache>,
    known_clients: Arc<KnownClients>,
    guess_limit: Arc<GuessLimit>,
    /// Accounts whose hash is being computed again: once for each is enough.
    rehashing: Arc<Mutex<HashSet<UserId>>>,
}

impl Accounts {
    /// The accounts of the store in `context`.
    #[must_use]
    pub fn new(context: Context, config: &PasswordConfig) -> Self {
        let backend = match config.backend {
            BackendChoice::Auto => context.rng.with(Argon2Backend::select_verified),
            BackendChoice::Reference => Argon2Backend::Reference,
        };
        if (config.backend, backend) == (BackendChoice::Auto, Argon2Backend::Reference) {
            tracing::warn!(
                "the faster implementation of Argon2 failed its self-test on this machine; using the reference"
            );
        }
        let clock = Arc::clone(&context.clock);
        let guess_limit = context.rng.with(|rng| GuessLimit::new(config.guesses, clock, rng));
        let cache = context.rng.with(|rng| CredentialCache::new(config.credential_cache_ttl, rng));
        Self {
            context,
            hasher: config.hasher.clone().with_backend(backend),
            credential_cache: Arc::new(cache),
            known_clients: Arc::default(),
            guess_limit: Arc::new(guess_limit),
            rehashing: Arc::default(),
        }
    }

    /// Creates an account with a random password, which is shown to its owner this once.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the name or the address is taken.
    pub async fn register(
        &self,
        username: Username,
        email: Option<Email>,
        requester: Requester,
    ) -> Result<Password, IssuerError> {
        let password = self.context.rng.with(Password::generate);
        self.add(username, email, password.clone(), requester).await?;
        Ok(password)
    }

    /// Creates an account with this password.
    ///
    /// # Errors
    /// As [`Accounts::register`].
    pub async fn add(
        &self,
        username: Username,
        email: Option<Email>,
        password: Password,
        requester: Requester,
    ) -> Result<UserId, IssuerError> {
        // Before the work of hashing.
        self.context.store.expect_reachable()?;
        let password_hash = self.hash(password, requester).await?;
        let account = NewAccount { username, email, password_hash };
        Ok(self.context.store.register(account, self.context.clock.now()).await?)
    }

    /// How many passwords are being hashed, and how many requests wait for that.
    #[must_use]
    pub fn hashing_load(&self) -> (usize, usize) {
        self.context.pool.load()
    }

    /// For how many names clients that are new to the account must wait.
    #[must_use]
    pub fn throttled_names(&self) -> usize {
        self.guess_limit.throttled()
    }

    /// Checks a username and a password. Takes the same time whether or not the account exists.
    ///
    /// # Errors
    /// [`IssuerError::InvalidCredentials`] for an unknown name and for a wrong password; [`IssuerError::TooManyFailures`]
    /// before anything is hashed.
    pub(super) async fn verify(
        &self,
        username: &str,
        password: &Password,
        client: ClientKey,
    ) -> Result<Account, IssuerError> {
        let guess = Guess::new(&self.guess_limit, username);
        let throttled = guess.throttled();
        let SignInCandidate { account, disabled, costs } =
            self.context.store.sign_in_candidate(username).await?;
        if let Some(throttled) = throttled {
            self.refuse_new_client(throttled, account.as_ref(), client).await?;
        }
        let stored = account.as_ref().map(|account| account.password_hash.clone());
        let account = match (self.is_cached(account.as_ref(), password), account) {
            (true, Some(account)) => return Ok(account),
            (_, account) => account,
        };
        // Also an empty store hashes once: a faster answer would reveal that it has no accounts.
        let costs = if costs.is_empty() { vec![self.hasher.cost()] } else { costs };
        let (hasher, checked) = (self.hasher.clone(), password.clone());
        let requester = self.requester(account.as_ref(), client).await?;
        let existing = account.as_ref().map(|account| &account.username).or(disabled.as_ref());
        let guess = guess.of(requester, existing);
        let check = move || verify_spellings(&hasher, &checked, stored.as_ref(), &costs);
        let outcome = self.context.pool.run_for(requester, move || guess.check(check)).await??;
        self.conclude(account, disabled, password, outcome)
    }

    /// The account, or the reason why its password is refused.
    fn conclude(
        &self,
        account: Option<Account>,
        disabled: Option<String>,
        password: &Password,
        outcome: VerifyOutcome,
    ) -> Result<Account, IssuerError> {
        match (account, outcome) {
            (Some(account), VerifyOutcome::Match) => {
                let now = self.context.clock.monotonic();
                // Keyed by the hash as well, so a new password invalidates the entry in every process.
                self.credential_cache.insert(password, &account.password_hash, now);
                Ok(account)
            }
            (Some(account), VerifyOutcome::Unreadable) => {
                let id = account.id;
                tracing::debug!(user.id = %id, "the password hash of account {id} is not an Argon2 hash");
                Err(refused(Some(account.username), RefusalReason::UnusableHash))
            }
            (_, VerifyOutcome::NotComputed) => Err(HashError.into()),
            (Some(account), _) => Err(refused(Some(account.username), RefusalReason::WrongPassword)),
            (None, _) if disabled.is_some() => Err(refused(disabled, RefusalReason::DisabledAccount)),
            (None, _) => Err(refused(None, RefusalReason::UnknownAccount)),
        }
    }

    /// Refuses a client that is new to the account. Takes the same time for every name.
    async fn refuse_new_client(
        &self,
        throttled: Throttled,
        account: Option<&Account>,
        client: ClientKey,
    ) -> Result<(), IssuerError> {
        if let Requester::Known(_) = self.requester(account, client).await? {
            return Ok(());
        }
        Err(throttled.refusal().await)
    }

    /// Whether the client is known to the account that it names.
    async fn requester(&self, account: Option<&Account>, client: ClientKey) -> Result<Requester, StoreError> {
        let user = account.map(|account| account.id);
        let is_known = self.known_clients.knows(user, client, &self.context).await?;
        Ok(if is_known { Requester::Known(client) } else { Requester::Other(client) })
    }

    /// Remembers that this client has signed in to this account.
    pub(super) fn remember(&self, client: ClientKey, user: UserId) {
        self.known_clients.insert(user, client, self.context.clock.monotonic());
    }

    /// Whether this password was verified for this account recently. An unknown account takes as long to look up.
    fn is_cached(&self, account: Option<&Account>, password: &Password) -> bool {
        let dummy = PasswordHash::dummy(&self.hasher.cost());
        let hash = account.map_or(&dummy, |account| &account.password_hash);
        self.credential_cache.contains(password, hash, self.context.clock.monotonic())
    }

    /// Hashes the password again in the background if its hash has another cost than new ones. A failure is only logged:
    /// the next sign-in tries again.
    pub(super) fn rehash_if_outdated(&self, account: Account, password: Password, client: ClientKey) {
        if account.password_hash.has_cost(&self.hasher.cost()) {
            return;
        }
        let (accounts, id) = (self.clone(), account.id);
        let Some(slot) = RehashSlot::take(&self.rehashing, id) else {
            return;
        };
        tokio::spawn(async move {
            // Moved into the task, so that it is freed when the task ends or panics.
            let _slot = slot;
            match accounts.replace_hash(account, password, client).await {
                Ok(()) => {
                    tracing::debug!(user.id = %id, "the password of account {id} is hashed at today's cost");
                }
                Err(error) => {
                    tracing::debug!(user.id = %id, %error, "the password of account {id} keeps its old hash");
                }
            }
        });
    }

    async fn replace_hash(
        &self,
        account: Account,
        password: Password,
        client: ClientKey,
    ) -> Result<(), IssuerError> {
        let hash = self.hash(password, Requester::Known(client)).await?;
        // Only if the hash is still the one that was checked: a reset in the meantime must win.
        let change = AccountChange::SetHash { hash, instead_of: Some(account.password_hash) };
        self.context.store.change_account(account.id, &change, self.context.clock.now()).await?;
        Ok(())
    }

    pub(super) async fn hash(
        &self,
        password: Password,
        requester: Requester,
    ) -> Result<PasswordHash, IssuerError> {
        let (hasher, password) = (self.hasher.clone(), password.normalized());
        let salt = self.context.rng.with(Salt::generate);
        Ok(self.context.pool.run_for(requester, move || hasher.hash(&password, &salt)).await??)
    }
}

fn refused(account: Option<String>, reason: RefusalReason) -> IssuerError {
    IssuerError::InvalidCredentials(RefusedSignIn { account, reason })
}

/// Checks the password in its normal form, and as it was typed. Only a match returns early, so a refusal takes the same time
/// whether or not the account exists.
fn verify_spellings(
    hasher: &Hasher,
    password: &Password,
    stored: Option<&PasswordHash>,
    costs: &[HashCost],
) -> VerifyOutcome {
    let mut outcome = VerifyOutcome::Mismatch;
    for spelling in password.spellings() {
        match verify_in_equal_time(hasher, &spelling, stored, costs) {
            VerifyOutcome::Match => return VerifyOutcome::Match,
            // The other one may not hide that this one is unknown.
            _ if outcome == VerifyOutcome::NotComputed => {}
            other => outcome = other,
        }
    }
    outcome
}

/// Checks one hash of each cost in the store: the real one at its cost, and a dummy at every other cost. A refusal takes
/// the same time whether or not the account exists, and whatever its hash costs.
///
/// The order is fixed: cache effects would otherwise reveal which cost is real. Only a match returns early. If one of the
/// hashes could not be computed, only a match is reported.
fn verify_in_equal_time(
    hasher: &Hasher,
    password: &Password,
    stored: Option<&PasswordHash>,
    costs: &[HashCost],
) -> VerifyOutcome {
    // A hash without one of these costs is not an Argon2 hash, and takes no time to check.
    let is_listed = |stored: &PasswordHash| costs.iter().any(|cost| stored.has_cost(cost));
    let unlisted = stored.filter(|stored| !is_listed(stored));
    let mut outcome = unlisted.map_or(VerifyOutcome::Mismatch, |stored| hasher.verify(password, stored));
    let mut is_computed = outcome != VerifyOutcome::NotComputed;
    for cost in costs {
        let real =
            stored.filter(|stored| stored.has_cost(cost)).map(|stored| hasher.verify(password, stored));
        outcome = real.unwrap_or(outcome);
        if outcome == VerifyOutcome::Match {
            return outcome;
        }
        // A text that only starts like an Argon2 hash took no time: the dummy takes it instead.
        let dummy = matches!(real, None | Some(VerifyOutcome::Unreadable))
            .then(|| hasher.verify(password, &PasswordHash::dummy(cost)));
        is_computed &= ![real, dummy].contains(&Some(VerifyOutcome::NotComputed));
    }
    if is_computed { outcome } else { VerifyOutcome::NotComputed }
}

/// Held while the hash of an account is computed again. Other sign-ins to it then leave that to this one.
struct RehashSlot {
    taken: Arc<Mutex<HashSet<UserId>>>,
    id: UserId,
}

impl RehashSlot {
    fn take(taken: &Arc<Mutex<HashSet<UserId>>>, id: UserId) -> Option<Self> {
        lock(taken).insert(id).then(|| Self { taken: Arc::clone(taken), id })
    }
}

impl Drop for RehashSlot {
    fn drop(&mut self) {
        lock(&self.taken).remove(&self.id);
    }
}
