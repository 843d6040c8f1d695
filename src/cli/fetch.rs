//! The HTTP client of `jwk` and `jwt`: bounded in size and time, and strict about redirects.
//!
//! It trusts Mozilla's root certificates, which are compiled in. It ignores proxy variables: only `config` reads the
//! environment.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};
use url::{Host, Url};

use jwksd_core::setting::Secret;
use jwksd_jose::json;

/// Timeout of one request, from the DNS lookup to the last byte.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum length of a response in bytes.
const LIMIT: u64 = 1024 * 1024;

/// Maximum number of redirects.
const REDIRECTS_MAX: usize = 3;

/// The client.
pub(super) struct Client(Agent);

impl Client {
    pub(super) fn new() -> Self {
        Self::trusting(RootCerts::WebPki)
    }

    fn trusting(roots: RootCerts) -> Self {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(provider))
            .root_certs(roots)
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(TIMEOUT))
            // The body of an error contains its reason, which `upload` shows.
            .http_status_as_error(false)
            // Redirects are followed in `get`, which checks every target.
            .max_redirects(0)
            // A proxy from the environment could replace the keys.
            .proxy(None)
            .user_agent(concat!("jwksd/", env!("CARGO_PKG_VERSION")))
            // Without it, a server may compress the response (RFC 9110 §12.5.3), which this client does not read.
            .accept_encoding("identity")
            .build();
        Self(config.new_agent())
    }

    /// Fetches JSON.
    ///
    /// Follows redirects only to https or to the same origin, so that an attacker on the network cannot substitute keys.
    pub(super) fn get(&self, url: &Url) -> anyhow::Result<Value> {
        let mut at = url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let mut response =
                self.0.get(at.as_str()).call().with_context(|| format!("cannot fetch {}", shown(&at)))?;
            if !response.status().is_redirection() {
                return json(&at, &mut response);
            }
            at = target(&at, &response)?;
        }
        bail!("{} redirects more than {REDIRECTS_MAX} times", shown(url));
    }

    /// Sends JSON with a bearer token. Follows no redirect, which could disclose the token. Returns status and body.
    pub(super) fn post(&self, url: &Url, token: &Secret, body: &str) -> anyhow::Result<(u16, Vec<u8>)> {
        let authorization = zeroize::Zeroizing::new(format!("Bearer {}", token.reveal()));
        let mut response = self
            .0
            .post(url.as_str())
            .header("Authorization", authorization.as_str())
            .content_type("application/json")
            .send(body)
            .with_context(|| format!("cannot send to {}", shown(url)))?;
        let body =
            text(&mut response).with_context(|| format!("cannot read the response of {}", shown(url)))?;
        Ok((response.status().as_u16(), body))
    }
}

/// Parses an http or https URL.
pub(super) fn parse(text: &str) -> anyhow::Result<Url> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
    let Some(url) = url else {
        bail!(
            "{} is not an http or https URL: use one such as https://login.example.com/jwks",
            shown_text(text)
        );
    };
    // Credentials in a URL would end up in messages and logs.
    if !url.username().is_empty() || url.password().is_some() {
        bail!("the URL contains a username or a password: remove it");
    }
    Ok(url)
}

/// The URL in messages: without what may be secret in it, its user-info and its query.
pub(super) fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    // These fail only for URLs without a host, which have no user-info.
    let _ = (shown.set_username(""), shown.set_password(None));
    shown.set_query(None);
    shown.set_fragment(None);
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{shown}{query}")
}

/// As [`shown`], for a text that is not a URL although one was expected.
pub(super) fn shown_text(text: &str) -> String {
    let before = text.split(['?', '#']).next().unwrap_or_default();
    // What stands before an `@` may be a password, whatever the parser takes it for.
    let shown = if before.contains('@') { "(not shown)" } else { before };
    let rest = if before.len() < text.len() { "…" } else { "" };
    format!("{shown:?}{rest}")
}

/// Whether an attacker on the network could read and change the traffic to this URL.
pub(super) fn is_exposed(url: &Url) -> bool {
    let is_local = match url.host() {
        // RFC 6761 §6.3 reserves localhost and its subdomains for loopback.
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    url.scheme() != "https" && !is_local
}

fn json(url: &Url, response: &mut Response<Body>) -> anyhow::Result<Value> {
    let status = response.status();
    let name = shown(url);
    if status != 200 {
        bail!("{name} answered {status}");
    }
    if let Some(encoding) = content_encoding(response) {
        bail!(
            "{name} answered with {encoding:?} compression, although none was requested: fetch it with `curl --compressed \
             {name} >jwks.json`, and use --jwks-file jwks.json"
        );
    }
    let text = text(response).with_context(|| format!("cannot read the response of {name}"))?;
    json::document(&text).with_context(|| format!("cannot use the response of {name}"))
}

/// The compression of a response (RFC 9110 §8.4).
fn content_encoding(response: &Response<Body>) -> Option<String> {
    let encoding =
        String::from_utf8_lossy(response.headers().get("content-encoding")?.as_bytes()).into_owned();
    (!encoding.trim().is_empty() && !encoding.trim().eq_ignore_ascii_case("identity")).then_some(encoding)
}

fn text(response: &mut Response<Body>) -> Result<Vec<u8>, ureq::Error> {
    response.body_mut().with_config().limit(LIMIT).read_to_vec()
}

fn target(from: &Url, response: &Response<Body>) -> anyhow::Result<Url> {
    let location = response.headers().get("location").and_then(|value| value.to_str().ok());
    // A Location may be relative (RFC 9110 §10.2.2).
    let Some(to) = location.and_then(|location| from.join(location).ok()) else {
        bail!("{} answered {} without a valid Location header", shown(from), response.status());
    };
    if to.scheme() != "https" && to.origin() != from.origin() {
        let (from, to) = (shown(from), shown(&to));
        bail!("{from} redirects to {to}: redirects are followed only to https or to the same origin");
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};
    use ureq::tls::Certificate;

    use super::*;

    const ROOT: &[u8] = include_bytes!("../../tests/data/tls/root.pem");

    /// A server with a certificate for `localhost` signed by `ROOT`. It answers every request with a JWKS.
    fn secure_site() -> u16 {
        let certificate = include_bytes!("../../tests/data/tls/leaf.pem");
        let key = include_bytes!("../../tests/data/tls/leaf.key.pem");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(certificate).unwrap()],
                PrivateKeyDer::from_pem_slice(key).unwrap(),
            );
        let config = Arc::new(config.unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let connection = ServerConnection::new(config.clone()).unwrap();
                let mut reader = BufReader::new(StreamOwned::new(connection, stream));
                let mut line = String::new();
                while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                    line.clear();
                }
                let _ = reader.get_mut().write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nConnection: close\r\n\r\n{\"keys\":[]}",
                );
            }
        });
        port
    }

    #[test]
    fn https_requires_a_trusted_root_and_the_right_name() {
        let port = secure_site();
        let url = |host| parse(&format!("https://{host}:{port}/jwks")).unwrap();
        let root = Certificate::from_pem(ROOT).unwrap();
        let client = Client::trusting(RootCerts::new_with_certs(&[root]));
        assert_eq!(client.get(&url("localhost")).unwrap(), serde_json::json!({"keys": []}));
        let error = |client: &Client, host| format!("{:#}", client.get(&url(host)).unwrap_err());
        assert!(error(&client, "127.0.0.1").contains("not valid for name"), "another name");
        assert!(error(&Client::new(), "localhost").contains("UnknownIssuer"), "a root that is not Mozilla's");
    }

    #[test]
    fn plain_http_is_exposed_unless_it_stays_on_this_machine() {
        for (url, exposed) in [
            ("https://example.com", false),
            ("http://127.0.0.1:8080", false),
            ("http://[::1]/x", false),
            ("http://localhost", false),
            ("http://localhost.example.com", true),
            ("http://example.com", true),
            ("http://10.0.0.1", true),
        ] {
            assert_eq!(is_exposed(&parse(url).unwrap()), exposed, "{url}");
        }
    }

    #[test]
    fn other_urls_and_urls_with_credentials_are_rejected() {
        for url in
            ["", "example.com/jwks", "file:///etc/passwd", "ftp://example.com", "https://me:x@example.com"]
        {
            assert!(parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_text_that_is_not_a_url_is_shown_without_what_may_be_secret_in_it() {
        for (text, shown) in [
            ("http://h:99999/jwks?code=hunter2", r#""http://h:99999/jwks"…"#),
            ("ftp://h/x#hunter2", r#""ftp://h/x"…"#),
            ("h/jwks?code=hunter2", r#""h/jwks"…"#),
            ("http://hunter2@h:99999/jwks?code=hunter2", r#""(not shown)"…"#),
            ("h/jwks", r#""h/jwks""#),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{shown} is not an http or https URL")), "{error}");
        }
    }
}
