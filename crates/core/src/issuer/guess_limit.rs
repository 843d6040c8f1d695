//! Wrong passwords for one name, from whatever clients: after some, clients that are new to the account must wait.
//!
//! Nothing is locked. A client that signed in to the account before is not counted and never waits, and the wait of others
//! ends. Names without an account are counted in the same way, so that neither the answer nor its time tells which exist.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::hmac;
use rand::CryptoRng;
use zeroize::Zeroizing;

use super::config::GuessLimits;
use super::mutex::lock;
use crate::clock::Clock;

/// The first wait. Each further wrong password doubles it.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait: 96 guesses a day.
const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// Maximum number of names (at most 25 MiB with the default limit).
const MAX_NAMES: usize = 1 << 16;

/// Interval between removals of names that no longer count.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// The same while the table is full. A removal visits every name.
const SWEEP_INTERVAL_IF_FULL: Duration = Duration::from_secs(1);

/// Counts wrong passwords for each name, in memory. After a restart it begins again.
pub(super) struct GuessLimit {
    limits: GuessLimits,
    clock: Arc<dyn Clock>,
    key: hmac::Key,
    max_names: usize,
    names: Mutex<Names>,
}

/// A name as the table knows it: a MAC under a random key. What clients type as a name may be a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct NameTag([u8; 16]);

#[derive(Default)]
struct Names {
    failures: HashMap<NameTag, Failures>,
    swept_at: Duration,
}

/// The wrong passwords for one name. All times are monotonic.
#[derive(Clone, Debug, Default)]
struct Failures {
    /// When they came: those within the window. Fewer than the limit, and empty once it is reached.
    recent: VecDeque<Duration>,
    throttle: Option<Throttle>,
}

#[derive(Clone, Copy, Debug)]
struct Throttle {
    /// Wrong passwords since it began.
    level: u32,
    /// When the next try is admitted.
    until: Duration,
}

impl GuessLimit {
    /// An empty table.
    pub(super) fn new(limits: GuessLimits, clock: Arc<dyn Clock>, rng: &mut impl CryptoRng) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rng.fill_bytes(key.as_mut());
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_ref());
        Self { limits, clock, key, max_names: MAX_NAMES, names: Mutex::default() }
    }

    /// How wrong passwords for this name are counted: for all its spellings together, as the store finds its account.
    pub(super) fn tag(&self, username: &str) -> NameTag {
        let folded = Zeroizing::new(username.to_ascii_lowercase());
        let mac = hmac::sign(&self.key, folded.as_bytes());
        // Half of it: two of some thousand names never share these 128 bits.
        NameTag(mac.as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// How long a new client must wait for its next try, if it must.
    pub(super) fn wait(&self, name: NameTag) -> Option<Duration> {
        let now = self.clock.monotonic();
        lock(&self.names).failures.get(&name).and_then(|failures| failures.wait(now))
    }

    /// Admits one try just before its password is hashed. Of all that wait for a thread, only one passes at each end of a
    /// wait.
    ///
    /// # Errors
    /// How long the client must wait.
    pub(super) fn admit(&self, name: NameTag) -> Result<(), Duration> {
        let now = self.clock.monotonic();
        let mut names = lock(&self.names);
        let Some(failures) = names.failures.get_mut(&name) else {
            return Ok(());
        };
        if let Some(wait) = failures.wait(now) {
            return Err(wait);
        }
        if failures.are_forgotten(now, self.limits.window) {
            // Otherwise the next wait would begin here, and prolong what is over.
            names.failures.remove(&name);
        } else if let Some(throttle) = failures.throttle.as_mut() {
            throttle.until = now.saturating_add(throttle.wait());
        }
        Ok(())
    }

    /// Counts a wrong password. Returns true if from now on new clients must wait.
    pub(super) fn count_failure(&self, name: NameTag) -> bool {
        let GuessLimits { limit, window } = self.limits;
        if limit == 0 {
            return false;
        }
        let now = self.clock.monotonic();
        let mut names = lock(&self.names);
        names.sweep(now, window, self.max_names);
        names.make_room(name, self.max_names);
        names.failures.entry(name).or_default().add(now, limit, window)
    }

    /// For how many names new clients must wait now.
    pub(super) fn throttled(&self) -> usize {
        let now = self.clock.monotonic();
        lock(&self.names).failures.values().filter(|failures| failures.wait(now).is_some()).count()
    }
}

impl Names {
    fn sweep(&mut self, now: Duration, window: Duration, max_names: usize) {
        let is_full = self.failures.len() >= max_names;
        let interval = if is_full { SWEEP_INTERVAL_IF_FULL } else { SWEEP_INTERVAL };
        if now.saturating_sub(self.swept_at) < interval {
            return;
        }
        self.swept_at = now;
        self.failures.retain(|_, failures| !failures.are_forgotten(now, window));
        // Room for as many again, so that a steady number of names does not reallocate after each removal.
        self.failures.shrink_to(2 * self.failures.len());
    }

    /// In a full table, a new name takes over the failures of the name that has the fewest (the algorithm Space-Saving of
    /// Metwally, Agrawal and El Abbadi, 2005). The count of a name in the table can then be too high, but never too low.
    ///
    /// To make the table forget a name, an attacker needs as many wrong passwords for each of `max_names` others, and gains
    /// one try by that.
    fn make_room(&mut self, name: NameTag, max_names: usize) {
        if self.failures.len() < max_names || self.failures.contains_key(&name) {
            return;
        }
        // Visits every name, which takes less than a twentieth of the hash that was computed before.
        let weakest = self.failures.iter().min_by_key(|(_, failures)| failures.rank()).map(|(tag, _)| *tag);
        if let Some(taken_over) = weakest.and_then(|weakest| self.failures.remove(&weakest)) {
            self.failures.insert(name, taken_over);
        }
    }
}

impl Failures {
    fn wait(&self, now: Duration) -> Option<Duration> {
        self.throttle?.until.checked_sub(now).filter(|wait| !wait.is_zero())
    }

    /// Adds one. Returns true if it begins the throttle.
    fn add(&mut self, now: Duration, limit: u32, window: Duration) -> bool {
        if self.are_forgotten(now, window) {
            *self = Self::default();
        }
        if let Some(throttle) = self.throttle.as_mut() {
            throttle.level = throttle.level.saturating_add(1);
            throttle.until = now.saturating_add(throttle.wait());
            return false;
        }
        while self.recent.front().is_some_and(|at| at.saturating_add(window) <= now) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        if self.recent.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
            return false;
        }
        // Only the wait counts from now on.
        self.recent = VecDeque::new();
        self.throttle = Some(Throttle { level: 0, until: now.saturating_add(SHORTEST_WAIT) });
        true
    }

    /// Whether they no longer count: the window has passed since the last one, and since the end of its wait.
    fn are_forgotten(&self, now: Duration, window: Duration) -> bool {
        self.last().is_none_or(|last| last.saturating_add(window) <= now)
    }

    /// The end of the wait, or else the last failure.
    fn last(&self) -> Option<Duration> {
        self.throttle.map(|throttle| throttle.until).or(self.recent.back().copied())
    }

    /// The order in which names give way: those with fewer failures first, and of these the older ones.
    fn rank(&self) -> (Option<u32>, usize, Option<Duration>) {
        let level = self.throttle.map(|throttle| throttle.level);
        (level, self.recent.len(), self.last())
    }
}

impl Throttle {
    fn wait(self) -> Duration {
        let factor = 1_u32.checked_shl(self.level).unwrap_or(u32::MAX);
        SHORTEST_WAIT.saturating_mul(factor).min(LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::clock::{ManualClock, Timestamp};

    const WINDOW: Duration = Duration::from_mins(15);
    const SECOND: Duration = Duration::from_secs(1);

    fn table(limit: u32, max_names: usize) -> (GuessLimit, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_secs(0)));
        let limits = GuessLimits { limit, window: WINDOW };
        let table = GuessLimit::new(limits, Arc::clone(&clock) as _, &mut StdRng::seed_from_u64(1));
        (GuessLimit { max_names, ..table }, clock)
    }

    /// Fails this often, each time after waiting as long as it must.
    fn fail(table: &GuessLimit, clock: &ManualClock, name: NameTag, times: u32) {
        for _ in 0..times {
            clock.advance(table.wait(name).unwrap_or_default());
            assert_eq!(table.admit(name), Ok(()));
            table.count_failure(name);
        }
    }

    #[test]
    fn from_the_tenth_failure_within_the_window_waits_double_up_to_fifteen_minutes() {
        let (table, clock) = table(10, 10);
        let name = table.tag("alice");
        for _ in 0..9 {
            assert_eq!((table.admit(name), table.count_failure(name)), (Ok(()), false));
        }
        assert_eq!(table.wait(name), None);
        assert!(table.count_failure(name), "it begins");
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
            let wait = seconds * SECOND;
            assert_eq!((table.wait(name), table.admit(name)), (Some(wait), Err(wait)));
            clock.advance(wait - Duration::from_nanos(1));
            assert_eq!(table.wait(name), Some(Duration::from_nanos(1)));
            clock.advance(Duration::from_nanos(1));
            assert_eq!((table.wait(name), table.admit(name)), (None, Ok(())));
            assert!(!table.count_failure(name), "it has begun before");
        }
        assert_eq!(table.wait(table.tag("bob")), None);
        assert_eq!(table.throttled(), 1);
    }

    #[test]
    fn failures_count_within_any_span_of_the_window() {
        let (table, clock) = table(3, 10);
        let name = table.tag("alice");
        for _ in 0..5 {
            table.count_failure(name);
            clock.advance(WINDOW / 2);
        }
        assert_eq!(table.wait(name), None, "never more than two in the window");
        clock.advance(WINDOW);
        table.count_failure(name);
        clock.advance(WINDOW - 2 * SECOND);
        assert!(!table.count_failure(name));
        clock.advance(SECOND);
        assert!(table.count_failure(name));
    }

    #[test]
    fn a_throttle_is_forgotten_when_the_window_has_passed_since_its_last_wait() {
        let (table, clock) = table(2, 10);
        let name = table.tag("alice");
        fail(&table, &clock, name, 4);
        assert_eq!(table.wait(name), Some(4 * SECOND));
        clock.advance(4 * SECOND + WINDOW - SECOND);
        table.count_failure(name);
        assert_eq!(table.wait(name), Some(8 * SECOND), "not yet");
        clock.advance(8 * SECOND + WINDOW);
        assert_eq!(table.admit(name), Ok(()));
        assert!(!table.count_failure(name));
        assert_eq!(table.wait(name), None);
    }

    #[test]
    fn one_try_is_admitted_at_the_end_of_a_wait_and_a_right_password_does_not_prolong_the_next() {
        let (table, clock) = table(1, 10);
        let name = table.tag("alice");
        fail(&table, &clock, name, 2);
        clock.advance(2 * SECOND);
        assert_eq!(table.admit(name), Ok(()));
        for _ in 0..100 {
            assert_eq!(table.admit(name), Err(2 * SECOND));
        }
        clock.advance(2 * SECOND);
        assert_eq!((table.admit(name), table.admit(name)), (Ok(()), Err(2 * SECOND)));
    }

    #[test]
    fn a_limit_of_zero_counts_nothing() {
        let (table, _) = table(0, 10);
        let name = table.tag("alice");
        for _ in 0..100 {
            assert!(!table.count_failure(name));
        }
        assert_eq!((table.wait(name), table.admit(name)), (None, Ok(())));
        assert!(lock(&table.names).failures.is_empty());
    }

    #[test]
    fn names_are_counted_regardless_of_case_and_each_process_has_its_own_tags() {
        let (table, clock) = table(1, 10);
        assert_eq!(table.tag("Alice"), table.tag("aLICE"));
        assert_ne!(table.tag("alice"), table.tag("alice "));
        let limits = GuessLimits { limit: 1, window: WINDOW };
        let other = GuessLimit::new(limits, clock, &mut StdRng::seed_from_u64(2));
        assert_ne!(table.tag("alice"), other.tag("alice"));
    }

    #[test]
    fn guesses_for_many_names_make_the_table_neither_grow_nor_forget_the_name_that_has_more() {
        let (table, clock) = table(3, 100);
        let victim = table.tag("victim");
        fail(&table, &clock, victim, 8);
        for n in 0..400 {
            table.count_failure(table.tag(&n.to_string()));
        }
        assert_eq!(lock(&table.names).failures.len(), 100);
        assert_eq!(table.wait(victim), Some(32 * SECOND));
        clock.advance(32 * SECOND + 2 * WINDOW);
        table.count_failure(victim);
        assert_eq!(lock(&table.names).failures.len(), 1, "what is forgotten is removed");
    }

    proptest! {
        #[test]
        fn one_more_try_for_a_name_costs_as_many_guesses_as_the_table_has_names(
            guesses in prop::collection::vec(0..12_u8, 1..400),
        ) {
            let (table, _) = table(5, 4);
            let mut tries = HashMap::<u8, u32>::new();
            for name in &guesses {
                let tag = table.tag(&name.to_string());
                if table.admit(tag).is_ok() {
                    table.count_failure(tag);
                    *tries.entry(*name).or_default() += 1;
                }
            }
            let most = 5 + u32::try_from(guesses.len()).unwrap() / 4;
            prop_assert!(tries.values().all(|tries| *tries <= most), "{:?}", tries);
        }
    }
}
