//! The invariants of key rotation, over arbitrary policies, clocks that jump, and downtimes of hours to months.
//!
//! The simulated world has the two clocks of a process, and a third that the process cannot read: the true time.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use jwksd_core::clock::Timestamp;
use jwksd_core::key::lifecycle::{
    Action, Activation, KeyMetadata, KeyTimeline, Phase, PlanContext, RotationPolicy, plan,
};
use jwksd_core::key::{KeyProfile, Kid};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
struct Times {
    lifetime: Duration,
    retention: Duration,
    lead: Duration,
    ttl: Duration,
}

impl Times {
    fn policy(self) -> RotationPolicy {
        RotationPolicy::new(self.lifetime, self.retention, self.lead, self.ttl, self.lead / 2).unwrap()
    }
}

/// Lifetimes of seconds to months, minimal and generous, with and without a lead.
fn times() -> impl Strategy<Value = Times> {
    let seconds = |range: Range<u64>| range.prop_map(Duration::from_secs);
    (
        seconds(1..10_000_u64),
        prop_oneof![Just(Duration::ZERO), seconds(2..20_000_u64)],
        prop_oneof![seconds(0..10_u64), seconds(0..1_000_000_u64)],
        seconds(0..1_000_000_u64),
    )
        .prop_map(|(ttl, lead, spare, retention)| {
            let least = if lead.is_zero() { ttl } else { Duration::from_secs(ttl.as_secs().div_ceil(16)) };
            let handover = (lead * 2).max(SECOND * 2).max(least);
            Times { lifetime: handover + ttl + spare, retention, lead, ttl }
        })
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// Time passes, and the rotation runs.
    Pass(Duration),
    /// Time passes while nothing runs: a downtime. The monotonic clock starts again at zero.
    Down(Duration),
    /// The wall clock is set forward.
    Forward(Duration),
    /// The wall clock is set back.
    Back(Duration),
    /// An operator revokes the current key.
    Revoke,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let millis = |range: Range<u64>| range.prop_map(Duration::from_millis);
    let event = prop_oneof![
        8 => millis(1..5_000_u64).prop_map(Event::Pass),
        8 => millis(1..20_000_000_u64).prop_map(Event::Pass),
        1 => millis(1..10_000_000_000_u64).prop_map(Event::Down),
        1 => millis(1..1_000_000_000_u64).prop_map(Event::Forward),
        1 => millis(1..1_000_000_000_u64).prop_map(Event::Back),
        1 => Just(Event::Revoke),
    ];
    proptest::collection::vec(event, 1..120)
}

/// A store and a process that uses it.
struct World {
    times: Times,
    lives: Vec<KeyMetadata>,
    wall: Timestamp,
    /// The true time since the beginning.
    truth: Duration,
    /// Wall and true time when the process first saw each key, or when the wall clock was set back since.
    sights: HashMap<Kid, (Timestamp, Duration)>,
    /// The true time at which each key was published, and at which it expired.
    published: HashMap<Kid, Duration>,
    ended: HashMap<Kid, Duration>,
    phases: HashMap<Kid, Phase>,
    next_kid: i64,
    /// What the process has created last. A process that starts again does not know it.
    last_created: Option<(Kid, Timestamp)>,
    /// Whether the clock was set back: then a key that was too old to sign next may be young enough again.
    went_back: bool,
}

impl World {
    fn new(times: Times) -> Self {
        let wall = Timestamp::from_millis(1_800_000_000_123);
        Self {
            times,
            lives: Vec::new(),
            wall,
            truth: Duration::ZERO,
            sights: HashMap::new(),
            published: HashMap::new(),
            ended: HashMap::new(),
            phases: HashMap::new(),
            next_kid: 1,
            last_created: None,
            went_back: false,
        }
    }

    fn moment(&mut self) -> PlanContext {
        let now = (self.wall, self.truth);
        for life in &self.lives {
            let sight = self.sights.entry(life.kid).or_insert(now);
            *sight = earlier(*sight, now);
        }
        let watched =
            self.sights.iter().map(|(kid, (wall, truth))| (*kid, wall.plus(self.truth - *truth))).collect();
        PlanContext {
            wall: self.wall,
            watched,
            newest_signer: None,
            last_created: self.last_created,
            longer_tokens_until: None,
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Pass(time) => self.pass(time),
            Event::Down(time) => {
                self.pass(time);
                self.sights.clear();
                self.last_created = None;
            }
            Event::Forward(by) => {
                self.wall = self.wall.plus(by);
                self.note_ends(Duration::ZERO);
            }
            Event::Back(by) => {
                self.wall = self.wall.minus(by);
                self.went_back = true;
            }
            Event::Revoke => {
                if let Some(kid) = KeyTimeline::at(&self.lives, self.wall).current().map(|key| key.kid) {
                    let wall = self.wall;
                    self.life(kid).revoked_at = Some(wall);
                }
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.wall = self.wall.plus(time);
        self.truth += time;
        self.note_ends(time);
    }

    /// Records when keys reached their `exp` in true time, if that was within this last span.
    fn note_ends(&mut self, within: Duration) {
        for life in self.lives.iter().filter(|life| life.exp <= self.wall && life.published_at.is_some()) {
            let ago = self.wall.since(life.exp).min(within);
            self.ended.entry(life.kid).or_insert(self.truth - ago);
        }
    }

    fn life(&mut self, kid: Kid) -> &mut KeyMetadata {
        self.lives.iter_mut().find(|life| life.kid == kid).unwrap()
    }

    /// Plans and applies a rotation, and checks each action.
    fn rotate(&mut self) {
        let policy = self.times.policy();
        let now = self.moment();
        let before = self.lives.clone();
        let wall = self.wall;
        for action in plan(&before, &policy, &now) {
            match action {
                Action::Delete { kid, .. } => self.delete(kid),
                Action::Expire { kid, .. } => {
                    self.life(kid).expired_at = Some(wall);
                }
                Action::Create { exp, signs, .. } => {
                    let kid = Kid(self.next_kid);
                    self.next_kid += 1;
                    self.lives.push(KeyMetadata::created(kid, exp, signs, wall));
                    self.published.insert(kid, self.truth);
                    if signs != Activation::Never {
                        self.last_created = Some((kid, wall));
                    }
                    if signs == Activation::Immediately && !self.times.lead.is_zero() {
                        self.expect_no_other_key_covers(&before);
                    }
                }
                Action::Promote { kid, .. } => {
                    if self.truth - self.published[&kid] < self.times.lead {
                        self.expect_no_signing_key_covers(&before);
                    }
                    self.life(kid).activated_at = Some(wall);
                }
                Action::ResetPublishedAt { kid, .. } => self.life(kid).published_at = Some(wall),
                Action::Shorten { kid, exp, .. } => self.shorten(kid, exp),
            }
        }
        let now = self.moment();
        expect_settled(&plan(&self.lives, &policy, &now));
    }

    /// A process that saw the key expire keeps it for the retention in true time, whatever the wall clock reads.
    fn delete(&mut self, kid: Kid) {
        if let (Some((_, sight)), Some(ended)) = (self.sights.get(&kid), self.ended.get(&kid)) {
            let kept = self.truth - *ended;
            let has_seen_the_end = sight <= ended;
            assert!(
                !has_seen_the_end || kept + SECOND >= self.times.retention,
                "{kid} was kept for {kept:?} only"
            );
        }
        let newest = KeyTimeline::at(&self.lives, self.wall).newest_expired().map(|key| key.kid);
        assert_ne!(newest, Some(kid), "the newest expired key is kept");
        self.lives.retain(|life| life.kid != kid);
    }

    /// Only a key that no longer signs ends earlier, and not before the tokens that it signed until now.
    fn shorten(&mut self, kid: Kid, exp: Timestamp) {
        let (wall, ttl) = (self.wall, self.times.ttl);
        let signer = KeyTimeline::at(&self.lives, wall).current().map(|key| key.kid);
        assert!(Some(kid) < signer, "{kid} still signs");
        let life = self.life(kid);
        assert!(wall.plus(ttl) <= exp && exp < life.exp, "{kid} ends {exp} instead of {}", life.exp);
        life.exp = exp;
    }

    fn expect_no_signing_key_covers(&self, lives: &[KeyMetadata]) {
        let covering =
            KeyTimeline::at(lives, self.wall).current().filter(|key| key.covers(self.wall, self.times.ttl));
        assert_eq!(covering, None, "a key signed before its lead although another one could");
    }

    fn expect_no_other_key_covers(&self, lives: &[KeyMetadata]) {
        self.expect_no_signing_key_covers(lives);
        let covering =
            KeyTimeline::at(lives, self.wall).next().find(|key| key.covers(self.wall, self.times.ttl));
        assert_eq!(covering, None, "a new key signed immediately although a published one could");
    }

    /// The invariants after each rotation.
    fn check(&mut self) {
        let keys = KeyTimeline::at(&self.lives, self.wall);
        let current = keys.current().expect("there is always a current key");
        assert!(current.covers(self.wall, self.times.ttl), "the current key covers a whole token");
        assert!(keys.newest_expired().is_some(), "there is always an expired key");
        let allowance = Duration::from_secs(u64::from(!self.times.lead.is_zero()));
        let will_sign = |key: &&KeyMetadata| {
            let learnt = key.published_at.unwrap().plus(self.times.lead + allowance);
            key.covers(learnt.max(self.wall), self.times.ttl)
        };
        let next = keys.next().filter(will_sign).count();
        assert!(next <= 1 || self.went_back, "more than one key can sign next: {next}");
        let phases: Vec<_> = self.lives.iter().map(|life| (life.kid, keys.phase(life))).collect();
        for (life, (kid, phase)) in self.lives.iter().zip(phases) {
            let is_published = matches!(phase, Phase::Next | Phase::Current | Phase::Retiring);
            assert_eq!(is_published, life.is_published(self.wall));
            let before = self.phases.insert(kid, phase).unwrap_or(phase);
            assert!(before <= phase, "{kid} went from {before:?} back to {phase:?}");
        }
    }
}

/// After a plan is applied, only deletions of replaced keys are left.
fn expect_settled(plan: &[Action]) {
    assert!(plan.iter().all(|action| matches!(action, Action::Delete { .. })), "{plan:?}");
}

/// Of two readings of both clocks, the one that gives the earlier current time.
fn earlier(then: (Timestamp, Duration), now: (Timestamp, Duration)) -> (Timestamp, Duration) {
    if now.0 < then.0.plus(now.1 - then.1) { now } else { then }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_hold_after_every_rotation(times in times(), events in events()) {
        let mut world = World::new(times);
        world.rotate();
        world.check();
        for event in events {
            world.happen(event);
            world.rotate();
            world.check();
        }
    }

    #[test]
    fn without_disturbances_every_key_but_the_first_signs_only_after_its_lead(
        lead in 2..30_u64, ttl in 1..30_u64, spare in 4..30_u64, tick in 50..500_u64,
    ) {
        let seconds = Duration::from_secs;
        let times = Times {
            lifetime: seconds(lead * 2 + ttl + spare), retention: seconds(5), lead: seconds(lead), ttl: seconds(ttl),
        };
        let mut world = World::new(times);
        world.rotate();
        while world.truth < times.lifetime * 4 {
            world.pass(Duration::from_millis(tick));
            let now = world.moment();
            for action in plan(&world.lives, &times.policy(), &now) {
                match action {
                    Action::Promote { kid, .. } => {
                        let published = world.truth - world.published[&kid];
                        prop_assert!(published >= times.lead, "{kid} was published for {published:?}");
                    }
                    Action::Create { signs, .. } => prop_assert_eq!(signs, Activation::AfterLead),
                    Action::Delete { .. } | Action::Expire { .. } => {}
                    Action::ResetPublishedAt { kid, .. } | Action::Shorten { kid, .. } => {
                        prop_assert!(false, "{kid} was corrected although the clock was not set");
                    }
                }
            }
            world.rotate();
            world.check();
        }
        prop_assert!(world.next_kid >= 5, "too few keys: {}", world.next_kid);
    }

    #[test]
    fn after_the_last_disturbance_a_key_with_the_lifetime_of_the_policy_signs(
        times in times(), events in events(),
    ) {
        let mut world = World::new(times);
        world.rotate();
        for event in events {
            world.happen(event);
            world.rotate();
        }
        for _ in 0..8 {
            world.pass(times.lead / 4 + SECOND);
            world.rotate();
        }
        let current = KeyTimeline::at(&world.lives, world.wall).current().unwrap();
        prop_assert!(current.exp <= world.wall.plus(times.lifetime), "{} expires {:?}", current.kid, current.exp);
    }

    // Arbitrary tables, including those that jwksd does not create.
    #[test]
    fn from_any_set_of_keys_one_rotation_gives_a_signing_key(
        times in times(),
        keys in proptest::collection::vec(
            (-5_000_000..5_000_000_i64, -5_000_000..5_000_000_i64, any::<[bool; 4]>()), 0..12,
        ),
    ) {
        let mut world = World::new(times);
        let now = world.wall;
        for (exp, at, [published, signs, expired, revoked]) in keys {
            let kid = Kid(world.next_kid);
            world.next_kid += 1;
            let at = Timestamp::from_secs(now.as_secs() + at);
            world.published.insert(kid, Duration::ZERO);
            world.lives.push(KeyMetadata {
                kid,
                exp: Timestamp::from_secs(now.as_secs() + exp),
                created_at: at,
                published_at: published.then_some(at),
                activated_at: signs.then_some(at),
                expired_at: expired.then_some(at),
                revoked_at: revoked.then_some(at),
                is_taken_over: false,
                profile: None,
            });
        }
        let wall = world.wall;
        for action in plan(&world.lives.clone(), &times.policy(), &world.moment()) {
            match action {
                Action::Delete { kid, .. } => world.lives.retain(|life| life.kid != kid),
                Action::Expire { kid, .. } => world.life(kid).expired_at = Some(wall),
                Action::Create { exp, signs, .. } => {
                    let kid = Kid(world.next_kid);
                    world.next_kid += 1;
                    world.lives.push(KeyMetadata::created(kid, exp, signs, wall));
                }
                Action::Promote { kid, .. } => world.life(kid).activated_at = Some(wall),
                Action::ResetPublishedAt { kid, .. } => world.life(kid).published_at = Some(wall),
                Action::Shorten { kid, exp, .. } => world.shorten(kid, exp),
            }
        }
        let keys = KeyTimeline::at(&world.lives, wall);
        prop_assert!(keys.current().is_some_and(|key| key.covers(wall, times.ttl)));
        let now = world.moment();
        expect_settled(&plan(&world.lives, &times.policy(), &now));
    }

    // A first start with a wrong clock, and a taken-over key that never ends, each in any policy.
    #[test]
    fn a_key_that_outlives_the_policy_ends_one_token_after_its_successor_signs(
        times in times(), ahead in 2..1000_u64, is_taken_over in any::<bool>(),
    ) {
        let mut world = World::new(times);
        let far = world.wall.plus(times.lifetime * u32::try_from(ahead).unwrap());
        if is_taken_over {
            world.lives.push(KeyMetadata::created(Kid(1), Timestamp::from_secs(far.as_secs()), Activation::AfterLead, world.wall));
            world.published.insert(Kid(1), world.truth);
            world.next_kid = 2;
            world.rotate();
        } else {
            let now = std::mem::replace(&mut world.wall, far);
            world.rotate();
            world.wall = now;
            world.rotate();
        }
        let mut handed_over = None;
        while handed_over.is_none() {
            world.pass(times.lead / 4 + SECOND);
            world.rotate();
            let signer = KeyTimeline::at(&world.lives, world.wall).current().unwrap().kid;
            handed_over = (signer != Kid(1)).then_some(world.wall);
            prop_assert!(world.truth <= times.lead * 2 + SECOND * 8, "no successor signs");
        }
        let latest = handed_over.unwrap().plus(times.ttl + SECOND * 4);
        let first = world.lives.iter().find(|life| life.kid == Kid(1)).unwrap();
        prop_assert!(first.exp <= latest, "{} instead of {latest}", first.exp);
    }

    // Two processes with different policies on one store, whose ticks interleave.
    #[test]
    fn two_policies_on_one_store_create_keys_no_faster_than_each_policy_says(one in times(), other in times()) {
        let (policies, mut last) = ([one.policy(), other.policy()], [None, None]);
        let mut world = World::new(one);
        let mut created = [0_u32; 2];
        let span = Duration::from_mins(2);
        while world.truth < span {
            for (process, policy) in policies.iter().enumerate() {
                world.pass(Duration::from_millis(125));
                world.last_created = last[process];
                let before = world.next_kid;
                let moment = world.moment();
                let wall = world.wall;
                for action in plan(&world.lives.clone(), policy, &moment) {
                    match action {
                        Action::Delete { kid, .. } => world.lives.retain(|life| life.kid != kid),
                        Action::Expire { kid, .. } => world.life(kid).expired_at = Some(wall),
                        Action::Create { exp, signs, .. } => {
                            let kid = Kid(world.next_kid);
                            world.next_kid += 1;
                            world.lives.push(KeyMetadata::created(kid, exp, signs, wall));
                            if signs != Activation::Never {
                                last[process] = Some((kid, wall));
                            }
                        }
                        Action::Promote { kid, .. } => world.life(kid).activated_at = Some(wall),
                        Action::ResetPublishedAt { kid, .. } => world.life(kid).published_at = Some(wall),
                        Action::Shorten { kid, exp, .. } => world.life(kid).exp = exp,
                    }
                }
                created[process] += u32::try_from(world.next_kid - before).unwrap();
            }
            let keys = KeyTimeline::at(&world.lives, world.wall);
            let published = world.lives.iter().filter(|life| keys.publishes(life)).count();
            prop_assert!(published <= 100, "{published} keys are published");
        }
        for (times, created) in [one, other].into_iter().zip(created) {
            // Half of what is left after a token and two leads: no policy rotates faster.
            let needed = times.ttl + if times.lead.is_zero() { times.lead } else { times.lead + SECOND };
            let interval = (times.lifetime - needed.min(times.lifetime)).mul_f64(0.5).saturating_sub(SECOND * 60).max(SECOND / 2);
            let most = span.as_secs_f64() / interval.as_secs_f64() + 4.0;
            prop_assert!(f64::from(created) <= most, "{created} keys, at most {most}");
        }
    }
}

proptest! {
    // Each case has many keys and takes long.
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    // Otherwise processes with different KEY_ALG would replace each other's keys.
    #[test]
    fn no_plan_depends_on_the_kinds_of_the_keys(
        times in times(), events in events(), kinds in proptest::collection::vec(0..4_usize, 1..20),
    ) {
        let profiles = [
            KeyProfile::from_names("RS256", "number"),
            KeyProfile::from_names("ES256", "thumbprint"),
            KeyProfile::from_names("EdDSA", "number"),
            None,
        ];
        let mut world = World::new(times);
        for event in events {
            world.happen(event);
            let (lives, moment) = (world.lives.clone(), world.moment());
            let mixed: Vec<_> = lives.iter().zip(kinds.iter().cycle()).map(|(life, kind)| {
                KeyMetadata { profile: profiles[*kind], ..*life }
            }).collect();
            prop_assert_eq!(
                plan(&mixed, &times.policy(), &moment), plan(&lives, &times.policy(), &moment)
            );
            world.rotate();
        }
    }

    // More live keys than the JWKS may have: another program has made them.
    #[test]
    fn only_published_keys_sign_and_a_successor_is_published_for_the_lead(
        count in 90..150_usize, signers in 0..3_usize, exps in proptest::collection::vec(0..300_000_u64, 150),
    ) {
        let hour = Duration::from_hours(1);
        let times = Times { lifetime: hour * 24, retention: hour, lead: hour * 2, ttl: hour / 4 };
        let mut world = World::new(times);
        let mut keys: Vec<_> = (1..).zip(&exps[..count]).map(|(kid, exp)| {
            let exp = Timestamp::from_secs(world.wall.plus(hour * 5 + Duration::from_secs(*exp)).as_secs());
            let key = KeyMetadata::created(Kid(kid), exp, Activation::AfterLead, world.wall);
            KeyMetadata { is_taken_over: true, ..key }
        }).collect();
        keys.iter_mut().take(signers).for_each(|key| key.activated_at = Some(world.wall));
        world.next_kid = i64::try_from(count).unwrap() + 1;
        world.published = keys.iter().map(|key| (key.kid, Duration::ZERO)).collect();
        world.lives = keys;
        while world.truth < hour * 36 {
            world.pass(hour / 2);
            let (lives, moment) = (world.lives.clone(), world.moment());
            let keys = KeyTimeline::at(&lives, world.wall);
            for action in plan(&lives, &times.policy(), &moment) {
                match action {
                    Action::Promote { kid, .. } => {
                        let key = lives.iter().find(|key| key.kid == kid).unwrap();
                        prop_assert!(keys.publishes(key), "{kid} is not published and signs");
                    }
                    Action::Create { signs, .. } => {
                        prop_assert_ne!(signs, Activation::Immediately, "without a lead, at {:?}", world.truth);
                    }
                    _ => {}
                }
            }
            world.rotate();
            let keys = KeyTimeline::at(&world.lives, world.wall);
            let published: Vec<_> = world.lives.iter().filter(|life| keys.publishes(life)).collect();
            prop_assert!(published.len() <= 100, "{} keys are published", published.len());
            let current = keys.current().unwrap();
            prop_assert!(published.contains(&current) && current.covers(world.wall, times.ttl));
        }
    }
}

#[test]
fn at_the_shortest_lifetime_that_is_allowed_few_keys_are_published() {
    for (ttl, lead, refused) in [(900, 0, 1799), (1, 0, 2), (60, 0, 119), (3600, 2, 3824), (96, 2, 101)] {
        let [ttl, lead, refused] = [ttl, lead, refused].map(Duration::from_secs);
        RotationPolicy::new(refused, SECOND, lead, ttl, lead / 2).unwrap_err();
        let mut world =
            World::new(Times { lifetime: refused + SECOND, retention: Duration::ZERO, lead, ttl });
        let mut most = 0;
        while world.truth < (refused + SECOND) * 2 {
            world.rotate();
            world.check();
            most = most.max(world.lives.iter().filter(|life| life.is_published(world.wall)).count());
            world.pass(SECOND / 2);
        }
        assert!(most <= 70, "{most} keys are published for tokens of {ttl:?} and a lead of {lead:?}");
    }
}
