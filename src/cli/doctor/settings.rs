//! Checks settings that are valid, but may not do what the operator wants.

use url::{Host, Url};

use super::findings::Findings;
use crate::config::Config;
use jwksd_http::{AuthMode, Registration, SecretToken};

const ABOUT: &str = "settings";

pub(super) fn examine(config: &Config, findings: &mut Findings) {
    let http = &config.http;
    let is_exposed = !is_loopback(&config.listen.host);
    issuer(config, is_exposed, findings);
    if http.auth_mode == AuthMode::Password {
        public_service(config, is_exposed, findings);
    }
    if config.limits.sign_in == 0 {
        findings.warning(ABOUT, "AUTH_RATE_LIMIT is 0, so password guessing is not throttled: set it to 10");
    }
    if config.passwords.guesses.limit == 0 {
        let text = "AUTH_FAILURE_LIMIT is 0, so a password can be guessed from any number of addresses: set it to 10";
        findings.warning(ABOUT, text);
    }
    if http.client_ip.trusted.iter().any(|network| network.prefix_len() == 0) {
        findings.warning(
            ABOUT,
            "TRUSTED_PROXIES contains every address, so any client may claim any address: set it to the address of the \
             proxy",
        );
    }
    for (name, token) in [("ADMIN_TOKEN", &http.admin_token), ("INTROSPECT_TOKEN", &http.introspect_token)] {
        if token.as_ref().is_some_and(SecretToken::is_short) {
            let text = format!(
                "{name} is so short that it can be guessed: generate one with `openssl rand -hex 32`"
            );
            findings.warning(ABOUT, text);
        }
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

/// A service that other machines can reach: directly, or through the proxy that ISSUER names.
fn public_service(config: &Config, is_exposed: bool, findings: &mut Findings) {
    let http = &config.http;
    // There is no TLS in jwksd, and a loopback address is reached only from here: something stands in front.
    let proxied = config.listen.issuer.as_ref().filter(|url| {
        url.starts_with("https://") || (!is_exposed && !Url::parse(url).is_ok_and(|url| is_local(&url)))
    });
    let why = match proxied {
        Some(url) => format!("ISSUER is {url}"),
        None if is_exposed => "HOST is an address that other machines can reach".to_owned(),
        None => return,
    };
    if http.registration == Registration::Open {
        let text = format!(
            "REGISTRATION is open, and {why}, so anyone may create accounts: set it to closed, and use `jwksd users add`"
        );
        findings.warning(ABOUT, text);
    }
    if proxied.is_some() && http.client_ip.trusted.is_empty() {
        let text = format!(
            "TRUSTED_PROXIES is not set, and {why}, so all clients of the proxy share one rate limit: set it to the address \
             of the proxy"
        );
        findings.warning(ABOUT, text);
    }
    if config.tokens.audiences.is_empty() {
        let text = format!(
            "AUDIENCE is not set, and {why}, so a token for one service is valid at all others: set it to what your services \
             check"
        );
        findings.warning(ABOUT, text);
    }
}

fn is_local(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        None => false,
    }
}

fn issuer(config: &Config, is_exposed: bool, findings: &mut Findings) {
    let text = match &config.listen.issuer {
        None if is_exposed => format!(
            "ISSUER is not set, so tokens name http://{} as their issuer: set it to the URL under which verifiers reach \
             this server",
            config.listen.authority()
        ),
        Some(url) if is_exposed && url.starts_with("http://") => format!(
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
