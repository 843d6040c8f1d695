//! What a long `auth_logs` costs: `cargo bench --bench ten_million [-- ROWS]`, ten million if nothing is said.
//!
//! Two stores, one with that many sign-ins of ten thousand accounts and one with none, each under a server of its own;
//! the same is asked of both in turn. Prints medians in milliseconds, and the long one's as a multiple of the short
//! one's.

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

    let mut servers = [0, 1].map(|which| serve(dirs[which].path(), PORTS[which]));
    let client = reqwest::Client::new();
    wait_for(&client).await;
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
    println!("{what:<32} {short:7.2} ms with none, {long:7.2} ms with all: x {:.2}", long / short);
}

/// Sign-ins of others, a second apart and up to now.
async fn fill(dir: &Path, rows: u32) {
    let url = format!("sqlite://{}", dir.join(DB).display());
    let mut db = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("PRAGMA synchronous = OFF").execute(&mut db).await.unwrap();
    sqlx::query(
        "INSERT INTO users (username, password_hash)
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
         SELECT 'user' || i, 'x' FROM n",
    )
    .execute(&mut db)
    .await
    .unwrap();
    sqlx::query(
        "INSERT INTO auth_logs (request_ip, request_timestamp, user_id)
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         SELECT '192.0.2.' || (i % 256), datetime('now', '-' || (?1 - i) || ' seconds'), 2 + i % 10000 FROM n",
    )
    .bind(rows)
    .execute(&mut db)
    .await
    .unwrap();
    db.close().await.unwrap();
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

async fn wait_for(client: &reqwest::Client) {
    for port in PORTS {
        while client.get(format!("http://127.0.0.1:{port}/jwks")).send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
