//! Each client's share of the connection limit: one client cannot hold all connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::activity::Activity;
use jwksd_core::client::ClientKey;

/// One client may hold this part of all connections.
const PART: usize = 4;

/// Minimum share. With a very low limit of open files, a quarter would be too few for one browser.
const MIN_SHARE: usize = 8;

/// The open connections of all clients, except trusted proxies: those stand for many clients.
pub(super) struct ClientShares {
    most: usize,
    open: Mutex<HashMap<ClientKey, Vec<Arc<Activity>>>>,
}

/// One open connection in the share of its client; dropping it makes room for another.
pub(super) struct Share {
    shares: Arc<ClientShares>,
    client: ClientKey,
    activity: Arc<Activity>,
}

/// A client that holds its whole share with requests in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FullShare {
    /// The size of a share.
    pub(super) most: usize,
    /// Whether no other client has a connection, as behind a proxy that is not listed as trusted.
    pub(super) is_only_client: bool,
}

impl ClientShares {
    /// Shares of this many connections.
    pub(super) fn new(connections: usize) -> Self {
        Self { most: connections.div_ceil(PART).max(MIN_SHARE), open: Mutex::default() }
    }

    /// Takes a place in the client's share. If it is full, the oldest idle connection of that client makes room.
    ///
    /// # Errors
    /// [`FullShare`] if all connections of the client are answering requests.
    pub(super) fn take(
        self: &Arc<Self>,
        client: ClientKey,
        activity: &Arc<Activity>,
    ) -> Result<Share, FullShare> {
        let mut open = self.lock();
        let is_only_client = open.keys().all(|other| *other == client);
        let own = open.entry(client).or_default();
        if own.len() >= self.most {
            let oldest_idle = own.iter().position(|activity| activity.is_idle());
            let full = FullShare { most: self.most, is_only_client };
            own.remove(oldest_idle.ok_or(full)?).evict();
        }
        own.push(Arc::clone(activity));
        Ok(Share { shares: Arc::clone(self), client, activity: Arc::clone(activity) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ClientKey, Vec<Arc<Activity>>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut open = self.shares.lock();
        let Some(own) = open.get_mut(&self.client) else {
            return;
        };
        // One that was evicted is not there any more.
        own.retain(|activity| !Arc::ptr_eq(activity, &self.activity));
        if own.is_empty() {
            open.remove(&self.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn client(address: &str) -> ClientKey {
        address.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn a_full_share_evicts_the_oldest_idle_connection_and_never_a_busy_one() {
        let shares = Arc::new(ClientShares::new(40));
        let activities: Vec<Arc<Activity>> = (0..13).map(|_| Arc::default()).collect();
        let take = |at: usize, address: &str| shares.take(client(address), &activities[at]);
        // Of one /64.
        let mut open: Vec<_> = (0..10).map(|at| take(at, &format!("2001:db8::{at}")).unwrap()).collect();
        activities[0].note();
        open.push(take(10, "2001:db8::ff").unwrap());
        assert_eq!(shares.lock()[&client("2001:db8::")].len(), 10);
        assert!(shares.lock()[&client("2001:db8::")].iter().all(|other| !Arc::ptr_eq(other, &activities[1])));
        for activity in &activities[2..=10] {
            activity.note();
        }
        assert_eq!(take(11, "2001:db8::1").err(), Some(FullShare { most: 10, is_only_client: true }));
        let other = take(11, "2001:db8:0:1::1").unwrap();
        assert_eq!(take(12, "2001:db8::1").err(), Some(FullShare { most: 10, is_only_client: false }));
        drop(other);
        activities[5].note();
        open.push(take(12, "2001:db8::1").unwrap());
        drop(open);
        assert!(shares.lock().is_empty());
    }
}
