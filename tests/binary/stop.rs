//! Shutdown, and what must not cause or delay it.

use std::time::{Duration, Instant};

use reqwest::Client;

use crate::support::{Server, jwksd};
use crate::{DB, dir};

#[cfg(unix)]
fn send(server: &Server, signal: &str) {
    let pid = server.child.id().to_string();
    assert!(std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

#[cfg(unix)]
#[test]
fn a_signal_stops_the_server_and_the_store_is_closed_cleanly() {
    for signal in ["-TERM", "-INT"] {
        let dir = dir();
        let mut server = Server::start(dir.path(), &[]);
        send(&server, signal);
        assert_eq!(server.wait(), 0, "{signal}");
        assert!(server.log().contains("stopped"), "{}", server.log());
        assert!(!dir.path().join(format!("{DB}-wal")).exists(), "the WAL is checkpointed and removed");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_hangup_is_logged_and_ends_neither_the_server_nor_a_request() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let ignored = "SIGHUP is ignored: settings are read only at the start, so restart to change them";
    for shell in ["exec \"$0\" serve", "trap '' HUP; exec \"$0\" serve"] {
        let dir = dir();
        let mut command = std::process::Command::new("sh");
        command.args(["-c", shell, crate::support::BINARY]).current_dir(dir.path()).env_clear();
        let mut server = Server::spawn(&mut command, &[]).unwrap();
        let mut slow =
            tokio::net::TcpStream::connect(server.url.strip_prefix("http://").unwrap()).await.unwrap();
        slow.write_all(
            b"POST /auth HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{",
        )
        .await
        .unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        send(&server, "-HUP");
        tokio::time::sleep(Duration::from_millis(300)).await;
        send(&server, "-HUP");
        slow.write_all(b"}").await.unwrap();
        let mut answer = String::new();
        slow.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
        let jwks = Client::new().get(format!("{}/jwks", server.url)).send().await.unwrap();
        assert_eq!(jwks.status().as_u16(), 200);
        send(&server, "-TERM");
        assert_eq!(server.wait(), 0);
        let log = server.log();
        assert!(log.matches(ignored).count() == 2 && log.contains("stopped"), "{log}");
    }
}

#[test]
fn the_server_stops_at_the_end_of_standard_input_if_configured() {
    let dir = dir();
    let mut server = Server::try_start(dir.path(), &["serve", "--until-stdin-closes"], &[]).unwrap();
    drop(server.child.stdin.take());
    assert_eq!(server.wait(), 0);
    let mut server = Server::start(dir.path(), &[]);
    drop(server.child.stdin.take());
    std::thread::sleep(Duration::from_millis(300));
    assert!(server.child.try_wait().unwrap().is_none(), "otherwise it continues");
}

#[cfg(unix)]
#[test]
fn incomplete_requests_do_not_delay_the_shutdown() {
    use std::io::Write as _;
    let dir = dir();
    let mut server = Server::start(dir.path(), &[]);
    let mut half = std::net::TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    half.write_all(b"GET /jwks HTTP/1.1\r\nhos").unwrap();
    std::thread::sleep(Duration::from_millis(300));
    send(&server, "-TERM");
    assert_eq!(server.wait(), 0);
    assert!(!server.log().contains("cut off"), "{}", server.log());
}

#[cfg(unix)]
#[tokio::test]
async fn a_request_in_flight_is_answered_before_the_shutdown() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let dir = dir();
    let mut server = Server::start(dir.path(), &[]);
    let mut slow = tokio::net::TcpStream::connect(server.url.strip_prefix("http://").unwrap()).await.unwrap();
    slow.write_all(b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{").await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    send(&server, "-TERM");
    tokio::time::sleep(Duration::from_millis(200)).await;
    slow.write_all(b"}").await.unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert_eq!(server.wait(), 0);
}

#[tokio::test]
async fn a_closed_log_pipe_does_not_stop_the_server() {
    let dir = dir();
    let mut child = jwksd(dir.path(), &["serve"], &[("PORT", "18473"), ("RUST_LOG", "debug")])
        .stderr(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop((child.stderr.take(), child.stdout.take()));
    let begun = Instant::now();
    let answer = loop {
        match Client::new().get("http://127.0.0.1:18473/jwks").send().await {
            Ok(answer) => break answer,
            Err(error) if begun.elapsed() > Duration::from_secs(20) => panic!("{error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    assert_eq!(answer.status().as_u16(), 200);
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The socket on which systemd listens to a unit of `Type=notify`.
#[cfg(target_os = "linux")]
#[test]
fn the_server_notifies_systemd_that_it_is_ready_alive_and_stopping() {
    let dir = dir();
    let socket = dir.path().join("notify");
    let systemd = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let hear = || {
        let mut told = [0; 100];
        let length = systemd.recv(&mut told).unwrap();
        String::from_utf8_lossy(&told[..length]).trim_end().to_owned()
    };
    let env = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "1000000")];
    let mut server = Server::start(dir.path(), &env);
    assert_eq!((hear(), hear(), hear()), ("READY=1".into(), "WATCHDOG=1".into(), "WATCHDOG=1".into()));
    send(&server, "-TERM");
    while hear() != "STOPPING=1" {}
    assert_eq!(server.wait(), 0);
}
