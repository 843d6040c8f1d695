//! Commands beside `serve`.

use std::fs;

use serde_json::json;

use crate::support::{Server, jwksd, run};
use crate::{counts, dir, post, stderr};

#[cfg(target_os = "linux")]
#[test]
fn a_password_that_cannot_be_shown_is_no_success() {
    let dir = dir();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = jwksd(dir.path(), &["users", "add", "alice"], &[]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("its password could not be shown"), "{}", stderr(&output));
}

#[tokio::test]
async fn users_add_as_the_first_command_makes_the_store_and_a_password_that_signs_in() {
    let dir = dir();
    let output = run(dir.path(), &["users", "add", "userABC", "--password-stdin"], &[], "password123\r\n");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).ends_with("made the account userABC\n") && output.stdout.is_empty(),
        "{}",
        stderr(&output)
    );
    assert_eq!(counts(dir.path()).await, (2, 1, 1));

    let output = run(dir.path(), &["users", "add", "bob", "--email", "bob@example.com"], &[], "");
    let password = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    assert_eq!(password.len(), 36, "{password}");

    let server = Server::start(dir.path(), &[]);
    for (username, password) in [("userABC", "password123"), ("bob", &password)] {
        assert_eq!(post(&server, "/auth", json!({"username": username, "password": password})).await.0, 200);
    }
    for (args, message) in [
        (&["users", "add", "USERabc"][..], "jwksd: cannot add \"USERabc\": the username is taken\n"),
        (
            &["users", "add", "eve", "--email", "BOB@example.com"],
            "jwksd: cannot add \"eve\": the email is taken\n",
        ),
        (
            &["users", "add", "a b"],
            "jwksd: cannot add \"a b\": A username may have only ASCII letters, digits and . _ - @ +\n",
        ),
        (
            &["users", "add", "eve", "--password-stdin"],
            "jwksd: cannot take the password: a password must have 1 to 1024 bytes\n",
        ),
    ] {
        let output = run(dir.path(), args, &[], "");
        assert_eq!((output.status.code(), stderr(&output)), (Some(1), message.to_owned()), "{args:?}");
    }
}
