//! Starts: the first one, restarts, two at once, and on files that other programs left.

use std::fs;

use serde_json::json;
use sqlx::Connection as _;
use tempfile::TempDir;

use crate::support::{Server, run};
use crate::{DB, KEY, counts, db, dir, done, get, post, stderr};

#[tokio::test]
async fn a_first_start_without_settings_creates_a_private_env_file_and_two_keys() {
    let dir = dir();
    let server = Server::start(dir.path(), &[]);
    assert_eq!(get(&server, "/jwks").await["keys"].as_array().unwrap().len(), 1);
    assert_eq!(counts(dir.path()).await, (2, 1, 1));
    let dotenv = fs::read_to_string(dir.path().join(".env")).unwrap();
    assert!(dotenv.lines().any(|line| line.starts_with("NOT_MY_KEY=") && line.len() == 55), "{dotenv}");
    #[cfg(unix)]
    for file in [".env", DB] {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(dir.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let leftovers: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        leftovers.iter().all(|name| name == ".env" || name.to_str().unwrap().starts_with(DB)),
        "{leftovers:?}"
    );
}

#[tokio::test]
async fn keys_accounts_and_tokens_survive_a_kill() {
    let dir = dir();
    let mut server = Server::start(dir.path(), &[]);
    let (status, answer) =
        post(&server, "/register", json!({"username": "alice", "email": "a@example.com"})).await;
    assert_eq!(status, 201);
    let jwks = get(&server, "/jwks").await;
    server.child.kill().unwrap();
    server.wait();

    let server = Server::start(dir.path(), &[]);
    assert_eq!(get(&server, "/jwks").await, jwks);
    let credentials = json!({"username": "alice", "password": answer["password"]});
    assert_eq!(post(&server, "/auth", credentials).await.0, 200);
}

#[test]
fn a_server_says_that_a_changed_algorithm_waits_for_the_next_rotation() {
    let dir = dir();
    let said = "new keys are ES256 with a thumbprint as kid, as KEY_ALG, RSA_BITS and KID_FORMAT say; key 1, which signs now, is \
                of another kind: the next rotation replaces it, or `jwksd keys rotate`";
    let changed = [("KEY_ALG", "ES256"), ("KID_FORMAT", "thumbprint")];
    let log = |env: &[(&str, &str)]| {
        let mut server = Server::start(dir.path(), env);
        let ready = std::time::Instant::now();
        let mut log = String::new();
        while !log.contains("new keys are") && ready.elapsed() < std::time::Duration::from_secs(1) {
            log.push_str(&server.log());
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        server.child.kill().unwrap();
        server.wait();
        log
    };
    assert!(!log(&[]).contains("new keys are"));
    let second = log(&changed);
    assert!(second.contains(said), "{second}");
    done(dir.path(), &["keys", "rotate", "--now", "--key-alg", "ES256", "--kid-format", "thumbprint"]);
    assert!(!log(&changed).contains("new keys are"));
}

#[tokio::test]
async fn two_concurrent_first_starts_create_one_master_key_and_one_pair_of_keys() {
    for round in 0..20 {
        let dir = dir();
        let start = || {
            let path = dir.path().to_owned();
            std::thread::spawn(move || Server::start(&path, &[]))
        };
        let (one, two) = (start(), start());
        let (one, two) = (one.join().unwrap(), two.join().unwrap());
        assert_eq!(counts(dir.path()).await, (2, 1, 1), "round {round}");
        assert_eq!(get(&one, "/jwks").await, get(&two, "/jwks").await, "round {round}");
    }
}

#[tokio::test]
async fn two_processes_share_one_store() {
    let dir = dir();
    let (one, two) = (Server::start(dir.path(), &[]), Server::start(dir.path(), &[]));
    for i in 0..5 {
        for (server, name) in [(&one, format!("one{i}")), (&two, format!("two{i}"))] {
            let body = json!({"username": name, "email": format!("{name}@example.com")});
            let (status, answer) = post(server, "/register", body).await;
            assert_eq!(status, 201, "{answer}");
            let credentials = json!({"username": name, "password": answer["password"]});
            let other = if i % 2 == 0 { &one } else { &two };
            assert_eq!(post(other, "/auth", credentials).await.0, 200);
        }
    }
    let check: String =
        sqlx::query_scalar("PRAGMA integrity_check").fetch_one(&mut db(dir.path()).await).await.unwrap();
    assert_eq!(check, "ok");
}

#[test]
fn without_a_master_key_it_starts_only_where_it_can_store_one() {
    let expect = |dir: &TempDir, env: &[(&str, &str)], parts: &[&str]| {
        let output = run(dir.path(), &["serve"], &[&[("PORT", "0")], env].concat(), "");
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.lines().count() == 1 && parts.iter().all(|part| message.contains(part)), "{message}");
        message
    };
    let with_dotenv = dir();
    fs::write(with_dotenv.path().join(".env"), "AUDIENCE=api\n").unwrap();
    let message = expect(
        &with_dotenv,
        &[],
        &["jwksd: NOT_MY_KEY is not set, and there is a .env without it", "NOT_MY_KEY="],
    );
    assert_eq!(
        message.rsplit_once("NOT_MY_KEY=").unwrap().1.trim().len(),
        44,
        "the message proposes a line: {message}"
    );
    assert_eq!(fs::read_to_string(with_dotenv.path().join(".env")).unwrap(), "AUDIENCE=api\n");
    assert!(!with_dotenv.path().join(DB).exists());

    let (here, elsewhere) = (dir(), dir());
    let url = format!("sqlite://{}", elsewhere.path().join("x.db").display());
    expect(&here, &[("DATABASE_URL", &url)], &["is not in the working directory", "NOT_MY_KEY="]);
    assert_eq!(
        fs::read_dir(here.path()).unwrap().count() + fs::read_dir(elsewhere.path()).unwrap().count(),
        0
    );

    let lost = dir();
    drop(Server::start(lost.path(), &[]));
    fs::remove_file(lost.path().join(".env")).unwrap();
    expect(
        &lost,
        &[],
        &["NOT_MY_KEY is not set, and the keys in totally_not_my_privateKeys.db were sealed with one"],
    );
    assert!(!lost.path().join(".env").exists());
}

#[test]
fn a_wrong_master_key_is_distinguished_from_a_corrupt_row_and_changes_nothing() {
    let dir = dir();
    let mut server = Server::start(dir.path(), &[KEY]);
    server.child.kill().unwrap();
    server.wait();
    drop(Server::start(dir.path(), &[KEY]));
    let files = || {
        let mut names: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let mut server = Server::try_start(dir.path(), &["--until-stdin-closes"], &[KEY]).unwrap();
    drop(server.child.stdin.take());
    assert_eq!(server.wait(), 0);
    let before = (files(), fs::read(dir.path().join(DB)).unwrap());
    let output = run(dir.path(), &["serve"], &[("NOT_MY_KEY", "another passphrase"), ("PORT", "0")], "");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        "jwksd: totally_not_my_privateKeys.db: NOT_MY_KEY is not the key that this store was sealed with; \
         nothing was changed\n"
    );
    assert_eq!((files(), fs::read(dir.path().join(DB)).unwrap()), before);
    drop(Server::start(dir.path(), &[KEY]));
}

/// A database whose writer was killed in a transaction must be rolled back by the next process that opens it.
#[tokio::test]
async fn the_journal_of_a_killed_program_is_rolled_back() {
    let dir = dir();
    drop(Server::start(dir.path(), &[KEY]));
    drop(Server::start(dir.path(), &[KEY]));
    {
        let mut db = db(dir.path()).await;
        for sql in [
            "PRAGMA journal_mode = DELETE",
            "PRAGMA cache_size = 2",
            "CREATE TABLE big(x)",
            "BEGIN IMMEDIATE",
        ] {
            sqlx::query(sql).execute(&mut db).await.unwrap();
        }
        let many = "WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) INSERT INTO big SELECT zeroblob(4000) FROM n";
        sqlx::query(many).execute(&mut db).await.unwrap();
        // The disk now has what a kill leaves: a half-written file and its journal.
        for name in [DB.to_owned(), format!("{DB}-journal")] {
            fs::copy(dir.path().join(&name), dir.path().join(format!("copy-{name}"))).unwrap();
        }
        // Dropped, it would remove the journal at some time after the copy is there.
        db.close().await.unwrap();
    }
    for name in [DB.to_owned(), format!("{DB}-journal")] {
        fs::rename(dir.path().join(format!("copy-{name}")), dir.path().join(&name)).unwrap();
    }
    drop(Server::start(dir.path(), &[KEY]));
    let rows: i64 =
        sqlx::query_scalar("SELECT count(*) FROM big").fetch_one(&mut db(dir.path()).await).await.unwrap();
    assert_eq!(rows, 0);
}

#[test]
fn a_port_in_use_is_named() {
    let dir = dir();
    let server = Server::start(dir.path(), &[]);
    let port = server.url.rsplit(':').next().unwrap();
    let output = run(dir.path(), &["serve"], &[("PORT", port)], "");
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        format!("jwksd: PORT is {port}: another program listens on 127.0.0.1:{port}; use a free port\n")
    );
}

#[test]
fn open_mode_refuses_a_public_host_and_a_store_with_accounts() {
    let dir = dir();
    let open = [("AUTH_MODE", "open"), ("PORT", "0")];
    let output = run(dir.path(), &["serve"], &[&open[..], &[("HOST", "0.0.0.0")]].concat(), "");
    assert!(
        output.status.code() == Some(2) && stderr(&output).contains("HOST is 0.0.0.0"),
        "{}",
        stderr(&output)
    );
    let anyway = [&open[..], &[("HOST", "0.0.0.0"), ("OPEN_AUTH_ANYWAY", "true")]].concat();
    drop(Server::start(dir.path(), &anyway));

    assert!(run(dir.path(), &["users", "add", "alice"], &[], "").status.success());
    let before = fs::read(dir.path().join(DB)).unwrap();
    let output = run(dir.path(), &["serve"], &open, "");
    assert_eq!(fs::read(dir.path().join(DB)).unwrap(), before, "it refuses before it changes anything");
    assert!(
        output.status.code() == Some(2) && stderr(&output).contains("has accounts"),
        "{}",
        stderr(&output)
    );
    let server = Server::start(dir.path(), &[("AUTH_MODE", "open"), ("OPEN_AUTH_ANYWAY", "true")]);
    drop(server);
}

#[tokio::test]
async fn every_encoding_of_the_master_key_opens_the_store() {
    for key in [
        "8BVzbxM5aOoW8PLQ4khZ5PcT2CBcieE5phAogKS4g6c=",
        "8BVzbxM5aOoW8PLQ4khZ5PcT2CBcieE5phAogKS4g6c",
        "f015736f133968ea16f0f2d0e24859e4f713d8205c89e139a6102880a4b883a7",
        "g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzl_XxhHHw=",
        "a passphrase of some length",
    ] {
        let dir = dir();
        fs::write(dir.path().join("key.txt"), format!("{key}\n")).unwrap();
        let server = Server::start(dir.path(), &[("NOT_MY_KEY_FILE", "key.txt")]);
        let jwks = get(&server, "/jwks").await;
        drop(server);
        let server = Server::start(dir.path(), &[("NOT_MY_KEY", key)]);
        assert_eq!(get(&server, "/jwks").await, jwks, "{key}");
        assert!(!dir.path().join(".env").exists());
    }
}

#[tokio::test]
async fn a_hash_of_one_argon2_engine_is_verified_by_the_other() {
    let dir = dir();
    let sign_in = async |engine: &str, password: &str| {
        let server = Server::start(dir.path(), &[("ARGON2_ENGINE", engine)]);
        post(&server, "/auth", json!({"username": "alice", "password": password})).await.0
    };
    for (made_by, checked_by) in [("reference", "auto"), ("auto", "reference")] {
        let args: &[&str] =
            if made_by == "reference" { &["users", "add", "alice"] } else { &["users", "reset", "alice"] };
        let output = run(dir.path(), args, &[("ARGON2_ENGINE", made_by), ("RUST_LOG", "warn")], "");
        let password = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(stderr(&output).lines().count() == 1, "there are no warnings: {}", stderr(&output));
        assert_eq!(sign_in(checked_by, password.trim_end()).await, 200);
        assert_eq!(sign_in(checked_by, "wrong").await, 401);
    }
}
