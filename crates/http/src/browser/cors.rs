//! CORS (Fetch Standard §3.2): which pages of other origins may read responses, and what they may send.

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::{HeaderValue, Method, Request, StatusCode};
use axum::response::Response;

use super::origin::AllowedOrigins;
use super::policy::BrowserPolicy;
use crate::openapi::Access;
use crate::response::set_readable;

/// How long browsers may keep the answer to a preflight, in seconds. Most allow two hours at most.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// What a response says about the origins whose pages may read it.
pub(crate) enum Grant {
    /// Nothing.
    Silent,
    /// That every origin may.
    Everyone,
    /// That it depends on the origin, and that this one may not.
    Refused,
    /// That this origin may.
    To(HeaderValue),
}

impl Grant {
    /// The grant for the response to this request. A preflight gets that of the request it asks about.
    pub(crate) fn new<B>(policy: &BrowserPolicy, request: &Request<B>, access: Option<Access>) -> Self {
        match access {
            Some(Access::Public | Access::Probe) if reads(request) || is_preflight(request) => Self::Everyone,
            Some(Access::Account) if !policy.origins().is_empty() => {
                match policy.allowed_origin(request.headers(), access) {
                    Some(_) if *policy.origins() == AllowedOrigins::Any => {
                        Self::To(HeaderValue::from_static("*"))
                    }
                    Some(origin) => Self::To(origin.clone()),
                    None => Self::Refused,
                }
            }
            _ => Self::Silent,
        }
    }

    /// Writes the grant to the response. The only place that does, so that preflights promise what responses keep.
    pub(crate) fn apply(self, response: &mut Response) {
        let headers = response.headers_mut();
        match self {
            Self::Silent => return,
            Self::Everyone => return set_readable(headers),
            Self::Refused => {}
            Self::To(origin) => {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
                let exposed = HeaderValue::from_static("Retry-After, WWW-Authenticate, X-Request-Id");
                headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
            }
        }
        headers.insert(VARY, HeaderValue::from_static("Origin"));
    }
}

fn reads<B>(request: &Request<B>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD)
}

/// Whether a browser asks if a page may send another request.
pub(crate) fn is_preflight<B>(request: &Request<B>) -> bool {
    *request.method() == Method::OPTIONS
        && request.headers().contains_key(ORIGIN)
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The method of a request, and of a preflight that of the request it asks about. A route may be public for one method and
/// private for another.
pub(crate) fn meant_method<B>(request: &Request<B>) -> Method {
    if !is_preflight(request) {
        return request.method().clone();
    }
    let asked = request.headers().get(ACCESS_CONTROL_REQUEST_METHOD);
    asked.and_then(|method| Method::from_bytes(method.as_bytes()).ok()).unwrap_or(Method::OPTIONS)
}

/// The answer to a preflight, to which the grant is applied.
///
/// Returns nothing for other requests, and for pages that may not. `methods` are those of the path.
pub(crate) fn preflight<B>(
    request: &Request<B>,
    grant: &Grant,
    methods: impl Iterator<Item = Method>,
) -> Option<Response> {
    if !is_preflight(request) {
        return None;
    }
    let allowed_headers = match grant {
        // Pages send `Authorization` to every URL of an API out of habit, and a wildcard does not include it.
        Grant::Everyone => "*, Authorization",
        Grant::To(_) => "Authorization, Content-Type, X-Request-Id",
        Grant::Silent | Grant::Refused => return None,
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, list(methods));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(allowed_headers));
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    Some(response)
}

fn list(methods: impl Iterator<Item = Method>) -> HeaderValue {
    let names: Vec<String> = methods.map(|method| method.to_string()).collect();
    let names = names.join(", ").replace("GET", "GET, HEAD");
    HeaderValue::from_str(&names).unwrap_or(HeaderValue::from_static(""))
}
