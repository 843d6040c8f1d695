//! Two issuers that rotate the keys of one store concurrently act as one.
//!
//! `tests/lifecycle.rs` shows that the plan is right; this test shows that a stale snapshot is never applied.

use std::sync::Arc;
use std::time::Duration;

use jwksd_core::clock::{Clock as _, ManualClock};
use jwksd_core::issuer::{self, IssuerError, Keyring};
use jwksd_core::key::lifecycle::{Phase, RotationPolicy};
use jwksd_core::key::seal::MasterSecret;
use jwksd_core::key::status::KeyStatus;
use jwksd_core::key::{KeySpec, Kid};
use proptest::prelude::*;

use crate::helpers::{DAY, HOUR, MASTER_KEY, MINUTE, Setup, TTL, context};

#[derive(Clone, Copy, Debug)]
enum Event {
    /// Time passes, and both run a tick concurrently.
    Both(u64),
    /// Time passes, and one of them runs a tick.
    One(u64, bool),
    /// Both are asked to create the next key, concurrently.
    RotateBoth,
    /// One revokes the current key while the other runs a tick.
    Revoke(bool),
    /// One expires the current key while the other runs a tick.
    Expire(bool),
    /// One rotates immediately while the other runs a tick.
    RotateNow(bool),
    /// One is opened again, as after a crash.
    Reopen(bool),
    /// The wall clock is set forward or back by this many minutes.
    Jump(i64),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let minutes = 1..600_u64;
    let event = prop_oneof![
        4 => minutes.clone().prop_map(Event::Both),
        4 => (minutes, any::<bool>()).prop_map(|(minutes, which)| Event::One(minutes, which)),
        1 => Just(Event::RotateBoth),
        1 => any::<bool>().prop_map(Event::Revoke),
        1 => any::<bool>().prop_map(Event::Expire),
        1 => any::<bool>().prop_map(Event::RotateNow),
        1 => any::<bool>().prop_map(Event::Reopen),
        1 => (-3000..3000_i64).prop_map(Event::Jump),
    ];
    proptest::collection::vec(event, 4..14)
}

struct Pair {
    setup: Setup,
    one: Arc<Keyring>,
    two: Arc<Keyring>,
    clock: Arc<ManualClock>,
    /// Whether the clock was set back: then a key that was too old to sign next may be young enough again.
    went_back: bool,
}

impl Pair {
    async fn open() -> Self {
        let setup = Setup::default();
        let (one, two) = tokio::join!(keyring(&setup), keyring(&setup));
        let clock = Arc::clone(&setup.clock);
        Self { setup, one, two, clock, went_back: false }
    }

    fn pick(&self, which: bool) -> (&Arc<Keyring>, &Arc<Keyring>) {
        if which { (&self.one, &self.two) } else { (&self.two, &self.one) }
    }

    async fn happen(&mut self, event: Event) {
        match event {
            Event::Both(minutes) => {
                self.clock.advance(Duration::from_mins(minutes));
                self.both_tick().await;
            }
            Event::One(minutes, which) => {
                self.clock.advance(Duration::from_mins(minutes));
                self.pick(which).0.tick().await.unwrap();
            }
            Event::RotateBoth => {
                let ask = |keyring: &Arc<Keyring>| {
                    let keyring = Arc::clone(keyring);
                    tokio::spawn(async move { keyring.rotate(false).await })
                };
                let (one, two) = (ask(&self.one), ask(&self.two));
                let made =
                    [one.await.unwrap(), two.await.unwrap()].iter().filter(|made| made.is_ok()).count();
                assert!(made <= 1, "at most one of them creates a next key");
            }
            Event::Revoke(which) => {
                self.while_the_other_ticks(which, async |keyring, current| keyring.revoke(current).await)
                    .await;
            }
            Event::Expire(which) => {
                self.while_the_other_ticks(which, async |keyring, current| keyring.expire(current).await)
                    .await;
            }
            Event::RotateNow(which) => {
                self.while_the_other_ticks(which, async |keyring, _| keyring.rotate(true).await).await;
            }
            Event::Reopen(which) => {
                let reopened = keyring(&self.setup).await;
                *(if which { &mut self.one } else { &mut self.two }) = reopened;
            }
            Event::Jump(minutes) => {
                let by = Duration::from_mins(minutes.unsigned_abs());
                let now = self.clock.now();
                self.clock.set(if minutes < 0 { now.minus(by) } else { now.plus(by) });
                self.went_back |= minutes < 0;
            }
        }
    }

    /// The command may be refused: the other may have expired that key meanwhile.
    async fn while_the_other_ticks(
        &self,
        which: bool,
        ask: impl AsyncFn(&Keyring, Kid) -> Result<(), IssuerError>,
    ) {
        let (asked, looking) = self.pick(which);
        let current = asked.report().into_iter().find(|key| key.phase == Phase::Current);
        let asking = async {
            if let Some(current) = current {
                let _ = ask(asked, current.kid).await;
            }
        };
        let ((), looked) = tokio::join!(asking, looking.tick());
        looked.unwrap();
    }

    async fn both_tick(&self) {
        let look = |keyring: &Arc<Keyring>| {
            let keyring = Arc::clone(keyring);
            tokio::spawn(async move { keyring.tick().await })
        };
        let (one, two) = (look(&self.one), look(&self.two));
        one.await.unwrap().unwrap();
        two.await.unwrap().unwrap();
    }

    /// The invariants after both have run a tick, one after the other.
    async fn check(&self) {
        self.one.tick().await.unwrap();
        self.two.tick().await.unwrap();
        self.one.tick().await.unwrap();
        let (one, two) = (self.one.report(), self.two.report());
        assert_eq!(one, two, "both report the same keys");
        let of = |phase| one.iter().filter(|key| key.phase == phase).collect::<Vec<&KeyStatus>>();
        let (current, next) = (of(Phase::Current), of(Phase::Next));
        assert!(next.len() <= 1 || self.went_back, "more than one next key: {one:?}");
        assert_eq!(current.len(), 1, "{one:?}");
        assert!(
            self.clock.now().plus(TTL).as_secs() <= current[0].exp.as_secs(),
            "the current key expires before a new token: {one:?}"
        );
        assert!(!of(Phase::Expired).is_empty(), "{one:?}");
        let kids: Vec<_> = one.iter().map(|key| key.kid).collect();
        assert!(kids.is_sorted(), "{kids:?}");
    }
}

async fn keyring(setup: &Setup) -> Arc<Keyring> {
    let secret = MasterSecret::parse(MASTER_KEY).unwrap();
    let context = context(&setup.dir, &setup.clock).await;
    let master_key = issuer::initialize(&secret, &context).await.unwrap();
    Arc::new(Keyring::open(context, master_key, policy(), KeySpec::default()).await.unwrap())
}

fn policy() -> RotationPolicy {
    RotationPolicy::new(DAY, 2 * DAY, 2 * HOUR, TTL, 5 * MINUTE).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn two_issuers_on_one_store_maintain_one_set_of_keys(events in events()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let mut pair = Pair::open().await;
            pair.check().await;
            for event in events {
                pair.happen(event).await;
                pair.check().await;
            }
        });
    }
}
