//! Whether response times reveal accounts: `cargo bench --bench timing [-- ROUNDS]`, 300 by default.
//!
//! One server, whose store has hashes of two costs. Sends wrong passwords for an account of either cost, for a disabled one,
//! and for two unknown usernames, in varying order. Prints the quartiles of each, and the difference of its ranks from the
//! first unknown username: more than 3 standard deviations reveal something.

#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

const BINARY: &str = env!("CARGO_BIN_EXE_jwksd");
const PORT: &str = "18473";
const DEAR: (&str, &str) = ("ARGON2_MEMORY_KIB", "32768");

/// The others are compared with the first.
const NAMES: [&str; 5] = ["unknown", "unknown-too", "usual", "expensive", "disabled"];

fn main() {
    let rounds = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(300_usize);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let times = runtime.block_on(measure(rounds));
    println!("{rounds} refusals each; quartiles in milliseconds");
    for (name, sample) in NAMES.iter().zip(&times) {
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

async fn measure(rounds: usize) -> [Vec<f64>; NAMES.len()] {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), &["users", "add", "usual"], &[]);
    run(dir.path(), &["users", "add", "disabled"], &[]);
    run(dir.path(), &["users", "disable", "disabled"], &[]);
    run(dir.path(), &["users", "add", "dear"], &[DEAR]);
    let settings = [("PORT", PORT), ("AUTH_RATE_LIMIT", "0")];
    let mut server = Command::new(BINARY);
    let mut server = server.current_dir(dir.path()).envs(settings).stderr(Stdio::null()).spawn().unwrap();
    let client = reqwest::Client::new();
    while client.get(format!("http://127.0.0.1:{PORT}/jwks")).send().await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let mut times = NAMES.map(|_| Vec::new());
    let mut order: Vec<usize> = (0..NAMES.len()).collect();
    let mut random = StdRng::seed_from_u64(1);
    for round in 0..rounds + 5 {
        order.shuffle(&mut random);
        for which in &order {
            let wrong = [("username", NAMES[*which]), ("password", "c56a4180-65aa-42ec-a945-5fd21dec0538")];
            let begun = Instant::now();
            let answer =
                client.post(format!("http://127.0.0.1:{PORT}/auth")).form(&wrong).send().await.unwrap();
            let took = begun.elapsed().as_secs_f64() * 1000.0;
            assert_eq!(answer.status(), 401);
            answer.bytes().await.unwrap();
            // The first requests are a warm-up.
            if round >= 5 {
                times[*which].push(took);
            }
        }
    }
    server.kill().unwrap();
    server.wait().unwrap();
    times
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
