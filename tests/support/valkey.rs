//! A Valkey or Redis server for the tests of one process: that of `TEST_RATE_LIMIT_URL`, or one of their own.
//!
//! Without either, the tests that need one say so and pass, unless `REQUIRE_SERVERS` is set.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server without any data.
pub(crate) struct ValkeyServer {
    pub(crate) url: String,
    pub(crate) port: u16,
    own: Option<Child>,
}

impl ValkeyServer {
    /// Nothing if there is no server. Then it is said on standard error.
    pub(crate) fn start() -> Option<Self> {
        if let Ok(url) = std::env::var("TEST_RATE_LIMIT_URL") {
            let port = url::Url::parse(&url).unwrap().port().unwrap_or(6379);
            return Some(Self { url, port, own: None });
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let started = ["valkey-server", "redis-server"].iter().find_map(|program| run(program, port));
        if started.is_none() {
            assert!(std::env::var_os("REQUIRE_SERVERS").is_none(), "neither Valkey nor Redis is installed");
            eprintln!(
                "not tested: neither Valkey nor Redis is installed, and TEST_RATE_LIMIT_URL is not set"
            );
        }
        Some(Self { url: format!("redis://127.0.0.1:{port}"), port, own: Some(started?) })
    }

    /// Ends it at once. A server of `TEST_RATE_LIMIT_URL` stays.
    pub(crate) fn kill(&mut self) -> bool {
        let Some(mut own) = self.own.take() else { return false };
        own.kill().unwrap();
        own.wait().unwrap();
        true
    }
}

impl Drop for ValkeyServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn run(program: &str, port: u16) -> Option<Child> {
    let child = Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("{program} does not start");
}
