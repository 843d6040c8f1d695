//! The store: can it be opened, is it whole, do its keys open and rotate.

use super::Findings;
use crate::cli::opening;
use crate::config::Config;
use crate::domain::clock::{Clock as _, SystemClock, Timestamp};
use crate::domain::key::lifecycle::Phase;
use crate::domain::key::report::Report;
use crate::issuer;
use crate::store::{Counts, Depth, Found, Inspection, newest_schema};

const ABOUT: &str = "store";

/// No jwksd is older than this.
const EARLIEST: Timestamp = Timestamp::from_secs(1_767_225_600);

/// How far the clocks of two machines may lie apart.
const TOLERANCE: std::time::Duration = std::time::Duration::from_mins(5);

pub(super) async fn examine(config: &Config, findings: &mut Findings) {
    let now = SystemClock::start().now();
    if now < EARLIEST {
        findings
            .error("clock", format!("it says {now}: tokens and keys would be out of date at once; set it"));
    }
    let look = match opening::look(config).await {
        Ok(look) => look,
        Err(error) => {
            return findings.error(ABOUT, format!("{error:#}; `jwksd restore` puts a backup in its place"));
        }
    };
    if let Err(error) = crate::cli::serve::refuse_open_mode_with_accounts(config, look.has_accounts) {
        findings.error("settings", error.to_string());
    }
    match look.found {
        Found::Ours(record) => match opening::unlock(config, &config.location, record) {
            Ok(master_key) => inside(config, &master_key, now, findings).await,
            Err(error) => findings.error("sealing", format!("{error:#}")),
        },
        found => match opening::why_no_key(config, &found) {
            Ok(None) if found == Found::Foreign => findings.warning(
                ABOUT,
                format!(
                    "{} has keys of another program: \
                the next start seals and takes over those that are in the clear",
                    config.location.path().display()
                ),
            ),
            Ok(None) => findings.ok(ABOUT, "it is not there yet: the first start makes it"),
            Ok(Some(why)) => findings.error(
                "sealing",
                format!(
                    "NOT_MY_KEY is not set, and {why}: `jwksd serve` \
                prints a line to add"
                ),
            ),
            Err(error) => findings.error("sealing", format!("{error:#}")),
        },
    }
    findings.ok_otherwise("clock", now.to_string());
}

async fn inside(config: &Config, master_key: &issuer::MasterKey, now: Timestamp, findings: &mut Findings) {
    let inspected = config.location.inspect(Depth::Quick).await;
    let store = match inspected {
        Ok(store) => store,
        Err(error) => {
            return findings.error(
                ABOUT,
                format!("it cannot be read: {error}; `jwksd restore` puts a backup in its place"),
            );
        }
    };
    if let Some(complaint) = store.complaints.first() {
        let lines = store.complaints.len();
        findings.error(
            ABOUT,
            format!(
                "it is damaged ({complaint}; lines like this: {lines}): `jwksd restore` puts \
                                       a backup in its place"
            ),
        );
    }
    schema(&store, findings);
    sealing(master_key, &store, findings);
    if let Some(latest) = store.latest.filter(|latest| *latest > now.plus(TOLERANCE)) {
        findings.error("clock", format!("it says {now}, and the store remembers {latest}: set the clock"));
    }
    rotation(config, &store, now, findings);
    let Counts { keys, accounts, sign_ins } = store.counts;
    findings.ok_otherwise(
        ABOUT,
        format!(
            "{}: keys {keys}, accounts {accounts}, sign-ins {sign_ins}",
            config.location.path().display()
        ),
    );
}

fn schema(store: &Inspection, findings: &mut Findings) {
    let (is, newest) = (store.schema.unwrap_or(0), newest_schema());
    if is < newest {
        findings.warning(
            "schema",
            format!(
                "it is at version {is} of {newest}: the next start brings it up to date, \
                          and older programs cannot open it then; `jwksd backup` first"
            ),
        );
    }
    findings.ok_otherwise("schema", format!("version {newest}, the newest"));
}

fn sealing(master_key: &issuer::MasterKey, store: &Inspection, findings: &mut Findings) {
    for row in issuer::unopened(master_key, &store.keys) {
        findings.warning(
            "sealing",
            format!(
                "key {} is left out of signing and of the JWKS: {}; `jwksd restore` \
                          brings it back from a backup",
                row.kid, row.why
            ),
        );
    }
    findings.ok_otherwise("sealing", "every key opens with NOT_MY_KEY");
}

fn rotation(config: &Config, store: &Inspection, now: Timestamp, findings: &mut Findings) {
    let report = Report::new(store.lives.clone(), store.newest_signer, config.policy, now);
    let keys = report.keys();
    let Some(current) = keys.iter().find(|key| key.phase == Phase::Current) else {
        return findings.warning(
            "rotation",
            "no key can sign: a server that starts makes one, which verifiers do not know yet",
        );
    };
    if now.plus(config.policy.token_ttl()) > current.exp {
        return findings.warning(
            "rotation",
            format!(
                "key {} can sign no token of full life any more, and no other \
                                 has taken over: is a server running, and what does it log?",
                current.kid
            ),
        );
    }
    let until = current.signs_until.map_or_else(String::new, |until| format!(" until {until}"));
    findings.ok("rotation", format!("key {} signs{until}", current.kid));
}
