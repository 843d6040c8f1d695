//! Hostile clients: they cost little, and other clients are served meanwhile.

use std::time::Duration;

use reqwest::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::helpers::{Setup, TestApp, TestResponse};

async fn connect(app: &TestApp) -> TcpStream {
    TcpStream::connect(app.url.trim_start_matches("http://")).await.unwrap()
}

/// Sends raw bytes, and reads until the server closes the connection or is silent for a second.
async fn say(app: &TestApp, bytes: &[u8]) -> String {
    let mut stream = connect(app).await;
    stream.write_all(bytes).await.unwrap();
    hear(&mut stream).await
}

async fn hear(stream: &mut TcpStream) -> String {
    let mut heard = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(Ok(n)) = tokio::time::timeout(Duration::from_secs(1), stream.read(&mut chunk)).await {
        if n == 0 {
            break;
        }
        heard.extend_from_slice(&chunk[..n]);
    }
    String::from_utf8_lossy(&heard).into_owned()
}

/// The status lines of consecutive responses.
fn statuses(answers: &str) -> Vec<&str> {
    answers.split("HTTP/1.1 ").skip(1).filter_map(|answer| answer.lines().next()).collect()
}

/// Whether the server closes this connection within 20 seconds.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut heard = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut heard)).await.is_ok()
}

/// Uses up the limit of /auth for the next second.
async fn use_up_the_limit(app: &TestApp) {
    let mut stream = connect(app).await;
    stream.write_all(b"POST /auth HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let _ = stream.read(&mut [0; 512]).await.unwrap();
}

#[tokio::test]
async fn a_refusal_before_the_body_arrives_keeps_the_connection_or_announces_its_end() {
    let app = TestApp::with(Setup { auth_rate_limit: 1, ..Setup::default() }).await;
    let next = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    for (line, refused) in [
        ("POST /auth", "429 Too Many Requests"),
        ("POST /nowhere", "404 Not Found"),
        ("POST /jwks", "405 Method Not Allowed"),
        ("PUT /auth", "405 Method Not Allowed"),
    ] {
        for framing in ["content-length: 2", "transfer-encoding: chunked"] {
            let mut stream = connect(&app).await;
            use_up_the_limit(&app).await;
            let request = format!("{line} HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            let body = if framing.starts_with('c') { "{}" } else { "2\r\n{}\r\n0\r\n\r\n" };
            stream.write_all(format!("{body}{next}").as_bytes()).await.unwrap();
            let heard = hear(&mut stream).await;
            assert_eq!(statuses(&heard), [refused, "200 OK"], "{line} with {framing}: {heard}");
            assert!(!heard.contains("connection: close"), "{heard}");
        }
        for unread in ["content-length: 20000", "content-length: 2\r\nexpect: 100-continue"] {
            use_up_the_limit(&app).await;
            let request = format!("{line} HTTP/1.1\r\nhost: x\r\n{unread}\r\n\r\n");
            let heard = say(&app, request.as_bytes()).await;
            assert_eq!(statuses(&heard), [refused], "{heard}");
            assert!(heard.contains("connection: close"), "{line} with {unread}: {heard}");
        }
    }
}

#[tokio::test]
async fn a_body_that_was_read_to_its_end_keeps_the_connection_whatever_its_framing() {
    let app = TestApp::spawn().await;
    for head in ["content-length: 2", "transfer-encoding: chunked"] {
        let body = if head.starts_with('c') { "{}" } else { "2\r\n{}\r\n0\r\n\r\n" };
        for expect in ["", "expect: 100-continue\r\n"] {
            let mut stream = connect(&app).await;
            let request = format!("POST /auth HTTP/1.1\r\nhost: x\r\n{head}\r\n{expect}\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            let next = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
            stream.write_all(format!("{body}{next}").as_bytes()).await.unwrap();
            let heard = hear(&mut stream).await;
            let mut expected = vec!["401 Unauthorized", "200 OK"];
            if !expect.is_empty() {
                expected.insert(0, "100 Continue");
            }
            assert_eq!(statuses(&heard), expected, "{head} {expect}: {heard}");
            assert!(!heard.contains("connection: close"), "{heard}");
        }
    }
}

#[tokio::test]
async fn idle_and_slow_connections_make_room_for_new_ones() {
    let app = TestApp::with(Setup { connections: 4, ..Setup::default() }).await;
    let mut idle = Vec::new();
    for begun in ["", "GET /jwks HTT", "GET /jwks HTTP/1.1\r\nhost: x\r\n", "POST"] {
        let mut stream = connect(&app).await;
        stream.write_all(begun.as_bytes()).await.unwrap();
        idle.push(stream);
    }
    assert_eq!(app.get("/jwks").await.status, 200);
    for stream in &mut idle {
        assert!(is_closed(stream).await, "the connection limit is used up");
    }
}

#[tokio::test]
async fn the_number_of_connections_stays_within_the_limit() {
    let app = TestApp::with(Setup { connections: 2, ..Setup::default() }).await;
    let request = b"POST /auth HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n";
    let mut taken = [connect(&app).await, connect(&app).await];
    for stream in &mut taken {
        stream.write_all(request).await.unwrap();
    }
    let next = tokio::spawn(TestResponse::send(app.request(Method::GET, "/jwks")));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!next.is_finished());
    taken[0].write_all(b"{}").await.unwrap();
    assert!(hear(&mut taken[0]).await.starts_with("HTTP/1.1 401 "));
    drop(taken);
    assert_eq!(next.await.unwrap().status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_arrive_times_out_after_ten_seconds() {
    let app = TestApp::spawn().await;
    let mut stream = connect(&app).await;
    stream.write_all(b"POST /auth HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{\"user").await.unwrap();
    let too_early = tokio::time::timeout(Duration::from_secs(9), stream.readable()).await;
    assert!(too_early.is_err(), "the timeout is ten seconds");
    stream.readable().await.unwrap();
    let heard = hear(&mut stream).await;
    assert!(heard.starts_with("HTTP/1.1 408 "), "{heard}");
    assert!(
        heard.ends_with(r#"{"error":"The body did not come in time","code":"body_too_slow"}"#),
        "{heard}"
    );
    assert!(is_closed(&mut stream).await, "the rest of the body is not read as a request");
}

#[tokio::test]
async fn a_request_head_that_is_too_long_is_refused() {
    let app = TestApp::spawn().await;
    let long = "x".repeat(64 * 1024);
    for head in [
        format!("GET /jwks HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n"),
        format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!("GET /jwks HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(1000)),
    ] {
        let answer = say(&app, head.as_bytes()).await;
        assert_eq!(statuses(&answer), ["431 Request Header Fields Too Large"], "{answer}");
        let body = r#"{"error":"The head of the request is longer than 32 KiB, or has more than 100 lines","code":"head_too_large"}"#;
        assert_eq!(body_of(&answer), body);
    }
    assert_eq!(app.get("/jwks").await.status, 200);
    let almost = format!("GET /jwks HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", &long[..31 * 1024]);
    assert_eq!(statuses(&say(&app, almost.as_bytes()).await), ["200 OK"]);
}

#[tokio::test]
async fn requests_cannot_be_smuggled_in_a_body() {
    let app = TestApp::spawn().await;
    let smuggled = "POST /register HTTP/1.1\r\nhost: x\r\ncontent-length: 44\r\n\r\n{\"username\":\"eve\",\"email\":\"eve@example.com\"}";
    for framing in [
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5, 6",
        "content-length: +5",
        "content-length: 0x5",
        "content-length : 5",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "transfer-encoding: xchunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding:\r\n chunked",
    ] {
        let answer = say(
            &app,
            format!("POST /auth HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n0\r\n\r\n{smuggled}").as_bytes(),
        )
        .await;
        assert!(!answer.contains(" 201 "), "{framing}: {answer}");
    }
    // With both headers, the chunks count (RFC 9112 §6.3), and the connection is closed after them.
    let both = format!(
        "POST /auth HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
        5 + smuggled.len()
    );
    let answers = say(&app, both.as_bytes()).await;
    assert_eq!(statuses(&answers).len(), 1, "{answers}");
    assert_eq!(app.count("users").await, 0);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let app = TestApp::spawn().await;
    let one = "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let last = "GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answers = say(&app, format!("{}{last}", one.repeat(20)).as_bytes()).await;
    let statuses = statuses(&answers);
    assert_eq!(statuses.len(), 21, "{answers}");
    assert!(statuses[..20].iter().all(|status| *status == "200 OK") && statuses[20] == "404 Not Found");
}

#[tokio::test]
async fn a_client_that_disconnects_early_leaks_nothing() {
    let app = TestApp::spawn().await;
    let password = app.register("alice").await;
    for _ in 0..50 {
        let body = format!(r#"{{"username":"alice","password":"{password}"}}"#);
        let head = format!("POST /auth HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let mut stream = connect(&app).await;
        stream.write_all(head.as_bytes()).await.unwrap();
        drop(stream);
    }
    app.auth("alice", &password).await.token();
    assert_eq!(app.accounts.hashing_load(), (0, 0));
}

#[tokio::test]
async fn a_client_that_half_closes_gets_its_response() {
    let app = TestApp::spawn().await;
    let body = r#"{"username":"alice","email":"alice@example.com"}"#;
    let head = "POST /register HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length:";
    let register = format!("{head} {}\r\n\r\n{body}", body.len());
    for (request, status) in [("GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n", "200 OK"), (&register, "201 Created")]
    {
        let mut stream = connect(&app).await;
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(statuses(&answer), [status]);
    }
}

#[tokio::test]
async fn a_refused_client_can_reuse_its_connection() {
    let app = TestApp::with(Setup { auth_rate_limit: 1, ..Setup::default() }).await;
    let request = "POST /auth HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}";
    let jwks = "HEAD /jwks HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let answers = say(&app, format!("{request}{request}{jwks}").as_bytes()).await;
    let statuses = statuses(&answers);
    assert_eq!(statuses, ["401 Unauthorized", "429 Too Many Requests", "200 OK"], "{answers}");
    assert_eq!(TestResponse::send(app.post("/auth")).await.status, 429);
}

/// The body of the only response.
fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn a_request_without_exactly_one_valid_host_is_400() {
    let app = TestApp::spawn().await;
    let expected = r#"{"error":"The request must have one Host header with a host, and a port if it needs one","code":"invalid_host"}"#;
    for lines in [
        "",
        "host: a\r\nhost: b\r\n",
        "host: a\r\nHost: a\r\n",
        "host: a b\r\n",
        "host: a, b\r\n",
        "host: user@a\r\n",
        "host: a/b\r\n",
        "host: ::1\r\n",
        "host: [::1\r\n",
        "host: a:b\r\n",
        "host: a:99999\r\n",
        "host: http://a\r\n",
    ] {
        for target in
            ["GET /jwks", "GET /keys", "GET /nowhere", "POST /auth", "DELETE /keys/1", "OPTIONS /auth"]
        {
            let answer = say(&app, format!("{target} HTTP/1.1\r\n{lines}\r\n").as_bytes()).await;
            assert_eq!(statuses(&answer), ["400 Bad Request"], "{target} {lines}");
            assert_eq!(body_of(&answer), expected, "{target} {lines}");
            assert!(answer.contains("\r\nx-request-id: "), "{answer}");
            assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        }
    }
    // HTTP/1.0 allows none, but not two.
    for (request, status) in [
        ("GET /jwks HTTP/1.0\r\n\r\n", "200 OK"),
        ("GET /healthz HTTP/1.0\r\n\r\n", "200 OK"),
        ("GET /healthz HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n", "400 Bad Request"),
        ("GET /healthz HTTP/1.1\r\nconnection: close\r\nhost:\r\n\r\n", "200 OK"),
        ("GET http://a.example/jwks HTTP/1.1\r\nhost: b.example\r\n\r\n", "200 OK"),
        ("GET http://a.example/jwks HTTP/1.1\r\n\r\n", "400 Bad Request"),
        ("GET http://evil.example/metrics HTTP/1.1\r\nhost: localhost\r\n\r\n", "421 Misdirected Request"),
    ] {
        let answer = say(&app, request.as_bytes()).await;
        assert!(answer.split_once(' ').unwrap().1.starts_with(status), "{request}: {answer}");
    }
}

#[tokio::test]
async fn a_head_that_cannot_be_read_gets_an_error_like_all_others() {
    let app = TestApp::with(Setup { admin_token: Some("0123456789abcdef"), ..Setup::default() }).await;
    let body = r#"{"error":"The head of the request is not valid HTTP/1.1","code":"malformed_request"}"#;
    let heads: [&[u8]; 11] = [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /jwks\r\n\r\n",
        b"GET /jwks HTTP/2.0\r\nhost: x\r\n\r\n",
        b"GET /jwks HTTP/1.1\r\nhost x\r\n\r\n",
        b"GET /jwks HTTP/1.1\r\nhost: x\r\nna me: x\r\n\r\n",
        b"GET /jwks HTTP/1.1\r\nhost: x\r\nname: \x01\r\n\r\n",
        b"GET /\xff<> HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /auth HTTP/1.1\r\nhost: x\r\ncontent-length: a\r\n\r\n",
        b"POST /auth HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST /auth HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
    ];
    let mut ids = std::collections::BTreeSet::new();
    for head in heads {
        let answer = say(&app, head).await;
        let name = String::from_utf8_lossy(head);
        assert_eq!(statuses(&answer), ["400 Bad Request"], "{name}");
        assert_eq!(body_of(&answer), body, "{name}");
        let lines: Vec<&str> = answer.split("\r\n\r\n").next().unwrap().split("\r\n").collect();
        for line in [
            "content-type: application/json",
            &format!("content-length: {}", body.len()),
            "connection: close",
        ] {
            assert_eq!(lines.iter().filter(|found| **found == line).count(), 1, "{line}: {answer}");
        }
        assert_eq!(lines.len(), 6, "{answer}");
        ids.insert(lines.iter().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap().to_owned());
    }
    assert_eq!(ids.len(), heads.len());
    // After other requests of the connection, too.
    let after = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\nPOST /auth HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}nonsense\r\n\r\n";
    let answer = say(&app, after).await;
    assert_eq!(statuses(&answer), ["200 OK", "401 Unauthorized", "400 Bad Request"]);
    assert!(answer.ends_with(body), "{answer}");

    let metrics = app.request(Method::GET, "/metrics").bearer_auth("0123456789abcdef");
    let metrics = TestResponse::send(metrics).await.text;
    let counted = r#"jwksd_http_requests_total{route="unmatched",status="400"} 12"#;
    assert!(metrics.lines().any(|line| line == counted), "{metrics}");
}

/// Connects from another address of this machine.
#[cfg(target_os = "linux")]
async fn connect_from(address: &str, app: &TestApp) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(app.url.trim_start_matches("http://").parse().unwrap()).await.unwrap()
}

/// Connections of one address, each with a request in progress.
#[cfg(target_os = "linux")]
async fn busy_connections(app: &TestApp, address: &str, count: usize) -> Vec<TcpStream> {
    let mut busy = Vec::new();
    for _ in 0..count {
        let mut stream = connect_from(address, app).await;
        let _ = stream.write_all(b"POST /auth HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n").await;
        busy.push(stream);
    }
    busy
}

/// How many of them are answered when their bodies arrive.
#[cfg(target_os = "linux")]
async fn answered(busy: &mut [TcpStream]) -> usize {
    let mut count = 0;
    for stream in busy {
        let _ = stream.write_all(b"{}").await;
        let mut chunk = [0; 12];
        count += usize::from(stream.read(&mut chunk).await.is_ok_and(|n| chunk[..n] == *b"HTTP/1.1 401"));
    }
    count
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn one_client_can_hold_a_quarter_of_the_connections_and_others_are_served() {
    const GET: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let app = TestApp::with(Setup { connections: 40, ..Setup::default() }).await;
    let mut busy = busy_connections(&app, "127.0.0.2", 60).await;
    let mut idle = Vec::new();
    for _ in 0..30 {
        idle.push(connect_from("127.0.0.3", &app).await);
    }
    for address in ["127.0.0.3", "127.0.0.4"] {
        let answer = async {
            let mut stream = connect_from(address, &app).await;
            stream.write_all(GET).await.unwrap();
            hear(&mut stream).await
        };
        let answer = tokio::time::timeout(Duration::from_millis(900), answer).await;
        assert_eq!(statuses(&answer.expect("it does not wait")), ["200 OK"], "{address}");
    }
    assert_eq!(answered(&mut busy).await, 10);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_trusted_proxy_may_hold_more_than_the_share_of_a_client() {
    let setup = Setup { connections: 40, ..Setup::default() };
    let app = TestApp::with(Setup { trusted_proxies: vec!["127.0.0.2/32"], ..setup }).await;
    let mut busy = busy_connections(&app, "127.0.0.2", 30).await;
    assert_eq!(answered(&mut busy).await, 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_tick_of_the_rotation_delays_no_connection() {
    let (test_app, app, listener) = TestApp::build(Setup::default()).await;
    let url = format!("{}/jwks", test_app.url);
    let client = tokio::spawn(async move {
        for _ in 0..40 {
            // Each on a connection of its own.
            let answer = tokio::time::timeout(Duration::from_millis(500), reqwest::get(&url)).await;
            assert_eq!(answer.expect("it does not wait for the tick").unwrap().status(), 200);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let served = app.serve(listener, 1000, std::future::pending(), || {
        std::thread::sleep(Duration::from_secs(1));
    });
    tokio::select! {
        () = served => panic!("the server ended"),
        answered = client => answered.unwrap(),
    }
}
