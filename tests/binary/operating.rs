//! Commands for accounts, sign-ins and tuning, also while a server runs; completions and man pages.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Server, jwksd};
use crate::{DB, command, db, dir, done, objects, post, sign_in};

#[tokio::test]
async fn changes_by_users_commands_take_effect_on_a_running_server_immediately() {
    let dir = dir();
    let dir = dir.path();
    let server = Server::start(dir, &[("AUTH_RATE_LIMIT", "0")]);
    let (made, _) = done(dir, &["users", "add", "alice", "--email", "a@example.com", "--json"]);
    let made = &objects(&made)[0];
    let first = made["password"].as_str().unwrap().to_owned();
    assert_eq!(sign_in(&server, "alice", &first).await, 200);

    let (second, said) = done(dir, &["users", "reset", "Alice"]);
    assert_eq!(said, "changed the password of Alice; the password, shown only once:\n");
    let second = second.trim_end();
    assert_eq!(
        (sign_in(&server, "alice", &first).await, sign_in(&server, "alice", second).await),
        (401, 200)
    );
    done(dir, &["users", "disable", "alice"]);
    assert_eq!(sign_in(&server, "alice", second).await, 401);
    let (third, said) = done(dir, &["users", "reset", "alice"]);
    assert!(said.ends_with("the account is still disabled: `users enable` lets it sign in\n"), "{said}");
    assert_eq!(sign_in(&server, "alice", third.trim_end()).await, 401);
    done(dir, &["users", "enable", "alice"]);
    assert_eq!(sign_in(&server, "alice", third.trim_end()).await, 200);
    done(dir, &["users", "set-email", "alice", "--none"]);
    let (status, _) = post(&server, "/register", json!({"username": "bob", "email": "a@example.com"})).await;
    assert_eq!(status, 201, "the email address is free");

    let (shown, _) = done(dir, &["users", "show", "alice", "--json"]);
    let mut shown = objects(&shown).remove(0);
    for time in ["registered", "last_login"] {
        assert!(shown[time].take().as_str().unwrap().ends_with('Z'));
    }
    let hash = "argon2id v=19 m=19456,t=2,p=1";
    let expected = json!({
        "id": 1, "username": "alice", "email": null, "registered": null, "last_login": null,
        "state": "active", "signed_out": null, "hash": hash,
    });
    assert_eq!(shown, expected);

    done(dir, &["users", "delete", "alice", "--yes"]);
    assert_eq!(sign_in(&server, "alice", third.trim_end()).await, 401);
    let names = |args: &[&str]| {
        let (listed, _) = done(dir, &[&["users", "list", "--json"], args].concat());
        objects(&listed).iter().map(|user| user["username"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&[]), ["bob"]);
    assert_eq!(names(&["--deleted"]), ["deleted:1", "bob"]);
    let (table, _) = done(dir, &["users", "list"]);
    assert!(table.starts_with("    ID  NAME ") && table.lines().count() == 2, "{table}");
}

#[tokio::test]
async fn each_process_counts_requests_separately() {
    let dir = dir();
    let [one, two] = [(); 2].map(|()| Server::start(dir.path(), &[("AUTH_RATE_LIMIT", "1")]));
    for server in [&one, &two] {
        assert_eq!(post(server, "/auth", json!({})).await.0, 401);
    }
}

#[test]
fn users_commands_distinguish_missing_from_taken() {
    let dir = dir();
    let dir = dir.path();
    for name in ["alice", "bob"] {
        done(dir, &["users", "add", name, "--email", &format!("{name}@example.com")]);
    }
    let missing = "there is no account of that name\n";
    for (args, status, message) in [
        (&["users", "show", "eve"][..], 3, format!("jwksd: cannot show \"eve\": {missing}")),
        (&["users", "reset", "eve"], 3, format!("jwksd: cannot reset \"eve\": {missing}")),
        (&["users", "disable", "eve"], 3, format!("jwksd: cannot disable \"eve\": {missing}")),
        (&["users", "delete", "eve", "--yes"], 3, format!("jwksd: cannot delete \"eve\": {missing}")),
        (
            &["users", "set-email", "bob", "ALICE@example.com"],
            4,
            "jwksd: cannot change the address of \"bob\": the email is taken\n".to_owned(),
        ),
        (
            &["users", "set-email", "bob", "nowhere"],
            2,
            "jwksd: cannot change the address of \"bob\": The email is not an e-mail address\n".to_owned(),
        ),
        (
            &["users", "delete", "bob"],
            2,
            "jwksd: Deleting the account \"bob\" cannot be undone, and there is no terminal to confirm it on: \
             add --yes\n"
                .to_owned(),
        ),
    ] {
        assert_eq!(command(dir, args), (status, String::new(), message), "{args:?}");
    }
}

#[tokio::test]
async fn logs_filters_by_account_and_address_and_follows() {
    let dir = dir();
    let dir = dir.path();
    let server = Server::start(dir, &[]);
    let mut passwords = Vec::new();
    for name in ["alice", "bob"] {
        passwords.push(done(dir, &["users", "add", name]).0.trim_end().to_owned());
    }
    for (name, password) in [("alice", &passwords[0]), ("bob", &passwords[1]), ("alice", &passwords[0])] {
        assert_eq!(sign_in(&server, name, password).await, 200);
    }
    let ids = |args: &[&str]| {
        let (listed, _) = done(dir, &[&["logs", "--json"], args].concat());
        objects(&listed).iter().map(|row| row["id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&[]), [1, 2, 3]);
    assert_eq!(ids(&["--user", "ALICE", "--ip", "127.0.0.1", "--since", "1h"]), [1, 3]);
    assert_eq!(ids(&["--last", "2"]), [2, 3]);
    assert_eq!(ids(&["--ip", "192.0.2.1"]), [0; 0]);
    assert_eq!(ids(&["--since", "2999-01-01"]), [0; 0]);
    let (table, _) = done(dir, &["logs", "--last", "1"]);
    let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((row.len(), &row[1..]), (3, &["127.0.0.1", "alice"][..]), "{table}");
    let missing = "jwksd: cannot show sign-ins of \"eve\": there is no account of that name\n";
    assert_eq!(command(dir, &["logs", "--user", "eve"]), (3, String::new(), missing.to_owned()));

    let mut following = jwksd(dir, &["logs", "--follow", "--last", "1", "--user", "bob", "--json"], &[])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(following.stdout.take().unwrap()));
    let mut seen = vec![lines.next().unwrap().unwrap()];
    assert_eq!(sign_in(&server, "alice", &passwords[0]).await, 200);
    assert_eq!(sign_in(&server, "bob", &passwords[1]).await, 200);
    seen.push(lines.next().unwrap().unwrap());
    following.kill().unwrap();
    following.wait().unwrap();
    assert_eq!(objects(&seen.join("\n")).iter().map(|row| row["id"].clone()).collect::<Vec<_>>(), [2, 5]);
}

#[tokio::test]
async fn a_running_server_deletes_sign_ins_older_than_log_retention() {
    let dir = dir();
    drop(Server::start(dir.path(), &[]));
    sqlx::query(
        "INSERT INTO auth_logs (request_ip, request_timestamp)
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
         SELECT '192.0.2.1', datetime('now', '-2 days') FROM n
         UNION ALL SELECT '192.0.2.2', datetime('now')",
    )
    .execute(&mut db(dir.path()).await)
    .await
    .unwrap();
    let _server = Server::start(dir.path(), &[("LOG_RETENTION", "1d")]);
    let begun = Instant::now();
    loop {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM auth_logs")
            .fetch_one(&mut db(dir.path()).await)
            .await
            .unwrap();
        if left == 1 {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{left} are left");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn read_only_commands_do_not_create_a_store() {
    let dir = dir();
    for args in
        [&["logs"][..], &["users", "list"], &["users", "show", "a"], &["users", "delete", "a", "--yes"]]
    {
        let said = format!("jwksd: there is no store in {DB}\n");
        assert_eq!(command(dir.path(), args), (3, String::new(), said), "{args:?}");
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn malformed_rows_of_another_program_do_not_break_commands() {
    let dir = dir();
    let dir = dir.path();
    let file = format!("sqlite://{}?mode=rwc", dir.join(DB).display());
    let mut other = <sqlx::SqliteConnection as sqlx::Connection>::connect(&file).await.unwrap();
    sqlx::raw_sql(concat!(
        include_str!("../../migrations/sqlite/0001_course_schema.sql"),
        "INSERT INTO users (username, password_hash) VALUES ('alice', 'x'), (x'ff41', x'ff'), ('deleted:1', 'x'),
             ('ALICE', '$argon2id$v=19$m=8,t=1,p=1$AA$');
         PRAGMA foreign_keys = OFF;
         INSERT INTO auth_logs (request_ip, request_timestamp, user_id) VALUES
             ('a', datetime('now'), 'no number'), (x'ff', datetime('now'), 99), ('b', x'ff', 1), ('c', 5, 1), ('d', NULL, 1);",
    ))
    .execute(&mut other)
    .await
    .unwrap();
    done(dir, &["users", "add", "bob"]);
    assert_eq!(done(dir, &["users", "list", "--json"]).0.lines().count(), 5);
    assert_eq!(done(dir, &["logs", "--json"]).0.lines().count(), 2);
    done(dir, &["backup", "copy.db"]);
    let server = Server::start(dir, &[]);
    for name in ["ALICE", "\u{fffd}A"] {
        assert_eq!(sign_in(&server, name, "x").await, 401, "{name}");
    }
    let (status, _, said) = command(dir, &["users", "delete", "Alice", "--yes"]);
    let expected = "jwksd: cannot delete \"Alice\": the accounts \"alice\" and \"ALICE\" differ only by case: use the exact spelling of one of them\n";
    assert_eq!((status, said.as_str()), (1, expected));
    done(dir, &["users", "delete", "alice", "--yes"]);
}

#[test]
fn argon2_tune_prints_three_valid_settings() {
    let dir = dir();
    let (settings, said) = done(dir.path(), &["argon2-tune", "--target", "1ms"]);
    assert_eq!(settings, "ARGON2_MEMORY_KIB=19456\nARGON2_ITERATIONS=2\nARGON2_PARALLELISM=1\n");
    assert!(said.starts_with("OWASP's minimum takes longer than that here"), "{said}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "it creates nothing");
}

#[test]
fn completions_and_man_pages_have_every_command() {
    let dir = dir();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (script, _) = done(dir.path(), &["completions", shell]);
        assert!(script.contains("set-email"), "{shell}");
    }
    done(dir.path(), &["man", "pages"]);
    let pages = fs::read_dir(dir.path().join("pages")).unwrap().count();
    assert!(pages > 20, "{pages}");
    let page = fs::read_to_string(dir.path().join("pages/jwksd-users-reset.1")).unwrap();
    assert!(page.contains("new password"), "{page}");
}

#[tokio::test]
async fn the_settings_about_browsers_work_from_the_environment() {
    let dir = dir();
    let settings = [
        ("ADMIN_TOKEN", "0123456789abcdef"),
        ("ALLOWED_HOSTS", "jwksd.internal, [2001:db8::1]"),
        ("ALLOWED_ORIGINS", "https://App.example:443,http://localhost:3000"),
        ("ISSUER", "https://id.example/tenant"),
    ];
    let server = Server::start(dir.path(), &settings);
    let client = reqwest::Client::new();
    for (host, status) in [
        ("jwksd.internal:8080", 200),
        ("id.example", 200),
        ("localhost", 200),
        ("jwksd", 421),
        ("app.example", 421),
    ] {
        let metrics = client.get(format!("{}/metrics", server.url)).bearer_auth("0123456789abcdef");
        assert_eq!(metrics.header("host", host).send().await.unwrap().status().as_u16(), status, "{host}");
    }
    for (origin, status) in [
        ("https://app.example", 401),
        ("http://localhost:3000", 401),
        ("https://jwksd.internal", 401),
        ("http://localhost:3001", 403),
        ("https://evil.example", 403),
    ] {
        let sign_in = client.post(format!("{}/tenant/auth", server.url)).header("origin", origin);
        assert_eq!(sign_in.send().await.unwrap().status().as_u16(), status, "{origin}");
    }
}
