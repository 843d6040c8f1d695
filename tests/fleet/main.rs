//! Several servers on one PostgreSQL, as on several machines: what they promise together while one of them, the network or the
//! database fails.
//!
//! Each server is behind a proxy of its own. Limits on times are several times those that the documents promise, because other
//! programs may use the machine; `-- --nocapture` shows what was measured.

#![cfg(unix)]
#![expect(clippy::disallowed_methods, reason = "real programs are stopped in real time")]

mod failover;
mod faults;
mod members;
mod moving;
mod operating;
mod pooled;
#[path = "../support/postgres.rs"]
mod postgres;
mod proxy;
mod shared_limit;
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod support;
#[path = "../support/valkey.rs"]
mod valkey;

use std::process::Command;
use std::time::{Duration, Instant};

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use reqwest::StatusCode;
use serde_json::{Value, json};

use members::{CALM, Fleet, Member, kids};
use proxy::Network;

fn kid(token: &str) -> String {
    jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
}

/// Whether a verifier that has this set accepts the token.
fn verifies(token: &str, set: &JwkSet) -> bool {
    let Some(jwk) = set.find(&kid(token)) else { return false };
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_issuer(&["https://login.example.com"]);
    jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(jwk).unwrap(), &validation).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn first_starts_at_the_same_time_make_one_master_key_one_valid_and_one_expired_key() {
    let Some(fleet) = Fleet::start::<4>(&CALM).await else { return };
    let set = fleet.agree(|_| true).await;
    let listing: Value = serde_json::from_str(&fleet.command(&["keys", "list", "--json"])).unwrap();
    let phases: Vec<_> =
        listing["keys"].as_array().unwrap().iter().map(|key| key["phase"].as_str().unwrap()).collect();
    let (current, others): (Vec<_>, Vec<_>) = phases.iter().partition(|phase| **phase == "current");
    assert_eq!((current.len(), others, set.keys.len()), (1, vec![&"expired"], 1), "{listing}");
    // All of them use the keys of that one master key.
    let password = fleet.members[0].register("alice").await;
    for member in &fleet.members {
        assert!(verifies(&member.sign_in("alice", &password).await.unwrap(), &set));
        assert_eq!(member.ready().await, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_one_process_is_published_by_all_and_an_account_is_known_to_all() {
    let Some(fleet) = Fleet::start::<3>(&CALM).await else { return };
    let before = kids(&fleet.agree(|_| true).await);
    let begun = Instant::now();
    fleet.command(&["keys", "rotate", "--now"]);
    let after = kids(&fleet.agree(|set| set.keys.len() == before.len() + 1).await);
    println!("a rotation reached all servers {:?} after its command began", begun.elapsed());
    fleet.command(&["keys", "revoke", &before[0]]);
    fleet.agree(|set| kids(set) == after[1..]).await;

    let password = fleet.members[0].register("bob").await;
    for member in &fleet.members {
        assert_eq!(kid(&member.sign_in("bob", &password).await.unwrap()), after[1]);
        assert_eq!(member.sign_in("bob", "wrong").await, Err(StatusCode::UNAUTHORIZED));
    }
    let again = json!({"username": "bob", "email": "bob2@example.com"});
    assert_eq!(fleet.members[2].post("/register", &again).send().await.unwrap().status(), 409);
    assert_eq!(fleet.command(&["logs", "--json"]).lines().count(), 3);
    fleet.command(&["users", "disable", "bob"]);
    for member in &fleet.members {
        assert_eq!(member.sign_in("bob", &password).await, Err(StatusCode::UNAUTHORIZED));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_database_a_server_publishes_its_keys_and_refuses_the_rest_at_once_until_it_is_back() {
    let Some(fleet) = Fleet::start::<2>(&[CALM.as_slice(), &[("JWKS_MAX_AGE", "5m")]].concat()).await else {
        return;
    };
    let [cut_off, other] = fleet.members.as_slice() else { panic!("two servers") };
    let password = cut_off.register("alice").await;
    let set = cut_off.jwks().await;
    for network in [Network::Refuse, Network::Swallow, Network::Delay(Duration::from_secs(3))] {
        assert_eq!(cut_off.max_age().await, 300);
        cut_off.proxy.set(network);
        println!(
            "{network:?}: /readyz was 503 after {:?}",
            cut_off.wait_ready(StatusCode::SERVICE_UNAVAILABLE).await
        );
        expect_outage(cut_off, &password).await;
        tokio::time::sleep(Duration::from_millis(2500)).await;
        assert!(cut_off.max_age().await <= 10, "{network:?}");
        assert_eq!(cut_off.jwks().await, set);
        assert_eq!(other.sign_in("alice", &password).await.map(|token| kid(&token)), Ok("1".to_owned()));
        assert_eq!(other.max_age().await, 300);

        cut_off.proxy.set(Network::Pass);
        println!(
            "{network:?}: /readyz was 200 {:?} after the return",
            cut_off.wait_ready(StatusCode::OK).await
        );
        assert!(cut_off.sign_in("alice", &password).await.is_ok(), "{network:?}");
    }
}

/// What a server answers while its database is away.
async fn expect_outage(member: &Member, password: &str) {
    let requests = [
        ("/auth", json!({"username": "alice", "password": password})),
        ("/auth", json!({"username": "alice", "password": "wrong"})),
        ("/register", json!({"username": "new", "email": "new@example.com"})),
        ("/password", json!({"username": "alice", "password": password})),
    ];
    for (path, body) in requests {
        let begun = Instant::now();
        let response = member.post(path, &body).send().await.unwrap();
        assert_eq!(response.status(), 503, "{path}");
        assert!(response.headers().contains_key("retry-after"), "{path}");
        assert_eq!(response.json::<Value>().await.unwrap()["code"], "unavailable");
        assert!(begun.elapsed() < Duration::from_millis(900), "{path} took {:?}", begun.elapsed());
    }
    for path in ["/healthz", "/.well-known/openid-configuration", "/openapi.json", "/keys"] {
        assert_eq!(member.get(path).send().await.unwrap().status(), 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_jwks_ends_after_jwks_max_silence() {
    let settings = [CALM.as_slice(), &[("JWKS_MAX_SILENCE", "3s")]].concat();
    let Some(fleet) = Fleet::start::<1>(&settings).await else { return };
    let [member] = fleet.members.as_slice() else { panic!("one server") };
    member.proxy.set(Network::Swallow);
    let begun = Instant::now();
    let response = loop {
        let response = member.get("/jwks").send().await.unwrap();
        if response.status() != 200 || begun.elapsed() > Duration::from_secs(15) {
            break response;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(begun.elapsed() > Duration::from_secs(2));
    assert_eq!(
        (response.status(), response.headers()["retry-after"].to_str().unwrap()),
        (StatusCode::SERVICE_UNAVAILABLE, "1")
    );
    assert_eq!(response.json::<Value>().await.unwrap()["code"], "unavailable");
    member.proxy.set(Network::Pass);
    member.wait_ready(StatusCode::OK).await;
    member.jwks().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn verifiers_of_any_server_know_every_key_while_servers_are_killed_frozen_and_cut_off() {
    let Some(mut fleet) = Fleet::start::<3>(&[]).await else { return };
    let password = fleet.members[0].register("alice").await;
    // A verifier for each server. It reads the JWKS every half KEY_LEAD.
    let mut caches = Vec::new();
    for member in &fleet.members {
        caches.push((Instant::now(), parse(&member.jwks().await)));
    }
    let (begun, mut signers, mut tokens) = (Instant::now(), Vec::new(), 0);
    let (mut is_cut_off, mut is_frozen, mut is_killed) = (false, false, false);
    while begun.elapsed() < Duration::from_secs(30) {
        let at = begun.elapsed().as_secs();
        if (8..10).contains(&at) != is_cut_off {
            is_cut_off = !is_cut_off;
            fleet.members[0].proxy.set(if is_cut_off { Network::Swallow } else { Network::Pass });
        }
        if (14..20).contains(&at) != is_frozen {
            is_frozen = !is_frozen;
            signal(&fleet.members[1], if is_frozen { "STOP" } else { "CONT" });
        }
        if at >= 22 && !is_killed {
            is_killed = true;
            fleet.members[2].server.child.kill().unwrap();
        }
        let answers = |index: usize| !(index == 1 && is_frozen || index == 2 && is_killed);
        for (index, (read, set)) in caches.iter_mut().enumerate() {
            if answers(index) && read.elapsed() >= Duration::from_secs(1) {
                (*read, *set) = (Instant::now(), parse(&fleet.members[index].jwks().await));
            }
        }
        for (index, member) in fleet.members.iter().enumerate() {
            if !answers(index) {
                continue;
            }
            let Ok(token) = member.sign_in("alice", &password).await else {
                let may_refuse = index == 0 && (8..15).contains(&at) || index == 1 && (20..25).contains(&at);
                assert!(may_refuse, "server {index} refuses a sign-in at {at} s");
                continue;
            };
            tokens += 1;
            for (verifier, (read, set)) in caches.iter().enumerate() {
                // What one publishes that is or was cut off for longer than half KEY_LEAD is old, until it reaches the database.
                let was_cut_off =
                    verifier == 0 && (9..13).contains(&at) || verifier == 1 && (14..23).contains(&at);
                let is_fresh = read.elapsed() < Duration::from_millis(1500);
                assert!(
                    !is_fresh || was_cut_off || set.find(&kid(&token)).is_some(),
                    "the verifier at {verifier} does not know key {} of server {index} at {at} s, only {:?}",
                    kid(&token),
                    kids(set)
                );
                assert!(set.find(&kid(&token)).is_none() || verifies(&token, set));
            }
            if !signers.contains(&kid(&token)) {
                signers.push(kid(&token));
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("{tokens} tokens by the keys {signers:?}");
    assert!(signers.len() >= 3, "the rotation went on: {signers:?}");
    fleet.members.truncate(2);
    fleet.agree(|_| true).await;
    for member in &fleet.members {
        assert!(member.sign_in("alice", &password).await.is_ok());
    }
    drop(fleet.members.drain(..));
}

fn parse(body: &[u8]) -> JwkSet {
    serde_json::from_slice(body).unwrap()
}

fn signal(member: &Member, name: &str) {
    let pid = member.server.child.id().to_string();
    assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
}
