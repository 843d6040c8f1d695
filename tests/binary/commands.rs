//! The `users` and `keys` commands.

use std::fs;

use serde_json::json;

use crate::support::{Server, jwksd, run};
use crate::{counts, dir, post, stderr};

#[cfg(target_os = "linux")]
#[test]
fn a_password_that_cannot_be_shown_is_an_error() {
    let dir = dir();
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = jwksd(dir.path(), &["users", "add", "alice"], &[]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("its password could not be printed"), "{}", stderr(&output));
}

/// Runs a command of a shell, in which `jwksd` is the program.
#[cfg(target_os = "linux")]
fn shell(dir: &std::path::Path, command: &str) -> (Option<i32>, String) {
    let program = std::path::Path::new(crate::support::BINARY).parent().unwrap();
    let output = std::process::Command::new("/bin/sh")
        .args(["-c", command])
        .current_dir(dir)
        .env_clear()
        .envs([("PATH", program.to_str().unwrap()), ("RUST_LOG", "off")])
        .output()
        .unwrap();
    (output.status.code(), stderr(&output))
}

#[cfg(target_os = "linux")]
#[test]
fn a_secret_that_is_shown_once_is_not_lost_without_an_error() {
    let dir = dir();
    let lost = "the account was created, but its password could not be printed: set a new one with `jwksd users reset ";
    let reset = "the password was changed, but could not be printed: set a new one with `jwksd users reset ";
    let key = "the private key could not be printed, and was not kept: generate another one";
    for (number, (target, why)) in [
        (">&-", "standard output is closed, or /dev/null opened for reading and writing"),
        // As Python and Node discard the output of a program.
        ("1<>/dev/null", "standard output is closed, or /dev/null opened for reading and writing"),
        ("1</dev/null", "standard output is closed"),
        (">/dev/full", "No space left on device (os error 28)"),
    ]
    .into_iter()
    .enumerate()
    {
        for (command, message) in [
            (format!("users add a{number}"), format!("{lost}a{number}`")),
            (format!("users add b{number} --json"), format!("{lost}b{number}`")),
            (format!("users reset a{number}"), format!("{reset}a{number}`")),
            (format!("users reset a{number} --json"), format!("{reset}a{number}`")),
            ("jwk generate --private --type ec".to_owned(), key.to_owned()),
            (
                "keys export 1 --yes".to_owned(),
                "the private key could not be printed: export it again".to_owned(),
            ),
        ] {
            let (status, said) = shell(dir.path(), &format!("jwksd {command} {target}"));
            assert_eq!(status, Some(1), "{command} {target}: {said}");
            assert!(said.ends_with(&format!("jwksd: {message}: {why}\n")), "{command} {target}: {said}");
        }
        // The way out works.
        assert_eq!(shell(dir.path(), &format!("jwksd users reset a{number} >shown")).0, Some(0));
        assert_eq!(fs::read_to_string(dir.path().join("shown")).unwrap().trim().len(), 36);
    }
    // A key that is saved is not lost.
    for (number, target) in [">&-", "1<>/dev/null", "1</dev/null", ">/dev/null"].into_iter().enumerate() {
        let (status, said) = shell(
            dir.path(),
            &format!(
                "jwksd jwk generate --private --save --kid k{number} {target} && jwksd jwk from-pem k{number}.pem"
            ),
        );
        assert_eq!(status, Some(0), "{target}: {said}");
    }
    // What is discarded on purpose, or is not a secret, is not an error.
    for command in
        ["users reset a0 >/dev/null", "users enable a0 --json >&-", "keys list >&-", "--version >&-"]
    {
        let (status, said) = shell(dir.path(), &format!("jwksd {command}"));
        assert_eq!(status, Some(0), "{command}: {said}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let dir = dir();
    for command in ["help", "--help", "-h", "help users add", "--version", "completions bash", "keys list"] {
        let (status, said) = shell(dir.path(), &format!("jwksd {command} >/dev/full"));
        assert_eq!(status, Some(1), "{command}: {said}");
        assert!(said.contains("No space left on device"), "{command}: {said}");
    }
    let (status, said) = shell(dir.path(), "jwksd --help | exec 0<&-; exec jwksd --version | exec 0<&-");
    assert_eq!((status, said.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn users_add_as_the_first_command_initializes_the_store_and_its_password_signs_in() {
    let dir = dir();
    let output = run(dir.path(), &["users", "add", "userABC", "--password-stdin"], &[], "password123\r\n");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(
        stderr(&output).ends_with("created the account userABC\n") && output.stdout.is_empty(),
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
    for (args, status, message) in [
        (&["users", "add", "USERabc"][..], 4, "jwksd: cannot add \"USERabc\": the username is taken\n"),
        (
            &["users", "add", "eve", "--email", "BOB@example.com"],
            4,
            "jwksd: cannot add \"eve\": the email is taken\n",
        ),
        (
            &["users", "add", "a b"],
            2,
            "jwksd: cannot add \"a b\": A username may have only ASCII letters, digits and . _ - @ +\n",
        ),
        (
            &["users", "add", "eve", "--password-stdin"],
            2,
            "jwksd: cannot use this password: a password must have 1 to 1024 bytes\n",
        ),
    ] {
        let output = run(dir.path(), args, &[], "");
        assert_eq!((output.status.code(), stderr(&output)), (Some(status), message.to_owned()), "{args:?}");
    }
}

#[tokio::test]
async fn a_password_that_users_may_not_choose_is_accepted_with_a_warning_that_names_the_rule() {
    let dir = dir();
    let warning = |why: &str| {
        format!(
            "warning: the password is accepted, but its user could not choose it: The new password {why}\n"
        )
    };
    let added = |name: &str| format!("created the account {name}\n");
    let reset = "changed the password of userABC\n".to_owned();
    for (args, password, said) in [
        (
            ["users", "add", "userABC", "--password-stdin"],
            "password123\n",
            warning("has fewer than 12 characters: choose a longer one") + &added("userABC"),
        ),
        (
            ["users", "add", "a.long.username", "--password-stdin"],
            "A.Long.Username\n",
            warning("is the username: choose another") + &added("a.long.username"),
        ),
        (
            ["users", "reset", "userABC", "--password-stdin"],
            "Password1234\n",
            warning("is one of the most common: choose another") + &reset,
        ),
        (
            ["users", "reset", "userABC", "--password-stdin"],
            "cre\u{300}me bru\u{302}le\u{301}e\n",
            reset.clone(),
        ),
    ] {
        let output = run(dir.path(), &args, &[("RUST_LOG", "warn")], password);
        let stderr = stderr(&output);
        // The first command also says that it made the store.
        assert!(output.status.success() && stderr.ends_with(&said), "{args:?}: {stderr}");
        assert_eq!(stderr.contains("warning: "), said.contains("warning: "), "{stderr}");
    }
    let server = Server::start(dir.path(), &[]);
    for password in ["cre\u{300}me bru\u{302}le\u{301}e", "crème brûlée", "crème\u{a0}brûlée"] {
        let account = json!({"username": "userABC", "password": password});
        assert_eq!(post(&server, "/auth", account).await.0, 200, "{password:?}");
    }
}

#[tokio::test]
async fn the_keys_commands_report_results_and_errors() {
    let dir = dir();
    let keys = |args: &[&str]| {
        let output = run(dir.path(), &[&["keys"], args].concat(), &[("RUST_LOG", "warn")], "");
        (output.status.code(), String::from_utf8(output.stdout.clone()).unwrap(), stderr(&output))
    };
    let (code, table, _) = keys(&["list"]);
    assert_eq!(
        (code, table.lines().count()),
        (Some(0), 3),
        "the first command initializes the store: {table}"
    );
    assert!(table.starts_with("  KID  PHASE     CREATED"), "{table}");
    let (code, listing, _) = keys(&["list", "--json"]);
    let listing: serde_json::Value = serde_json::from_str(&listing).unwrap();
    let phases: Vec<_> =
        listing["keys"].as_array().unwrap().iter().map(|key| key["phase"].as_str().unwrap()).collect();
    assert_eq!((code, phases), (Some(0), vec!["current", "expired"]));

    let (code, _, said) = keys(&["rotate"]);
    assert!(code == Some(0) && said.starts_with("key 3 is the next key; it signs from 20"), "{said}");
    let (code, _, said) = keys(&["rotate"]);
    assert!(code == Some(1) && said.starts_with("jwksd: key 3 is already the next key"), "{said}");
    let (code, _, said) = keys(&["rotate", "--now"]);
    assert!(code == Some(0) && said.starts_with("key 3 signs now\n") && said.contains(".NET"), "{said}");
    let (code, _, said) = keys(&["revoke", "3"]);
    assert!(
        code == Some(0) && said.contains("key 4 signs now, and some verifiers may not know it yet"),
        "{said}"
    );
    let (code, _, said) = keys(&["expire", "1"]);
    assert!(
        code == Some(0) && said.starts_with("key 1 has expired") && !said.contains("signs now"),
        "{said}"
    );
    for (args, status, message) in [
        (&["revoke", "3"], 1, "jwksd: key 3 has already been revoked\n"),
        (&["expire", "1"], 1, "jwksd: key 1 has already expired\n"),
        (&["revoke", "99"], 3, "jwksd: there is no usable key 99\n"),
    ] {
        assert_eq!(keys(args), (Some(status), String::new(), message.to_owned()));
    }
    assert_eq!(keys(&["export", "4"]).0, Some(2), "there is no terminal to ask on");
    let (code, pem, _) = keys(&["export", "4", "--yes"]);
    assert!(code == Some(0) && pem.starts_with("-----BEGIN RSA PRIVATE KEY-----\n"), "{pem}");
    fs::write(dir.path().join("exported.pem"), &pem).unwrap();
    let (code, _, said) = keys(&["import", "exported.pem"]);
    assert_eq!((code, said.as_str()), (Some(1), "jwksd: the store already has this key, as key 4\n"));
    fs::write(dir.path().join("bad.pem"), pem.replace('A', "B")).unwrap();
    for file in ["bad.pem", "nowhere.pem"] {
        let (code, _, said) = keys(&["import", file]);
        assert!(code == Some(1) && said.contains(file), "{said}");
    }
}
