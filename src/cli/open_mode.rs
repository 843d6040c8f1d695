//! Where open mode refuses to start: it issues tokens without checking passwords.

use std::net::IpAddr;

use super::exit::UsageError;
use crate::config::Config;
use crate::http::AuthMode;

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

/// Refuses open mode on a store with accounts.
pub(super) fn refuse_accounts(config: &Config, has_accounts: bool) -> Result<(), UsageError> {
    if !is_unconfirmed(config) || !has_accounts {
        return Ok(());
    }
    Err(UsageError(format!(
        "AUTH_MODE is open, so anyone gets a token for any name, and {} has accounts: set another DATABASE_URL, or \
         OPEN_AUTH_ANYWAY=true if you want that",
        config.database.path().display()
    )))
}

fn is_unconfirmed(config: &Config) -> bool {
    config.http.auth_mode == AuthMode::Open && !config.open_auth_anyway
}
