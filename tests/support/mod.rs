//! The compiled program as a process of its own, for the tests that start, stop and restart it.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_jwksd");

/// The program in this directory, with only these environment variables.
pub(crate) fn jwksd(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(args).current_dir(dir).env_clear().envs(env.iter().copied());
    // Windows cannot open sockets without it.
    if let Ok(root) = std::env::var("SystemRoot") {
        command.env("SystemRoot", root);
    }
    command
}

/// Runs the program to its end.
pub(crate) fn run(dir: &Path, args: &[&str], env: &[(&str, &str)], stdin: &str) -> Output {
    use std::io::Write as _;
    let mut child = jwksd(dir, args, env)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that exits before it reads has closed the pipe.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

/// A running server.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) child: Child,
    log: mpsc::Receiver<String>,
    final_lines: Mutex<Vec<String>>,
}

impl Server {
    /// Starts `jwksd serve` on a free port, and waits until it logs that it serves.
    pub(crate) fn start(dir: &Path, env: &[(&str, &str)]) -> Self {
        Self::try_start(dir, &["serve"], env).unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
    }

    /// As [`Server::start`], but returns the log as the error if the server does not start.
    pub(crate) fn try_start(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<Self, String> {
        Self::spawn(&mut jwksd(dir, args, env), env)
    }

    /// Starts a server with a command that executes ours.
    pub(crate) fn spawn(command: &mut Command, env: &[(&str, &str)]) -> Result<Self, String> {
        let mut child = command
            .envs((!env.iter().any(|(name, _)| *name == "PORT")).then_some(("PORT", "0")))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let mut seen = String::new();
        while let Ok(line) = log.recv_timeout(Duration::from_mins(1)) {
            seen.push_str(&line);
            seen.push('\n');
            if let Some((_, rest)) = line.split_once("serving on ") {
                let url = rest.split(',').next().unwrap().to_owned();
                return Ok(Self { url, child, log, final_lines: Mutex::default() });
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(seen)
    }

    /// Log lines since the start or the last call.
    pub(crate) fn log(&self) -> String {
        let mut lines = std::mem::take(&mut *self.final_lines.lock().unwrap());
        lines.extend(self.log.try_iter());
        lines.join("\n")
    }

    /// Waits until the process exits, collects the rest of its log, and returns the exit status.
    pub(crate) fn wait(&mut self) -> i32 {
        let status = self.child.wait().unwrap().code().unwrap_or(-1);
        self.final_lines.lock().unwrap().extend(self.log.iter());
        status
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
