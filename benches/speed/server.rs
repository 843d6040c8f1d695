//! A measured server: its process, its CPU time and its memory.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The kernel counts CPU time in hundredths of a second.
const TICKS: f64 = 100.0;

pub(crate) struct Server {
    process: Child,
    pub(crate) port: u16,
    pub(crate) dir: TempDir,
}

impl Server {
    /// Starts jwksd on its own store with these accounts. Returns their passwords too.
    pub(crate) fn jwksd(binary: &str, settings: &[(&str, &str)], users: &[String]) -> (Self, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let passwords = users.iter().map(|name| add_user(binary, dir.path(), name)).collect();
        (Self::start(binary, dir, settings), passwords)
    }

    /// Starts jwksd in this directory.
    pub(crate) fn start(binary: &str, dir: TempDir, settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let mut command = Command::new(binary);
        command.arg("serve").current_dir(dir.path()).envs(settings.iter().copied());
        Self::spawn(command.env("PORT", port.to_string()), port, dir)
    }

    /// Starts this program as the ceiling.
    pub(crate) fn ceiling() -> Self {
        let port = free_port();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ceiling", &port.to_string()]);
        Self::spawn(&mut command, port, tempfile::tempdir().unwrap())
    }

    fn spawn(command: &mut Command, port: u16, dir: TempDir) -> Self {
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = process.spawn().unwrap();
        let server = Self { process, port, dir };
        let begun = Instant::now();
        while server.get("/jwks").is_none() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the server did not start");
            std::thread::sleep(Duration::from_millis(1));
        }
        server
    }

    /// The response to a GET, if it is 200.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(answer)
    }

    /// CPU time so far, user and system, in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = self.proc("stat");
        let (_, fields) = stat.rsplit_once(')').unwrap();
        // utime and stime, the 14th and 15th of proc_pid_stat(5).
        fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum::<f64>()
            / TICKS
    }

    /// Resident memory in MiB: now, or the peak since [`Server::forget_peak`].
    pub(crate) fn memory(&self, which: Memory) -> f64 {
        let name = match which {
            Memory::Now => "VmRSS:",
            Memory::Peak => "VmHWM:",
        };
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }

    /// Resets the peak. Only root can do this; for other users, the peak is that since the start.
    pub(crate) fn forget_peak(&self) {
        let _ = std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5");
    }

    /// Stops the server as an operator does, and returns its directory.
    pub(crate) fn stop(mut self) -> TempDir {
        self.end();
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }

    fn end(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = Command::new("kill").arg(self.process.id().to_string()).status();
            let _ = self.process.wait();
        }
    }

    fn proc(&self, what: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{what}", self.process.id())).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Memory {
    Now,
    Peak,
}

/// The machine, in one line.
pub(crate) fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let wide = if info.contains("avx512f") { ", AVX-512" } else { "" };
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores, {}{wide}, Linux {}", model.map_or("?", |(_, name)| name), kernel.trim())
}

fn add_user(binary: &str, dir: &Path, name: &str) -> String {
    let output = Command::new(binary).args(["users", "add", name]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
