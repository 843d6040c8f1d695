//! Commands of an operator while several servers run.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use sqlx::Executor as _;

use crate::members::{CALM, Fleet, kids};
use crate::support::jwksd;
use crate::{kid, verifies};

const NEW_KEY: &str = "HxwdGhsYGRYXFBUSExAREg8ODQwLCgkIBwYFBAMCAQA=";

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_have_the_new_master_key_go_over_to_it_by_themselves_when_the_store_does() {
    let settings = [CALM.as_slice(), &[("NEW_NOT_MY_KEY", NEW_KEY)]].concat();
    let Some(fleet) = Fleet::start::<2>(&settings).await else { return };
    let password = fleet.members[0].register("alice").await;
    let before = kids(&fleet.agree(|_| true).await);
    fleet.command(&["rekey"]);
    // A command that still has the old one in NOT_MY_KEY finds the new one too.
    fleet.command(&["keys", "rotate", "--now"]);
    let after = fleet.agree(|set| kids(set).len() == before.len() + 1).await;
    for member in &fleet.members {
        assert_eq!(member.ready().await, 200);
        let token = member.sign_in("alice", &password).await.unwrap();
        assert_eq!(kid(&token), *kids(&after).last().unwrap());
        assert!(verifies(&token, &after));
        let log = member.server.log();
        assert!(log.contains("the store was moved to the master key NEW_NOT_MY_KEY"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_follow_prints_each_sign_in_once_also_one_whose_number_was_drawn_before_it_was_stored() {
    let Some(fleet) = Fleet::start::<1>(&CALM).await else { return };
    let insert = |address: &str| {
        sqlx::query("INSERT INTO jwksd.auth_logs (request_ip, at_seconds) VALUES ($1, 1000)")
            .bind(address.to_owned())
    };
    let (mut slow, mut fast) = (fleet.connect().await, fleet.connect().await);
    fast.execute(insert("192.0.2.1")).await.unwrap();
    // It has number 2, and is stored after number 3.
    slow.execute("BEGIN").await.unwrap();
    slow.execute(insert("192.0.2.2")).await.unwrap();

    let env = fleet.environment();
    let env: Vec<_> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let dir = tempfile::tempdir().unwrap();
    let mut follow = jwksd(dir.path(), &["logs", "--follow", "--json"], &env)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = mpsc::channel();
    let stdout = BufReader::new(follow.stdout.take().unwrap());
    std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let next = |within: Duration| -> Option<String> {
        let line = lines.recv_timeout(within).ok()?;
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        Some(line["ip"].as_str().or(line["from"].as_str()).unwrap_or_else(|| panic!("{line}")).to_owned())
    };
    let long = Duration::from_secs(20);
    assert_eq!(next(long).as_deref(), Some("192.0.2.1"));
    fast.execute(insert("192.0.2.3")).await.unwrap();
    assert_eq!(next(long).as_deref(), Some("192.0.2.3"));
    slow.execute("COMMIT").await.unwrap();
    let begun = Instant::now();
    assert_eq!(next(long).as_deref(), Some("192.0.2.2"));
    println!("the late row came {:?} after its commit", begun.elapsed());
    fast.execute(insert("192.0.2.4")).await.unwrap();
    assert_eq!(next(long).as_deref(), Some("192.0.2.4"));
    assert_eq!(next(Duration::from_secs(2)), None);
    follow.kill().unwrap();
    follow.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_cannot_be_used_is_refused_in_words_and_a_server_that_is_away_is_an_outage() {
    let Some(fleet) = Fleet::start::<1>(&CALM).await else { return };
    let url = url::Url::parse(fleet.url()).unwrap();
    let run = |change: &dyn Fn(&mut url::Url)| {
        let mut other = url.clone();
        change(&mut other);
        fleet.run_on(other.as_str(), &["users", "list"])
    };
    let (status, said) = run(&|url| url.set_path("missing"));
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("the server has no such database: create it, or name another"), "{said}");
    let (status, said) = run(&|url| url.set_username("missing").unwrap());
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("the server refuses its role or password"), "{said}");
    let (status, said) = run(&|url| url.set_query(Some("sslmode=verify-full")));
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("the connection cannot be encrypted as sslmode says"), "{said}");
    let (status, said) = run(&|url| url.set_port(Some(1)).unwrap());
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("cannot reach database"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_a_newer_version_has_extended_is_used_until_it_says_that_it_cannot_be() {
    let Some(fleet) = Fleet::start::<1>(&CALM).await else { return };
    let mut db = fleet.connect().await;
    let newer = "INSERT INTO jwksd._sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (99, 'of a newer version', TRUE, 'x', 1)";
    db.execute(newer).await.unwrap();
    fleet.command(&["users", "add", "alice"]);
    db.execute("UPDATE jwksd.store SET readable_by = 99").await.unwrap();
    let (status, said) = fleet.run_on(fleet.url(), &["users", "list"]);
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("its schema needs version 99 or newer: a newer jwksd made it"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_shows_the_server_and_warns_of_settings_by_which_answers_can_be_lost() {
    let Some(fleet) = Fleet::start::<1>(&CALM).await else { return };
    let findings = || -> Vec<(String, String)> {
        let output = fleet.output_of(fleet.url(), &["doctor"]);
        let text = String::from_utf8(output.stdout).unwrap();
        let lines = text.lines().map(|line| line.split_once(' ').unwrap());
        lines.map(|(level, rest)| (level.to_owned(), rest.trim().to_owned())).collect()
    };
    let has = |found: &[(String, String)], level: &str, part: &str| {
        found.iter().any(|(a, text)| a == level && text.contains(part))
    };
    let found = findings();
    for part in
        ["store", "PostgreSQL", "schema     version 1", "connections are open; each process uses up to 10"]
    {
        assert!(has(&found, "ok", part), "{part}: {found:?}");
    }
    assert!(!has(&found, "warning", "synchronous_commit"), "{found:?}");
    let name = url::Url::parse(fleet.url()).unwrap().path().trim_start_matches('/').to_owned();
    let sql = format!("ALTER DATABASE {name} SET synchronous_commit = off");
    fleet.connect().await.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(sql))).await.unwrap();
    assert!(has(&findings(), "warning", "synchronous_commit is off for this role"), "{:?}", findings());
}
