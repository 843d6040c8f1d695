//! The listening socket: its settings, and the URL under which clients reach it.

#![expect(missing_docs, reason = "the help of a setting is its documentation")]

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::Uri;
use tokio::net::{TcpListener, TcpSocket, lookup_host};
use url::Url;

use jwksd_core::setting::values::number;
use jwksd_core::setting::{ConfigError, OptionalSetting, Setting, Source};

pub const HOST: Setting<String> = Setting {
    name: "HOST",
    default: "127.0.0.1",
    help: "Where to listen: an address or a host name",
    parse: host,
};

pub const PORT: Setting<u16> = Setting {
    name: "PORT",
    default: "8080",
    help: "Where to listen: a port; 0 for any free one",
    parse: |text| number(text, &(0..=u16::MAX)).map_err(|_: String| PORT_REMEDY.to_owned()),
};

pub const ISSUER: OptionalSetting<String> = OptionalSetting {
    name: "ISSUER",
    help: "The `iss` claim and the discovery issuer [default: http://HOST:PORT]",
    parse: issuer_url,
};

const PORT_REMEDY: &str = "use a port from 1 to 65535, or 0 for any free one";

/// Connections that may wait to be accepted. Clients beyond it retry after a second, and Tokio's default is only 128.
const BACKLOG: u32 = 1024;

/// Where the server listens, and under which URL clients reach it.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// An address or a host name.
    pub host: String,
    /// A port; 0 for any free one.
    pub port: u16,
    /// The issuer's URL, if it is set.
    pub issuer: Option<String>,
}

impl ListenConfig {
    /// Reads the settings of the listener.
    ///
    /// # Errors
    /// [`ConfigError`] for the first invalid setting.
    pub fn read(source: &dyn Source) -> Result<Self, ConfigError> {
        Ok(Self { host: HOST.read(source)?, port: PORT.read(source)?, issuer: ISSUER.read(source)? })
    }

    /// Listens on the first address of the host that allows it.
    ///
    /// # Errors
    /// [`ConfigError`] that says which setting to change.
    pub async fn bind(&self) -> Result<TcpListener, ConfigError> {
        listen(&self.host, self.port).await.map_err(|error| {
            let address = self.authority();
            let port = |remedy| ConfigError::setting(PORT.name, self.port, remedy);
            match error.kind() {
                io::ErrorKind::AddrInUse => {
                    port(format!("another program listens on {address}; use a free port"))
                }
                io::ErrorKind::PermissionDenied => {
                    port(format!("this user may not listen on {address}; use a port from 1024 to 65535"))
                }
                _ => {
                    let remedy = format!("cannot listen there ({error}); use an address of this machine");
                    ConfigError::setting(HOST.name, &self.host, remedy)
                }
            }
        })
    }

    /// The issuer's URL. When it is not set, it follows from the host and the port that the listener has.
    #[must_use]
    pub fn issuer_url(&self, port: u16) -> String {
        self.issuer.clone().unwrap_or_else(|| format!("http://{}", authority(&self.host, port)))
    }

    /// Host and port as in a URL.
    #[must_use]
    pub fn authority(&self) -> String {
        authority(&self.host, self.port)
    }
}

async fn listen(host: &str, port: u16) -> io::Result<TcpListener> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for address in lookup_host((host, port)).await? {
        match listen_on(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restart then does not wait until the system forgets the connections of the last run. On Windows the same option
    // lets two servers listen on one port.
    if cfg!(unix) {
        socket.set_reuseaddr(true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn authority(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        // IPv6 addresses need brackets.
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

/// An address or a host name. Brackets are from URLs, where they tell an IPv6 address from a port.
fn host(text: &str) -> Result<String, String> {
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = inner.unwrap_or(text);
    // The zone of a link-local address, as in fe80::1%eth0, is a name.
    let address = host.split_once('%').map_or(host, |(address, _)| address);
    let is_name = |name: &str| name.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_'));
    if address.parse::<Ipv6Addr>().is_ok() && is_name(host.get(address.len() + 1..).unwrap_or_default()) {
        return Ok(host.to_owned());
    }
    if inner.is_none() && is_name(text) {
        return Ok(text.to_owned());
    }
    let has_port = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| (is_name(host) || host.ends_with(']')) && port.parse::<u16>().is_ok());
    Err(if has_port {
        "use it without the port, which PORT sets".to_owned()
    } else {
        "use an address such as 127.0.0.1 or ::1, or a host name".to_owned()
    })
}

/// A URL without query or fragment (RFC 8414 §2). `http` is for development, and for servers behind a proxy.
fn issuer_url(text: &str) -> Result<String, String> {
    let remedy = || "use a URL such as https://login.example.com, without query or fragment".to_owned();
    // Before the parser, which refuses a blank in a path without saying so.
    if has_path_to_encode(text.trim_end()) {
        return Err("percent-encode each character of its path that a URL cannot contain, such as %7B for {, %22 for \" and \
                    %20 for a blank"
            .to_owned());
    }
    let uri: Uri = text.parse().map_err(|_| remedy())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    // The URL is published, so it must not carry a password.
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("use a URL without a user name or a password".to_owned());
    }
    if !is_http || uri.host().is_none_or(str::is_empty) || text.contains(['?', '#']) {
        return Err(remedy());
    }
    if !uri.authority().is_some_and(|authority| has_valid_port(authority.as_str())) {
        return Err("use a port from 1 to 65535 in it, or no port".to_owned());
    }
    // Clients send another path than the issuer's then, and get a 404 for what discovery publishes.
    let is_as_sent = Url::parse(text).map_err(|_| remedy())?.path() == uri.path();
    if !is_as_sent || !text.is_ascii() {
        return Err("use a path as clients send it: without . and .. between slashes, and with every character that is \
                    not ASCII percent-encoded, such as %C3%A9 for é"
            .to_owned());
    }
    Ok(text.to_owned())
}

/// Whether the path of a URL, also of one that is otherwise valid, has ASCII characters that RFC 3986 §3.3 does not allow there.
fn has_path_to_encode(text: &str) -> bool {
    let path = text.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, path)| path);
    let is_invalid = |c: char| c.is_ascii_control() || c == ' ' || "\"<>\\^`{|}[]".contains(c);
    path.is_some_and(|path| path.split(['?', '#']).next().unwrap_or_default().contains(is_invalid))
}

/// Whether host and port have a port that can be connected to, or none.
fn has_valid_port(authority: &str) -> bool {
    // Behind the brackets of an IPv6 address.
    let host_and_port = authority.rsplit(']').next().unwrap_or(authority);
    match host_and_port.split_once(':') {
        Some((_, port)) => port.parse::<u16>().is_ok_and(|port| port != 0),
        None => true,
    }
}
