//! When this process first saw each key, on both clocks: a wall clock that is set forward must not delete keys early.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use crate::clock::{Clock, ClockAnchor, Timestamp};
use crate::key::Kid;
use crate::key::lifecycle::KeyMetadata;

/// Steps of the wall clock below this are not told apart.
const STEP: Duration = Duration::from_secs(1);

/// An anchor for each key in memory, and a summary for all that are only in the store.
#[derive(Debug)]
pub(super) struct Anchors {
    started: ClockAnchor,
    seen: HashMap<Kid, ClockAnchor>,
    /// Anchors of keys that have left the memory, each for its `kid` and those above. One for each step of the wall clock,
    /// because without a step they say the same.
    left: BTreeMap<Kid, ClockAnchor>,
}

impl Anchors {
    pub(super) fn new(clock: &dyn Clock) -> Self {
        Self { started: ClockAnchor::now(clock), seen: HashMap::new(), left: BTreeMap::new() }
    }

    /// Takes over which keys are in memory now.
    pub(super) fn see(&mut self, keys: &[KeyMetadata], clock: &dyn Clock) {
        let (now, monotonic) = (ClockAnchor::now(clock), clock.monotonic());
        let present: HashSet<_> = keys.iter().map(|key| key.kid).collect();
        let mut gone: Vec<_> = self.seen.extract_if(|kid, _| !present.contains(kid)).collect();
        gone.sort_unstable_by_key(|(kid, _)| *kid);
        for (kid, anchor) in gone {
            let before = self.left_by(kid).unbounded(monotonic);
            if anchor.unbounded(monotonic) > before.plus(STEP) {
                self.left.insert(kid, anchor);
            }
        }
        for key in keys {
            // A key that has ended may be back in memory only to be deleted. It was first seen earlier than now.
            let has_ended = key.expired_at.is_some() || key.revoked_at.is_some();
            let anchor = if has_ended { self.left_by(key.kid) } else { now };
            self.seen.entry(key.kid).or_insert(anchor);
        }
    }

    /// The trusted time for each key in memory.
    pub(super) fn trusted_now(&mut self, wall: Timestamp, monotonic: Duration) -> HashMap<Kid, Timestamp> {
        let trust = |(kid, anchor): (&Kid, &mut ClockAnchor)| (*kid, anchor.trusted_now(wall, monotonic));
        self.seen.iter_mut().map(trust).collect()
    }

    fn left_by(&self, kid: Kid) -> ClockAnchor {
        self.left.range(..=kid).next_back().map_or(self.started, |(_, anchor)| *anchor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::key::lifecycle::Activation;

    const DAY: Duration = Duration::from_hours(24);

    fn key(kid: i64, has_ended: bool, clock: &ManualClock) -> KeyMetadata {
        let activation = if has_ended { Activation::Never } else { Activation::Immediately };
        KeyMetadata::created(Kid(kid), clock.now(), activation, clock.now())
    }

    fn trusted(anchors: &mut Anchors, kid: i64, clock: &ManualClock) -> Timestamp {
        anchors.trusted_now(clock.now(), clock.monotonic())[&Kid(kid)]
    }

    #[test]
    fn an_ended_key_that_comes_back_to_memory_is_trusted_as_long_as_it_was_seen() {
        let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
        let mut anchors = Anchors::new(&clock);
        clock.advance(DAY);
        // The wall clock is set forward by a year, which the monotonic clock contradicts.
        let before = clock.now();
        clock.set(before.plus(DAY * 365));
        anchors.see(&[key(1, true, &clock)], &clock);
        assert_eq!(trusted(&mut anchors, 1, &clock), before, "it was there when the process started");

        // A key that is created now lives by the new time, also when it was out of memory.
        anchors.see(&[key(5, false, &clock)], &clock);
        anchors.see(&[], &clock);
        anchors.see(&[key(5, true, &clock), key(4, true, &clock)], &clock);
        assert_eq!(trusted(&mut anchors, 5, &clock), clock.now());
        assert_eq!(trusted(&mut anchors, 4, &clock), before);
    }

    #[test]
    fn without_steps_of_the_clock_nothing_is_kept_for_keys_that_left() {
        let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
        let mut anchors = Anchors::new(&clock);
        for kid in 1..1000 {
            anchors.see(&[key(kid, false, &clock)], &clock);
            clock.advance(DAY);
        }
        assert_eq!((anchors.seen.len(), anchors.left.len()), (1, 0));
    }
}
