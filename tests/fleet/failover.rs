//! Another server takes the place of the database server.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use sqlx::{AssertSqlSafe, PgConnection};

use crate::members::{CALM, Fleet, kids};
use crate::postgres::{OwnServer, connect};
use crate::{kid, parse, verifies};

const DATABASE: &str = "fleet";

/// A server, and a standby that repeats what it does.
struct Pair {
    primary: OwnServer,
    standby: OwnServer,
}

impl Pair {
    /// Nothing if PostgreSQL is not installed: the other tests say so.
    async fn start() -> Option<Self> {
        let primary = tokio::task::spawn_blocking(OwnServer::start).await.unwrap()?;
        run(&primary, "postgres", &format!("CREATE DATABASE {DATABASE}")).await;
        let standby = primary.start_standby();
        connect(&standby.url(DATABASE)).await;
        Some(Self { primary, standby })
    }

    /// From now on the standby is the primary. The old one stays up, and can be read.
    async fn fail_over(&self, fleet: &Fleet) {
        run(&self.primary, DATABASE, "ALTER SYSTEM SET default_transaction_read_only = on").await;
        run(&self.primary, DATABASE, "SELECT pg_reload_conf()").await;
        run(&self.standby, DATABASE, "SELECT pg_promote()").await;
        for member in &fleet.members {
            member.proxy.lead_to(SocketAddr::from(([127, 0, 0, 1], self.standby.port)));
        }
    }
}

async fn run(server: &OwnServer, database: &str, sql: &str) {
    let mut connection: PgConnection = connect(&server.url(database)).await;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_with_synchronous_replication_nothing_answered_is_lost() {
    let Some(pair) = Pair::start().await else { return };
    run(&pair.primary, DATABASE, "ALTER SYSTEM SET synchronous_standby_names = '*'").await;
    run(&pair.primary, DATABASE, "SELECT pg_reload_conf()").await;
    let fleet = Fleet::on(pair.primary.url(DATABASE), 2, &CALM).await;
    let mut accounts = Vec::new();
    for number in 0..20 {
        let name = format!("user{number}");
        let password = fleet.members[number % 2].register(&name).await;
        let token = fleet.members[number % 2].sign_in(&name, &password).await.unwrap();
        accounts.push((name, password, token));
    }
    let before = fleet.agree(|_| true).await;

    pair.fail_over(&fleet).await;
    for member in &fleet.members {
        let begun = Instant::now();
        let (name, password, _) = &accounts[0];
        while member.sign_in(name, password).await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(15), "no sign-in: {}", member.server.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        println!("sign-ins worked {:?} after the failover", begun.elapsed());
    }
    assert_eq!(kids(&fleet.agree(|_| true).await), kids(&before));
    for (name, password, token) in &accounts {
        assert!(verifies(token, &before));
        assert!(fleet.members[0].sign_in(name, password).await.is_ok(), "{name} is lost");
    }
    let signed_in = fleet.command_on(&pair.standby.url(DATABASE), &["logs", "--json", "--last", "1000"]);
    assert!(signed_in.lines().count() >= 2 * accounts.len(), "sign-ins are lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_a_failover_lost_is_put_back_and_its_kid_is_not_given_out_twice() {
    let Some(pair) = Pair::start().await else { return };
    let fleet = Fleet::on(pair.primary.url(DATABASE), 2, &CALM).await;
    let password = fleet.members[0].register("alice").await;
    let before = kids(&fleet.agree(|_| true).await);
    // The standby has what was written until now, and nothing of what follows.
    tokio::time::sleep(Duration::from_secs(1)).await;
    run(&pair.standby, DATABASE, "ALTER SYSTEM SET primary_conninfo = ''").await;
    run(&pair.standby, DATABASE, "SELECT pg_reload_conf()").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    fleet.command(&["keys", "rotate", "--now"]);
    let with_lost = kids(&fleet.agree(|set| set.keys.len() == 2).await);
    let token = fleet.members[1].sign_in("alice", &password).await.unwrap();
    let lost = kid(&token);
    assert_eq!(with_lost, [before[0].clone(), lost.clone()]);

    pair.fail_over(&fleet).await;
    let (begun, mut logs) = (Instant::now(), String::new());
    while !logs.contains(&format!("key {lost} was lost by the store, and is put back from memory")) {
        assert!(begun.elapsed() < Duration::from_secs(15), "{logs}");
        // Until then and afterwards, its tokens verify.
        assert!(verifies(&token, &fleet.agree(|set| kids(set) == with_lost).await));
        logs.extend(fleet.members.iter().map(|member| member.server.log()));
    }
    for member in &fleet.members {
        member.wait_ready(StatusCode::OK).await;
    }
    // It is in the new database, and the next key has another number.
    fleet.command_on(&pair.standby.url(DATABASE), &["keys", "rotate", "--now"]);
    let rotated = kids(&fleet.agree(|set| set.keys.len() == 3).await);
    assert_eq!(rotated[..2], with_lost);
    for member in &fleet.members {
        let token = member.sign_in("alice", &password).await.unwrap();
        assert_eq!(kid(&token), rotated[2]);
        assert!(verifies(&token, &parse(&member.jwks().await)));
    }
}
