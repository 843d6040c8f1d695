//! A `.env` that other users can write or replace, or that is not a file; files and directories of other users.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{BINARY, Server, run};
use crate::{DB, dir, skipped, stderr};

const ENV: &str = "NOT_MY_KEY='correct horse battery staple'\n";

/// A user and a group without an entry in `/etc/passwd` and `/etc/group`.
const OTHER: u32 = 54_321;

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A directory with a `.env` of these modes.
fn with_modes(directory: u32, file: u32) -> TempDir {
    let dir = dir();
    fs::write(dir.path().join(".env"), ENV).unwrap();
    set(&dir.path().join(".env"), file);
    set(dir.path(), directory);
    dir
}

/// Only root can give files to other users. The file shows who this is.
fn is_root() -> bool {
    let is_root = dir().path().metadata().unwrap().uid() == 0;
    if !is_root {
        skipped("only root can give files to other users");
    }
    is_root
}

#[track_caller]
fn expect_refused(dir: &Path, message: &str) {
    let output = run(dir, &["serve"], &[("PORT", "0")], "");
    assert_eq!((output.status.code(), stderr(&output)), (Some(2), format!("jwksd: {message}\n")));
    assert!(!dir.join(DB).exists(), "nothing is created");
    let (status, found) = doctor(dir);
    let errors: Vec<_> =
        found.iter().filter(|(level, _)| level == "error").map(|(_, text)| text.as_str()).collect();
    assert_eq!((status, errors), (2, vec![message]));
}

/// Starts and stops a server, and returns its warnings.
#[track_caller]
fn warnings(dir: &Path) -> Vec<String> {
    // Standard input is empty, so it stops as soon as it has started.
    let args = ["serve", "--until-stdin-closes"];
    let output = run(dir, &args, &[("LOG_FORMAT", "json"), ("PORT", "0")], "");
    let log = stderr(&output);
    assert!(output.status.success(), "{log}");
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .filter(|line| line["level"] == "WARN")
        .map(|line| line["message"].as_str().unwrap().to_owned())
        .collect()
}

/// Status and findings of `doctor` that are about files and are not ok.
fn doctor(dir: &Path) -> (i32, Vec<(String, String)>) {
    let output = run(dir, &["doctor", "--json"], &[("PORT", "0")], "");
    let lines = String::from_utf8(output.stdout).unwrap();
    let found = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let field = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    let found = found.filter(|finding| finding["level"] != "ok" && finding["about"] == "files");
    (
        output.status.code().unwrap(),
        found.map(|found| (field(&found, "level"), field(&found, "text"))).collect(),
    )
}

fn real(dir: &Path) -> String {
    fs::canonicalize(dir).unwrap().display().to_string()
}

#[test]
fn a_dotenv_that_all_users_can_write_or_replace_is_refused() {
    for mode in [0o666, 0o602, 0o622] {
        let dir = with_modes(0o700, mode);
        let message = format!(
            ".env can be written by other users (mode {mode:03o}), who can change it: chmod go-w .env"
        );
        expect_refused(dir.path(), &message);
        set(&dir.path().join(".env"), 0o600);
        assert_eq!(warnings(dir.path()), [""; 0]);
    }
    let dir = with_modes(0o777, 0o600);
    let path = real(dir.path());
    let message = format!(
        "the directory {path} can be written by other users (mode 777), who can replace what is in it: chmod go-w {path}"
    );
    expect_refused(dir.path(), &message);
    // The sticky bit lets users replace only their own files.
    set(dir.path(), 0o1777);
    assert_eq!(warnings(dir.path()), [""; 0]);
}

#[test]
fn a_directory_above_the_dotenv_counts_as_its_own_does() {
    let above = dir();
    let app = above.path().join("between/app");
    fs::create_dir_all(&app).unwrap();
    fs::write(app.join(".env"), ENV).unwrap();
    let path = real(above.path());
    let replaceable = |path: &str| {
        format!(
            "the directory {path} can be written by other users (mode 777), who can replace what is in it: chmod go-w {path}"
        )
    };
    set(above.path(), 0o777);
    expect_refused(&app, &replaceable(&path));
    // A link leads there, by its relative target.
    let elsewhere = dir();
    symlink(above.path().join("between"), elsewhere.path().join("link")).unwrap();
    symlink("link/app/.env", elsewhere.path().join(".env")).unwrap();
    expect_refused(elsewhere.path(), &replaceable(&path));
    set(above.path(), 0o1777);
    assert_eq!(warnings(&app), [""; 0]);
    assert_eq!(warnings(elsewhere.path()), [""; 0]);
    // The server may have been stopped before it created a store.
    let _ = fs::remove_file(elsewhere.path().join(DB));
    set(elsewhere.path(), 0o777);
    expect_refused(elsewhere.path(), &replaceable(&real(elsewhere.path())));
    // Without a .env to be refused, the store is in danger all the same.
    fs::remove_file(app.join(".env")).unwrap();
    set(above.path(), 0o777);
    let started = ["serve", "--until-stdin-closes"];
    let key = [("NOT_MY_KEY", "correct horse battery staple"), ("PORT", "0")];
    assert!(run(&app, &started, &key, "").status.success());
    let doctor = run(&app, &["doctor", "--json"], &key, "");
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert_eq!(said.matches(&replaceable(&path)).count(), 1, "{said}");
}

#[test]
fn the_target_of_a_link_and_its_directory_count_as_the_dotenv_does() {
    let (target, dir) = (with_modes(0o700, 0o600), dir());
    let [file, link] = [target.path(), dir.path()].map(|dir| dir.join(".env"));
    symlink(&file, &link).unwrap();
    assert_eq!(warnings(dir.path()), [""; 0]);
    // The server may have been stopped before it created a store.
    let _ = fs::remove_file(dir.path().join(DB));
    let file = file.display();
    set(&link, 0o666);
    let message =
        format!("{file} can be written by other users (mode 666), who can change it: chmod go-w {file}");
    expect_refused(dir.path(), &message);
    set(&link, 0o600);
    set(target.path(), 0o777);
    let path = target.path().display();
    let message = format!(
        "the directory {path} can be written by other users (mode 777), who can replace what is in it: chmod go-w {path}"
    );
    expect_refused(dir.path(), &message);
}

#[test]
fn a_dotenv_that_is_not_a_short_file_is_refused_without_waiting() {
    let refused = |dir: &Path, message: &str| {
        let output = run(dir, &["serve"], &[], "");
        assert_eq!((output.status.code(), stderr(&output)), (Some(2), format!("jwksd: .env: {message}\n")));
    };
    let fifo = dir();
    assert!(Command::new("mkfifo").arg(fifo.path().join(".env")).status().unwrap().success());
    refused(fifo.path(), "it is a FIFO: put a file with NAME=value lines there");
    let folder = dir();
    fs::create_dir(folder.path().join(".env")).unwrap();
    refused(folder.path(), "it is a directory: put a file with NAME=value lines there");
    let dir = dir();
    let padded = |length: usize| format!("{ENV}#{}", "x".repeat(length - ENV.len() - 1));
    fs::write(dir.path().join(".env"), padded(65_537)).unwrap();
    refused(dir.path(), "it is longer than 64 KiB: keep only settings in it");
    fs::write(dir.path().join(".env"), padded(65_536)).unwrap();
    assert_eq!(warnings(dir.path()), [""; 0]);
    fs::remove_file(dir.path().join(".env")).unwrap();
    symlink("/dev/zero", dir.path().join(".env")).unwrap();
    refused(dir.path(), "it is longer than 64 KiB: keep only settings in it");
}

#[test]
fn a_file_of_a_secret_that_is_not_a_short_file_is_refused() {
    let dir = dir();
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let output = run(dir.path(), &["serve"], &[("NOT_MY_KEY_FILE", "fifo")], "");
    let message = "jwksd: NOT_MY_KEY_FILE is fifo: nothing came through the pipe in time: name one that a program writes the \
                   secret to\n";
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(2), message));
    fs::create_dir(dir.path().join("folder")).unwrap();
    fs::write(dir.path().join("long"), "x".repeat(65_537)).unwrap();
    let long = "it is longer than 64 KiB: name a file that holds only the secret";
    for name in ["NOT_MY_KEY_FILE", "NEW_NOT_MY_KEY_FILE", "ADMIN_TOKEN_FILE"] {
        for (file, problem) in [
            ("folder", "it is a directory: name a regular file or a pipe"),
            ("long", long),
            ("/dev/zero", long),
            (
                "nowhere",
                "the file cannot be read (No such file or directory (os error 2)): name one that can",
            ),
        ] {
            let output = run(dir.path(), &["serve"], &[(name, file)], "");
            let message = format!("jwksd: {name} is {file}: {problem}\n");
            assert_eq!((output.status.code(), stderr(&output)), (Some(2), message));
        }
    }
    fs::write(dir.path().join("whole"), format!("{}\n", "x".repeat(65_535))).unwrap();
    let output = run(dir.path(), &["keys", "list"], &[("NOT_MY_KEY_FILE", "whole")], "");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[cfg(target_os = "linux")]
#[test]
fn a_secret_comes_through_a_pipe_as_from_a_file() {
    let dir = dir();
    let key = "correct horse battery staple";
    let keys = run(dir.path(), &["keys", "list"], &[("NOT_MY_KEY", key)], "");
    assert_eq!(keys.status.code(), Some(0), "{}", stderr(&keys));
    let program = BINARY;
    for script in [
        format!("NOT_MY_KEY_FILE=<(echo '{key}') {program} keys list"),
        format!(
            "NOT_MY_KEY_FILE=<(printf 'correct horse '; sleep 1; echo 'battery staple') {program} keys list"
        ),
        format!("NOT_MY_KEY_FILE=/dev/fd/7 {program} keys list 7< <(echo '{key}')"),
        format!("echo '{key}' | NOT_MY_KEY_FILE=/dev/stdin {program} keys list"),
        format!("mkfifo pipe; (sleep 1; echo '{key}' >pipe) & NOT_MY_KEY_FILE=pipe {program} keys list"),
    ] {
        let output = Command::new("bash")
            .args(["-c", &script])
            .current_dir(dir.path())
            .env("RUST_LOG", "off")
            .env_remove("NOT_MY_KEY")
            .output()
            .unwrap();
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""), "{script}");
        assert_eq!(output.stdout, keys.stdout, "{script}");
    }
    let long = format!("NOT_MY_KEY_FILE=<(head -c 65537 /dev/zero; sleep 1) {program} keys list");
    let output = Command::new("bash").args(["-c", &long]).current_dir(dir.path()).output().unwrap();
    assert!(stderr(&output).contains("longer than 64 KiB: name a file that holds only the secret"));
}

#[test]
fn a_first_start_in_a_directory_that_all_users_can_write_is_a_warning() {
    let dir = dir();
    set(dir.path(), 0o777);
    let path = real(dir.path());
    let text = format!(
        "the directory {path} can be written by other users (mode 777), who can replace what is in it: chmod go-w {path}"
    );
    assert_eq!(warnings(dir.path()), [text]);
}

#[test]
fn root_uses_a_dotenv_of_another_user_with_a_warning() {
    if !is_root() {
        return;
    }
    // As in a container, with a file that a user with a private group and umask 002 made on the host.
    for mode in [0o600, 0o644, 0o664] {
        let dir = with_modes(0o755, mode);
        chown(dir.path().join(".env"), Some(OTHER), Some(OTHER)).unwrap();
        let text = format!(
            ".env belongs to user {OTHER}, who can change it: run jwksd as that user, or chown it to the user of the server"
        );
        assert_eq!(warnings(dir.path()), [text.as_str()], "{mode:o}");
        assert!(doctor(dir.path()).1.contains(&("warning".to_owned(), text)));
    }
    let dir = with_modes(0o775, 0o664);
    chown(dir.path(), Some(OTHER), Some(OTHER)).unwrap();
    assert_eq!(warnings(dir.path()).len(), 1, "the directory of another user");
    // A third user can write this one.
    let dir = with_modes(0o755, 0o664);
    chown(dir.path().join(".env"), Some(0), Some(OTHER)).unwrap();
    let message = ".env can be written by other users (mode 664), who can change it: chmod go-w .env";
    expect_refused(dir.path(), message);
}

#[test]
fn another_user_than_root_uses_only_its_own_dotenv_and_that_of_root() {
    if !is_root() {
        return;
    }
    // The program must be where that user can run it.
    let bin = dir();
    set(bin.path(), 0o755);
    let program = bin.path().join("jwksd");
    fs::copy(BINARY, &program).unwrap();
    let serve = |dir: &Path| {
        let mut command = Command::new(&program);
        command.arg("serve").current_dir(dir).env_clear().uid(OTHER).gid(OTHER);
        Server::spawn(&mut command, &[("RUST_LOG", "info")]).map(drop)
    };
    for (owner, group, mode) in
        [(OTHER, OTHER, 0o600), (OTHER, OTHER, 0o664), (0, 0, 0o644), (0, OTHER, 0o640)]
    {
        let dir = with_modes(0o700, mode);
        chown(dir.path(), Some(OTHER), Some(OTHER)).unwrap();
        chown(dir.path().join(".env"), Some(owner), Some(group)).unwrap();
        serve(dir.path()).unwrap_or_else(|log| panic!("{owner} {group} {mode:o}: {log}"));
    }
    let foreign = format!(
        "jwksd: .env belongs to user {}, who can change it: run jwksd as that user, or chown it to the user of the server\n",
        OTHER + 1
    );
    // Its owner can rename a directory below it.
    let above = with_modes(0o755, 0o600);
    let app = above.path().join("app");
    fs::create_dir(&app).unwrap();
    fs::write(app.join(".env"), ENV).unwrap();
    for (path, owner) in [(above.path(), OTHER + 1), (&app, OTHER), (&app.join(".env"), OTHER)] {
        chown(path, Some(owner), Some(owner)).unwrap();
    }
    let replaced = format!(
        "jwksd: the directory {} belongs to user {}, who can replace what is in it: run jwksd as that user, or chown it to the user of the server\n",
        real(above.path()),
        OTHER + 1
    );
    assert_eq!(serve(&app), Err(replaced));
    for directory in [0o700, 0o1777] {
        let dir = with_modes(directory, 0o644);
        chown(dir.path(), Some(OTHER), Some(OTHER)).unwrap();
        chown(dir.path().join(".env"), Some(OTHER + 1), None).unwrap();
        assert_eq!(serve(dir.path()), Err(foreign.clone()));
        assert!(!dir.path().join(DB).exists());
    }
}

#[test]
fn doctor_reports_files_and_directories_of_other_users() {
    let dir = dir();
    assert!(run(dir.path(), &["users", "add", "alice"], &[], "").status.success());
    assert_eq!(doctor(dir.path()), (0, Vec::new()));
    // SQLite would read a journal that another user put next to the database.
    set(dir.path(), 0o1777);
    let path = real(dir.path());
    let text = format!(
        "the directory {path} can be written by other users (mode 777), who can replace what is in it: chmod go-w {path}"
    );
    assert_eq!(doctor(dir.path()), (1, vec![("warning".to_owned(), text)]));
    set(dir.path(), 0o700);
    if !is_root() {
        return;
    }
    for (name, shown, what) in [
        (".env", ".env", "change it"),
        (DB, DB, "change it"),
        ("", &format!("the directory {path}"), "replace what is in it"),
    ] {
        chown(dir.path().join(name), Some(OTHER), None).unwrap();
        let text = format!(
            "{shown} belongs to user {OTHER}, who can {what}: run jwksd as that user, or chown it to the user of the server"
        );
        assert_eq!(doctor(dir.path()), (1, vec![("warning".to_owned(), text)]), "{name}");
        chown(dir.path().join(name), Some(0), None).unwrap();
    }
}
