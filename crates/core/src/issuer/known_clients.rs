//! Which clients signed in to which accounts lately, so that the guesses of others neither delay nor refuse them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Mutex;
use std::time::Duration;

use super::context::Context;
use super::mutex::lock;
use crate::account::UserId;
use crate::client::ClientKey;
use crate::store::StoreError;

/// How long a sign-in counts.
const REMEMBERED: Duration = Duration::from_hours(30 * 24);

/// Maximum number of pairs in memory (about 10 MiB). The store knows the others.
const MAX_PAIRS: usize = 1 << 16;

/// Maximum number of clients of one account in memory, so that one account does not displace the clients of others.
const MAX_CLIENTS: usize = 64;

/// A user ID that no account has: SQLite gives out positive ones.
const NO_ACCOUNT: UserId = UserId(i64::MIN);

/// Pairs of an account and a client that signed in to it within 30 days: the latest in memory, all others in the store.
#[derive(Default)]
pub(super) struct KnownClients(Mutex<Pairs>);

#[derive(Default)]
struct Pairs {
    /// When each client last signed in to an account, in monotonic time.
    accounts: HashMap<UserId, HashMap<ClientKey, Duration>>,
    /// The same pairs, the oldest first.
    by_age: BTreeSet<(Duration, UserId, ClientKey)>,
}

impl KnownClients {
    /// Whether this client signed in to this account within 30 days. Takes as long for a name without an account.
    ///
    /// Costs one look-up in the store if the answer is no, so call it only after the rate limit.
    ///
    /// # Errors
    /// [`StoreError`] when the store fails.
    pub(super) async fn knows(
        &self,
        user: Option<UserId>,
        client: ClientKey,
        context: &Context,
    ) -> Result<bool, StoreError> {
        let id = user.unwrap_or(NO_ACCOUNT);
        if lock(&self.0).contain(id, client, context.clock.monotonic()) {
            return Ok(true);
        }
        // Not remembered: the times of the store are on another clock, and the next sign-in is remembered anyway.
        let since = context.clock.now().minus(REMEMBERED);
        let has_signed_in = context.store.has_signed_in(id, client, since).await?;
        Ok(has_signed_in && user.is_some())
    }

    /// Remembers a sign-in. `now` is monotonic time.
    pub(super) fn insert(&self, user: UserId, client: ClientKey, now: Duration) {
        lock(&self.0).insert(user, client, now);
    }
}

impl Pairs {
    fn contain(&self, user: UserId, client: ClientKey, now: Duration) -> bool {
        let at = self.accounts.get(&user).and_then(|clients| clients.get(&client));
        at.is_some_and(|at| now.saturating_sub(*at) < REMEMBERED)
    }

    fn insert(&mut self, user: UserId, client: ClientKey, now: Duration) {
        let clients = self.accounts.entry(user).or_default();
        if let Some(before) = clients.insert(client, now) {
            self.by_age.remove(&(before, user, client));
        }
        self.by_age.insert((now, user, client));
        if clients.len() > MAX_CLIENTS
            && let Some((client, at)) = clients.iter().min_by_key(|(_, at)| **at).map(|(key, at)| (*key, *at))
        {
            clients.remove(&client);
            self.by_age.remove(&(at, user, client));
        }
        self.evict(now);
    }

    /// Removes those that no longer count, and the oldest one if there are too many.
    fn evict(&mut self, now: Duration) {
        while let Some((at, user, client)) = self.by_age.first().copied()
            && (self.by_age.len() > MAX_PAIRS || now.saturating_sub(at) >= REMEMBERED)
        {
            self.by_age.pop_first();
            if let Some(clients) = self.accounts.get_mut(&user) {
                clients.remove(&client);
                if clients.is_empty() {
                    self.accounts.remove(&user);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const NOW: Duration = Duration::from_hours(1);

    const SECOND: Duration = Duration::from_secs(1);

    fn client(n: u32) -> ClientKey {
        IpAddr::from((0xC633_0000 + n).to_be_bytes()).into()
    }

    fn user(n: u32) -> UserId {
        UserId(n.into())
    }

    fn len(pairs: &Pairs) -> usize {
        let listed = pairs.accounts.values().map(HashMap::len).sum();
        assert_eq!(pairs.by_age.len(), listed);
        listed
    }

    #[test]
    fn a_pair_is_known_for_thirty_days_after_its_last_sign_in() {
        let mut pairs = Pairs::default();
        pairs.insert(user(1), client(1), NOW);
        assert!(pairs.contain(user(1), client(1), NOW));
        assert!(!pairs.contain(user(2), client(1), NOW));
        assert!(!pairs.contain(user(1), client(2), NOW));
        pairs.insert(user(1), client(1), 2 * NOW);
        assert!(pairs.contain(user(1), client(1), NOW + REMEMBERED));
        assert!(!pairs.contain(user(1), client(1), 2 * NOW + REMEMBERED));
        pairs.insert(user(2), client(2), 2 * NOW + REMEMBERED);
        assert_eq!(len(&pairs), 1);
    }

    #[test]
    fn the_oldest_pair_gives_way_in_a_full_table() {
        let mut pairs = Pairs::default();
        let most = u32::try_from(MAX_PAIRS).unwrap();
        for n in 0..most {
            pairs.insert(user(n), client(n), NOW + n * SECOND / 1000);
        }
        pairs.insert(user(0), client(0), NOW + most * SECOND);
        pairs.insert(user(most), client(most), NOW + most * SECOND);
        assert_eq!(len(&pairs), MAX_PAIRS);
        let is_known = |n: u32| pairs.contain(user(n), client(n), NOW + most * SECOND);
        assert_eq!([0, 1, 2, most].map(is_known), [true, false, true, true]);
    }

    #[test]
    fn an_account_with_many_clients_displaces_its_own_oldest_one() {
        let mut pairs = Pairs::default();
        pairs.insert(user(0), client(0), NOW);
        let most = u32::try_from(MAX_CLIENTS).unwrap();
        for n in 0..=most {
            pairs.insert(user(1), client(n), NOW + (n + 1) * SECOND);
        }
        assert_eq!(len(&pairs), 1 + MAX_CLIENTS);
        assert!(pairs.contain(user(0), client(0), NOW));
        assert_eq!([0, 1, most].map(|n| pairs.contain(user(1), client(n), NOW)), [false, true, true]);
    }
}
