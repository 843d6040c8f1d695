//! The settings about browsers.

#![expect(missing_docs, reason = "the help of a setting is its documentation")]

use url::Host;

use super::origin::AllowedOrigins;
use crate::listener::HOST;
use jwksd_core::setting::values::list;
use jwksd_core::setting::{ConfigError, OptionalSetting, Source};

pub const ALLOWED_HOSTS: OptionalSetting<Vec<String>> = OptionalSetting {
    name: "ALLOWED_HOSTS",
    help: "Comma-separated further names under which browsers may reach the admin API, next to HOST and the issuer's",
    parse: hosts,
};

pub const ALLOWED_ORIGINS: OptionalSetting<AllowedOrigins> = OptionalSetting {
    name: "ALLOWED_ORIGINS",
    help: "Comma-separated origins of pages that may call /auth, /register and /password (CORS); * for all, in open mode only",
    parse: AllowedOrigins::parse,
};

/// What pages in browsers may do.
#[derive(Clone, Debug, Default)]
pub struct BrowserConfig {
    /// Names of this server in addition to the issuer's, in lower case; addresses without brackets.
    pub hosts: Vec<String>,
    /// Origins whose pages may call /auth, /register and /password.
    pub origins: AllowedOrigins,
}

impl BrowserConfig {
    /// Reads the settings about browsers.
    ///
    /// # Errors
    /// [`ConfigError`] for the first invalid setting.
    pub(crate) fn read(source: &dyn Source) -> Result<Self, ConfigError> {
        let mut hosts = ALLOWED_HOSTS.read(source)?.unwrap_or_default();
        // Addresses are known anyway. Listed, they would also make pages of other ports our own.
        hosts.extend(host(&HOST.read(source)?).filter(|host| is_name(host)));
        Ok(Self { hosts, origins: ALLOWED_ORIGINS.read(source)?.unwrap_or_default() })
    }
}

fn is_name(host: &str) -> bool {
    host != "localhost" && host.parse::<std::net::IpAddr>().is_err()
}

fn hosts(text: &str) -> Result<Vec<String>, String> {
    list(text, "use names such as id.example, without a scheme and a port", host)
}

/// A name or an address as browsers write it.
fn host(text: &str) -> Option<String> {
    // `url` reads IPv6 addresses only in brackets.
    if let Ok(ip) = text.parse::<std::net::IpAddr>() {
        return Some(ip.to_string());
    }
    match Host::parse(text) {
        Ok(Host::Domain(name)) if !name.contains('*') => Some(name),
        Ok(Host::Ipv4(ip)) => Some(ip.to_string()),
        Ok(Host::Ipv6(ip)) => Some(ip.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses_without_ports() {
        let listed = hosts("ID.example, b\u{fc}cher.example,[::1], 192.0.2.1,").unwrap();
        assert_eq!(listed, ["id.example", "xn--bcher-kva.example", "::1", "192.0.2.1"]);
        for text in ["https://id.example", "id.example:8443", "*", "*.example", "a b", "id.example/x"] {
            assert!(hosts(text).is_err(), "{text}");
        }
    }
}
