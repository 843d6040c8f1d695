//! Process limits: enough open files for the connections of a server, and no core dumps.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::dir;
use crate::support::{Server, jwksd};

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
