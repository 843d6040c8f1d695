//! What is configured: settings that work, but not as their owner may think.

use super::Findings;
use crate::config::Config;
use crate::http::{AdminToken, AuthMode, Registration};

const ABOUT: &str = "settings";

pub(super) fn examine(config: &Config, findings: &mut Findings) {
    let is_public = !is_loopback(&config.listen.host);
    issuer(config, is_public, findings);
    if is_public
        && config.http.registration == Registration::Open
        && config.http.auth_mode == AuthMode::Password
    {
        findings.warning(
            ABOUT,
            "REGISTRATION is open, and HOST is not this machine alone: anybody may make \
                                 accounts; closed would do, and `jwksd users add`",
        );
    }
    if config.http.auth_rate_limit == 0 {
        findings
            .warning(ABOUT, "AUTH_RATE_LIMIT is 0: nothing slows down who guesses passwords; 10 would do");
    }
    if config.http.client_ip.trusted.iter().any(|network| network.prefix_len() == 0) {
        findings.warning(
            ABOUT,
            "TRUSTED_PROXIES has a network of every address: anybody may say where a request \
                                 comes from; the address of the proxy would do",
        );
    }
    if config.http.admin_token.as_ref().is_some_and(AdminToken::is_short) {
        findings.warning(
            ABOUT,
            "ADMIN_TOKEN is short enough to be guessed: `openssl rand -hex 32` makes one that is not",
        );
    }
    if !config.passwords.hasher.meets_owasp_minimum() {
        findings.warning(
            ABOUT,
            format!(
                "the cost of passwords ({}) is below OWASP's minimum: `jwksd argon2-tune` \
            prints settings for this machine",
                config.passwords.hasher.cost()
            ),
        );
    }
    findings.ok_otherwise(ABOUT, "they can work together");
}

fn issuer(config: &Config, is_public: bool, findings: &mut Findings) {
    let text = match &config.listen.issuer {
        None if is_public => format!(
            "ISSUER is not set, so that tokens name http://{} as their issuer: the URL that verifiers reach would do",
            config.listen.authority()
        ),
        Some(url) if is_public && url.starts_with("http://") => format!(
            "ISSUER is {url}: keys and passwords travel in the clear; an https URL, of a proxy in front, would do"
        ),
        _ => return,
    };
    findings.warning(ABOUT, text);
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.parse().is_ok_and(|address: std::net::IpAddr| address.to_canonical().is_loopback())
}
