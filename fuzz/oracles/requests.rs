//! Requests: credentials, fields of open mode, the query of /auth, and the client's address behind proxies.

use std::future::Future as _;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker};

use axum::body::Body;
use axum::extract::{FromRequest as _, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jwksd_core::password::Password;
use jwksd_core::token::TokenKind;
use jwksd_http::{
    ClientIpHeader, ClientIpPolicy, Credentials, RequestBody, TokenRequest, read_token_overrides,
};
use serde_json::{Map, Value, json};
use tokio::runtime::{Builder, Runtime};

use super::bytes::Bytes;

static TIMERS: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());

const JSON: &[u8] = b"application/json";
const FORM: &[u8] = b"application/x-www-form-urlencoded";

/// Credentials in a body, in `Authorization`, or in both: they mean the same in each format.
///
/// The first byte chooses the `Content-Type` and whether there is an `Authorization`, the second its length.
pub fn credentials(input: &[u8]) {
    let mut rest = Bytes(input);
    let (labels, length) = (rest.byte(), rest.byte());
    let label = [None, Some(JSON), Some(FORM), Some(b"Application/Problem+JSON ; charset=x")]
        [usize::from(labels % 4)];
    let authorization = (labels & 4 != 0).then(|| rest.take(length.into()));
    check_credentials(label, authorization, rest.0);
}

fn check_credentials(label: Option<&[u8]>, authorization: Option<&[u8]>, body: &[u8]) {
    let (headers, Some(parsed)) = request(label, authorization, body) else {
        return;
    };
    if let Ok((subject, overrides)) = read_token_overrides(&headers, &parsed) {
        assert!(!subject.is_empty() && !subject.contains(char::is_control));
        assert!(overrides.ttl.is_none_or(|ttl| ttl.as_secs() > 0 && ttl.subsec_nanos() == 0));
    }
    let Ok(read) = Credentials::read(&headers, &parsed) else {
        return;
    };
    if matches!(parsed, RequestBody::Json(_)) {
        expect_precedence_of_the_body(body, &read);
    }
    let (Some(username), Some(password)) = (&read.username, &read.password) else {
        return;
    };
    for (label, authorization, body) in written(username, password.reveal()) {
        let (headers, parsed) = request(label, authorization.as_deref(), &body);
        // Control characters take six bytes in JSON, so what was written can exceed the size limit.
        let Some(again) = parsed.and_then(|parsed| Credentials::read(&headers, &parsed).ok()) else {
            assert!(body.len() > 4096, "a short body is parsed again");
            continue;
        };
        assert_eq!(again.username.as_ref(), Some(username));
        assert_eq!(again.password.as_ref().map(Password::reveal), Some(password.reveal()));
        assert_eq!(again.basic_was_used, authorization.is_some());
    }
}

fn expect_precedence_of_the_body(body: &[u8], read: &Credentials) {
    let members: Map<String, Value> = serde_json::from_slice(body).unwrap();
    assert!(members.keys().all(|name| ["username", "password", "aud"].contains(&name.as_str())));
    let sent = |name| members.get(name).and_then(Value::as_str);
    assert_eq!(read.audience.as_deref(), sent("aud"));
    if sent("username").is_some() || sent("password").is_some() {
        assert_eq!(read.username.as_deref(), sent("username"));
        assert_eq!(read.password.as_ref().map(Password::reveal), sent("password"));
    }
}

type Written = (Option<&'static [u8]>, Option<Vec<u8>>, Vec<u8>);

/// The same credentials as JSON, as a form, and as HTTP Basic if the username has no colon.
fn written(username: &str, password: &str) -> Vec<Written> {
    let json = json!({"username": username, "password": password}).to_string();
    let form = serde_urlencoded::to_string([("username", username), ("password", password)]).unwrap();
    let mut written = vec![(Some(JSON), None, json.into_bytes()), (Some(FORM), None, form.into_bytes())];
    if !username.contains(':') {
        let basic = format!("Basic {}", STANDARD.encode(format!("{username}:{password}")));
        written.push((None, Some(basic.into_bytes()), Vec::new()));
    }
    written
}

/// The headers of a request, and its body if that is in a known format.
fn request(
    label: Option<&[u8]>,
    authorization: Option<&[u8]>,
    body: &[u8],
) -> (HeaderMap, Option<RequestBody>) {
    let mut request = Request::new(Body::from(body.to_vec()));
    for (name, value) in [(CONTENT_TYPE, label), (AUTHORIZATION, authorization)] {
        if let Some(value) = value.and_then(|value| HeaderValue::from_bytes(value).ok()) {
            request.headers_mut().append(name, value);
        }
    }
    let headers = request.headers().clone();
    let read = pin!(RequestBody::from_request(request, &()));
    // Reading a body has a time limit, which needs a runtime's timer.
    let _timers = TIMERS.enter();
    let Poll::Ready(parsed) = { read }.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        return (headers, None);
    };
    (headers, parsed.ok())
}

/// The query of /auth: other parameters and another spelling do not change the result.
pub fn query(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else {
        return;
    };
    let wanted = TokenRequest::parse(text).ok();
    assert_eq!(TokenRequest::parse(&format!("{text}&other=expired")).ok(), wanted);
    assert_eq!(TokenRequest::parse(&format!("expired=true&expired=true&{text}")).ok(), None);
    if let Some(wanted) = wanted {
        let written = match wanted {
            TokenRequest::Token(TokenKind::Valid) => "expired=false".to_owned(),
            TokenRequest::Token(TokenKind::Expired) => "expired".to_owned(),
            TokenRequest::Fault(fault) => format!("fault={}", fault.name()),
        };
        assert_eq!(TokenRequest::parse(&written).ok(), Some(wanted));
    }
}

/// The client's address: the right-most one that is not a trusted proxy's, whatever is to its left.
///
/// The first byte chooses the header, then comes the peer, then the header's lines.
pub fn client_ip(input: &[u8]) {
    let mut rest = Bytes(input);
    let (which, is_v6) = (rest.byte(), rest.byte() % 2 == 1);
    let peer = if is_v6 { IpAddr::from(rest.array::<16>()) } else { IpAddr::from(rest.array::<4>()) };
    let lines: Vec<_> = rest.0.split(|byte| *byte == b'\n').collect();
    check_client_ip(which, peer, &lines);
}

fn check_client_ip(which: u8, peer: IpAddr, lines: &[&[u8]]) {
    let trusted = ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|network| network.parse().unwrap());
    let names = [ClientIpHeader::Forwarded, ClientIpHeader::XForwardedFor, ClientIpHeader::XRealIp];
    let header = names[usize::from(which) % names.len()];
    let policy = ClientIpPolicy { trusted: trusted.into(), header };
    let is_trusted = |address| trusted.iter().any(|network| network.contains(&address));
    let name = HeaderName::from_static(header.name());
    let values: Vec<_> = lines.iter().filter_map(|line| HeaderValue::from_bytes(line).ok()).collect();
    let line = |address: &str| {
        let node = if header == ClientIpHeader::Forwarded { "for=" } else { "" };
        HeaderValue::from_str(&format!("{node}{address}")).unwrap()
    };
    let client = |before: Option<&str>, after: Option<&str>| {
        let mut headers = HeaderMap::new();
        let values = before.map(line).into_iter().chain(values.clone()).chain(after.map(line));
        for value in values {
            headers.append(&name, value);
        }
        for other in names.into_iter().filter(|other| *other != header) {
            headers.append(other.name(), HeaderValue::from_static("for=198.51.100.66"));
        }
        policy.client(peer, &headers)
    };

    let (peer, found) = (peer.to_canonical(), client(None, None));
    assert_eq!(found, found.to_canonical());
    if !is_trusted(peer) {
        assert_eq!(found, peer);
        assert_eq!(client(Some("198.51.100.7"), Some("198.51.100.7")), peer);
        return;
    }
    assert_eq!(
        client(None, Some("198.51.100.7")).to_string(),
        "198.51.100.7",
        "the right-most address counts"
    );
    if found != peer {
        assert_eq!(client(None, Some("10.1.2.3")), found, "a trusted proxy is skipped");
    }
    if !is_trusted(found) {
        assert_eq!(client(Some("198.51.100.7"), None), found, "addresses to the left do not count");
    }
    // Most proxies append to the line that their client sent, whatever bytes are in it.
    if let Some(last) = values.last() {
        let mut headers = HeaderMap::new();
        let both = [last.as_bytes(), b", ", line("198.51.100.7").as_bytes()].concat();
        headers.insert(&name, HeaderValue::from_bytes(&both).unwrap());
        assert_eq!(policy.client(peer, &headers).to_string(), "198.51.100.7", "{headers:?}");
    }
}
