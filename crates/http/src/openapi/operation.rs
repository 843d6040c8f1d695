//! One operation: what it takes and returns, and how OpenAPI 3.1 writes that.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ALLOW, CACHE_CONTROL, ETAG, HeaderName,
    RETRY_AFTER, WWW_AUTHENTICATE,
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::types::Types;
use crate::error::{ErrorBody, ErrorCode};
use crate::request_log::HEADER as REQUEST_ID;

/// The names of the security schemes.
pub(super) const ADMIN: &str = "admin";
pub(super) const BASIC: &str = "basic";
pub(super) const INTROSPECTION: &str = "introspection";
pub(super) const TOKEN: &str = "token";

/// The headers that tell a proxy whom a token is about.
pub(crate) const X_AUTH_SUBJECT: HeaderName = HeaderName::from_static("x-auth-subject");
pub(crate) const X_AUTH_UID: HeaderName = HeaderName::from_static("x-auth-uid");

/// Who may use an endpoint, and whether caches may keep its responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Every client, and pages of every origin; caches may keep responses.
    Public,
    /// Every client, and pages of every origin; caches must not keep responses.
    Probe,
    /// Every client, and pages of `ALLOWED_ORIGINS`; caches must not keep responses.
    Account,
    /// Clients with `ADMIN_TOKEN`, and pages only under a known name of this server; caches must not keep responses.
    Admin,
    /// Clients with `INTROSPECT_TOKEN` or `ADMIN_TOKEN`, and pages only under a known name of this server; caches must not
    /// keep responses.
    Introspection,
    /// Every client with a token, and no page of another origin; caches must not keep responses.
    Bearer,
}

/// What the handler of an endpoint takes and returns. Access and limit are the endpoint's.
pub(crate) struct Operation {
    /// The name in generated clients.
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    /// Whether credentials may come as HTTP Basic.
    pub(crate) accepts_basic: bool,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Option<RequestContent>,
    pub(crate) successes: Vec<Success>,
    /// The errors of the handler itself.
    pub(crate) errors: Vec<ErrorCode>,
}

/// A part of the path, of the query or of the headers.
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) location: ParameterLocation,
    pub(crate) about: &'static str,
    pub(crate) schema: Value,
}

/// `in` of a Parameter Object.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ParameterLocation {
    Header,
    Path,
    Query,
}

/// The body of a request.
pub(crate) struct RequestContent {
    pub(crate) is_required: bool,
    /// Media types, with a Media Type Object for each.
    pub(crate) content: Vec<(&'static str, Value)>,
}

/// A response to a request that succeeds.
pub(crate) struct Success {
    pub(crate) status: StatusCode,
    pub(crate) about: &'static str,
    /// Media type and schema; nothing for an empty body.
    pub(crate) content: Option<(&'static str, Value)>,
    pub(crate) headers: Vec<HeaderName>,
    /// Operations that can follow, by the name of the link.
    pub(crate) links: Vec<(&'static str, Value)>,
}

impl Operation {
    /// An operation without parameters, body, responses or errors.
    pub(crate) fn new(id: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            summary,
            accepts_basic: false,
            parameters: Vec::new(),
            body: None,
            successes: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// The Operation Object (OpenAPI 3.1).
    pub(super) fn value(&self, access: Access, types: &mut Types) -> Value {
        let mut responses = error_responses(&self.errors, Some(access), types);
        for success in &self.successes {
            responses.insert(success.status.as_str().to_owned(), success.value(Some(access)));
        }
        let security = match access {
            Access::Admin => json!([{(ADMIN): []}]),
            Access::Introspection => json!([{(INTROSPECTION): []}, {(ADMIN): []}]),
            Access::Bearer => json!([{(TOKEN): []}]),
            // The empty object makes Basic optional.
            _ if self.accepts_basic => json!([{}, {(BASIC): []}]),
            _ => json!([]),
        };
        let parameters: Vec<_> = self.parameters.iter().map(Parameter::value).collect();
        without_empty(json!({
            "operationId": self.id,
            "summary": self.summary,
            "parameters": parameters,
            "requestBody": self.body.as_ref().map(RequestContent::value),
            "responses": responses,
            "security": security,
        }))
    }
}

impl Success {
    pub(crate) fn ok(media_type: &'static str, schema: Value, about: &'static str) -> Self {
        let content = Some((media_type, schema));
        Self { status: StatusCode::OK, about, content, headers: Vec::new(), links: Vec::new() }
    }

    pub(crate) fn json(schema: Value, about: &'static str) -> Self {
        Self::ok("application/json", schema, about)
    }

    /// A response without a body.
    pub(crate) fn no_content(about: &'static str) -> Self {
        Self { status: StatusCode::NO_CONTENT, about, content: None, headers: Vec::new(), links: Vec::new() }
    }

    /// Adds the header of responses that caches may keep.
    pub(crate) fn cacheable(mut self) -> Self {
        self.headers.push(CACHE_CONTROL);
        self
    }

    /// The Response Object. `access` is that of the endpoint, if it belongs to one.
    fn value(&self, access: Option<Access>) -> Value {
        let readable: &[HeaderName] = match access {
            Some(Access::Public | Access::Probe) => {
                &[ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS]
            }
            _ => &[],
        };
        let entry = |name: &HeaderName| (name.to_string(), header(name));
        let mut headers: BTreeMap<_, _> =
            self.headers.iter().chain(readable).map(entry).chain([entry(&REQUEST_ID)]).collect();
        if access.is_some_and(|access| access != Access::Public) {
            // Replaces the general description of the header.
            let no_store = required("Caches must not keep it", &json!({"const": "no-store"}));
            headers.insert(CACHE_CONTROL.to_string(), no_store);
        }
        let content: BTreeMap<_, _> =
            self.content.iter().map(|(media_type, schema)| (media_type, json!({"schema": schema}))).collect();
        let links: BTreeMap<_, _> = self.links.iter().cloned().collect();
        without_empty(
            json!({"description": self.about, "content": content, "headers": headers, "links": links}),
        )
    }
}

impl Parameter {
    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "in": self.location,
            // OpenAPI requires path parameters to be marked as required.
            "required": self.location == ParameterLocation::Path,
            "description": self.about,
            "schema": self.schema,
        })
    }
}

impl RequestContent {
    fn value(&self) -> Value {
        let content: BTreeMap<_, _> = self.content.iter().cloned().collect();
        json!({"required": self.is_required, "content": content})
    }
}

/// The responses with these error codes, by status. `access` is that of their endpoint, if they belong to one.
pub(super) fn error_responses(
    codes: &[ErrorCode],
    access: Option<Access>,
    types: &mut Types,
) -> Map<String, Value> {
    let mut by_status: BTreeMap<StatusCode, Vec<ErrorCode>> = BTreeMap::new();
    for code in codes {
        // OpenAPI allows one response per status, so the codes of a status share it.
        by_status.entry(code.status()).or_default().push(*code);
    }
    let error = types.written::<ErrorBody>();
    let value = |(status, codes): (StatusCode, Vec<ErrorCode>)| {
        let schema = json!({"allOf": [error, {"properties": {"code": {"enum": codes}}}]});
        let response = Success {
            status,
            about: status.canonical_reason().unwrap_or_default(),
            content: Some(("application/json", schema)),
            // Every code of one status has the same header.
            headers: codes.first().and_then(|code| code.header()).into_iter().collect(),
            links: Vec::new(),
        };
        (status.as_str().to_owned(), response.value(access))
    };
    by_status.into_iter().map(value).collect()
}

fn header(name: &HeaderName) -> Value {
    let text = |pattern: &str| json!({"type": "string", "pattern": pattern});
    let (about, schema) = match *name {
        ACCESS_CONTROL_ALLOW_ORIGIN => {
            ("Pages of every origin may read it", json!({"type": "string", "const": "*"}))
        }
        ACCESS_CONTROL_EXPOSE_HEADERS => {
            ("Pages may read these headers, too", json!({"type": "string", "const": "ETag"}))
        }
        ALLOW => ("The methods of the path", text("^[A-Z]+(,[A-Z]+)*$")),
        CACHE_CONTROL => ("How long caches may keep it", text("^(no-store|public, max-age=[0-9]+)$")),
        ETAG => ("The version, for If-None-Match", text("^\"[^\"]+\"$")),
        RETRY_AFTER => ("Whole seconds", json!({"type": "integer", "minimum": 1})),
        WWW_AUTHENTICATE => ("The challenge", text("^(Basic|Bearer|Password) ")),
        _ if *name == X_AUTH_SUBJECT => ("The `sub` of the token, percent-encoded", text("^[!-~]*$")),
        _ if *name == X_AUTH_UID => ("The `uid` of the token", json!({"type": "integer"})),
        _ => ("The id of the request in the server's log", text("^[A-Za-z0-9._:+/=-]{1,128}$")),
    };
    required(about, &schema)
}

fn required(about: &str, schema: &Value) -> Value {
    json!({"required": true, "description": about, "schema": schema})
}

fn without_empty(mut object: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.retain(|_, member| *member != Value::Null && *member != json!([]) && *member != json!({}));
    }
    object
}
