//! Where open mode refuses to start: it issues tokens without checking passwords.

use std::net::IpAddr;

use url::{Host, Url};

use super::exit::UsageError;
use crate::config::Config;
use jwksd_core::store::ServingMode;
use jwksd_http::AuthMode;

/// Refuses open mode on an address that other machines can reach.
pub(super) fn refuse_public_address(config: &Config, listening_on: IpAddr) -> Result<(), UsageError> {
    // Canonical, because ::ffff:127.0.0.1 is a loopback address too.
    if !is_unconfirmed(config) || listening_on.to_canonical().is_loopback() {
        return Ok(());
    }
    Err(UsageError(format!(
        "AUTH_MODE is open, so anyone gets a token, and HOST is {}, which other machines can reach: set \
         HOST=127.0.0.1, or OPEN_AUTH_ANYWAY=true if you want that",
        config.listen.host
    )))
}

/// Refuses open mode behind a proxy, or for an issuer that other machines trust.
pub(super) fn refuse_proxies(config: &Config) -> Result<(), UsageError> {
    let refused = match &config.listen.issuer {
        Some(issuer) if !is_on_this_machine(issuer) => {
            format!("ISSUER is {issuer}, whose tokens other machines may trust: unset it")
        }
        _ if !config.http.client_ip.trusted.is_empty() => {
            "TRUSTED_PROXIES is set, and a proxy passes the requests of others on: unset it".to_owned()
        }
        _ => return Ok(()),
    };
    if !is_unconfirmed(config) {
        return Ok(());
    }
    Err(UsageError(format!(
        "AUTH_MODE is open, so anyone gets a token, and {refused}, or set OPEN_AUTH_ANYWAY=true if you want that"
    )))
}

/// Whether the host of a URL is a loopback address or a name that always means one (RFC 6761 §6.3).
fn is_on_this_machine(url: &str) -> bool {
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    match Url::parse(url).ok().as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost" || name.ends_with(".localhost")
        }
        Some(Host::Ipv4(address)) => is_loopback(address.into()),
        Some(Host::Ipv6(address)) => is_loopback(address.into()),
        None => false,
    }
}

/// The refusal of a store that is served in the other mode.
pub(super) fn other_mode(config: &Config) -> UsageError {
    let (mode, other) = match config.http.auth_mode {
        AuthMode::Open => (ServingMode::Open, ServingMode::Password),
        AuthMode::Password => (ServingMode::Password, ServingMode::Open),
    };
    UsageError(format!(
        "AUTH_MODE is {mode}, and {} was last served in {other} mode and is still in use, by a server or another program: \
         stop it first, or set another DATABASE_URL",
        config.database
    ))
}

/// Refuses open mode on a store with accounts.
pub(super) fn refuse_accounts(config: &Config, has_accounts: bool) -> Result<(), UsageError> {
    if !is_unconfirmed(config) || !has_accounts {
        return Ok(());
    }
    Err(UsageError(format!(
        "AUTH_MODE is open, so anyone gets a token for any name, and {} has accounts: set another DATABASE_URL, or \
         OPEN_AUTH_ANYWAY=true if you want that",
        config.database
    )))
}

fn is_unconfirmed(config: &Config) -> bool {
    config.http.auth_mode == AuthMode::Open && !config.open_auth_anyway
}
