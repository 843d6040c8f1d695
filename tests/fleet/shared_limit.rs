//! One rate limit for all processes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jwksd_core::client::ClientKey;
use jwksd_core::rate_limit::{Bucket, Decision, RateLimiter as _, RateLimits};
use jwksd_limit_valkey::{LimitUrl, SharedRateLimiter};
use reqwest::StatusCode;
use serde_json::json;

use crate::members::{CALM, Fleet};
use crate::proxy::{Network, Proxy};
use crate::valkey::ValkeyServer;

const LIMITS: RateLimits = RateLimits { sign_in: 10, registration: 3 };

fn client(last: u8) -> ClientKey {
    ClientKey::from(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)))
}

async fn limiters(url: &str, count: usize) -> Vec<Arc<SharedRateLimiter>> {
    let url = LimitUrl::parse(url).unwrap();
    let mut limiters = Vec::new();
    for _ in 0..count {
        limiters.push(Arc::new(SharedRateLimiter::open(&url, LIMITS).await));
    }
    limiters
}

/// Behind a proxy, so that the network can fail.
async fn behind_a_proxy(server: &ValkeyServer) -> (Proxy, String) {
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], server.port))).await;
    let url = format!("redis://127.0.0.1:{}", proxy.port);
    (proxy, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_processes_together_no_second_has_an_eleventh_request_of_a_client() {
    let Some(server) = ValkeyServer::start() else { return };
    let limiters = limiters(&server.url, 3).await;
    let begun = Instant::now();
    let mut tasks = Vec::new();
    // Four tasks a process, each as fast as it can.
    for limiter in limiters.iter().cycle().take(12) {
        let limiter = Arc::clone(limiter);
        tasks.push(tokio::spawn(async move {
            let (mut earliest, mut latest) = (Vec::new(), Vec::new());
            while begun.elapsed() < Duration::from_secs(4) {
                let asked = begun.elapsed();
                if limiter.check(Bucket::SignIn, client(1)).await == Decision::Admitted {
                    earliest.push(asked);
                    latest.push(begun.elapsed());
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            (earliest, latest)
        }));
    }
    let (mut earliest, mut latest) = (Vec::new(), Vec::new());
    for task in tasks {
        let (asked, answered) = task.await.unwrap();
        earliest.extend(asked);
        latest.extend(answered);
    }
    earliest.sort_unstable();
    latest.sort_unstable();
    // Each admission happened between its question and its answer: the eleventh after the first within less than a second, as
    // sorted, would break the limit.
    for (first, eleventh) in earliest.iter().zip(latest.iter().skip(10)) {
        assert!(*eleventh - *first >= Duration::from_secs(1), "{first:?} to {eleventh:?}");
    }
    assert!((40..=50).contains(&earliest.len()), "all that is allowed is admitted: {}", earliest.len());
    // Other clients and other limits are not affected.
    for limiter in &limiters {
        assert_eq!(limiter.check(Bucket::SignIn, client(2)).await, Decision::Admitted);
        assert_eq!(limiter.check(Bucket::Registration, client(1)).await, Decision::Admitted);
    }
    assert_ne!(limiters[0].check(Bucket::Registration, client(1)).await, Decision::Admitted);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_server_each_process_limits_by_itself_at_the_full_limit_and_never_waits_long() {
    let Some(server) = ValkeyServer::start() else { return };
    let (proxy, url) = behind_a_proxy(&server).await;
    let limiters = limiters(&url, 2).await;
    for network in [Network::Refuse, Network::Swallow, Network::Delay(Duration::from_millis(300))] {
        proxy.set(network);
        // A client whose admissions, by the server, are more than a second ago.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        for limiter in &limiters {
            let begun = Instant::now();
            let mut admitted = 0;
            for _ in 0..30 {
                admitted += u32::from(limiter.check(Bucket::SignIn, client(1)).await == Decision::Admitted);
            }
            assert!(begun.elapsed() < Duration::from_millis(700), "{network:?}: {:?}", begun.elapsed());
            assert_eq!(admitted, 10, "{network:?}");
        }
        proxy.set(Network::Pass);
        // Together again: they find that out by themselves.
        let begun = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(1100)).await;
            let mut admitted = 0;
            for _ in 0..10 {
                for limiter in &limiters {
                    admitted +=
                        u32::from(limiter.check(Bucket::SignIn, client(1)).await == Decision::Admitted);
                }
            }
            if admitted == 10 {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(15), "{network:?}: {admitted} were admitted");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_make_no_round_trips() {
    let Some(server) = ValkeyServer::start() else { return };
    let limiters = limiters(&server.url, 1).await;
    for _ in 0..11 {
        limiters[0].check(Bucket::SignIn, client(1)).await;
    }
    let before = commands(&server).await;
    for _ in 0..1000 {
        let Decision::Refused { retry_after } = limiters[0].check(Bucket::SignIn, client(1)).await else {
            panic!("a second has not passed");
        };
        assert!(retry_after <= Duration::from_secs(1));
    }
    assert!(commands(&server).await - before < 10);
}

/// How many commands the server has carried out.
async fn commands(server: &ValkeyServer) -> u64 {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut connection = tokio::net::TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
    connection.write_all(b"INFO stats\r\nQUIT\r\n").await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let line = answer.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
    line.unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_share_the_limit_of_auth_until_its_server_is_killed_and_then_limit_by_themselves() {
    let Some(mut server) = ValkeyServer::start() else { return };
    let settings = [CALM.as_slice(), &[("AUTH_RATE_LIMIT", "10"), ("RATE_LIMIT_URL", &server.url)]].concat();
    let Some(fleet) = Fleet::start::<3>(&settings).await else { return };
    let password = fleet.members[0].register("alice").await;
    let body = json!({"username": "alice", "password": password});
    let round = async || {
        let (mut admitted, mut refused) = (0, 0);
        let begun = Instant::now();
        for number in 0..36 {
            let response = fleet.members[number % 3].post("/auth", &body).send().await.unwrap();
            match response.status() {
                StatusCode::OK => admitted += 1,
                StatusCode::TOO_MANY_REQUESTS => {
                    assert!(response.headers().contains_key("retry-after"));
                    refused += 1;
                }
                status => panic!("{status}"),
            }
        }
        (admitted, refused, begun.elapsed())
    };
    let (admitted, refused, took) = round().await;
    assert!(took > Duration::from_secs(1) || admitted == 10, "{admitted} and {refused} in {took:?}");
    if server.kill() {
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let (admitted, refused, took) = round().await;
        assert!(took > Duration::from_secs(1) || admitted == 30, "{admitted} and {refused} in {took:?}");
        assert!(fleet.members[0].server.log().contains("each process limits the rate of requests by itself"));
    }
}
