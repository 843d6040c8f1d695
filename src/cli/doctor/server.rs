//! Checks a store on a server: reach, encryption, clocks, replication, connections, and the policy of the other processes.

use std::time::Duration;

use super::findings::Findings;
use crate::config::Config;
use crate::database::Server;
use jwksd_core::clock::{Clock as _, SystemClock};
use jwksd_core::issuer;
use jwksd_core::outage::error_chain;
use jwksd_store_postgres::Inspection;

const ABOUT: &str = "store";

/// Differences of clocks below this are normal.
const TOLERANCE: Duration = Duration::from_secs(5);

pub(super) async fn examine(config: &Config, server: &Server, findings: &mut Findings) {
    let found = match server.inspect().await {
        Ok(found) => found,
        Err(error) => {
            let text = format!("it cannot be read ({}): look at the server's log", error_chain(&error));
            return findings.error(ABOUT, text);
        }
    };
    if found.is_read_only {
        findings.error(
            ABOUT,
            "the server can only be read, as a standby: let DATABASE_URL lead to the one that can be written",
        );
    }
    settings(config, findings);
    encryption(server, &found, findings);
    clock(&found, findings);
    replication(&found, findings);
    connections(server, &found, findings);
    policy(config, &found, findings);
    let Inspection { version, schema, keys, accounts, .. } = &found;
    findings.ok("schema", format!("version {schema}"));
    findings.ok_otherwise(
        ABOUT,
        format!("{}: PostgreSQL {version}, keys {keys}, accounts {accounts}", config.database),
    );
}

fn settings(config: &Config, findings: &mut Findings) {
    if config.listen.issuer.is_none() {
        findings.error(
            "settings",
            "ISSUER is not set, and `jwksd serve` does not start without it: set it to the URL of all processes",
        );
    }
}

fn encryption(server: &Server, found: &Inspection, findings: &mut Findings) {
    if found.has_tls || server.is_local() {
        return;
    }
    findings.warning(
        "tls",
        "the connection is not encrypted, so a machine on the way sees password hashes and can change what is stored: let \
         the server use TLS, and remove sslmode from DATABASE_URL",
    );
}

fn clock(found: &Inspection, findings: &mut Findings) {
    let (here, there) = (SystemClock::start().now(), found.now);
    let apart = Duration::from_millis(here.as_millis().abs_diff(there.as_millis()));
    if apart > TOLERANCE {
        let text = format!(
            "it says {here}, and that of the server {there}: the server's decides; set the clock of this machine, or its log \
             is hard to compare"
        );
        findings.warning("clock", text);
    }
}

fn replication(found: &Inspection, findings: &mut Findings) {
    let about = "replicas";
    let commit = found.synchronous_commit.as_str();
    if commit == "off" || commit == "local" && found.synchronous_replicas > 0 {
        findings.warning(
            about,
            format!("synchronous_commit is {commit} for this role, so answered keys and accounts can be lost: set it to on"),
        );
    }
    match found.replicas {
        None => findings.ok(about, "the role may not see them: grant it pg_monitor to let `doctor` look"),
        Some(0) => findings.ok(about, "the server has no standby: keep backups of it"),
        Some(_) if found.synchronous_replicas > 0 => {
            findings.ok(about, format!("{} confirm each commit", found.synchronous_replicas));
        }
        Some(replicas) => findings.warning(
            about,
            format!(
                "{replicas}, none of which confirms a commit before it is answered: a failover can lose keys and accounts; set \
                 synchronous_standby_names on the server"
            ),
        ),
    }
}

fn connections(server: &Server, found: &Inspection, findings: &mut Findings) {
    let (open, max) = (found.open_connections, found.max_connections);
    let own = i64::from(server.connections()) + 2;
    if open + own > max {
        let text = format!(
            "{open} of {max} are open, and a process needs {own}: raise max_connections, lower DATABASE_CONNECTIONS, or use \
             a pooler"
        );
        return findings.warning("capacity", text);
    }
    findings.ok("capacity", format!("{open} of {max} connections are open; each process uses up to {own}"));
}

/// Processes with different policies plan different rotations.
fn policy(config: &Config, found: &Inspection, findings: &mut Findings) {
    let Some(recorded) = found.policy else { return };
    let differences = issuer::differences(config.keys.policy.times(), recorded);
    if !differences.is_empty() {
        let text = format!(
            "the process that started last has other settings ({}): give all processes the same",
            differences.join(", ")
        );
        findings.warning("rotation", text);
    }
}
