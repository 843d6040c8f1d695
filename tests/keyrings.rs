//! Several keyrings on one store, as processes on machines whose clocks differ. The store's clock decides.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::jwk::JwkSet;
use jwksd_core::clock::{Clock as _, ManualClock, StoreClock, Timestamp};
use jwksd_core::issuer::{self, BlockingPool, Context, Keyring, SharedRng};
use jwksd_core::key::lifecycle::{Phase, RotationPolicy};
use jwksd_core::key::seal::MasterSecret;
use jwksd_core::key::{KeyProfile, KeySpec};
use jwksd_jose::algorithm::Algorithm;
use jwksd_store_sqlite::{DatabaseFile, SqliteStore};
use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tempfile::TempDir;
use tokio::task::JoinSet;

const HOUR: Duration = Duration::from_hours(1);
const LIFETIME: Duration = Duration::from_hours(24);
const LEAD: Duration = Duration::from_hours(2);
const TTL: Duration = Duration::from_mins(15);
const MASTER_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A process on a machine of its own.
struct Replica {
    keyring: Keyring,
    clock: Arc<StoreClock<Arc<ManualClock>>>,
    machine: Arc<ManualClock>,
}

impl Replica {
    /// A round: it asks the store for its time and for what has changed, and changes what is due.
    async fn tick(&self, store_time: Timestamp) {
        let now = self.clock.monotonic();
        self.clock.observe(store_time, now, now);
        self.keyring.tick().await.unwrap();
    }

    fn published(&self) -> JwkSet {
        let publication = self.keyring.publication().expect("the JWKS is never empty");
        serde_json::from_slice(&publication.body).unwrap()
    }

    fn kids(&self) -> Vec<String> {
        self.published().keys.into_iter().map(|key| key.common.key_id.unwrap()).collect()
    }

    fn signer(&self) -> String {
        self.keyring.signer(self.clock.now()).expect("a key can sign").published_kid().to_owned()
    }
}

/// Replicas on one store, and the clock of the store.
struct Fleet {
    replicas: Vec<Arc<Replica>>,
    store_time: Timestamp,
    _dir: TempDir,
}

impl Fleet {
    /// Machines that are this many seconds before or behind the store.
    async fn start(skews: &[i64]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = DatabaseFile::parse(dir.path().join("store.db").to_str().unwrap()).unwrap();
        let store_time = Timestamp::from_secs(1_900_000_000);
        let mut replicas = Vec::new();
        for skew in skews {
            replicas.push(Arc::new(replica(&file, store_time, *skew).await));
        }
        Self { replicas, store_time, _dir: dir }
    }

    fn pass(&mut self, time: Duration) {
        self.store_time = self.store_time.plus(time);
        for replica in &self.replicas {
            replica.machine.advance(time);
        }
    }

    /// All of them at the same time.
    async fn tick(&self) {
        let mut ticks = JoinSet::new();
        for replica in self.replicas.iter().map(Arc::clone) {
            let store_time = self.store_time;
            ticks.spawn(async move { replica.tick(store_time).await });
        }
        while let Some(done) = ticks.join_next().await {
            done.unwrap();
        }
        // What the others have done meanwhile is seen by the next round.
        for replica in &self.replicas {
            replica.tick(self.store_time).await;
        }
    }
}

async fn replica(file: &DatabaseFile, store_time: Timestamp, skew: i64) -> Replica {
    let machine = Arc::new(ManualClock::at(Timestamp::from_secs(store_time.as_secs() + skew)));
    let clock = Arc::new(StoreClock::on(Arc::clone(&machine)));
    clock.observe(store_time, Duration::ZERO, Duration::ZERO);
    let context = Context {
        store: Arc::new(SqliteStore::open(file).await.unwrap()),
        clock: Arc::clone(&clock) as _,
        rng: SharedRng::new(StdRng::seed_from_u64(skew.unsigned_abs())),
        pool: BlockingPool::new(1, Arc::clone(&clock) as _).unwrap(),
    };
    let master_key = issuer::initialize(&MasterSecret::parse(MASTER_KEY).unwrap(), &context).await.unwrap();
    let policy = RotationPolicy::new(LIFETIME, HOUR, LEAD, TTL, Duration::from_mins(5)).unwrap();
    // Keys that cost almost nothing.
    let profile = KeyProfile { algorithm: Algorithm::EdDsa, ..KeyProfile::default() };
    let spec = KeySpec { profile, ..KeySpec::default() };
    let keyring = Keyring::open(context, master_key, policy, spec).await.unwrap();
    Replica { keyring, clock, machine }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_due_moment_that_three_keyrings_meet_at_once_makes_one_key_a_thousand_times() {
    let mut fleet = Fleet::start(&[-90, 0, 90]).await;
    let (mut single, mut due) = (Fleet::start(&[0]).await, 0);
    while due < 1000 {
        for fleet in [&mut fleet, &mut single] {
            fleet.pass(Duration::from_mins(19 * 60 + 7));
            fleet.tick().await;
        }
        let expected = single.replicas[0].kids();
        for replica in &fleet.replicas {
            assert_eq!(replica.kids(), expected, "three keyrings do what one does");
            assert_eq!(replica.signer(), single.replicas[0].signer());
        }
        due = expected.last().unwrap().parse().unwrap();
    }
}

#[derive(Clone, Debug)]
enum Event {
    /// Time passes, and these replicas run a round, in this order.
    Pass(Duration, Vec<usize>),
    /// The wall clock of a machine is set, by seconds.
    Jump(usize, i64),
    /// No process runs for a while.
    Down(Duration),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let minutes = |range: std::ops::Range<u64>| range.prop_map(Duration::from_mins);
    let order = || proptest::collection::vec(0..3_usize, 1..3);
    let event = prop_oneof![
        6 => (minutes(1..50), order()).prop_map(|(time, order)| Event::Pass(time, order)),
        4 => (minutes(50..900), order()).prop_map(|(time, order)| Event::Pass(time, order)),
        1 => (0..3_usize, -100_000..100_000_i64).prop_map(|(machine, by)| Event::Jump(machine, by)),
        1 => minutes(300..10_000).prop_map(Event::Down),
    ];
    proptest::collection::vec(event, 10..40)
}

/// What verifiers of all replicas together have seen.
#[derive(Default)]
struct Seen {
    /// Since when every replica publishes a key; nothing for one that was made in a hurry, after a downtime.
    published: HashMap<String, Option<Timestamp>>,
    signers: Vec<String>,
}

impl Seen {
    /// Judges what the replicas publish and sign with, after all of them have asked the store.
    fn judge(&mut self, fleet: &Fleet, after_downtime: bool) {
        let now = fleet.store_time;
        let sets: Vec<_> = fleet.replicas.iter().map(|replica| replica.kids()).collect();
        assert!(sets.iter().all(|set| *set == sets[0]), "all publish the same: {sets:?}");
        assert!(sets[0].len() <= 4, "{sets:?}");
        for kid in &sets[0] {
            self.published.entry(kid.clone()).or_insert((!after_downtime).then_some(now));
        }
        let signer = fleet.replicas[0].signer();
        for replica in &fleet.replicas {
            assert_eq!(replica.signer(), signer);
            let report = replica.keyring.report();
            let key = report.iter().find(|key| key.kid.to_string() == signer).unwrap();
            assert_eq!(key.phase, Phase::Current);
            assert!(now.plus(TTL) <= key.exp, "a token of full life does not outlive its key");
            for key in report.iter().filter(|key| sets[0].contains(&key.kid.to_string())) {
                assert!(key.exp > now, "an expired key is not published");
            }
        }
        if self.signers.last() != Some(&signer) {
            assert!(!self.signers.contains(&signer), "a key that has retired does not sign again");
            let lead = self.published[&signer].map(|published| now.since(published));
            assert!(
                lead.is_none_or(|lead| lead >= LEAD) || after_downtime,
                "key {signer} signs after {lead:?}"
            );
            self.signers.push(signer);
        }
    }
}

async fn live_through(events: Vec<Event>) {
    let mut fleet = Fleet::start(&[-90, 0, 90]).await;
    let (mut seen, mut after_downtime) = (Seen::default(), true);
    for event in events {
        match event {
            Event::Jump(machine, by) => {
                let machine = &fleet.replicas[machine].machine;
                machine.set(Timestamp::from_secs(machine.now().as_secs() + by));
                continue;
            }
            Event::Down(time) => {
                fleet.pass(time);
                after_downtime = true;
            }
            Event::Pass(time, order) => {
                // Rounds are due four times a second, and the policy has a margin of a minute.
                let steps = u32::try_from(time.as_secs() / 40 + 1).unwrap();
                for _ in 0..steps {
                    fleet.pass(time / steps);
                    for replica in &order {
                        fleet.replicas[*replica].tick(fleet.store_time).await;
                    }
                    for replica in &fleet.replicas {
                        replica.tick(fleet.store_time).await;
                    }
                    seen.judge(&fleet, after_downtime);
                    after_downtime = false;
                }
                continue;
            }
        }
        for replica in &fleet.replicas {
            replica.tick(fleet.store_time).await;
        }
        seen.judge(&fleet, true);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn for_weeks_three_keyrings_with_clocks_that_differ_and_jump_publish_one_set_and_keep_the_lead(events in events()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(live_through(events));
    }
}
