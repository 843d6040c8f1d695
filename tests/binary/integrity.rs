//! What happens to a store whose files or schema somebody else has changed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::support::Server;
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
