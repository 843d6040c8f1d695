//! One operation: what it takes, answers and refuses, and how OpenAPI 3.1 writes that.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, ETAG, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE,
};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::http::error::{Body as Refusal, ErrorCode};
use crate::http::request_log::HEADER as REQUEST_ID;

/// The names of the security schemes.
pub(super) const ADMIN: &str = "admin";
pub(super) const BASIC: &str = "basic";

/// What one method of one path does.
pub(super) struct Operation {
    /// What generated clients call it.
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) access: Access,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<Body>,
    pub(super) answers: Vec<Answer>,
    pub(super) refusals: Vec<ErrorCode>,
}

/// Who may ask.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Whoever has `ADMIN_TOKEN`.
    Admin,
    /// Anybody; what is answered is for everybody.
    Anybody,
    /// Anybody, who may say by HTTP Basic who he is; what is answered is for him alone.
    Named,
    /// Anybody; what is answered is for him alone.
    Private,
}

/// What stands in the path, in the query or in a header.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) place: Place,
    pub(super) about: &'static str,
    pub(super) schema: Value,
}

/// Where a parameter stands.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Place {
    Header,
    Path,
    Query,
}

/// What stands in the body.
pub(super) struct Body {
    pub(super) is_required: bool,
    /// Media types, and what they look like.
    pub(super) content: Vec<(&'static str, Value)>,
}

/// How a wish is granted.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) about: &'static str,
    /// Its media type and schema; nothing for an empty body.
    pub(super) content: Option<(&'static str, Value)>,
    pub(super) headers: Vec<HeaderName>,
    /// What may be asked next, by the name of the link.
    pub(super) links: Vec<(&'static str, Value)>,
}

/// Schemas of what is read and of what is written: the same type may be looser in one direction.
pub(super) struct Types {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Default for Types {
    fn default() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
        });
        Self { read: settings.clone().into_generator(), written: settings.for_serialize().into_generator() }
    }
}

impl Types {
    /// A reference to the schema of a type that is read.
    pub(super) fn read<T: JsonSchema>(&mut self) -> Value {
        self.read.subschema_for::<T>().into()
    }

    /// A reference to the schema of a type that is written.
    pub(super) fn written<T: JsonSchema>(&mut self) -> Value {
        self.written.subschema_for::<T>().into()
    }

    /// All that was referred to.
    pub(super) fn schemas(mut self) -> Map<String, Value> {
        let mut schemas = self.read.take_definitions(true);
        schemas.append(&mut self.written.take_definitions(true));
        schemas
    }
}

impl Answer {
    pub(super) fn ok(media_type: &'static str, schema: Value, about: &'static str) -> Self {
        let content = Some((media_type, schema));
        Self { status: StatusCode::OK, about, content, headers: Vec::new(), links: Vec::new() }
    }

    pub(super) fn json(schema: Value, about: &'static str) -> Self {
        Self::ok("application/json", schema, about)
    }

    /// It may be kept by anybody for a while, and read by any page.
    pub(super) fn published(mut self) -> Self {
        self.headers.extend([ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL]);
        self
    }

    fn value(&self, is_private: bool) -> Value {
        let mut headers: BTreeMap<_, _> =
            self.headers.iter().chain([&REQUEST_ID]).map(|name| (name.to_string(), header(name))).collect();
        if is_private {
            let never = required("Nobody may keep it", &json!({"const": "no-store"}));
            headers.insert(CACHE_CONTROL.to_string(), never);
        }
        let content: BTreeMap<_, _> =
            self.content.iter().map(|(media_type, schema)| (media_type, json!({"schema": schema}))).collect();
        let links: BTreeMap<_, _> = self.links.iter().cloned().collect();
        without_empty(
            json!({"description": self.about, "content": content, "headers": headers, "links": links}),
        )
    }
}

impl Operation {
    /// It as an Operation Object.
    pub(super) fn value(&self, types: &mut Types) -> Value {
        let is_private = self.access != Access::Anybody;
        let mut responses = refusals(&self.refusals, is_private, types);
        for answer in &self.answers {
            responses.insert(answer.status.as_str().to_owned(), answer.value(is_private));
        }
        let security = match self.access {
            Access::Admin => json!([{(ADMIN): []}]),
            Access::Named => json!([{}, {(BASIC): []}]),
            Access::Anybody | Access::Private => json!([]),
        };
        let parameters: Vec<_> = self.parameters.iter().map(Parameter::value).collect();
        without_empty(json!({
            "operationId": self.id,
            "summary": self.summary,
            "parameters": parameters,
            "requestBody": self.body.as_ref().map(Body::value),
            "responses": responses,
            "security": security,
        }))
    }
}

impl Parameter {
    fn value(&self) -> Value {
        json!({
            "name": self.name,
            "in": self.place,
            "required": self.place == Place::Path,
            "description": self.about,
            "schema": self.schema,
        })
    }
}

impl Body {
    fn value(&self) -> Value {
        let content: BTreeMap<_, _> = self.content.iter().cloned().collect();
        json!({"required": self.is_required, "content": content})
    }
}

/// The answers of these codes, by status.
pub(super) fn refusals(codes: &[ErrorCode], is_private: bool, types: &mut Types) -> Map<String, Value> {
    let mut by_status: BTreeMap<StatusCode, Vec<ErrorCode>> = BTreeMap::new();
    for code in codes {
        by_status.entry(code.status()).or_default().push(*code);
    }
    let refusal = types.written::<Refusal>();
    let value = |(status, codes): (StatusCode, Vec<ErrorCode>)| {
        let schema = json!({"allOf": [refusal, {"properties": {"code": {"enum": codes}}}]});
        let answer = Answer {
            status,
            about: status.canonical_reason().unwrap_or_default(),
            content: Some(("application/json", schema)),
            headers: codes.first().and_then(|code| code.header()).into_iter().collect(),
            links: Vec::new(),
        };
        (status.as_str().to_owned(), answer.value(is_private))
    };
    by_status.into_iter().map(value).collect()
}

fn header(name: &HeaderName) -> Value {
    let text = |pattern: &str| json!({"type": "string", "pattern": pattern});
    let (about, schema) = match *name {
        ACCESS_CONTROL_ALLOW_ORIGIN => ("Any page may read it", json!({"type": "string", "const": "*"})),
        ALLOW => ("The methods that the path knows", text("^[A-Z]+(,[A-Z]+)*$")),
        CACHE_CONTROL => ("How long it may be kept", text("^(no-store|public, max-age=[0-9]+)$")),
        ETAG => ("Its version, for If-None-Match", text("^\"[^\"]+\"$")),
        RETRY_AFTER => ("Whole seconds", json!({"type": "integer", "minimum": 1})),
        WWW_AUTHENTICATE => ("The challenge", text("^(Basic|Bearer|Password) ")),
        _ => ("The name of the request in our log", text("^[A-Za-z0-9._:+/=-]{1,128}$")),
    };
    required(about, &schema)
}

fn required(about: &str, schema: &Value) -> Value {
    json!({"required": true, "description": about, "schema": schema})
}

/// Members that say nothing are left out.
fn without_empty(mut object: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.retain(|_, member| *member != Value::Null && *member != json!([]) && *member != json!({}));
    }
    object
}
