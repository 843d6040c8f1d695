//! Servers behind pgbouncer, which gives each transaction another connection.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use reqwest::StatusCode;
use serde_json::json;
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::members::{CALM, Fleet};
use crate::postgres::{self, TestDatabase};

/// Ends with the test.
struct Pooler {
    port: u16,
    child: Child,
    _dir: TempDir,
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Pooler {
    /// Nothing if it is not installed. Then it is said on standard error.
    fn start(database_port: u16) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        postgres::own(dir.path());
        let port = postgres::free_port();
        let file = dir.path().join("pgbouncer.ini");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={database_port} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = 4\nunix_socket_dir =\n"
        );
        std::fs::write(
            &file,
            settings
                .replace(&format!("port={database_port}"), &format!("port={database_port} user=postgres")),
        )
        .unwrap();
        let Some(child) = spawn(&file) else {
            eprintln!("not tested: pgbouncer is not installed");
            return None;
        };
        for _ in 0..200 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Self { port, child, _dir: dir });
            }
            std::thread::sleep(std::time::Duration::from_millis(25));
        }
        panic!("pgbouncer does not start");
    }
}

fn spawn(file: &Path) -> Option<Child> {
    // Debian's directory is not in every search path.
    ["pgbouncer", "/usr/sbin/pgbouncer"].iter().find_map(|program| {
        let mut command = postgres::unprivileged(Command::new(program));
        let command = command.arg("-q").arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_work_behind_pgbouncer_in_transaction_mode() {
    let Some(database) = TestDatabase::create().await else { return };
    let mut url = url::Url::parse(&database.url).unwrap();
    let Some(pooler) = Pooler::start(url.port().unwrap_or(5432)) else { return };
    url.set_port(Some(pooler.port)).unwrap();
    url.set_query(Some("statement-cache-capacity=0"));
    let fleet = Fleet::on(url.to_string(), 2, &CALM).await;
    let password = fleet.members[0].register("alice").await;
    // More requests at a time than the pooler has connections.
    let body = json!({"username": "alice", "password": password});
    let mut sign_ins = JoinSet::new();
    for number in 0..60 {
        let request = fleet.members[number % 2].post("/auth", &body);
        sign_ins.spawn(async move { request.send().await.unwrap().status() });
    }
    assert_eq!(sign_ins.join_all().await, [StatusCode::OK; 60]);
    assert_eq!(fleet.members[1].sign_in("alice", "wrong").await, Err(StatusCode::UNAUTHORIZED));
    fleet.command(&["keys", "rotate", "--now"]);
    fleet.agree(|set| set.keys.len() == 2).await;
    assert_eq!(fleet.command(&["logs", "--json", "--last", "100"]).lines().count(), 60);
}
