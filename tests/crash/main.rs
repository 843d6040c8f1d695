//! The program killed at any moment, with clients in the middle of their requests: what was answered is there when it
//! starts again, and nothing half-made is.
//!
//! A round starts the server, checks what the last round was answered, and lets several clients register and sign in
//! while keys rotate and the store moves to another master key. Then SIGKILL takes the server, and in some rounds the
//! command beside it. `ledger` remembers what was answered; `file` looks at what the kill has left.
//!
//! The run is short enough for every test run; longer ones by hand, with their figures:
//! `ROUNDS=1000 cargo test --release --test crash -- --nocapture`.

#![expect(
    clippy::disallowed_methods,
    reason = "the real program is killed in real time, at random, and more often by hand"
)]

mod file;
mod ledger;
#[path = "../support/running.rs"]
mod running;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::{Jwk, JwkSet};
use reqwest::{Client, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use ledger::{Figures, Ledger};
use running::{jwks, kid, kill_midway, number, opens, signed_claims, two_master_keys};
use support::{Server, run};

/// Keys live for seconds, so that the server makes one every three; the hashes cost next to nothing.
const SETTINGS: [(&str, &str); 9] = [
    ("KEY_LIFETIME", "8s"),
    ("KEY_LEAD", "0"),
    ("KEY_RETENTION", "30s"),
    ("TOKEN_TTL", "5s"),
    ("JWKS_MAX_AGE", "1s"),
    ("AUTH_RATE_LIMIT", "0"),
    ("REGISTER_RATE_LIMIT", "0"),
    ("ARGON2_MEMORY_KIB", "8"),
    ("ARGON2_ITERATIONS", "1"),
];

const CLIENTS: u32 = 8;

/// How many rounds one store goes through.
const ROUNDS_OF_A_STORE: u64 = 100;

/// The longest that a round runs before the kill.
const LONGEST: Duration = Duration::from_millis(400);

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_the_service_has_all_that_it_answered_and_nothing_half_made() {
    let (rounds, begun) = (number("ROUNDS", 12), Instant::now());
    let mut figures = Figures::default();
    for first in (0..rounds).step_by(usize::try_from(ROUNDS_OF_A_STORE).unwrap()) {
        let mut store = Store::new();
        for round in first..rounds.min(first + ROUNDS_OF_A_STORE) {
            store.round(round).await;
        }
        figures.add(&store.end().await);
    }
    println!("{rounds} kills in {:?}: {figures}", begun.elapsed());
    assert!(figures.sign_ins > 0 && figures.registrations > 0 && figures.tokens_verified > 0);
}

/// One store and what is known of it.
struct Store {
    dir: TempDir,
    /// The one that it is sealed under, and the one that it moves to next.
    master_keys: [String; 2],
    ledger: Arc<Mutex<Ledger>>,
    /// Every key that was ever published.
    published: BTreeMap<i64, Jwk>,
}

impl Store {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            master_keys: two_master_keys(),
            ledger: Arc::default(),
            published: BTreeMap::new(),
        }
    }

    async fn round(&mut self, round: u64) {
        let mut server = self.start().await;
        let is_killed = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (ledger, is_killed) = (Arc::clone(&self.ledger), Arc::clone(&is_killed));
            let caller = Caller { client: Client::new(), url: server.url.clone(), ledger, is_killed };
            clients.spawn(async move { caller.work(&format!("r{round}c{client}")).await });
        }
        let operator = self.operate(round);
        let kill = async {
            tokio::time::sleep(rand::random_range(Duration::ZERO..LONGEST)).await;
            is_killed.store(true, Ordering::SeqCst);
            server.child.kill().unwrap();
        };
        tokio::join!(operator, kill);
        server.wait();
        let log = server.log();
        assert!(!log.contains("panicked"), "{log}");
        clients.join_all().await;
        self.check_file().await;
    }

    /// The last start: every account that was ever answered signs in.
    async fn end(mut self) -> Figures {
        let server = self.start().await;
        let accounts = self.ledger.lock().unwrap().passwords();
        sign_in_all(&server, accounts, &self.ledger).await;
        drop(server);
        self.check_file().await;
        let mut ledger = Arc::into_inner(self.ledger).unwrap().into_inner().unwrap();
        ledger.figures.keys_published = self.published.len();
        ledger.figures
    }

    fn env(&self) -> Vec<(&str, &str)> {
        [&SETTINGS[..], &[("NOT_MY_KEY", &self.master_keys[0])]].concat()
    }

    /// Starts the server. What the last round was answered holds.
    async fn start(&mut self) -> Server {
        let server = Server::start(self.dir.path(), &self.env());
        let set = jwks(&Client::new(), &server).await;
        self.publish(&set);
        self.check_tokens(&set).await;
        let accounts = self.ledger.lock().unwrap().take_fresh();
        sign_in_all(&server, accounts, &self.ledger).await;
        server
    }

    /// A key that was published stays that key.
    fn publish(&mut self, set: &JwkSet) {
        for key in &set.keys {
            let kid = key.common.key_id.as_deref().unwrap().parse().unwrap();
            let known = self.published.entry(kid).or_insert_with(|| key.clone());
            assert_eq!(known, key, "kid {kid} is another key");
        }
    }

    /// Every token of the last round verifies, through the set as it is now, by a library that is not ours.
    async fn check_tokens(&mut self, set: &JwkSet) {
        let tokens = self.ledger.lock().unwrap().take_tokens();
        let exps = file::exps(self.dir.path()).await;
        for (name, token) in tokens {
            let exp = *exps.get(&kid(&token)).expect("its key was stored before it was used");
            let claims = signed_claims(&token, set).or_else(|| {
                // On a machine that stood still, its key may have expired meanwhile.
                assert!(exp <= unix_seconds(), "kid {} is not published", kid(&token));
                let known = JwkSet { keys: self.published.values().cloned().collect() };
                signed_claims(&token, &known)
            });
            let claims = claims.expect("its key was seen");
            assert_eq!(claims["sub"], name.as_str());
            assert!(claims["exp"].as_i64().unwrap() <= exp, "no token outlives its key");
            self.ledger.lock().unwrap().figures.tokens_verified += 1;
        }
    }

    /// In every other round, somebody rotates the keys or moves the store to another master key, and is killed as well.
    async fn operate(&self, round: u64) {
        let most = LONGEST / 2;
        match round % 4 {
            1 => kill_midway(self.dir.path(), &["keys", "rotate", "--now"], &self.env(), most).await,
            3 => {
                let env = [&self.env()[..], &[("NEW_NOT_MY_KEY", &self.master_keys[1])]].concat();
                kill_midway(self.dir.path(), &["rekey"], &env, most).await;
                self.ledger.lock().unwrap().figures.moves_begun += 1;
            }
            _ => {}
        }
    }

    /// What the kill has left is whole, and holds all that was answered.
    async fn check_file(&mut self) {
        let dir = self.dir.path();
        file::expect_whole(dir).await;
        let stored = file::accounts(dir).await;
        self.ledger.lock().unwrap().settle(&stored);
        let [now, next] = self.master_keys.each_ref().map(|key| opens(dir, key));
        assert!(now != next, "it opens with exactly one: {now}, {next}");
        if next {
            self.master_keys.swap(0, 1);
            self.ledger.lock().unwrap().figures.moves_done += 1;
        }
        let doctor = run(self.dir.path(), &["doctor"], &self.env(), "");
        assert!(doctor.status.code() < Some(2), "{}", String::from_utf8_lossy(&doctor.stdout));
    }
}

async fn sign_in_all(server: &Server, accounts: Vec<(String, String)>, ledger: &Arc<Mutex<Ledger>>) {
    let mut clients = JoinSet::new();
    let share = accounts.len().div_ceil(usize::try_from(CLIENTS).unwrap()).max(1);
    for accounts in accounts.chunks(share).map(<[_]>::to_vec) {
        let (ledger, is_killed) = (Arc::clone(ledger), Arc::default());
        let caller = Caller { client: Client::new(), url: server.url.clone(), ledger, is_killed };
        clients.spawn(async move {
            for (name, password) in accounts {
                caller.sign_in(&name, &password).await.unwrap();
            }
        });
    }
    clients.join_all().await;
}

fn unix_seconds() -> i64 {
    i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap()
}

/// A client that notes what it asks for before it asks, and what it was answered as soon as it has the status.
struct Caller {
    client: Client,
    url: String,
    ledger: Arc<Mutex<Ledger>>,
    is_killed: Arc<AtomicBool>,
}

impl Caller {
    /// Registers and signs in until the server is no more.
    async fn work(&self, prefix: &str) {
        for number in 0.. {
            let known = self.ledger.lock().unwrap().any_account();
            let done = match known {
                Some((name, password)) if number % 3 != 0 => self.sign_in(&name, &password).await,
                _ => self.register(&format!("{prefix}n{number}")).await,
            };
            if done.is_none() {
                return;
            }
        }
    }

    async fn register(&self, name: &str) -> Option<()> {
        self.ledger.lock().unwrap().asks_for_account(name);
        let answer =
            self.post("register", json!({"username": name, "email": format!("{name}@example.com")})).await?;
        assert_eq!(answer.status(), 201);
        self.ledger.lock().unwrap().has_account(name);
        let password = self.text(answer, "password").await?;
        self.ledger.lock().unwrap().knows_password(name, password);
        Some(())
    }

    async fn sign_in(&self, name: &str, password: &str) -> Option<()> {
        self.ledger.lock().unwrap().asks_for_token(name);
        let answer = self.post("auth", json!({"username": name, "password": password})).await?;
        assert_eq!(answer.status(), 200, "{name}");
        self.ledger.lock().unwrap().has_signed_in(name);
        let token = self.text(answer, "token").await?;
        self.ledger.lock().unwrap().has_token(name, token);
        Some(())
    }

    /// The answer; nothing if there is none because the server was killed.
    async fn post(&self, path: &str, body: Value) -> Option<Response> {
        let sent = self.client.post(format!("{}/{path}", self.url)).json(&body).send().await;
        self.unless_killed(sent)
    }

    async fn text(&self, answer: Response, member: &str) -> Option<String> {
        let body: Value = self.unless_killed(answer.json().await)?;
        Some(body[member].as_str().unwrap().to_owned())
    }

    fn unless_killed<T>(&self, result: reqwest::Result<T>) -> Option<T> {
        if let Err(error) = &result {
            assert!(self.is_killed.load(Ordering::SeqCst), "it broke before it was killed: {error:?}");
        }
        result.ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_of_its_first_start_the_service_starts_the_next_time() {
    // What a first start takes when nothing holds it up decides when to kill.
    let whole = (0..3).map(|_| {
        let (dir, begun) = (tempfile::tempdir().unwrap(), Instant::now());
        drop(Server::start(dir.path(), &[]));
        begun.elapsed()
    });
    let whole = whole.min().unwrap();
    let (rounds, mut left) = (number("ROUNDS", 12), BTreeMap::new());
    for _ in 0..rounds {
        let dir = tempfile::tempdir().unwrap();
        kill_midway(dir.path(), &["serve"], &[("PORT", "0")], whole).await;
        *left.entry(expect_a_master_key_before_a_store(dir.path()).await).or_insert(0) += 1;
        let server = Server::start(dir.path(), &[]);
        assert_eq!(jwks(&Client::new(), &server).await.keys.len(), 1);
        drop(server);
        assert_eq!(file::exps(dir.path()).await.len(), 2, "one valid key and one expired one");
        file::expect_whole(dir.path()).await;
    }
    let times = |keys| left.get(&keys).unwrap_or(&0);
    println!(
        "{rounds} kills of a first start: {} before there was a store, {} before it had keys, {} after that",
        times(None),
        times(Some(0)),
        times(Some(2)),
    );
    assert!(left.keys().all(|keys| [None, Some(0), Some(2)].contains(keys)), "{left:?}");
}

/// Returns how many keys the store has, if there is one.
async fn expect_a_master_key_before_a_store(dir: &Path) -> Option<i64> {
    let dotenv = std::fs::read_to_string(dir.join(".env")).unwrap_or_default();
    let has_key = dotenv.lines().any(|line| line.starts_with("NOT_MY_KEY=") && line.ends_with('='));
    let has_store = dir.join(file::NAME).exists();
    assert!(has_key || !has_store, "a store, and its master key is nowhere: {dotenv:?}");
    if has_store { file::keys_if_founded(dir).await } else { None }
}
