//! Checks settings that are valid, but may not do what the operator wants.

use super::findings::Findings;
use crate::config::Config;
use crate::http::{AdminToken, AuthMode, Registration};

const ABOUT: &str = "settings";

pub(super) fn examine(config: &Config, findings: &mut Findings) {
    let http = &config.http;
    let is_public = !is_loopback(&config.listen.host);
    issuer(config, is_public, findings);
    if is_public && http.registration == Registration::Open && http.auth_mode == AuthMode::Password {
        findings.warning(
            ABOUT,
            "REGISTRATION is open, and HOST is an address that other machines can reach, so anyone may create accounts: \
             set it to closed, and use `jwksd users add`",
        );
    }
    if config.limits.sign_in == 0 {
        findings.warning(ABOUT, "AUTH_RATE_LIMIT is 0, so password guessing is not throttled: set it to 10");
    }
    if http.client_ip.trusted.iter().any(|network| network.prefix_len() == 0) {
        findings.warning(
            ABOUT,
            "TRUSTED_PROXIES contains every address, so any client may claim any address: set it to the address of the \
             proxy",
        );
    }
    if http.admin_token.as_ref().is_some_and(AdminToken::is_short) {
        findings.warning(
            ABOUT,
            "ADMIN_TOKEN is so short that it can be guessed: generate one with `openssl rand -hex 32`",
        );
    }
    if !config.passwords.hasher.meets_owasp_minimum() {
        let cost = config.passwords.hasher.cost();
        let text = format!(
            "the cost of passwords ({cost}) is below OWASP's minimum: `jwksd argon2-tune` prints settings for this machine"
        );
        findings.warning(ABOUT, text);
    }
    findings.ok_otherwise(ABOUT, "they work together");
}

fn issuer(config: &Config, is_public: bool, findings: &mut Findings) {
    let text = match &config.listen.issuer {
        None if is_public => format!(
            "ISSUER is not set, so tokens name http://{} as their issuer: set it to the URL under which verifiers reach \
             this server",
            config.listen.authority()
        ),
        Some(url) if is_public && url.starts_with("http://") => format!(
            "ISSUER is {url}, so keys and passwords travel in the clear: set it to the https URL of a proxy in front of \
             this server"
        ),
        _ => return,
    };
    findings.warning(ABOUT, text);
}

fn is_loopback(host: &str) -> bool {
    // Other names count as public, because they can resolve to any address.
    host == "localhost"
        || host.parse().is_ok_and(|address: std::net::IpAddr| address.to_canonical().is_loopback())
}
