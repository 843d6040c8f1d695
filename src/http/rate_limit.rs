//! The limits in front of /auth and /register.
//!
//! /auth: of one client, at most n requests in any span of one second. A token bucket, or one GCRA of n per second with
//! a burst of n, refills while it is being emptied and lets up to 2n through in a second. The moments of the n latest
//! admissions are exact: a request is refused just when all of them lie within the last second.
//!
//! /register has no such exactness to keep, and gets `tower_governor`'s bucket.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use axum::routing::MethodRouter;
use governor::clock::{Clock, DefaultClock, Reference};
use tower_governor::governor::GovernorConfigBuilder;
use tower_governor::key_extractor::KeyExtractor;
use tower_governor::{GovernorError, GovernorLayer};

use super::client_ip::ClientIp;
use super::error::{ApiError, whole_seconds};

const SECOND: Duration = Duration::from_secs(1);

/// Clients with a window of their own. When there are more within one second, newcomers share one.
const MAX_CLIENTS: usize = 1 << 16;

/// Buckets in front of /register. Two clients meet in one by chance, and by chance alone: the hash is keyed.
const REGISTER_BUCKETS: u64 = 1 << 18;

/// What a client is told that has had its requests of this second.
pub(super) fn refusal(wait: Duration) -> Response {
    ApiError::RateLimited { retry_after: whole_seconds(wait) }.into_response()
}

/// At most so many requests of one client in any span of one second.
pub(super) struct MovingWindow<C: Clock = DefaultClock> {
    limit: usize,
    max_clients: usize,
    clock: C,
    clients: Mutex<Clients<C>>,
}

/// The windows. A mutex and no lock a client: what is done under it takes less than a microsecond.
struct Clients<C: Clock> {
    windows: HashMap<ClientKey, Window<C>>,
    swept_at: C::Instant,
}

/// One client's admissions within the last second, oldest first.
struct Window<C: Clock>(VecDeque<C::Instant>);

/// Whose requests are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum ClientKey {
    Ip(IpAddr),
    /// All newcomers to a full table.
    Rest,
}

impl ClientKey {
    /// An IPv4 address, or the /64 of an IPv6 one: the least that one customer is given.
    fn of(address: IpAddr) -> Self {
        Self::Ip(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        })
    }
}

impl MovingWindow {
    /// A limit of this many requests a second; 0 admits everything.
    pub(super) fn new(limit: u32) -> Self {
        Self::with_clock(limit, MAX_CLIENTS, DefaultClock::default())
    }
}

impl<C: Clock + Clone> MovingWindow<C> {
    fn with_clock(limit: u32, max_clients: usize, clock: C) -> Self {
        let clients = Clients { windows: HashMap::new(), swept_at: clock.now() };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        Self { limit, max_clients, clock, clients: Mutex::new(clients) }
    }

    /// Admits a request, or says how long to wait for the next that would be admitted.
    pub(super) fn check(&self, client: IpAddr) -> Result<(), Duration> {
        if self.limit == 0 {
            return Ok(());
        }
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let key = self.seat(&mut clients, ClientKey::of(client), now);
        let window = clients.windows.entry(key).or_insert_with(|| Window(VecDeque::with_capacity(1)));
        window.admit(self.limit, now)
    }

    /// Gives back the memory of clients that have not been seen for a second.
    pub(super) fn tidy(&self) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.sweep(self.clock.now());
    }

    /// Where this client's requests are counted. Windows that are over make room at most once a second.
    fn seat(&self, clients: &mut Clients<C>, key: ClientKey, now: C::Instant) -> ClientKey {
        if now.duration_since(clients.swept_at) >= SECOND.into() {
            clients.sweep(now);
        }
        if clients.windows.len() < self.max_clients || clients.windows.contains_key(&key) {
            key
        } else {
            ClientKey::Rest
        }
    }
}

impl<C: Clock> Clients<C> {
    fn sweep(&mut self, now: C::Instant) {
        self.swept_at = now;
        self.windows.retain(|_, window| window.0.back().is_some_and(|last| !is_over(*last, now)));
        self.windows.shrink_to(self.windows.len() * 2);
    }
}

impl<C: Clock> Window<C> {
    fn admit(&mut self, limit: usize, now: C::Instant) -> Result<(), Duration> {
        while self.0.front().is_some_and(|first| is_over(*first, now)) {
            self.0.pop_front();
        }
        match self.0.front() {
            Some(first) if self.0.len() >= limit => {
                Err(SECOND.saturating_sub(now.duration_since(*first).into()))
            }
            _ => {
                self.0.push_back(now);
                Ok(())
            }
        }
    }
}

fn is_over<I: Reference>(admission: I, now: I) -> bool {
    now.duration_since(admission) >= SECOND.into()
}

/// Puts a bucket of this many requests, refilled within a second, in front of a route; none for 0.
pub(super) fn bucket<S: Clone + Send + Sync + 'static>(
    route: MethodRouter<S>,
    limit: u32,
) -> MethodRouter<S> {
    let Some(period) = SECOND.checked_div(limit) else {
        return route;
    };
    let config = GovernorConfigBuilder::default()
        .key_extractor(ByBucket::default())
        .period(period.max(Duration::from_nanos(1)))
        .burst_size(limit)
        .finish();
    let Some(config) = config else {
        return route;
    };
    route.route_layer(GovernorLayer::new(config).error_handler(|error| match error {
        // tower_governor has rounded the wait down to whole seconds.
        GovernorError::TooManyRequests { wait_time, .. } => {
            ApiError::RateLimited { retry_after: wait_time + 1 }.into_response()
        }
        other => ApiError::Internal(Box::new(other)).into_response(),
    }))
}

/// Counts a client by the bucket that its key falls into, so that the number of counters is bounded.
#[derive(Clone, Debug, Default)]
struct ByBucket(std::hash::RandomState);

impl KeyExtractor for ByBucket {
    type Key = u64;

    fn extract<T>(&self, request: &axum::http::Request<T>) -> Result<u64, GovernorError> {
        let ClientIp(client) = request.extensions().get().ok_or(GovernorError::UnableToExtractKey)?;
        Ok(self.0.hash_one(ClientKey::of(*client)) % REGISTER_BUCKETS)
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn window(limit: u32, max_clients: usize) -> (MovingWindow<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (MovingWindow::with_clock(limit, max_clients, clock.clone()), clock)
    }

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn ten_in_nine_hundred_milliseconds_pass_and_an_eleventh_right_behind_does_not() {
        let (window, clock) = window(10, 10);
        for _ in 0..9 {
            assert_eq!(window.check(A), Ok(()));
            clock.advance(millis(100));
        }
        assert_eq!(window.check(A), Ok(()));
        assert_eq!(window.check(A), Err(millis(100)));
        clock.advance(millis(99));
        assert_eq!(window.check(A), Err(millis(1)));
        clock.advance(millis(1));
        assert_eq!(window.check(A), Ok(()));
        assert_eq!(window.check(A), Err(millis(100)));
    }

    #[test]
    fn nine_per_second_never_wait() {
        let (window, clock) = window(10, 10);
        for _ in 0..90 {
            assert_eq!(window.check(A), Ok(()));
            clock.advance(Duration::from_nanos(1_000_000_000 / 9));
        }
    }

    #[test]
    fn no_span_of_one_second_holds_more_than_the_limit() {
        let (window, clock) = window(3, 10);
        let (mut now, mut admitted) = (0_u64, Vec::new());
        for step in [0, 10, 400, 0, 5, 600, 300, 90, 10, 1, 1000, 0, 0, 0, 999, 1, 0, 0, 500, 499, 1, 1] {
            clock.advance(millis(step));
            now += step;
            if window.check(A).is_ok() {
                admitted.push(now);
            }
        }
        for span in admitted.windows(4) {
            assert!(span[3] - span[0] >= 1000, "{span:?} of {admitted:?}");
        }
    }

    #[test]
    fn clients_do_not_pay_for_each_other() {
        let (window, _) = window(1, 10);
        assert_eq!(window.check(A), Ok(()));
        assert_eq!(window.check(B), Ok(()));
        assert_eq!(window.check(A), Err(SECOND));
    }

    #[test]
    fn an_ipv6_client_is_its_64() {
        let (window, _) = window(1, 10);
        assert_eq!(window.check("2001:db8:0:1::1".parse().unwrap()), Ok(()));
        assert_eq!(window.check("2001:db8:0:1:ffff::9".parse().unwrap()), Err(SECOND));
        assert_eq!(window.check("2001:db8:0:2::1".parse().unwrap()), Ok(()));
    }

    #[test]
    fn newcomers_to_a_full_table_share_one_window_and_those_within_keep_theirs() {
        let (window, clock) = window(2, 2);
        let other = |n: u8| IpAddr::from([198, 51, 100, n]);
        assert_eq!((window.check(A), window.check(B)), (Ok(()), Ok(())));
        assert_eq!((window.check(other(1)), window.check(other(2))), (Ok(()), Ok(())));
        assert_eq!(window.check(other(3)), Err(SECOND));
        assert_eq!((window.check(A), window.check(A)), (Ok(()), Err(SECOND)));
        clock.advance(SECOND);
        assert_eq!((window.check(other(3)), window.check(other(3))), (Ok(()), Ok(())));
        assert_eq!(window.clients.lock().unwrap().windows.len(), 1);
    }

    #[test]
    fn clients_that_are_gone_take_no_memory() {
        let (window, clock) = window(10, 1000);
        for n in 0..1000_u16 {
            let [a, b] = n.to_be_bytes();
            assert_eq!(window.check(IpAddr::from([198, 51, a, b])), Ok(()));
        }
        clock.advance(SECOND);
        window.tidy();
        let clients = window.clients.lock().unwrap();
        assert_eq!((clients.windows.len(), clients.windows.capacity()), (0, 0));
    }

    #[test]
    fn a_limit_of_zero_admits_everything() {
        let (window, _) = window(0, 1);
        assert!((0..1000).all(|_| window.check(A).is_ok()));
    }
}
