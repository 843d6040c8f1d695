//! What happens to a store whose files or schema another program has changed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::support::{BINARY, Server};
use crate::{DB, command, db, dir, done, get, objects, post, skipped};

/// A registration that waits for the write lock of another process while `damage` is done to the store.
async fn register_while(dir: &Path, damage: impl FnOnce()) -> (u16, Value) {
    let server = Server::start(dir, &[]);
    let mut other = db(dir).await;
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let bob = json!({"username": "bob", "email": "bob@example.com"});
    let registering = post(&server, "/register", bob.clone());
    let damaging = async {
        // Long enough for the password hash, after which the registration waits for the lock.
        tokio::time::sleep(Duration::from_secs(2)).await;
        damage();
        lock.rollback().await.unwrap();
    };
    let (answer, ()) = tokio::join!(registering, damaging);
    answer
}

fn unavailable() -> (u16, Value) {
    (503, json!({"error": "The service cannot answer just now", "code": "unavailable"}))
}

#[tokio::test]
async fn a_registration_is_not_confirmed_if_the_store_was_removed_or_replaced_while_it_waited() {
    let names = ["", "-wal", "-shm"].map(|side| format!("{DB}{side}"));
    let removals: [(&str, &[String]); 3] =
        [("the file", &names[..1]), ("its journal", &names[1..2]), ("all of it", &names)];
    for (what, removed) in removals {
        let dir = dir();
        let answer = register_while(dir.path(), || {
            for name in removed {
                fs::remove_file(dir.path().join(name)).unwrap();
            }
        });
        assert_eq!(answer.await, unavailable(), "{what} was removed");
    }
    let dir = dir();
    let answer = register_while(dir.path(), || {
        fs::rename(dir.path().join(DB), dir.path().join("moved.db")).unwrap();
        fs::copy(dir.path().join("moved.db"), dir.path().join(DB)).unwrap();
    });
    assert_eq!(answer.await, unavailable(), "a copy has its name");
}

#[tokio::test]
async fn a_registration_through_a_symbolic_link_is_confirmed_and_kept() {
    let dir = dir();
    done(dir.path(), &["users", "add", "alice"]);
    fs::create_dir(dir.path().join("elsewhere")).unwrap();
    fs::rename(dir.path().join(DB), dir.path().join("elsewhere/store.db")).unwrap();
    std::os::unix::fs::symlink("elsewhere/store.db", dir.path().join(DB)).unwrap();
    let (status, _) = register_while(dir.path(), || {}).await;
    assert_eq!(status, 201);
    let (listed, _) = done(dir.path(), &["users", "list"]);
    assert!(listed.contains("bob"), "{listed}");
}

/// Runs the program on a file system where these system calls fail. Nothing if strace does not work here.
fn run_without(calls: &[&str], dir: &Path, args: &[&str]) -> Option<(i32, String)> {
    let works = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    if !works.is_ok_and(|status| status.success()) {
        skipped("strace does not work here");
        return None;
    }
    let faults: Vec<_> = calls.iter().flat_map(|call| ["-e".to_owned(), format!("inject={call}")]).collect();
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null"])
        .args(faults)
        .arg(BINARY)
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("RUST_LOG", "off")
        .output()
        .unwrap();
    Some((output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap()))
}

#[tokio::test]
async fn backup_and_restore_work_on_a_file_system_without_hard_links() {
    let links = "link,linkat:error=EPERM";
    for faults in [
        &[links][..],
        &["link,linkat:error=EOPNOTSUPP", "renameat2:error=EINVAL"],
        &[links, "renameat2:error=ENOSYS"],
    ] {
        let dir = dir();
        let dir = dir.path();
        done(dir, &["users", "add", "alice"]);
        let Some((status, said)) = run_without(faults, dir, &["backup", "copy.db"]) else {
            return;
        };
        assert_eq!(status, 0, "{faults:?}: {said}");
        assert!(
            said.starts_with("copy.db is a complete copy: keys: 2, which all open; accounts: 1"),
            "{said}"
        );
        let copy = fs::read(dir.join("copy.db")).unwrap();
        let (status, said) = run_without(faults, dir, &["backup", "copy.db"]).unwrap();
        assert_eq!((status, said.as_str()), (2, "jwksd: copy.db already exists: use another name\n"));
        done(dir, &["users", "add", "late"]);
        let (status, said) = run_without(faults, dir, &["restore", "copy.db"]).unwrap();
        assert_eq!(status, 0, "{faults:?}: {said}");
        let mut messages = said.lines();
        assert!(
            messages.next().unwrap().starts_with(&format!("restored {DB} from copy.db: keys: 2, ")),
            "{said}"
        );
        let kept = messages.next().unwrap().strip_prefix("the old store is kept as ").unwrap();
        let accounts = |file: &str| done(dir, &["users", "list", "--database-url", file]).0;
        assert!(accounts(kept).contains("late"), "the old store is kept");
        assert!(!accounts(DB).contains("late"), "the copy has its place");
        assert!(fs::read(dir.join("copy.db")).unwrap() == copy, "a backup can be restored again");
        done(dir, &["users", "add", "bob"]);
    }
}

#[test]
fn a_first_start_writes_its_master_key_on_a_file_system_without_hard_links() {
    let dir = dir();
    let faults = ["link,linkat:error=EPERM", "renameat2:error=EINVAL"];
    let Some((status, said)) = run_without(&faults, dir.path(), &["users", "add", "alice"]) else {
        return;
    };
    assert_eq!(status, 0, "{said}");
    assert!(fs::read_to_string(dir.path().join(".env")).unwrap().contains("NOT_MY_KEY="));
    done(dir.path(), &["users", "add", "bob"]);
}

#[test]
fn a_restore_that_fails_leaves_the_store_as_it_is_and_blames_the_owner_only_for_missing_rights() {
    let renames = "rename,renameat,renameat2";
    for (error, why) in [("EROFS", ""), ("EACCES", ": run this as the owner of the store")] {
        let dir = dir();
        let dir = dir.path();
        done(dir, &["users", "add", "alice"]);
        done(dir, &["backup", "copy.db"]);
        done(dir, &["users", "add", "late"]);
        let faults = ["link,linkat:error=EPERM".to_owned(), format!("{renames}:error={error}")];
        let faults = faults.each_ref().map(String::as_str);
        let Some((status, said)) = run_without(&faults, dir, &["restore", "copy.db"]) else {
            return;
        };
        assert_eq!(status, 1, "{said}");
        let expected = format!("jwksd: cannot replace the store by the copy{why}: ");
        assert!(said.starts_with(&expected), "{said}");
        assert!(done(dir, &["users", "list"]).0.contains("late"), "the store is as it was");
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, [".env", "copy.db", DB]);
    }
}

/// Runs a restore, on a file system without hard links, that is killed at this rename. Nothing without strace.
fn restore_killed_at(rename: usize, dir: &Path) -> Option<()> {
    run_without(&["link,linkat:error=EPERM"], dir, &["--version"])?;
    Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=link,linkat:error=EPERM"])
        .args(["-e", &format!("inject=renameat2:signal=KILL:when={rename}")])
        .args([BINARY, "restore", "copy.db"])
        .current_dir(dir)
        .env_clear()
        .output()
        .unwrap();
    Some(())
}

#[test]
fn a_restore_that_is_killed_at_any_moment_leaves_the_old_store_under_a_name_that_tells_what_it_is() {
    // The second rename exchanges the two files. There is no third one.
    for (rename, kept, is_restored) in [(1, 0, false), (2, 1, false), (3, 1, true)] {
        let dir = dir();
        let dir = dir.path();
        done(dir, &["users", "add", "alice"]);
        done(dir, &["backup", "copy.db"]);
        done(dir, &["users", "add", "late"]);
        let Some(()) = restore_killed_at(rename, dir) else {
            return;
        };
        let names = fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
        let replaced: Vec<_> = names.filter(|name| name.starts_with(&format!("{DB}.replaced-"))).collect();
        assert_eq!(replaced.len(), kept, "{rename}");
        let has_late = |file: &str| done(dir, &["users", "list", "--database-url", file]).0.contains("late");
        assert_eq!(has_late(DB), !is_restored, "{rename}");
        assert!(replaced.iter().all(|file| has_late(file) == is_restored), "{rename}");
    }
}

async fn sql(dir: &Path, file: &str, sql: &'static str) {
    let url = format!("sqlite://{}", dir.join(file).display());
    let mut db = sqlx::SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
}

const TRIGGER: &str = "CREATE TRIGGER \"evil\"\"one\" AFTER UPDATE ON users BEGIN
                           UPDATE users SET password_hash = 'known' WHERE id = NEW.id;
                       END";

#[tokio::test]
async fn a_trigger_or_view_of_others_is_refused_by_name_everywhere_and_nothing_is_written() {
    for (planted, what, way_out) in [
        (TRIGGER, r#"trigger "evil\"one""#, r#"DROP TRIGGER "evil""one""#),
        ("CREATE VIEW evil AS SELECT * FROM users", r#"view "evil""#, r#"DROP VIEW "evil""#),
        (
            "DROP TRIGGER keys_updated; CREATE TRIGGER Keys_Updated AFTER UPDATE ON keys BEGIN SELECT 1; END",
            "",
            "",
        ),
    ] {
        let dir = dir();
        let dir = dir.path();
        done(dir, &["users", "add", "alice"]);
        done(dir, &["backup", "clean.db"]);
        sql(dir, DB, planted).await;
        fs::copy(dir.join(DB), dir.join("planted.db")).unwrap();
        let why = if what.is_empty() {
            "its trigger keys_updated is missing or different: replace it by a backup with `jwksd restore`; its trigger \
             \"Keys_Updated\" was not made by jwksd, and can change what is stored: find out what it has done, then run \
             the SQL `DROP TRIGGER \"Keys_Updated\"`"
                .to_owned()
        } else {
            format!(
                "its {what} was not made by jwksd, and can change what is stored: find out what it has done, then run \
                 the SQL `{way_out}`"
            )
        };
        let before = fs::read(dir.join(DB)).unwrap();
        for args in
            [&["serve"][..], &["users", "reset", "alice"], &["users", "list"], &["keys", "list"], &["logs"]]
        {
            let expected = format!("jwksd: DATABASE_URL names {DB}, but {why}\n");
            assert_eq!(command(dir, args), (2, String::new(), expected), "{args:?}");
        }
        let expected = format!("jwksd: cannot use {DB}: {why}\n");
        assert_eq!(command(dir, &["backup", "copy.db"]), (2, String::new(), expected));
        let expected = format!("jwksd: cannot use planted.db: {why}\n");
        assert_eq!(command(dir, &["restore", "planted.db"]), (2, String::new(), expected));
        let (status, findings, _) = command(dir, &["doctor", "--json"]);
        let findings = objects(&findings);
        let found: Vec<_> = findings
            .iter()
            .filter(|it| it["about"] == "schema")
            .map(|it| it["text"].as_str().unwrap())
            .collect();
        assert_eq!((status, found.join("; ")), (2, why));
        assert!(fs::read(dir.join(DB)).unwrap() == before, "nothing is written");
        done(dir, &["restore", "clean.db"]);
        done(dir, &["users", "reset", "alice"]);
    }
}

#[tokio::test]
async fn a_store_that_has_lost_a_trigger_is_refused_and_one_that_has_lost_an_index_is_not() {
    let dir = dir();
    let dir = dir.path();
    done(dir, &["users", "add", "alice"]);
    sql(
        dir,
        DB,
        "DROP INDEX jwksd_auth_logs_user; CREATE TABLE notes(text); CREATE INDEX theirs ON users(email)",
    )
    .await;
    done(dir, &["users", "reset", "alice"]);
    let lost = "can be used, but its index jwksd_auth_logs_user is missing or different: replace it by a backup with \
                `jwksd restore`\n";
    let said = command(dir, &["backup", "copy.db"]);
    assert!(said.0 == 0 && said.2.contains(&format!("\ncopy.db {lost}")), "{said:?}");
    let said = command(dir, &["restore", "copy.db"]);
    assert!(said.0 == 0 && said.2.contains(&format!("\n{DB} {lost}")), "{said:?}");
    sql(dir, DB, "DROP TRIGGER users_email_changed").await;
    let expected = format!(
        "jwksd: DATABASE_URL names {DB}, but its trigger users_email_changed is missing or different: replace it by a \
         backup with `jwksd restore`\n"
    );
    assert_eq!(command(dir, &["users", "reset", "alice"]), (2, String::new(), expected));
    done(dir, &["restore", "copy.db"]);
    done(dir, &["users", "reset", "alice"]);
}

#[tokio::test]
async fn an_index_that_could_forbid_a_write_is_refused_by_name_and_one_that_cannot_is_not() {
    for (planted, is_refused) in [
        ("CREATE INDEX evil ON key_lives(made_at)", false),
        ("CREATE UNIQUE INDEX evil ON key_lives(kid)", true),
        ("CREATE UNIQUE INDEX evil ON names_given(substr(name, 1, 1))", true),
        ("CREATE INDEX evil ON _sqlx_migrations(version)", false),
        ("CREATE UNIQUE INDEX evil ON keys(exp / 2)", true),
        ("CREATE UNIQUE INDEX evil ON keys(1) WHERE kid > 2", true),
        ("CREATE UNIQUE INDEX evil ON users(password_hash)", true),
        ("CREATE UNIQUE INDEX evil ON users(substr(upper(username), 1, 3))", true),
        ("CREATE UNIQUE INDEX evil ON users(upper(username))", false),
        ("CREATE UNIQUE INDEX evil ON users(lower(email)) WHERE email IS NOT NULL", false),
        ("CREATE UNIQUE INDEX evil ON auth_logs(request_ip)", true),
        ("CREATE UNIQUE INDEX evil ON users(username)", false),
        ("CREATE INDEX evil ON users(email)", false),
        ("CREATE TABLE notes(text); CREATE UNIQUE INDEX evil ON notes(text)", false),
    ] {
        let dir = dir();
        let dir = dir.path();
        done(dir, &["users", "add", "alice"]);
        sql(dir, DB, planted).await;
        let (status, _, said) = command(dir, &["users", "reset", "alice"]);
        if is_refused {
            let why = "its index \"evil\" was not made by jwksd, and can forbid what is stored: find out what it has done, \
                       then run the SQL `DROP INDEX \"evil\"`";
            let expected = format!("jwksd: DATABASE_URL names {DB}, but {why}\n");
            assert_eq!((status, said), (2, expected), "{planted}");
            let (status, findings, _) = command(dir, &["doctor", "--json"]);
            assert_eq!(status, 2);
            assert!(
                objects(&findings).iter().any(|it| it["about"] == "schema" && it["text"] == why),
                "{findings}"
            );
            sql(dir, DB, "DROP INDEX evil").await;
            done(dir, &["users", "reset", "alice"]);
        } else {
            assert_eq!(status, 0, "{planted}: {said}");
        }
    }
    let dir = dir();
    let dir = dir.path();
    done(dir, &["users", "add", "alice"]);
    sql(dir, DB, "CREATE INDEX evil ON auth_logs(json(request_ip))").await;
    let (status, _, said) = command(dir, &["users", "reset", "alice"]);
    assert!(
        status == 2 && said.contains("jwksd could not record a sign-in in it (malformed JSON)"),
        "{said}"
    );
}

#[test]
fn a_directory_in_place_of_the_store_is_named_as_such() {
    let dir = dir();
    let dir = dir.path();
    fs::create_dir(dir.join("stores")).unwrap();
    fs::create_dir(dir.join("stores/other")).unwrap();
    fs::write(dir.join(".env"), "DATABASE_URL=stores\nNOT_MY_KEY='correct horse battery staple'\n").unwrap();
    let why =
        "DATABASE_URL names stores, but it is a directory: nothing was changed; name a file in DATABASE_URL";
    assert_eq!(command(dir, &["keys", "list"]), (2, String::new(), format!("jwksd: {why}\n")));
    let (status, findings, _) = command(dir, &["doctor", "--json"]);
    let texts: Vec<_> = objects(&findings).iter().map(|it| it["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(status, 2);
    assert!(
        texts.iter().any(|text| text == why) && texts.iter().all(|text| !text.contains("restore")),
        "{texts:?}"
    );
}

#[tokio::test]
async fn a_course_database_is_taken_over_with_further_tables_and_refused_with_a_trigger() {
    let dir = dir();
    let dir = dir.path();
    let course = include_str!("../../migrations/sqlite/0001_course_schema.sql");
    fs::write(dir.join(".env"), "NOT_MY_KEY='correct horse battery staple'\n").unwrap();
    fs::write(dir.join(DB), "").unwrap();
    sql(dir, DB, course).await;
    sql(dir, DB, "CREATE TABLE notes(text); CREATE UNIQUE INDEX theirs ON users(email)").await;
    sql(dir, DB, TRIGGER).await;
    let before = fs::read(dir.join(DB)).unwrap();
    let (status, _, said) = command(dir, &["users", "add", "alice"]);
    assert!(status == 2 && said.contains(r#"its trigger "evil\"one" was not made by jwksd"#), "{said}");
    assert!(fs::read(dir.join(DB)).unwrap() == before, "nothing is written");
    sql(dir, DB, r#"DROP TRIGGER "evil""one""#).await;
    done(dir, &["users", "add", "alice"]);
}

#[tokio::test]
async fn a_key_in_two_rows_of_a_database_that_was_taken_over_is_published_once() {
    let source = dir();
    let pem = done(source.path(), &["keys", "export", "1", "--yes"]).0;
    let dir = dir();
    let dir = dir.path();
    fs::write(dir.join(".env"), "NOT_MY_KEY='correct horse battery staple'\n").unwrap();
    fs::write(dir.join(DB), "").unwrap();
    sql(dir, DB, include_str!("../../migrations/sqlite/0001_course_schema.sql")).await;
    for hours in [20, 22, 21, 22] {
        sqlx::query("INSERT INTO keys (key, exp) VALUES (?, unixepoch() + 3600 * ?)")
            .bind(&pem)
            .bind(hours)
            .execute(&mut db(dir).await)
            .await
            .unwrap();
    }
    let server = Server::start(dir, &[]);
    for _ in 0..2 {
        let set = get(&server, "/jwks").await;
        let kids: Vec<_> = set["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect();
        assert_eq!(kids, ["4"], "the one that lives longest");
        std::thread::sleep(Duration::from_secs(1));
    }
    drop(server);
    let (keys, _) = done(dir, &["keys", "list", "--json"]);
    let keys: Value = serde_json::from_str(&keys).unwrap();
    let phases: Vec<_> = keys["keys"].as_array().unwrap().iter().map(|key| key["phase"].clone()).collect();
    assert_eq!(phases, ["expired", "expired", "expired", "current"], "{keys}");
}

#[tokio::test]
async fn revoking_a_key_revokes_its_duplicates_in_a_database_that_was_taken_over() {
    let source = dir();
    let pem = done(source.path(), &["keys", "export", "1", "--yes"]).0;
    let dir = dir();
    let dir = dir.path();
    fs::write(dir.join(".env"), "NOT_MY_KEY='correct horse battery staple'\n").unwrap();
    fs::write(dir.join(DB), "").unwrap();
    sql(dir, DB, include_str!("../../migrations/sqlite/0001_course_schema.sql")).await;
    for _ in 0..2 {
        sqlx::query("INSERT INTO keys (key, exp) VALUES (?, unixepoch() + 3600)")
            .bind(&pem)
            .execute(&mut db(dir).await)
            .await
            .unwrap();
    }
    done(dir, &["keys", "revoke", "1"]);
    let (keys, _) = done(dir, &["keys", "list", "--json"]);
    let keys: Value = serde_json::from_str(&keys).unwrap();
    let phases: Vec<_> =
        keys["keys"].as_array().unwrap().iter().map(|key| key["phase"].as_str().unwrap()).collect();
    assert_eq!(phases[..2], ["revoked", "revoked"], "{keys}");
}
