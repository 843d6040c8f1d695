//! Checks the store: whether it opens and is undamaged, whether its keys open and rotate.

use super::findings::Findings;
use super::server;
use crate::cli::{bootstrap, master_key, open_mode};
use crate::config::Config;
use crate::database::Database;
use jwksd_core::clock::{Clock as _, SystemClock, Timestamp};
use jwksd_core::issuer::{self, MasterKey};
use jwksd_core::key::lifecycle::{MAX_PUBLISHED, Phase};
use jwksd_core::key::status::StatusReport;
use jwksd_core::password::PasswordHash;
use jwksd_core::store::StoreError;
use jwksd_store_sqlite::{Contents, Counts, DatabaseFile, Depth, Inspection, newest_schema};

const ABOUT: &str = "store";

/// The fix for a damaged store.
const RESTORE: &str = "replace it by a backup with `jwksd restore`";

/// The first jwksd is newer than this.
const EARLIEST: Timestamp = Timestamp::from_secs(1_767_225_600);

/// Normal difference between the clocks of two machines.
const TOLERANCE: std::time::Duration = std::time::Duration::from_mins(5);

pub(super) async fn examine(config: &Config, findings: &mut Findings) {
    let now = SystemClock::start().now();
    // A machine without a battery for its clock starts in 1970, until NTP sets it.
    if now < EARLIEST {
        let text = format!("it says {now}, so tokens and keys would have expired already: set it");
        findings.error("clock", text);
    }
    if let Err(error) = open_mode::refuse_proxies(config) {
        findings.error("settings", error.to_string());
    }
    let name = &config.database;
    let probe = match config.database.probe().await {
        Ok(probe) => probe,
        Err(StoreError::Corrupt(what)) => {
            return findings.error(ABOUT, format!("DATABASE_URL names {name}, but {what}; {RESTORE}"));
        }
        Err(StoreError::Foreign(what)) => {
            return findings.error(ABOUT, format!("DATABASE_URL names {name}, but {what}"));
        }
        Err(error) => {
            let why = bootstrap::unusable(&config.database, error);
            let way_out = match config.database {
                Database::File(_) => "change its owner or its mode, or wait until no other program uses it",
                Database::Server(_) => "start it, or change DATABASE_URL",
            };
            return findings.error(ABOUT, format!("{why:#}: {way_out}"));
        }
    };
    for fault in &probe.schema_faults {
        if fault.is_acceptable() {
            findings.warning("schema", fault.to_string());
        } else {
            findings.error("schema", fault.to_string());
        }
    }
    if let Err(error) = open_mode::refuse_accounts(config, probe.has_accounts) {
        findings.error("settings", error.to_string());
    }
    match probe.contents {
        Contents::Ours(record) => match bootstrap::unlock(config, &config.database, record) {
            Ok(master_key) => match &config.database {
                Database::File(file) => inside(config, file, &master_key, now, findings).await,
                Database::Server(it) => server::examine(config, it, findings).await,
            },
            Err(error) => findings.error("sealing", format!("{error:#}: set the one it was sealed with")),
        },
        contents => not_ours(config, &contents, findings).await,
    }
    findings.ok_otherwise("clock", now.to_string());
}

/// A store that does not exist yet, one of another program, or one of ours that has lost its master-key record.
async fn not_ours(config: &Config, contents: &Contents, findings: &mut Findings) {
    let name = &config.database;
    match master_key::why_none(config, contents) {
        Err(error) => return findings.error("sealing", format!("{error:#}")),
        Ok(Some(why)) => {
            let text = format!("NOT_MY_KEY is not set, and {why}: `jwksd serve` prints a line to add");
            return findings.error("sealing", text);
        }
        Ok(None) => {}
    }
    if *contents == Contents::Nothing {
        return findings.ok(ABOUT, "it does not exist yet; the first start creates it");
    }
    let Some(file) = config.database.file() else { return };
    match file.inspect(Depth::Rows).await {
        // Only jwksd records a history of keys, so the store was ours.
        Ok(store) if !store.key_metadata.is_empty() => {
            findings.error("sealing", format!("{name} has lost the record of its master key: {RESTORE}"));
        }
        Ok(store) => {
            foreign(&name.to_string(), findings);
            for row in issuer::rows_left_out(&store.keys, &store.invalid_exp) {
                let remedy = row.remedy.in_words(row.kid);
                findings.warning(
                    "sealing",
                    format!("the next start leaves key {} out and as it is ({}): {remedy}", row.kid, row.why),
                );
            }
            unusable_hashes(&store, findings);
        }
        Err(_) => foreign(&name.to_string(), findings),
    }
}

fn foreign(name: &str, findings: &mut Findings) {
    findings.warning(
        ABOUT,
        format!(
            "{name} has keys of another program, and the next start adopts those that are not encrypted: copy the file \
             first"
        ),
    );
}

async fn inside(
    config: &Config,
    file: &DatabaseFile,
    master_key: &MasterKey,
    now: Timestamp,
    findings: &mut Findings,
) {
    let store = match file.inspect(Depth::Quick).await {
        Ok(store) => store,
        Err(error) => return findings.error(ABOUT, format!("it cannot be read ({error}): {RESTORE}")),
    };
    if let Some(complaint) = store.complaints.first() {
        let lines = store.complaints.len();
        findings.error(ABOUT, format!("it is damaged ({complaint}; {lines} such messages): {RESTORE}"));
    }
    schema(&store, findings);
    sealing(master_key, &store, findings);
    if let Some(latest) = store.latest.filter(|latest| *latest > now.plus(TOLERANCE)) {
        let text = format!(
            "it says {now}, but the store has recorded {latest}: one of the two is wrong; set the clock"
        );
        findings.error("clock", text);
    }
    rotation(config, &store, now, findings);
    passwords(config, &store, findings);
    let Counts { keys, accounts, sign_ins } = store.counts;
    let name = file.path().display();
    findings.ok_otherwise(ABOUT, format!("{name}: keys {keys}, accounts {accounts}, sign-ins {sign_ins}"));
}

fn schema(store: &Inspection, findings: &mut Findings) {
    let (is, newest) = (store.schema.unwrap_or(0), newest_schema());
    if is < newest {
        let text = format!(
            "it is at version {is} of {newest}: the next start migrates it, and older programs cannot open it then; run \
             `jwksd backup` first"
        );
        findings.warning("schema", text);
    }
    findings.ok_otherwise("schema", format!("version {newest}, the newest"));
}

fn sealing(master_key: &MasterKey, store: &Inspection, findings: &mut Findings) {
    for row in issuer::unreadable_rows(master_key, &store.keys, &store.invalid_exp, &store.key_metadata) {
        let remedy = row.remedy.in_words(row.kid);
        let text = format!("key {} is neither published nor used ({}): {remedy}", row.kid, row.why);
        findings.warning("sealing", text);
    }
    let opened = issuer::opened_external_keys(master_key, &store.external);
    if i64::try_from(opened).is_ok_and(|opened| opened < store.external_rows) {
        let text = format!(
            "{opened} of {} external keys open; the others were changed by hand and are not published: upload them again",
            store.external_rows
        );
        findings.warning("sealing", text);
    }
    findings.ok_otherwise("sealing", "every key opens with NOT_MY_KEY");
}

fn rotation(config: &Config, store: &Inspection, now: Timestamp, findings: &mut Findings) {
    let report = StatusReport::new(store.key_metadata.clone(), store.newest_signer, config.keys.policy, now);
    let keys = report.keys();
    policy(config, store, now, findings);
    let Some(current) = keys.iter().find(|key| key.phase == Phase::Current) else {
        // A warning only, because the next start repairs it.
        let text = "no key can sign: the next start creates one, which verifiers do not know yet";
        return findings.warning("rotation", text);
    };
    if now.plus(config.keys.policy.token_ttl()) > current.exp {
        let text = format!(
            "key {} can no longer sign a token of full TOKEN_TTL, and no other key has replaced it: start the server, or \
             see its log",
            current.kid
        );
        return findings.warning("rotation", text);
    }
    let until = current.signs_until.map_or_else(String::new, |until| format!(" until {until}"));
    findings.ok("rotation", format!("key {} signs{until}", current.kid));
}

/// Whether the settings are those of the server that started last, and whether each published key ends in time.
fn policy(config: &Config, store: &Inspection, now: Timestamp, findings: &mut Findings) {
    let policy = config.keys.policy;
    let differences = store.policy.map(|recorded| issuer::differences(policy.times(), recorded));
    if let Some(differences) = differences.filter(|differences| !differences.is_empty()) {
        let text = format!(
            "the server that started last on this store has other settings ({}): run all processes with the same ones",
            differences.join(", ")
        );
        findings.warning("rotation", text);
    }
    let published: Vec<_> = store.key_metadata.iter().filter(|key| key.is_published(now)).collect();
    for key in published.iter().filter(|key| key.exp > policy.latest_end(now)) {
        let text = format!(
            "key {} is published until {}, which is longer than KEY_LIFETIME: it ends TOKEN_TTL after its successor \
             signs; start the server, or run `jwksd keys rotate`",
            key.kid, key.exp
        );
        findings.warning("rotation", text);
    }
    if published.len() > MAX_PUBLISHED {
        let text = format!(
            "{} keys are valid, and the JWKS has at most {MAX_PUBLISHED} of them: revoke or expire those that are not \
             needed",
            published.len()
        );
        findings.warning("rotation", text);
    }
}

fn unusable_hashes(store: &Inspection, findings: &mut Findings) {
    if store.unusable_hashes > 0 {
        let text = format!(
            "accounts with a hash that no password matches, because it is not Argon2 or costs too much: {}; give each a \
             new password with `jwksd users reset NAME`",
            store.unusable_hashes
        );
        findings.warning("passwords", text);
    }
}

/// Old costs matter: refusing a sign-in takes one hash of each stored cost.
fn passwords(config: &Config, store: &Inspection, findings: &mut Findings) {
    unusable_hashes(store, findings);
    let new = config.passwords.hasher.cost();
    // A hash that costs too much is refused at once.
    let old: Vec<_> = store
        .costs
        .iter()
        .filter(|(cost, _)| *cost != new && PasswordHash::dummy(cost).is_usable())
        .collect();
    let listed: Vec<_> =
        old.iter().map(|(cost, accounts)| format!("{cost} (accounts: {accounts})")).collect();
    findings.ok(
        "passwords",
        if listed.is_empty() {
            format!("new hashes cost {new}")
        } else {
            let listed = listed.join(", ");
            format!(
                "new hashes cost {new}; until their owners sign in or are reset, each refused sign-in also costs {listed}"
            )
        },
    );
}
