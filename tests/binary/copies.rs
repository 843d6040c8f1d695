//! `backup` of a store while a server runs, and `restore`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Server, jwksd, run};
use crate::{DB, command, db, dir, done, get, objects, post, sign_in, stderr};

/// Inserts enough sign-ins that a backup takes a while.
async fn fill(dir: &Path, rows: u32) {
    sqlx::query(
        "INSERT INTO auth_logs (request_ip)
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT '192.0.2.1' FROM n",
    )
    .bind(rows)
    .execute(&mut db(dir).await)
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_is_complete_and_can_be_restored_and_used() {
    let dir = dir();
    let dir = dir.path();
    let mut server = Server::start(dir, &[("AUTH_RATE_LIMIT", "0"), ("REGISTER_RATE_LIMIT", "0")]);
    let password = done(dir, &["users", "add", "alice"]).0.trim_end().to_owned();
    let (url, current) = (server.url.clone(), password.clone());
    let load = tokio::spawn(async move {
        let client = reqwest::Client::new();
        for number in 0.. {
            let body = json!({"username": "alice", "password": current});
            client.post(format!("{url}/auth")).json(&body).send().await.unwrap();
            let body =
                json!({"username": format!("user{number}"), "email": format!("u{number}@example.com")});
            client.post(format!("{url}/register")).json(&body).send().await.unwrap();
        }
    });
    for number in 0..3 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (_, said) = done(dir, &["backup", &format!("copy{number}.db")]);
        assert!(
            said.starts_with(&format!(
                "copy{number}.db is a complete copy: keys: 2, which all open; accounts: "
            )),
            "{said}"
        );
    }
    load.abort();
    let listed = |args: &[&str]| done(dir, args).0.lines().count();
    assert!(listed(&["users", "list"]) > 2 && listed(&["logs"]) > 1, "the load changed the store");
    let (status, _, said) = command(dir, &["backup", "copy0.db"]);
    assert_eq!((status, said.as_str()), (2, "jwksd: copy0.db already exists: use another name\n"));
    // After the copy, a username is assigned, and keys are created and revoked.
    done(dir, &["users", "add", "late"]);
    done(dir, &["keys", "rotate", "--now"]);
    done(dir, &["keys", "revoke", "3"]);
    let late_jwks = loop {
        let followed = get(&server, "/jwks").await;
        if followed.to_string().contains(r#""kid":"4""#) {
            break followed;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let (status, _, said) = command(dir, &["restore", "copy2.db"]);
    let in_use = format!("jwksd: {DB} is in use, by a server or another program: stop it first\n");
    assert_eq!((status, said), (2, in_use));
    server.child.kill().unwrap();
    server.wait();
    let (_, said) = done(dir, &["restore", "copy2.db"]);
    assert!(said.starts_with(&format!("restored {DB} from copy2.db: keys: 4, which all open; ")), "{said}");

    let server = Server::start(dir, &[]);
    assert_eq!(get(&server, "/jwks").await, late_jwks, "issued tokens still verify");
    assert_eq!(sign_in(&server, "alice", &password).await, 200);
    let late = json!({"username": "late", "email": "late@example.com"});
    assert_eq!(post(&server, "/register", late).await.0, 409, "a username is never assigned twice");
    done(dir, &["keys", "rotate"]);
    let (keys, _) = done(dir, &["keys", "list", "--json"]);
    let keys: Value = serde_json::from_str(&keys).unwrap();
    let phases: Vec<_> = keys["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| (key["kid"].as_i64().unwrap(), key["phase"].as_str().unwrap()))
        .collect();
    let expected = [(1, "retiring"), (2, "expired"), (3, "revoked"), (4, "current"), (5, "next")];
    assert_eq!(phases, expected);
    let kept = fs::read_dir(dir).unwrap().filter(|file| {
        file.as_ref().unwrap().file_name().to_string_lossy().starts_with(&format!("{DB}.replaced-"))
    });
    assert_eq!(kept.count(), 1, "the replaced store is kept");
}

#[tokio::test]
async fn later_revocations_disablings_and_deletions_survive_a_restore() {
    let dir = dir();
    let dir = dir.path();
    for name in ["ann", "ben", "cat"] {
        done(dir, &["users", "add", name, "--email", &format!("{name}@example.com")]);
    }
    done(dir, &["backup", "copy.db"]);
    done(dir, &["keys", "rotate", "--now"]);
    done(dir, &["keys", "expire", "1"]);
    done(dir, &["keys", "rotate", "--now"]);
    done(dir, &["keys", "revoke", "3"]);
    done(dir, &["users", "delete", "ann", "--yes"]);
    done(dir, &["users", "disable", "ben"]);
    let before = (done(dir, &["keys", "list"]).0, done(dir, &["users", "list", "--deleted"]).0);
    let (_, said) = done(dir, &["restore", "copy.db"]);
    assert!(said.contains("stays so (accounts: 2); passwords are those of the copy"), "{said}");
    assert_eq!((done(dir, &["keys", "list"]).0, done(dir, &["users", "list", "--deleted"]).0), before);
    done(dir, &["users", "delete", "ben", "--yes"]);
    assert_eq!(command(dir, &["users", "add", "ann"]).0, 4);
    assert_eq!(run(dir, &["doctor"], &[("PORT", "0")], "").status.code(), Some(0));
}

#[test]
fn keys_of_every_kind_survive_a_restore_and_a_rekey() {
    let dir = dir();
    let dir = dir.path();
    done(dir, &["keys", "list"]);
    done(dir, &["keys", "rotate", "--now", "--key-alg", "ES256"]);
    done(dir, &["backup", "copy.db"]);
    done(dir, &["keys", "rotate", "--now", "--key-alg", "EdDSA", "--kid-format", "thumbprint"]);
    done(dir, &["keys", "rotate", "--now", "--key-alg", "PS384"]);
    let before = done(dir, &["keys", "list", "--json"]).0;
    let listing: Value = serde_json::from_str(&before).unwrap();
    let member = |name: &str| {
        listing["keys"].as_array().unwrap().iter().map(|key| key[name].clone()).collect::<Vec<_>>()
    };
    assert_eq!(member("alg"), ["RS256", "RS256", "ES256", "EdDSA", "PS384"]);
    let published = member("published_kid");
    assert_eq!(published.iter().map(|kid| kid.as_str().unwrap().len()).collect::<Vec<_>>(), [1, 1, 1, 43, 1]);
    let export = || ["3", "4", "5"].map(|kid| done(dir, &["keys", "export", "--yes", kid]).0);
    let private = export();
    assert_eq!(done(dir, &["keys", "export", "--yes", published[3].as_str().unwrap()]).0, private[1]);
    for (pem, label) in private.iter().zip(["PRIVATE KEY", "PRIVATE KEY", "RSA PRIVATE KEY"]) {
        assert!(pem.starts_with(&format!("-----BEGIN {label}-----\n")), "{label}");
    }

    done(dir, &["restore", "copy.db"]);
    let same_but_for_the_clock = |text: String| {
        let mut listing: Value = serde_json::from_str(&text).unwrap();
        listing.as_object_mut().unwrap().retain(|name, _| name == "keys" || name == "unreadable");
        listing
    };
    let before = same_but_for_the_clock(before);
    assert_eq!(same_but_for_the_clock(done(dir, &["keys", "list", "--json"]).0), before);
    let new = ("NEW_NOT_MY_KEY", "another passphrase of some length");
    let rekey = run(dir, &["rekey"], &[new], "");
    assert!(rekey.status.success(), "{}", stderr(&rekey));
    let dotenv = fs::read_to_string(dir.join(".env")).unwrap();
    let other: Vec<_> = dotenv.lines().filter(|line| !line.starts_with("NOT_MY_KEY=")).collect();
    fs::write(dir.join(".env"), format!("{}\nNOT_MY_KEY='{}'\n", other.join("\n"), new.1)).unwrap();
    assert_eq!(export(), private);
    assert_eq!(same_but_for_the_clock(done(dir, &["keys", "list", "--json"]).0), before);
    let (table, _) = done(dir, &["keys", "list"]);
    assert!(table.lines().next().unwrap().ends_with("EXPIRES               ALG    PUBLISHED AS"), "{table}");
}

#[tokio::test]
async fn a_restore_brings_back_the_passwords_of_the_backup() {
    let dir = dir();
    let dir = dir.path();
    let old = done(dir, &["users", "add", "alice"]).0;
    done(dir, &["backup", "copy.db"]);
    let new = done(dir, &["users", "reset", "alice"]).0;
    done(dir, &["restore", "copy.db"]);
    let server = Server::start(dir, &[]);
    let status = async |password: &str| sign_in(&server, "alice", password.trim()).await;
    assert_eq!((status(&old).await, status(&new).await), (200, 401));
}

#[test]
fn a_backup_from_before_a_rekey_opens_only_with_the_old_master_key() {
    let dir = dir();
    let [old, new] = ["the first master key", "the second master key"];
    let run = |args: &[&str], env: &[(&str, &str)]| run(dir.path(), args, env, "").status.code().unwrap();
    for args in [["users", "add", "alice"].as_slice(), &["backup", "copy.db"], &["rekey"]] {
        assert_eq!(run(args, &[("NOT_MY_KEY", old), ("NEW_NOT_MY_KEY", new)]), 0, "{args:?}");
    }
    for (file, key, status) in [(DB, old, 2), (DB, new, 0), ("copy.db", old, 0), ("copy.db", new, 2)] {
        let env = [("DATABASE_URL", file), ("NOT_MY_KEY", key)];
        assert_eq!(run(&["keys", "list"], &env), status, "{file}, {key}");
    }
}

#[cfg(unix)]
#[test]
fn a_restore_follows_a_symbolic_link_and_keeps_the_mode_of_the_store() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = dir();
    let dir = dir.path();
    done(dir, &["users", "add", "alice"]);
    done(dir, &["backup", "copy.db"]);
    fs::create_dir(dir.join("volume")).unwrap();
    fs::rename(dir.join(DB), dir.join("volume/real.db")).unwrap();
    std::os::unix::fs::symlink("volume/real.db", dir.join(DB)).unwrap();
    fs::set_permissions(dir.join("volume/real.db"), fs::Permissions::from_mode(0o640)).unwrap();
    done(dir, &["restore", "copy.db"]);
    assert!(dir.join(DB).symlink_metadata().unwrap().is_symlink());
    let real = fs::metadata(dir.join("volume/real.db")).unwrap();
    assert_eq!(real.permissions().mode() & 0o777, 0o640);
    done(dir, &["users", "show", "alice"]);
}

#[tokio::test]
async fn no_process_initializes_a_store_during_a_restore() {
    let dir = dir();
    let dir = dir.path();
    done(dir, &["users", "add", "alice"]);
    fill(dir, 200_000).await;
    done(dir, &["backup", "copy.db"]);
    for delay in [50, 150, 300, 500] {
        for file in [DB.to_owned(), format!("{DB}-wal"), format!("{DB}-shm")] {
            let _ = fs::remove_file(dir.join(file));
        }
        let mut restoring = jwksd(dir, &["restore", "copy.db"], &[]).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(delay)).await;
        let server = Server::try_start(dir, &["serve"], &[]);
        let restored = restoring.wait().unwrap().success();
        let Ok(server) = server else { continue };
        let account =
            json!({"username": format!("late{delay}"), "email": format!("late{delay}@example.com")});
        assert_eq!(post(&server, "/register", account).await.0, 201);
        drop(server);
        let (shown, _) = done(dir, &["users", "show", &format!("late{delay}"), "--json"]);
        assert_eq!(
            objects(&shown)[0]["state"],
            "active",
            "{delay}: an acknowledged account is stored ({restored})"
        );
    }
}

#[cfg(unix)]
#[tokio::test]
async fn an_interrupted_backup_leaves_no_files() {
    let dir = dir();
    let dir = dir.path();
    done(dir, &["users", "add", "alice"]);
    fill(dir, 500_000).await;
    let mut child =
        jwksd(dir, &["backup", "copy.db"], &[]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let status = child.wait().unwrap().code();
    let left: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".jwksd"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    // On a fast machine, the backup may have finished by then.
    assert_eq!(dir.join("copy.db").exists(), status == Some(0));
}

#[tokio::test]
async fn a_restore_without_a_previous_store_skips_ids_that_may_be_assigned() {
    let dir = dir();
    let dir = dir.path();
    done(dir, &["users", "add", "alice"]);
    done(dir, &["backup", "copy.db"]);
    fs::remove_file(dir.join(DB)).unwrap();
    let (_, said) = done(dir, &["restore", "copy.db"]);
    assert!(said.contains("continue a million later"), "{said}");
    let (bob, _) = done(dir, &["users", "add", "bob", "--json"]);
    assert_eq!(objects(&bob)[0]["id"], 1_000_002);
}

#[test]
fn a_restore_of_anything_but_a_backup_is_refused_and_changes_nothing() {
    let dir = dir();
    let dir = dir.path();
    done(dir, &["users", "add", "alice"]);
    done(dir, &["backup", "copy.db"]);
    let copy = fs::read(dir.join("copy.db")).unwrap();
    let before = fs::read(dir.join(DB)).unwrap();
    let mut flipped = copy.clone();
    flipped[4096..4200].fill(0xFF);
    let course = course_database(dir);
    for (name, bytes, message) in [
        ("empty.db", &b""[..], "there is no store in empty.db"),
        (
            "text.db",
            b"no database at all, but long enough to be looked at",
            "cannot use text.db: it is not a SQLite database",
        ),
        ("truncated.db", &copy[..copy.len() / 2], "cannot use truncated.db: it is damaged: "),
        ("flipped.db", &flipped, "it is damaged: "),
        ("course.db", &course, "course.db holds keys that another program wrote: "),
    ] {
        fs::write(dir.join(name), bytes).unwrap();
        let (status, _, said) = command(dir, &["restore", name]);
        assert!(status != 0 && said.contains(message), "{name}: {status} {said}");
    }
    let other_key = [("NOT_MY_KEY", "another master key than that"), ("RUST_LOG", "off")];
    let output = run(dir, &["restore", "copy.db"], &other_key, "");
    let expected =
        "jwksd: copy.db: NOT_MY_KEY is not the key that this store was sealed with; nothing was changed\n";
    assert_eq!((output.status.code(), stderr(&output)), (Some(2), expected.to_owned()));
    let (status, _, said) = command(dir, &["restore", "nowhere.db"]);
    assert_eq!((status, said.as_str()), (2, "jwksd: cannot restore nowhere.db: there is no such file\n"));
    assert!(fs::read(dir.join(DB)).unwrap() == before, "the store is unchanged");
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut left: Vec<String> =
        files.filter(|name| name.contains("replaced") || name.starts_with(".jwksd")).collect();
    left.sort();
    assert_eq!(left, Vec::<String>::new(), "no temporary files are left");
}

/// The database of another implementation of the course: its tables and a key, without our tables.
fn course_database(dir: &Path) -> Vec<u8> {
    let file = dir.join("made.db");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use sqlx::Connection as _;
        let url = format!("sqlite://{}?mode=rwc", file.display());
        let mut db = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::raw_sql(
            "CREATE TABLE keys(kid INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL, exp INTEGER NOT NULL);
             INSERT INTO keys (key, exp) VALUES ('x', 1);",
        )
        .execute(&mut db)
        .await
        .unwrap();
        db.close().await.unwrap();
    });
    fs::read(file).unwrap()
}

#[test]
fn a_backup_without_a_store_creates_no_files() {
    let dir = dir();
    let (status, _, said) = command(dir.path(), &["backup", "copy.db"]);
    assert_eq!((status, said), (3, format!("jwksd: there is no store in {DB}\n")));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[cfg(unix)]
#[test]
fn only_their_owner_can_read_backups() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = dir();
    done(dir.path(), &["users", "add", "alice"]);
    done(dir.path(), &["backup", "copy.db"]);
    done(dir.path(), &["restore", "copy.db"]);
    for name in ["copy.db", DB] {
        let mode = fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
}
