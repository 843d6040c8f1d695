//! What a full store costs: `cargo bench --bench ten_million [-- ROWS]`, ten million by default.
//!
//! Compares two stores, each with its own server: a full one with that many sign-ins, a million accounts and ten thousand
//! expired keys, and an empty one. Prints medians in milliseconds and their ratio.

#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection as _, SqliteConnection};

const BINARY: &str = env!("CARGO_BIN_EXE_jwksd");
const DB: &str = "totally_not_my_privateKeys.db";
const PORTS: [&str; 2] = ["18471", "18472"];
const ROUNDS: usize = 50;

fn main() {
    let rows = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(10_000_000_u32);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(compare(rows));
}

async fn compare(rows: u32) {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let passwords = dirs.each_ref().map(|dir| jwksd(dir.path(), &["users", "add", "probe"]));
    let begun = Instant::now();
    fill(dirs[1].path(), rows).await;
    println!("{rows} rows written in {} s", begun.elapsed().as_secs());

    report("from exec to the first JWKS", async |which: usize| {
        let mut server = serve(dirs[which].path(), PORTS[which]);
        wait_for(PORTS[which]).await;
        server.kill().unwrap();
        server.wait().unwrap();
    })
    .await;
    let mut servers = [0, 1].map(|which| serve(dirs[which].path(), PORTS[which]));
    let client = reqwest::Client::new();
    for port in PORTS {
        wait_for(port).await;
    }
    let sign_in = async |which: usize| {
        let form = [("username", "probe"), ("password", passwords[which].trim())];
        let url = format!("http://127.0.0.1:{}/auth", PORTS[which]);
        assert_eq!(client.post(url).form(&form).send().await.unwrap().status(), 200);
    };
    let logs = |args: &'static [&'static str]| {
        let dirs = &dirs;
        async move |which: usize| drop(jwksd(dirs[which].path(), args))
    };
    report("a sign-in", sign_in).await;
    report("a hundred times the JWKS", async |which: usize| {
        for _ in 0..100 {
            let url = format!("http://127.0.0.1:{}/jwks", PORTS[which]);
            assert_eq!(client.get(url).send().await.unwrap().status(), 200);
        }
    })
    .await;
    for (which, server) in servers.iter().enumerate() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap_or_default();
        let resident = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or("VmRSS: unknown");
        println!(
            "memory of the {} store: {}",
            ["empty", "full"][which],
            resident.trim_start_matches("VmRSS:").trim()
        );
    }
    report("logs --user probe", logs(&["logs", "--user", "probe"])).await;
    report("logs --user probe --since 1h", logs(&["logs", "--user", "probe", "--since", "1h"])).await;
    report("logs --ip 192.0.2.1 --last 20", logs(&["logs", "--ip", "192.0.2.1", "--last", "20"])).await;
    report("logs --since 1h --last 20", logs(&["logs", "--since", "1h", "--last", "20"])).await;
    for server in &mut servers {
        server.kill().unwrap();
        server.wait().unwrap();
    }
}

async fn report(what: &str, act: impl AsyncFn(usize)) {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (which, times) in times.iter_mut().enumerate() {
            let begun = Instant::now();
            act(which).await;
            times.push(begun.elapsed().as_secs_f64() * 1000.0);
        }
    }
    let [short, long] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    println!("{what:<32} {short:7.2} ms empty, {long:7.2} ms full: x {:.2}", long / short);
}

/// Inserts sign-ins of other accounts, one a second and up to now.
async fn fill(dir: &Path, rows: u32) {
    let url = format!("sqlite://{}", dir.join(DB).display());
    let mut db = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("PRAGMA synchronous = OFF").execute(&mut db).await.unwrap();
    sqlx::query(
        "INSERT INTO users (username, password_hash)
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
         SELECT 'user' || i, (SELECT password_hash FROM users WHERE id = 1) FROM n",
    )
    .execute(&mut db)
    .await
    .unwrap();
    fill_keys(&mut db).await;
    sqlx::query(
        "INSERT INTO auth_logs (request_ip, request_timestamp, user_id)
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         SELECT '192.0.2.' || (i % 256), datetime('now', '-' || (?1 - i) || ' seconds'), 2 + i % 1000000 FROM n",
    )
    .bind(rows)
    .execute(&mut db)
    .await
    .unwrap();
    db.close().await.unwrap();
}

/// Inserts keys that expired within the last days. They do not open, and never need to.
async fn fill_keys(db: &mut SqliteConnection) {
    for sql in [
        "INSERT INTO keys (kid, key, exp)
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
         SELECT 1000 + i, randomblob(1704), unixepoch() - 90000 - i FROM n",
        "INSERT INTO key_lives (kid, made_at, published_at, signs_since, expired_at)
         SELECT kid, (exp - 86400) * 1000, (exp - 86400) * 1000, (exp - 80000) * 1000, exp * 1000
         FROM keys WHERE kid > 1000",
    ] {
        sqlx::query(sql).execute(&mut *db).await.unwrap();
    }
}

fn jwksd(dir: &Path, args: &[&str]) -> String {
    let output = Command::new(BINARY).args(args).current_dir(dir).env("RUST_LOG", "off").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn serve(dir: &Path, port: &str) -> Child {
    Command::new(BINARY)
        .current_dir(dir)
        .env("PORT", port)
        .env("AUTH_RATE_LIMIT", "0")
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn wait_for(port: &str) {
    // A new client for each start: an old one would try its former connection first.
    while reqwest::get(format!("http://127.0.0.1:{port}/jwks")).await.is_err() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
