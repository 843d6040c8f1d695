//! Which clients signed in to which accounts lately, so that the guesses of others do not delay them.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use super::mutex::lock;
use crate::domain::account::UserId;
use crate::domain::client::ClientKey;

/// How long a sign-in counts.
const REMEMBERED: Duration = Duration::from_hours(30 * 24);

/// Maximum number of remembered pairs (about 6 MiB).
const MAX_PAIRS: usize = 1 << 16;

/// Maximum number of pairs of one client, so that one with many accounts leaves room for others.
const MAX_PAIRS_OF_CLIENT: usize = 256;

/// Pairs of a client and an account that it signed in to. Kept in memory: after a restart each client counts as new once.
#[derive(Default)]
pub(super) struct KnownClients(Mutex<Pairs>);

#[derive(Default)]
struct Pairs {
    /// When each account was last signed in to, in monotonic time.
    clients: HashMap<ClientKey, HashMap<UserId, Duration>>,
    count: usize,
    swept_at: Duration,
}

impl KnownClients {
    /// Whether this client signed in to this account lately. `now` is monotonic time.
    pub(super) fn contains(&self, client: ClientKey, user: UserId, now: Duration) -> bool {
        let pairs = lock(&self.0);
        let at = pairs.clients.get(&client).and_then(|users| users.get(&user));
        at.is_some_and(|at| now.saturating_sub(*at) < REMEMBERED)
    }

    /// Remembers a sign-in. If there is no room for it, the client stays unknown.
    pub(super) fn insert(&self, client: ClientKey, user: UserId, now: Duration) {
        let mut pairs = lock(&self.0);
        pairs.sweep(now);
        let Pairs { clients, count, .. } = &mut *pairs;
        if let Some(at) = clients.get_mut(&client).and_then(|users| users.get_mut(&user)) {
            *at = now;
            return;
        }
        let has_room =
            *count < MAX_PAIRS && clients.get(&client).is_none_or(|users| users.len() < MAX_PAIRS_OF_CLIENT);
        if has_room {
            clients.entry(client).or_default().insert(user, now);
            *count += 1;
        }
    }
}

impl Pairs {
    /// Once an hour, because it visits all pairs under the lock.
    fn sweep(&mut self, now: Duration) {
        if now.saturating_sub(self.swept_at) < Duration::from_hours(1) {
            return;
        }
        self.swept_at = now;
        self.clients.retain(|_, users| {
            users.retain(|_, at| now.saturating_sub(*at) < REMEMBERED);
            !users.is_empty()
        });
        self.count = self.clients.values().map(HashMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    const NOW: Duration = Duration::from_hours(1);

    fn client(n: u8) -> ClientKey {
        IpAddr::from([192, 0, 2, n]).into()
    }

    fn user(n: i64) -> UserId {
        UserId(n)
    }

    #[test]
    fn a_pair_is_known_for_thirty_days_after_its_last_sign_in() {
        let known = KnownClients::default();
        known.insert(client(1), user(1), NOW);
        assert!(known.contains(client(1), user(1), NOW));
        assert!(!known.contains(client(1), user(2), NOW));
        assert!(!known.contains(client(2), user(1), NOW));
        known.insert(client(1), user(1), 2 * NOW);
        assert!(known.contains(client(1), user(1), NOW + REMEMBERED));
        assert!(!known.contains(client(1), user(1), 2 * NOW + REMEMBERED));
    }

    #[test]
    fn a_client_with_many_accounts_leaves_room_for_others_and_gets_its_own_back() {
        let known = KnownClients::default();
        let most = i64::try_from(MAX_PAIRS_OF_CLIENT).unwrap();
        for n in 0..=most {
            known.insert(client(1), user(n), NOW);
        }
        assert!(known.contains(client(1), user(most - 1), NOW));
        assert!(!known.contains(client(1), user(most), NOW));
        known.insert(client(2), user(most), NOW);
        assert!(known.contains(client(2), user(most), NOW));
        known.insert(client(1), user(most), NOW + REMEMBERED);
        assert!(known.contains(client(1), user(most), NOW + REMEMBERED));
        assert_eq!(lock(&known.0).count, 1);
    }
}
