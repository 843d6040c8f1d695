//! Kills the program at random moments while clients send requests. After a restart, all acknowledged data is stored, and
//! nothing is stored partially.
//!
//! A round starts the server, checks what was acknowledged in the last round, and lets several clients register and sign
//! in while keys rotate and the store moves to another master key. Then SIGKILL ends the server, and in some rounds a
//! command too. `ledger` records the responses; `file` checks the database file after the kill.
//!
//! Each test takes `SOAK_SECONDS`, 20 by default; `ROUNDS` sets the number of kills instead. For longer runs by hand, with
//! statistics: `ROUNDS=1000 cargo test --release --test crash -- --nocapture`.

#![expect(clippy::disallowed_methods, reason = "the real program is killed in real time, at random moments")]

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
use running::{Repetition, jwks, kid, kill_midway, opens, signed_claims, two_master_keys};
use support::{Server, run};

/// The key lifetime is seconds, so that the server creates a key every three; hashes have the minimum cost.
const SETTINGS: [(&str, &str); 9] = [
    ("KEY_LIFETIME", "10s"),
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

/// Rounds for each store.
const ROUNDS_OF_A_STORE: u64 = 100;

/// Maximum time before the kill.
const LONGEST: Duration = Duration::from_millis(400);

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_at_any_moment_all_acknowledged_data_is_stored_and_nothing_partially() {
    let (begun, repetition) = (Instant::now(), Repetition::new("ROUNDS"));
    let (mut rounds, mut figures) = (0, Figures::default());
    while repetition.continues_after(rounds) {
        let mut store = Store::new();
        let next_store = rounds + ROUNDS_OF_A_STORE;
        while rounds < next_store && repetition.continues_after(rounds) {
            store.round(rounds).await;
            rounds += 1;
        }
        figures.add(&store.end().await);
    }
    println!("{rounds} kills in {:?}: {figures}", begun.elapsed());
    assert!(figures.sign_ins > 0 && figures.registrations > 0 && figures.tokens_verified > 0);
}

/// One store, with what its clients know.
struct Store {
    dir: TempDir,
    /// The current master key, and the one to which the next rekey moves.
    master_keys: [String; 2],
    ledger: Arc<Mutex<Ledger>>,
    /// Every key that was published.
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

    /// The last start: every acknowledged account signs in.
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

    /// Starts the server, and checks what was acknowledged in the last round.
    async fn start(&mut self) -> Server {
        let server = Server::start(self.dir.path(), &self.env());
        let set = jwks(&Client::new(), &server).await;
        self.publish(&set);
        self.check_tokens(&set).await;
        let accounts = self.ledger.lock().unwrap().take_fresh();
        sign_in_all(&server, accounts, &self.ledger).await;
        server
    }

    /// A `kid` always means the same key.
    fn publish(&mut self, set: &JwkSet) {
        for key in &set.keys {
            let kid = key.common.key_id.as_deref().unwrap().parse().unwrap();
            let published = self.published.entry(kid).or_insert_with(|| key.clone());
            assert_eq!(published, key, "kid {kid} has changed its key");
        }
    }

    /// Every token of the last round verifies through the current JWKS, with another library.
    async fn check_tokens(&mut self, set: &JwkSet) {
        let tokens = self.ledger.lock().unwrap().take_tokens();
        let exps = file::exps(self.dir.path()).await;
        for (name, token) in tokens {
            let exp = *exps.get(&kid(&token)).expect("a key is stored before it signs");
            let claims = signed_claims(&token, set).or_else(|| {
                // If the machine was suspended, the key may have expired meanwhile.
                assert!(exp <= unix_seconds(), "kid {} is not published", kid(&token));
                let all = JwkSet { keys: self.published.values().cloned().collect() };
                signed_claims(&token, &all)
            });
            let claims = claims.expect("a key is published before it signs");
            assert_eq!(claims["sub"], name.as_str());
            assert!(claims["exp"].as_i64().unwrap() <= exp, "no token outlives its key");
            self.ledger.lock().unwrap().figures.tokens_verified += 1;
        }
    }

    /// In every other round, runs `keys rotate` or `rekey`, and kills it too.
    async fn operate(&self, round: u64) {
        let most = LONGEST / 2;
        match round % 4 {
            1 => kill_midway(self.dir.path(), &["keys", "rotate", "--now"], &self.env(), most).await,
            3 => {
                let env = [&self.env()[..], &[("NEW_NOT_MY_KEY", &self.master_keys[1])]].concat();
                kill_midway(self.dir.path(), &["rekey"], &env, most).await;
                self.ledger.lock().unwrap().figures.rekeys_started += 1;
            }
            _ => {}
        }
    }

    /// Checks that the file is consistent and has all acknowledged data.
    async fn check_file(&mut self) {
        let dir = self.dir.path();
        file::expect_whole(dir).await;
        let stored = file::accounts(dir).await;
        self.ledger.lock().unwrap().settle(&stored);
        let [now, next] = self.master_keys.each_ref().map(|key| opens(dir, key));
        assert!(now != next, "the store opens with exactly one master key: {now}, {next}");
        if next {
            self.master_keys.swap(0, 1);
            self.ledger.lock().unwrap().figures.rekeys_committed += 1;
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

/// A client that records each request before it is sent, and its success as soon as it has the status.
struct Caller {
    client: Client,
    url: String,
    ledger: Arc<Mutex<Ledger>>,
    is_killed: Arc<AtomicBool>,
}

impl Caller {
    /// Registers and signs in until the server is killed.
    async fn work(&self, prefix: &str) {
        for number in 0.. {
            let account = self.ledger.lock().unwrap().any_account();
            let done = match account {
                Some((name, password)) if number % 3 != 0 => self.sign_in(&name, &password).await,
                _ => self.register(&format!("{prefix}n{number}")).await,
            };
            if done.is_none() {
                return;
            }
        }
    }

    async fn register(&self, name: &str) -> Option<()> {
        self.ledger.lock().unwrap().request_account(name);
        let answer =
            self.post("register", json!({"username": name, "email": format!("{name}@example.com")})).await?;
        assert_eq!(answer.status(), 201);
        self.ledger.lock().unwrap().acknowledge_account(name);
        let password = self.text(answer, "password").await?;
        self.ledger.lock().unwrap().store_password(name, password);
        Some(())
    }

    async fn sign_in(&self, name: &str, password: &str) -> Option<()> {
        self.ledger.lock().unwrap().request_token(name);
        let answer = self.post("auth", json!({"username": name, "password": password})).await?;
        assert_eq!(answer.status(), 200, "{name}");
        self.ledger.lock().unwrap().acknowledge_sign_in(name);
        let token = self.text(answer, "token").await?;
        self.ledger.lock().unwrap().store_token(name, token);
        Some(())
    }

    /// The response; `None` if the server was killed before it.
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
            assert!(
                self.is_killed.load(Ordering::SeqCst),
                "the connection failed before the kill: {error:?}"
            );
        }
        result.ok()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_at_any_moment_of_a_first_start_the_next_start_succeeds() {
    // The duration of an undisturbed first start is the range of the kill.
    let whole = (0..3).map(|_| {
        let (dir, begun) = (tempfile::tempdir().unwrap(), Instant::now());
        drop(Server::start(dir.path(), &[]));
        begun.elapsed()
    });
    let whole = whole.min().unwrap();
    let (repetition, mut rounds, mut left) = (Repetition::new("ROUNDS"), 0, BTreeMap::new());
    while repetition.continues_after(rounds) {
        rounds += 1;
        let dir = tempfile::tempdir().unwrap();
        kill_midway(dir.path(), &["serve"], &[("PORT", "0")], whole).await;
        *left.entry(expect_a_master_key_before_a_store(dir.path()).await).or_insert(0) += 1;
        let server = Server::start(dir.path(), &[]);
        assert_eq!(jwks(&Client::new(), &server).await.keys.len(), 1);
        drop(server);
        assert_eq!(file::exps(dir.path()).await.len(), 2, "one valid and one expired key");
        file::expect_whole(dir.path()).await;
    }
    let times = |keys| left.get(&keys).unwrap_or(&0);
    println!(
        "{rounds} kills of a first start: {} without a store, {} without keys, {} with both keys",
        times(None),
        times(Some(0)),
        times(Some(2)),
    );
    assert!(left.keys().all(|keys| [None, Some(0), Some(2)].contains(keys)), "{left:?}");
}

/// Returns the number of keys in the store, if it exists.
async fn expect_a_master_key_before_a_store(dir: &Path) -> Option<i64> {
    let dotenv = std::fs::read_to_string(dir.join(".env")).unwrap_or_default();
    let has_key = dotenv.lines().any(|line| line.starts_with("NOT_MY_KEY=") && line.ends_with('='));
    let has_store = dir.join(file::NAME).exists();
    assert!(has_key || !has_store, "the store exists without its master key: {dotenv:?}");
    if has_store { file::keys_if_initialized(dir).await } else { None }
}
