//! What happens to a store whose files or schema somebody else has changed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::support::{BINARY, Server};
use crate::{DB, db, dir, done, post};

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
        eprintln!("not tested: strace does not work here");
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
        let mut lines = said.lines();
        assert!(
            lines.next().unwrap().starts_with(&format!("restored {DB} from copy.db: keys: 2, ")),
            "{said}"
        );
        let kept = lines.next().unwrap().strip_prefix("the old store is kept as ").unwrap();
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
