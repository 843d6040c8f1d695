//! Process limits: enough open files for the connections of a server, no core dumps, and the priority of hash threads.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{BINARY, Server, jwksd};
use crate::{dir, skipped, stderr};

/// The soft and the hard limit of a running process.
fn limits(process: u32, name: &str) -> [String; 2] {
    let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    let mut columns = line.split_whitespace().map(str::to_owned);
    [columns.next().unwrap(), columns.next().unwrap()]
}

/// Kills a process with a signal that dumps core, after lifting its limit on core files where that is allowed: the kernel
/// ignores the limit where it pipes the dump to a program.
fn expect_no_core_dump(child: &mut Child) {
    let pid = child.id().to_string();
    let _ = Command::new("prlimit").args(["--pid", &pid, "--core=unlimited"]).stderr(Stdio::null()).status();
    assert!(Command::new("kill").args(["-QUIT", &pid]).status().unwrap().success());
    let status = child.wait().unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(3), false));
}

#[test]
fn a_server_leaves_no_core_dump_whatever_the_limit() {
    let dir = dir();
    let mut server = Server::start(dir.path(), &[("NOT_MY_KEY", "read from the environment")]);
    let environment = fs::metadata(format!("/proc/{}/environ", server.child.id())).unwrap();
    assert_eq!(environment.uid(), 0, "no other process of the same user can inspect it");
    expect_no_core_dump(&mut server.child);
}

#[test]
fn a_command_leaves_no_core_dump() {
    let dir = dir();
    let mut child = jwksd(dir.path(), &["users", "add", "alice", "--password-stdin"], &[])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.as_mut().unwrap().write_all(b"half a password").unwrap();
    let begun = Instant::now();
    while limits(child.id(), "Max core file size") != ["0", "0"] {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(100));
    expect_no_core_dump(&mut child);
}

#[test]
fn a_server_raises_its_file_limit_for_ten_thousand_connections() {
    let dir = dir();
    let server = Server::start(dir.path(), &[]);
    let [soft, hard] = limits(server.child.id(), "Max open files");
    let number = |text: &str| text.parse().unwrap_or(u64::MAX);
    assert!(number(&soft) >= number(&hard).min(10_064), "{soft} {hard}");
}

/// Runs a command that hashes a password, while the system refuses it a lower priority.
#[test]
fn a_priority_that_cannot_be_lowered_is_a_warning_and_the_password_is_hashed() {
    if Command::new("strace").arg("--version").output().is_err() {
        skipped("there is no strace to refuse a system call");
        return;
    }
    let dir = dir();
    let output = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "inject=setpriority:error=EPERM",
            BINARY,
            "users",
            "add",
            "alice",
        ])
        .current_dir(dir.path())
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin"), ("RUST_LOG", "warn"), ("LOG_FORMAT", "json")])
        .output()
        .unwrap();
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    let warnings: Vec<serde_json::Value> =
        said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(warnings.len(), 1, "{said}");
    let message = "the threads that hash passwords keep the priority of the process, so many sign-ins delay other requests \
                   (Operation not permitted (os error 1)): allow the system call setpriority";
    assert_eq!((&warnings[0]["level"], &warnings[0]["message"]), (&"WARN".into(), &message.into()));
}

/// In systemd, the first line decides whether the others add or remove. Later lines change what earlier ones did.
#[test]
fn the_systemd_unit_lets_hash_threads_lower_their_priority() {
    let unit = include_str!("../../packaging/jwksd.service");
    let filters: Vec<_> = unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")).collect();
    assert_eq!(filters, ["@system-service", "~@privileged @resources", "setpriority"]);
    let listed = Command::new("systemd-analyze").args(["syscall-filter", "@resources"]).output();
    match listed.map(|listed| String::from_utf8(listed.stdout).unwrap()) {
        Ok(listed) if listed.contains("@resources") => assert!(listed.contains("setpriority"), "{listed}"),
        _ => skipped("there is no systemd-analyze to list the system calls"),
    }
}
