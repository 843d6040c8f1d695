//! `jwksd move`: from a file to a server and back.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::{Connection as _, Executor as _, SqliteConnection};
use tempfile::TempDir;

use crate::members::MASTER_KEY;
use crate::postgres::TestDatabase;
use crate::support::{Server, jwksd, run};

/// A store in a file, with something in every table.
struct Store {
    dir: TempDir,
}

const FILE: &str = "store.db";

impl Store {
    async fn new() -> Self {
        let store = Self { dir: tempfile::tempdir().unwrap() };
        for name in ["alice", "bob", "Carol", "dave"] {
            store.done(FILE, &["users", "add", name, "--email", &format!("{name}@Example.com")]);
        }
        store.done(FILE, &["users", "disable", "bob"]);
        store.done(FILE, &["users", "delete", "--yes", "dave"]);
        store.done(FILE, &["users", "sign-out", "Carol"]);
        store.done(FILE, &["keys", "rotate", "--now"]);
        store.done(FILE, &["keys", "revoke", "1"]);
        let password = store.done(FILE, &["users", "reset", "alice"]);
        let env = Store::env(FILE);
        let server = Server::start(store.dir.path(), &borrow(&env));
        let client = reqwest::Client::new();
        for _ in 0..3 {
            let body = serde_json::json!({"username": "alice", "password": password.trim()});
            assert_eq!(
                client.post(format!("{}/auth", server.url)).json(&body).send().await.unwrap().status(),
                200
            );
        }
        drop(server);
        // Texts that must be escaped on the way.
        let sql = r"PRAGMA foreign_keys = OFF;
                    INSERT INTO auth_logs (request_ip, user_id) VALUES (char(9) || 'a\b' || char(10) || '\N' || char(13), NULL), ('é', 9)";
        store.sqlite().await.execute(sqlx::raw_sql(sql)).await.unwrap();
        store
    }

    fn env(url: &str) -> Vec<(String, String)> {
        let settings = [
            ("NOT_MY_KEY", MASTER_KEY),
            ("ISSUER", "https://login.example.com"),
            ("ARGON2_MEMORY_KIB", "8"),
            ("ARGON2_ITERATIONS", "1"),
            ("DATABASE_URL", url),
        ];
        settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join(FILE)
    }

    async fn sqlite(&self) -> SqliteConnection {
        SqliteConnection::connect(&format!("sqlite://{}", self.path().display())).await.unwrap()
    }

    /// Status, standard output and standard error.
    fn command(&self, url: &str, args: &[&str]) -> (Option<i32>, String, String) {
        let output = run(self.dir.path(), args, &borrow(&Self::env(url)), "");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    fn done(&self, url: &str, args: &[&str]) -> String {
        let (status, stdout, stderr) = self.command(url, args);
        assert_eq!(status, Some(0), "{args:?}: {stderr}");
        stdout
    }

    /// Compares what the commands show of a store.
    fn expect_shown(&self, url: &str, before: &[String]) {
        for (now, before) in self.shown(url).iter().zip(before) {
            // How long a key signs now is another number each second.
            let lines = |text: &str| -> Vec<String> {
                text.lines().filter(|line| !line.contains("_for_seconds")).map(str::to_owned).collect()
            };
            assert_eq!(lines(now), lines(before), "{url}");
        }
    }

    /// What the commands show of a store.
    fn shown(&self, url: &str) -> Vec<String> {
        let commands = [
            &["users", "list", "--json"][..],
            &["users", "show", "Carol", "--json"],
            &["keys", "list", "--json"],
            &["logs", "--json", "--last", "1000"],
        ];
        commands.map(|args| self.done(url, args)).to_vec()
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn borrow(env: &[(String, String)]) -> Vec<(&str, &str)> {
    env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// All rows of a file, in order.
async fn dump(path: &Path) -> Vec<Value> {
    let mut db = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
    let queries = [
        "SELECT json_array('keys', kid, hex(key), exp) FROM keys ORDER BY kid",
        "SELECT json_array(kid, made_at, published_at, signs_since, expired_at, revoked_at, deleted_at, sealed_under, taken_over, alg,
                           kid_format) FROM key_lives ORDER BY kid",
        "SELECT json_array('master', number, hex(salt), hex(check_value)) FROM master_key",
        "SELECT json_array(id, username, password_hash, email, date_registered, last_login) FROM users ORDER BY id",
        "SELECT json_array('state', user_id, disabled_at, deleted_at) FROM account_states ORDER BY user_id",
        "SELECT json_array('sign-out', user_id, signed_out_at) FROM sign_outs ORDER BY user_id",
        "SELECT json_array('log', id, request_ip, request_timestamp, user_id) FROM auth_logs ORDER BY id",
        "SELECT json_array('name', lower(name)) FROM names_given ORDER BY 1",
        "SELECT json_array('cost', cost, accounts) FROM hash_costs WHERE accounts > 0 ORDER BY cost",
        "SELECT json_array('sequence', name, seq) FROM sqlite_sequence ORDER BY name",
        "SELECT json_array('thumbprint', kid, thumbprint) FROM key_thumbprints ORDER BY kid",
        "SELECT json_array('revoked', thumbprint) FROM revoked_thumbprints ORDER BY 1",
        "SELECT json_array('policy', lifetime, retention, lead, token_ttl) FROM rotation_policy",
        "SELECT json_array('mode', mode) FROM serving_mode",
    ];
    let mut rows = Vec::new();
    for query in queries {
        let texts: Vec<String> = sqlx::query_scalar(query).fetch_all(&mut db).await.unwrap();
        rows.extend(texts.iter().map(|text| serde_json::from_str(text).unwrap()));
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_moved_to_a_server_and_back_has_every_row_and_the_same_jwks() {
    let Some(database) = TestDatabase::create().await else { return };
    let store = Store::new().await;
    let (before, rows) = (store.shown(FILE), dump(&store.path()).await);
    let (status, stdout, stderr) = store.command(FILE, &["move", "--to", &database.url]);
    assert_eq!((status, stdout.as_str()), (Some(0), ""), "{stderr}");
    assert!(
        stderr.contains(
            "keys: 3; external keys: 0; accounts: 4; sign-ins: 5; every row and the JWKS are the same"
        ),
        "{stderr}"
    );
    assert!(store.files()[0].starts_with("store.db.moved-"), "{:?}", store.files());
    store.expect_shown(&database.url, &before);

    let url_file = store.dir.path().join("url");
    fs::write(&url_file, "back.db\n").unwrap();
    store.done(&database.url, &["move", "--to-file", "url"]);
    assert_eq!(dump(&store.dir.path().join("back.db")).await, rows);
    store.expect_shown("back.db", &before);
    // Names and numbers go on behind those that were given out.
    for url in [database.url.as_str(), "back.db"] {
        let (status, _, stderr) = store.command(url, &["users", "add", "DAVE"]);
        assert_eq!(
            (status, stderr.as_str()),
            (Some(4), "jwksd: cannot add \"DAVE\": the username is taken\n")
        );
        store.done(url, &["users", "add", "erin"]);
        let erin: Value =
            serde_json::from_str(&store.done(url, &["users", "show", "erin", "--json"])).unwrap();
        assert!(erin["id"].as_i64() >= Some(5), "{erin}");
        store.done(url, &["users", "delete", "--yes", "erin"]);
        store.done(url, &["keys", "rotate", "--now"]);
        let listing: Value = serde_json::from_str(&store.done(url, &["keys", "list", "--json"])).unwrap();
        let kids: Vec<_> = listing["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect();
        assert!(kids.contains(&4.into()), "{kids:?}");
    }
    // Also what was deleted on the server.
    let now = store.shown(&database.url);
    store.done(&database.url, &["move", "--to", "again.db"]);
    store.expect_shown("again.db", &now);
    let (status, _, stderr) = store.command("again.db", &["users", "add", "ERIN"]);
    assert_eq!(status, Some(4), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_refused_without_any_change_if_a_server_runs_the_target_is_in_use_or_a_row_cannot_go() {
    let Some(database) = TestDatabase::create().await else { return };
    let Some(other) = TestDatabase::create().await else { return };
    let store = Store::new().await;
    let rows = dump(&store.path()).await;
    let refused = |to: &str, part: &str| {
        let (status, stdout, stderr) = store.command(FILE, &["move", "--to", to]);
        assert_eq!((status, stdout.as_str()), (Some(2), ""), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    };
    let server = Server::start(store.dir.path(), &borrow(&Store::env(FILE)));
    refused(&database.url, "store.db is in use, by a server or another program: stop it first");
    drop(server);
    refused("other.db", "both are SQLite files");
    refused("mysql://u:hunter2@h/x", "--to: use sqlite://FILE, the path of a file, or postgres://");
    store.done(&other.url, &["users", "add", "zoe"]);
    refused(&other.url, "holds another store already: name an empty database");

    let sql =
        "INSERT INTO auth_logs (id, request_ip, request_timestamp, user_id) VALUES (77, 'x', 'yesterday', 1);
               UPDATE users SET last_login = 'never' WHERE username = 'Carol'";
    store.sqlite().await.execute(sqlx::raw_sql(sql)).await.unwrap();
    refused(
        &database.url,
        "sign-ins whose request_timestamp is not a time: correct it, or delete them (numbers 77)",
    );
    refused(
        &database.url,
        "accounts whose date_registered or last_login is not a time: correct it, or set it to NULL (numbers 3)",
    );
    let sql =
        "DELETE FROM auth_logs WHERE id = 77; UPDATE users SET last_login = NULL WHERE username = 'Carol'";
    store.sqlite().await.execute(sqlx::raw_sql(sql)).await.unwrap();

    // The number of the row that was deleted stays given out.
    let mut rows_now = dump(&store.path()).await;
    rows_now.retain(|row| row[0] != "sequence");
    assert!(rows.iter().filter(|row| row[0] != "sequence").eq(rows_now.iter()));
    assert_eq!(store.done(&other.url, &["users", "list", "--json"]).matches("\"username\"").count(), 1);
    // Into the file of another store, neither.
    let (status, _, stderr) = store.command(&other.url, &["move", "--to", FILE]);
    assert_eq!((status, stderr.as_str()), (Some(2), "jwksd: store.db already exists: use another name\n"));
    store.done(FILE, &["move", "--to", &database.url]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_is_killed_at_any_moment_leaves_one_whole_store_and_can_be_finished() {
    let store = Store::new().await;
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
               INSERT INTO auth_logs (request_ip, user_id) SELECT '192.0.2.1', 1 FROM n";
    store.sqlite().await.execute(sql).await.unwrap();
    let before = store.shown(FILE);
    let whole = store.dir.path().join("whole");
    fs::copy(store.path(), &whole).unwrap();
    let begun = Instant::now();
    for _ in 0..10 {
        let Some(database) = TestDatabase::create().await else { return };
        let _ = fs::remove_file(store.path());
        fs::copy(&whole, store.path()).unwrap();
        let env = Store::env(FILE);
        let mut child = jwksd(store.dir.path(), &["move", "--to", &database.url], &borrow(&env))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        tokio::time::sleep(rand::random_range(Duration::ZERO..Duration::from_millis(1500))).await;
        let _ = child.kill();
        child.wait().unwrap();
        if store.path().exists() {
            store.expect_shown(FILE, &before);
            store.done(FILE, &["move", "--to", &database.url]);
        }
        assert!(!store.path().exists());
        store.expect_shown(&database.url, &before);
    }
    println!("ten kills took {:?}", begun.elapsed());
}
