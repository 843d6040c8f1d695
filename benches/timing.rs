//! Whether response times reveal accounts: `cargo bench --bench timing [-- ROUNDS]`, 300 by default.
//!
//! A store has hashes of two costs. Sends wrong passwords for an account of either cost, for a disabled one, and for two
//! unknown usernames, in varying order: first to a server without a limit of guesses, then to one that refuses all of them
//! because too many were wrong. Prints the quartiles of each, and the difference of its ranks from the first unknown username:
//! more than 3 standard deviations reveal something.
//!
//! Over PostgreSQL: with `DATABASE_URL` of an empty database, `ISSUER` and `NOT_MY_KEY` in the environment.

#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

const BINARY: &str = env!("CARGO_BIN_EXE_jwksd");
const PORT: &str = "18473";
const DEAR: (&str, &str) = ("ARGON2_MEMORY_KIB", "32768");

/// The others are compared with the first.
const NAMES: [&str; 5] = ["unknown", "unknown-too", "usual", "dear", "disabled"];

/// Wrong passwords after which a name is throttled.
const LIMIT: &str = "3";

/// Wrong passwords after that: the last wait is 128 s, in which all names are measured.
const FURTHER: u32 = 7;

fn main() {
    let rounds = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(300_usize);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = store();
    println!("{rounds} of each; quartiles in milliseconds");
    report("wrong passwords", &runtime.block_on(refused(dir.path(), rounds)));
    report("throttled", &runtime.block_on(throttled(dir.path(), rounds)));
}

fn report(what: &str, times: &[Vec<f64>; NAMES.len()]) {
    println!("{what}:");
    for (name, sample) in NAMES.iter().zip(times) {
        let mut sorted = sample.clone();
        sorted.sort_by(f64::total_cmp);
        let [low, median, high] = [1, 2, 3].map(|quarter| sorted[sorted.len() * quarter / 4]);
        let z = rank_sum(&times[0], sample);
        println!(
            "{name:<14}{low:8.2}{median:8.2}{high:8.2}   ranks {z:+.2} standard deviations from {}",
            NAMES[0]
        );
    }
}

fn store() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &["users", "add", "usual"], &[]);
    run(dir.path(), &["users", "add", "disabled"], &[]);
    run(dir.path(), &["users", "disable", "disabled"], &[]);
    run(dir.path(), &["users", "add", "dear"], &[DEAR]);
    dir
}

/// A server that is killed when it is dropped, and its client.
struct Server {
    child: Child,
    client: reqwest::Client,
}

impl Server {
    async fn start(dir: &Path, failure_limit: &str) -> Self {
        let settings = [("PORT", PORT), ("AUTH_RATE_LIMIT", "0"), ("AUTH_FAILURE_LIMIT", failure_limit)];
        let child =
            Command::new(BINARY).current_dir(dir).envs(settings).stderr(Stdio::null()).spawn().unwrap();
        let client = reqwest::Client::new();
        while client.get(format!("http://127.0.0.1:{PORT}/jwks")).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { child, client }
    }

    /// The status of a wrong password, and how long its response took in milliseconds.
    async fn guess(&self, name: &str) -> (u16, f64) {
        let wrong = [("username", name), ("password", "c56a4180-65aa-42ec-a945-5fd21dec0538")];
        let begun = Instant::now();
        let answer =
            self.client.post(format!("http://127.0.0.1:{PORT}/auth")).form(&wrong).send().await.unwrap();
        let took = begun.elapsed().as_secs_f64() * 1000.0;
        let status = answer.status().as_u16();
        answer.bytes().await.unwrap();
        (status, took)
    }

    async fn measure(&self, rounds: usize, expected: u16) -> [Vec<f64>; NAMES.len()] {
        let mut times = NAMES.map(|_| Vec::new());
        let mut order: Vec<usize> = (0..NAMES.len()).collect();
        let mut random = StdRng::seed_from_u64(1);
        for round in 0..rounds + 5 {
            order.shuffle(&mut random);
            for which in &order {
                let (status, took) = self.guess(NAMES[*which]).await;
                assert_eq!(status, expected, "{}", NAMES[*which]);
                // The first requests are a warm-up.
                if round >= 5 {
                    times[*which].push(took);
                }
            }
        }
        times
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

async fn refused(dir: &Path, rounds: usize) -> [Vec<f64>; NAMES.len()] {
    Server::start(dir, "0").await.measure(rounds, 401).await
}

/// Measures only as many as fit into the last wait.
async fn throttled(dir: &Path, rounds: usize) -> [Vec<f64>; NAMES.len()] {
    let server = Server::start(dir, LIMIT).await;
    for _ in 0..LIMIT.parse().unwrap() {
        for name in NAMES {
            assert_eq!(server.guess(name).await.0, 401);
        }
    }
    for further in 0..FURTHER {
        tokio::time::sleep(Duration::from_millis(1000 * 2_u64.pow(further) + 500)).await;
        for name in NAMES {
            assert_eq!(server.guess(name).await.0, 401);
        }
    }
    server.measure(rounds.min(800), 429).await
}

/// Wilcoxon's rank-sum statistic in standard deviations: about 0 if both have the same distribution.
fn rank_sum(a: &[f64], b: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = a.iter().map(|time| (*time, false)).collect();
    all.extend(b.iter().map(|time| (*time, true)));
    all.sort_by(|x, y| x.0.total_cmp(&y.0));
    let count = |n: usize| f64::from(u32::try_from(n).unwrap());
    let ranks: f64 =
        all.iter().enumerate().filter(|(_, (_, is_b))| *is_b).map(|(rank, _)| count(rank + 1)).sum();
    let (n, m) = (count(a.len()), count(b.len()));
    (ranks - m * (n + m + 1.0) / 2.0) / (n * m * (n + m + 1.0) / 12.0).sqrt()
}

fn run(dir: &Path, args: &[&str], env: &[(&str, &str)]) {
    let output = Command::new(BINARY).args(args).current_dir(dir).envs(env.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
