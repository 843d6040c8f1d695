//! The log of connections that were refused because their client has too many.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::client_share::FullShare;
use jwksd_core::clock::Clock;

/// Minimum time between two lines, because a flood of connections must not fill the disk.
const INTERVAL: Duration = Duration::from_mins(1);

/// Logs refused connections.
pub(super) struct RefusedConnections {
    clock: Arc<dyn Clock>,
    /// Whether `TRUSTED_PROXIES` names any.
    has_proxies: bool,
    since: Mutex<Since>,
}

/// What has happened since the last line.
#[derive(Default)]
struct Since {
    logged_at: Option<Duration>,
    left_out: u64,
}

impl RefusedConnections {
    pub(super) fn new(clock: Arc<dyn Clock>, has_proxies: bool) -> Self {
        Self { clock, has_proxies, since: Mutex::default() }
    }

    /// Logs a refusal, or counts it if the last line is too recent.
    pub(super) fn log(&self, client: IpAddr, FullShare { most, is_only_client }: FullShare) {
        let Some(left_out) = self.admit() else {
            tracing::debug!(%client, "another connection was refused, because its client has too many");
            return;
        };
        let remedy = self.remedy(is_only_client);
        tracing::warn!(
            left_out,
            "refused a connection from {client}, which has {most} connections with unfinished requests{remedy}"
        );
    }

    /// What the operator can do about it. One address with all connections is often a proxy.
    const fn remedy(&self, is_only_client: bool) -> &'static str {
        match (is_only_client, self.has_proxies) {
            (false, _) => "",
            (true, false) => {
                "; all connections come from this address: if it is a proxy, set TRUSTED_PROXIES to it"
            }
            (true, true) => {
                "; all connections come from this address, which TRUSTED_PROXIES does not contain: if it is one of your \
                 proxies, add it there"
            }
        }
    }

    /// Takes a line. Returns how many refusals were left out since the last one.
    fn admit(&self) -> Option<u64> {
        let now = self.clock.monotonic();
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        if since.logged_at.is_some_and(|at| now.saturating_sub(at) < INTERVAL) {
            since.left_out += 1;
            return None;
        }
        since.logged_at = Some(now);
        Some(std::mem::take(&mut since.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jwksd_core::clock::{ManualClock, Timestamp};

    #[test]
    fn one_refused_connection_a_minute_is_logged_and_the_others_are_counted() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(0)));
        let refused = RefusedConnections::new(Arc::clone(&clock) as Arc<dyn Clock>, false);
        assert_eq!(refused.admit(), Some(0));
        for _ in 0..300 {
            assert_eq!(refused.admit(), None);
        }
        clock.advance(INTERVAL);
        assert_eq!(refused.admit(), Some(300));
        assert_eq!(refused.admit(), None);
    }

    #[test]
    fn a_client_with_all_connections_may_be_a_proxy_that_trusted_proxies_lacks() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(0)));
        let remedy = |has_proxies, is_only_client| {
            RefusedConnections::new(Arc::clone(&clock) as Arc<dyn Clock>, has_proxies).remedy(is_only_client)
        };
        assert_eq!((remedy(false, false), remedy(true, false)), ("", ""));
        assert_eq!(
            remedy(false, true),
            "; all connections come from this address: if it is a proxy, set TRUSTED_PROXIES to it"
        );
        assert_eq!(
            remedy(true, true),
            "; all connections come from this address, which TRUSTED_PROXIES does not contain: if it is one of your proxies, \
             add it there"
        );
    }
}
