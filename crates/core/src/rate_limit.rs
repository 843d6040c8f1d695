//! Rate limits per client: the trait, and its implementation in memory.
//!
//! A limit of n admits at most n requests of one client in any span of one second. A token bucket, or one GCRA of n per
//! second with a burst of n, cannot do that: it refills while it is emptied, and admits up to 2n in a second.

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use governor::Quota;
use governor::clock::{Clock, DefaultClock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;

use crate::client::ClientKey;
use crate::setting::values::number;
use crate::setting::{ConfigError, Setting, Source};

/// Admin requests per second and client: enough for people and scrapers, too few for guessing the token.
const ADMIN_LIMIT: u32 = 10;

/// Maximum number of clients with a log of their own, per bucket.
// Bounded, because one IPv6 /48 has as many /64 networks, and an attacker may own one.
const MAX_CLIENTS: usize = 1 << 16;

/// Minimum interval between two evictions that a full table causes. An eviction visits every client.
const EVICTION_INTERVAL: Duration = Duration::from_secs(1);

/// Decides which requests are admitted.
pub trait RateLimiter: Send + Sync {
    /// Counts a request if it is admitted. A refused request is not counted.
    fn check(&self, bucket: Bucket, client: ClientKey) -> Check<'_>;

    /// Frees the memory of clients that have been idle. Call it periodically.
    fn evict_idle(&self);
}

/// What a request counts for. Each bucket has a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// Requests with a password: for tokens, and for another password.
    SignIn,
    /// Requests for accounts.
    Registration,
    /// Requests to the admin surface.
    Admin,
}

/// Whether a request is admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The request may go on.
    Admitted,
    /// The request must be answered 429.
    Refused {
        /// Time until the client's next request would be admitted.
        retry_after: Duration,
    },
}

/// A decision, or the future that asks a server for it.
///
/// Not an `async fn`: its boxed future would cost an allocation per request, also where memory holds the answer.
pub enum Check<'a> {
    /// The limiter knew the decision.
    Decided(Decision),
    /// The limiter has to wait for the decision.
    Pending(Pin<Box<dyn Future<Output = Decision> + Send + 'a>>),
}

impl Future for Check<'_> {
    type Output = Decision;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Decision> {
        match self.get_mut() {
            Self::Decided(decision) => Poll::Ready(*decision),
            // For limiters that ask a server, such as one shared by several processes.
            Self::Pending(future) => future.as_mut().poll(context),
        }
    }
}

/// The limit of [`Bucket::SignIn`].
pub const AUTH_RATE_LIMIT: Setting<u32> = Setting {
    name: "AUTH_RATE_LIMIT",
    default: "10",
    help: "/auth and /password requests per second and client; 0 turns the limit off",
    parse: |text| number(text, &(0..=u32::MAX)),
};

/// The limit of [`Bucket::Registration`].
pub const REGISTER_RATE_LIMIT: Setting<u32> = Setting {
    name: "REGISTER_RATE_LIMIT",
    default: "10",
    help: "/register requests per second and client; 0 turns the limit off",
    parse: |text| number(text, &(0..=u32::MAX)),
};

/// The configured limits, in requests per second and client. 0 turns a limit off.
#[derive(Clone, Copy, Debug)]
pub struct RateLimits {
    /// Limit of [`Bucket::SignIn`].
    pub sign_in: u32,
    /// Limit of [`Bucket::Registration`].
    pub registration: u32,
}

impl RateLimits {
    /// Reads the limits.
    ///
    /// # Errors
    /// [`ConfigError`] for the first invalid setting.
    pub fn read(source: &dyn Source) -> Result<Self, ConfigError> {
        Ok(Self { sign_in: AUTH_RATE_LIMIT.read(source)?, registration: REGISTER_RATE_LIMIT.read(source)? })
    }
}

/// Limits that hold for this process, kept in its memory.
pub struct LocalRateLimiter<C: Clock = DefaultClock> {
    sign_in: Option<Window<C>>,
    registration: Option<Window<C>>,
    admin: Option<Window<C>>,
}

impl LocalRateLimiter {
    /// Returns a limiter that has seen no client yet.
    #[must_use]
    pub fn new(limits: RateLimits) -> Self {
        Self::with_clock(limits, MAX_CLIENTS, &DefaultClock::default())
    }
}

impl<C: Clock + Clone> LocalRateLimiter<C> {
    fn with_clock(limits: RateLimits, max_clients: usize, clock: &C) -> Self {
        let window = |limit| (limit > 0).then(|| Window::new(limit, max_clients, clock.clone()));
        Self {
            sign_in: window(limits.sign_in),
            registration: window(limits.registration),
            // Not a setting: set to 0, it would allow unlimited guesses of the token.
            admin: window(ADMIN_LIMIT),
        }
    }

    /// The limit of a bucket, in requests per second and client, if it has one.
    #[must_use]
    pub fn limit(&self, bucket: Bucket) -> Option<u32> {
        self.window(bucket).map(|window| window.limit)
    }

    fn window(&self, bucket: Bucket) -> Option<&Window<C>> {
        match bucket {
            Bucket::SignIn => self.sign_in.as_ref(),
            Bucket::Registration => self.registration.as_ref(),
            Bucket::Admin => self.admin.as_ref(),
        }
    }
}

impl<C> LocalRateLimiter<C>
where
    C: Clock<Instant: Send + Sync> + Clone + Send + Sync,
{
    /// Counts a request if it is admitted, without waiting for anything.
    pub fn decide(&self, bucket: Bucket, client: ClientKey) -> Decision {
        self.window(bucket).map_or(Decision::Admitted, |window| window.check(client))
    }

    /// Undoes the client's latest admission: another limiter has refused that request.
    pub fn take_back(&self, bucket: Bucket, client: ClientKey) {
        if let Some(window) = self.window(bucket) {
            window.take_back(client);
        }
    }
}

impl<C> RateLimiter for LocalRateLimiter<C>
where
    C: Clock<Instant: Send + Sync> + Clone + Send + Sync,
{
    fn check(&self, bucket: Bucket, client: ClientKey) -> Check<'_> {
        Check::Decided(self.decide(bucket, client))
    }

    fn evict_idle(&self) {
        let windows = [&self.sign_in, &self.registration, &self.admin];
        windows.into_iter().flatten().for_each(Window::evict_idle);
    }
}

type Governor<C> = governor::RateLimiter<ClientKey, SlidingLogs, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// One bucket: at most n requests of one client in any span of one second.
///
/// governor decides each admission, by a quota of one request per second. It is shown the oldest of the client's last n
/// admissions instead of the latest: a request conforms exactly if that one is at least a second old.
struct Window<C: Clock> {
    limit: u32,
    limiter: Governor<C>,
    /// Those that governor decides by.
    admissions: Arc<Mutex<Logs>>,
    /// Set by the store when the table was full for a newcomer.
    has_overflowed: Arc<AtomicBool>,
    evicted_at: Mutex<C::Instant>,
}

impl<C: Clock + Clone> Window<C> {
    fn new(limit: u32, max_clients: usize, clock: C) -> Self {
        let has_overflowed = Arc::new(AtomicBool::new(false));
        let admissions = Arc::new(Mutex::default());
        let logs = SlidingLogs {
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            max_clients,
            has_overflowed: Arc::clone(&has_overflowed),
            logs: Arc::clone(&admissions),
        };
        let evicted_at = Mutex::new(clock.now());
        let one_per_second = Quota::per_second(std::num::NonZeroU32::MIN);
        let limiter = Governor::new(one_per_second, logs, clock);
        Self { limit, limiter, admissions, has_overflowed, evicted_at }
    }

    fn check(&self, client: ClientKey) -> Decision {
        // Relaxed: seeing the flag late only delays an eviction.
        if self.has_overflowed.load(Ordering::Relaxed) {
            self.evict_if_due();
        }
        match self.limiter.check_key(&client) {
            Ok(()) => Decision::Admitted,
            // governor does not show when it decided. A later reading of the clock shortens the wait by
            // nanoseconds.
            Err(until) => Decision::Refused { retry_after: until.wait_time_from(self.limiter.clock().now()) },
        }
    }

    fn take_back(&self, client: ClientKey) {
        let mut logs = self.admissions.lock().unwrap_or_else(PoisonError::into_inner);
        match logs.clients.get_mut(&client) {
            Some(log) => drop(log.0.pop_back()),
            None => drop(logs.overflow.0.pop_back()),
        }
    }

    /// Makes room for newcomers without waiting for the next periodic eviction.
    fn evict_if_due(&self) {
        let now = self.limiter.clock().now();
        let mut evicted_at = self.evicted_at.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(*evicted_at) >= EVICTION_INTERVAL.into() {
            *evicted_at = now;
            // Other threads must not wait here until the eviction is over.
            drop(evicted_at);
            self.evict_idle();
        }
    }

    fn evict_idle(&self) {
        self.limiter.retain_recent();
        self.limiter.shrink_to_fit();
    }
}

/// governor's state store: per client, the states after its last n admissions.
struct SlidingLogs {
    /// n.
    limit: usize,
    max_clients: usize,
    has_overflowed: Arc<AtomicBool>,
    /// One mutex for all clients: what runs under it takes less than a microsecond, except an eviction.
    logs: Arc<Mutex<Logs>>,
}

#[derive(Default)]
struct Logs {
    // The standard hasher has a random key, so clients cannot choose addresses that collide.
    clients: HashMap<ClientKey, Log>,
    /// Shared by all newcomers to a full table.
    overflow: Log,
}

/// The states after the last admissions, oldest first. A state is the admission's time plus one second.
#[derive(Default)]
struct Log(VecDeque<Nanos>);

impl SlidingLogs {
    fn lock(&self) -> MutexGuard<'_, Logs> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn log_of<'l>(&self, client: ClientKey, logs: &'l mut Logs) -> &'l mut Log {
        // Only the second condition searches the table, and only when it is full.
        if logs.clients.len() < self.max_clients || logs.clients.contains_key(&client) {
            logs.clients.entry(client).or_default()
        } else {
            // Refusing newcomers would lock all of them out; admitting them unchecked would turn the limit off.
            self.has_overflowed.store(true, Ordering::Relaxed);
            &mut logs.overflow
        }
    }
}

impl StateStore for SlidingLogs {
    type Key = ClientKey;

    fn measure_and_replace<T, F, E>(&self, client: &ClientKey, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut logs = self.lock();
        let log = self.log_of(*client, &mut logs);
        // A client with fewer than n admissions is shown as one that governor has never seen.
        let (value, state) = decide(log.nth_latest(self.limit))?;
        // After `?`: if refused requests counted, a client that keeps trying would never get in.
        log.push(state, self.limit);
        Ok(value)
    }
}

impl ShrinkableKeyedStateStore<ClientKey> for SlidingLogs {
    fn retain_recent(&self, drop_below: Nanos) {
        let mut logs = self.lock();
        logs.overflow.drop_below(drop_below);
        logs.clients.retain(|_, log| {
            log.drop_below(drop_below);
            !log.0.is_empty()
        });
        // Still under the lock that guards the other store, so that no overflow is forgotten.
        self.has_overflowed.store(false, Ordering::Relaxed);
    }

    fn shrink_to_fit(&self) {
        let mut logs = self.lock();
        // Room for as many again, so that a steady number of clients does not reallocate after each eviction.
        let room = logs.clients.len() * 2;
        logs.clients.shrink_to(room);
    }

    fn len(&self) -> usize {
        self.lock().clients.len()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Log {
    /// The state after the n-th latest admission, if there were as many.
    fn nth_latest(&self, n: usize) -> Option<Nanos> {
        self.0.len().checked_sub(n).and_then(|index| self.0.get(index)).copied()
    }

    fn push(&mut self, state: Nanos, limit: usize) {
        if self.0.is_empty() {
            // Most clients send one request and are not seen again.
            self.0.reserve_exact(1);
        }
        // governor reads the clock before the store takes its lock, so a later state can be slightly smaller.
        let index = self.0.partition_point(|earlier| *earlier <= state);
        self.0.insert(index, state);
        if self.0.len() > limit {
            self.0.pop_front();
        }
    }

    /// Drops states that allow everything, as governor's own stores do.
    fn drop_below(&mut self, state: Nanos) {
        let dropped = self.0.partition_point(|earlier| *earlier <= state);
        self.0.drain(..dropped);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use governor::clock::FakeRelativeClock;
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn window(limit: u32, max_clients: usize) -> (Window<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (Window::new(limit, max_clients, clock.clone()), clock)
    }

    fn check(window: &Window<FakeRelativeClock>, client: IpAddr) -> Result<(), Duration> {
        match window.check(client.into()) {
            Decision::Admitted => Ok(()),
            Decision::Refused { retry_after } => Err(retry_after),
        }
    }

    fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// The `n`-th of 2^32 distinct clients.
    fn client(n: u32) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) | (u128::from(n) << 64)))
    }

    #[test]
    fn an_admission_that_is_taken_back_leaves_its_place_to_another() {
        let (window, _) = window(2, 10);
        assert_eq!(check(&window, A), Ok(()));
        assert_eq!(check(&window, A), Ok(()));
        window.take_back(A.into());
        assert_eq!(check(&window, A), Ok(()));
        assert!(check(&window, A).is_err());
    }

    #[test]
    fn ten_requests_within_900_ms_pass_and_the_eleventh_is_refused() {
        let (window, clock) = window(10, 10);
        for _ in 0..9 {
            assert_eq!(check(&window, A), Ok(()));
            clock.advance(millis(100));
        }
        assert_eq!(check(&window, A), Ok(()));
        assert_eq!(check(&window, A), Err(millis(100)));
        clock.advance(millis(99));
        assert_eq!(check(&window, A), Err(millis(1)));
        clock.advance(millis(1));
        assert_eq!(check(&window, A), Ok(()));
        assert_eq!(check(&window, A), Err(millis(100)));
    }

    #[test]
    fn nine_requests_per_second_never_wait() {
        let (window, clock) = window(10, 10);
        for _ in 0..90 {
            assert_eq!(check(&window, A), Ok(()));
            clock.advance(Duration::from_nanos(1_000_000_000 / 9));
        }
    }

    #[test]
    fn clients_have_separate_limits() {
        let (window, _) = window(1, 10);
        assert_eq!(check(&window, A), Ok(()));
        assert_eq!(check(&window, B), Ok(()));
        assert_eq!(check(&window, A), Err(SECOND));
    }

    #[test]
    fn an_ipv6_client_is_its_64_network() {
        let (window, _) = window(1, 10);
        assert_eq!(check(&window, "2001:db8:0:1::1".parse().unwrap()), Ok(()));
        assert_eq!(check(&window, "2001:db8:0:1:ffff::9".parse().unwrap()), Err(SECOND));
        assert_eq!(check(&window, "2001:db8:0:2::1".parse().unwrap()), Ok(()));
    }

    #[test]
    fn newcomers_to_a_full_table_share_one_log_and_known_clients_keep_theirs() {
        let (window, clock) = window(2, 2);
        assert_eq!((check(&window, A), check(&window, B)), (Ok(()), Ok(())));
        assert_eq!((check(&window, client(1)), check(&window, client(2))), (Ok(()), Ok(())));
        assert_eq!(check(&window, client(3)), Err(SECOND));
        assert_eq!((check(&window, A), check(&window, A)), (Ok(()), Err(SECOND)));
        // The table is full, so the next newcomer's request evicts A and B, which are idle by then.
        clock.advance(2 * SECOND);
        assert_eq!((check(&window, client(3)), check(&window, client(3))), (Ok(()), Ok(())));
        assert_eq!(check(&window, client(3)), Err(SECOND));
        assert_eq!(window.limiter.len(), 1);
    }

    #[test]
    fn idle_clients_take_no_memory() {
        let (window, clock) = window(10, 1000);
        for n in 0..1000 {
            assert_eq!(check(&window, client(n)), Ok(()));
        }
        clock.advance(2 * SECOND);
        window.evict_idle();
        let Window { limiter, .. } = window;
        let logs = limiter.into_state_store().logs;
        let logs = logs.lock().unwrap();
        assert_eq!((logs.clients.len(), logs.clients.capacity()), (0, 0));
    }

    #[test]
    fn a_million_distinct_clients_take_bounded_memory() {
        let (window, clock) = window(10, MAX_CLIENTS);
        for n in 0..1_000_000 {
            check(&window, client(n)).ok();
            // 100,000 new clients per second: more than the table holds.
            clock.advance(Duration::from_micros(10));
        }
        assert!(window.limiter.len() <= MAX_CLIENTS);
        let logs = window.admissions.lock().unwrap();
        assert!(logs.clients.capacity() <= 2 * MAX_CLIENTS, "{}", logs.clients.capacity());
        assert!(logs.clients.values().all(|log| log.0.capacity() == 1));
        assert!(logs.overflow.0.len() <= 10);
    }

    #[test]
    fn buckets_have_separate_limits_and_zero_turns_one_off() {
        let limits = RateLimits { sign_in: 1, registration: 0 };
        let limiter = LocalRateLimiter::with_clock(limits, 10, &FakeRelativeClock::default());
        let is_admitted = |bucket| {
            let Check::Decided(decision) = limiter.check(bucket, A.into()) else { panic!("decided at once") };
            decision == Decision::Admitted
        };
        assert_eq!([is_admitted(Bucket::SignIn), is_admitted(Bucket::SignIn)], [true, false]);
        assert!((0..1000).all(|_| is_admitted(Bucket::Registration)));
        assert_eq!((0..20).filter(|_| is_admitted(Bucket::Admin)).count(), 10);
    }

    /// The specification of the limit: a list of all admissions.
    #[derive(Default)]
    struct Model(Vec<(u8, u64)>);

    impl Model {
        /// Times are in nanoseconds.
        fn check(&mut self, client: u8, now: u64, limit: usize) -> Result<(), Duration> {
            let recent = |(by, at): &&(u8, u64)| *by == client && now - at < 1_000_000_000;
            let recent: Vec<u64> = self.0.iter().filter(recent).map(|(_, at)| *at).collect();
            if recent.len() < limit {
                self.0.push((client, now));
                return Ok(());
            }
            Err(Duration::from_nanos(recent[recent.len() - limit] + 1_000_000_000 - now))
        }
    }

    /// Pauses in nanoseconds: none, few, the second and its neighbours, and any.
    fn pauses() -> impl Strategy<Value = u64> {
        prop_oneof![
            4 => Just(0),
            4 => 0_u64..200_000_000,
            1 => 999_999_998_u64..1_000_000_003,
            1 => 0_u64..3_000_000_000,
        ]
    }

    proptest! {
        #[test]
        fn each_decision_is_the_models_and_no_second_has_more_than_the_limit(
            limit in 1_u32..12,
            requests in prop::collection::vec((pauses(), 0_u8..3, prop::bool::weighted(0.05)), 1..300),
        ) {
            let (window, clock) = window(limit, 10);
            let limit = usize::try_from(limit).unwrap();
            let (mut model, mut now) = (Model::default(), 0);
            for (pause, client, evicts) in requests {
                now += pause;
                clock.advance(Duration::from_nanos(pause));
                if evicts {
                    window.evict_idle();
                }
                let address = IpAddr::from([192, 0, 2, client]);
                prop_assert_eq!(check(&window, address), model.check(client, now, limit));
            }
            for client in 0..3 {
                let by = |(by, at): &(u8, u64)| (*by == client).then_some(*at);
                let admitted: Vec<u64> = model.0.iter().filter_map(by).collect();
                for span in admitted.windows(limit + 1) {
                    prop_assert!(span[limit] - span[0] >= 1_000_000_000, "{:?}", span);
                }
            }
        }

        #[test]
        fn clients_below_the_limit_never_wait(limit in 2_u32..50, requests in 100_usize..500) {
            let (window, clock) = window(limit, 10);
            let pause = Duration::from_secs(1) / (limit - 1);
            for _ in 0..requests {
                prop_assert_eq!(check(&window, A), Ok(()));
                clock.advance(pause);
            }
        }

        /// Threads may reach the store in another order than that in which they read the clock.
        #[test]
        fn no_second_has_more_than_the_limit_when_requests_are_reordered(
            limit in 1_usize..6,
            arrivals in prop::collection::vec((0_u64..300, 0_u64..200), 1..200),
        ) {
            let second = Nanos::new(1000);
            let (mut log, mut admitted, mut now) = (Log::default(), Vec::new(), 2000);
            for (pause, delay) in arrivals {
                now += pause;
                let at = Nanos::new(now - delay);
                // What governor decides with a quota of one per second.
                if log.nth_latest(limit).is_none_or(|state| at >= state) {
                    log.push(at + second, limit);
                    admitted.push(now - delay);
                }
            }
            admitted.sort_unstable();
            for span in admitted.windows(limit + 1) {
                prop_assert!(span[limit] - span[0] >= 1000, "{:?}", span);
            }
        }
    }
}
