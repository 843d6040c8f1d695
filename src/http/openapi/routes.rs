//! Every route, in the order of the router, and what it takes, answers and refuses.

use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, ETAG};
use serde_json::{Value, json};

use super::jwk;
use super::operation::{Access, Answer, Body, Operation, Parameter, Place, Types};
use crate::domain::token::fault::Fault;
use crate::http::error::ErrorCode;
use crate::http::{AUTH, AuthMode, JWKS, auth, credentials, discovery, health, keys, open, register};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// Of every operation that needs the store.
const STORE: [ErrorCode; 2] = [ErrorCode::Internal, ErrorCode::Unavailable];

/// Of every operation of the admin surface.
const ADMIN: [ErrorCode; 3] = [ErrorCode::AdminClosed, ErrorCode::InvalidAdminToken, ErrorCode::RateLimited];

/// A key that may be uploaded (RFC 8037, A.2).
const EXAMPLE_X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

pub(super) fn all(mode: AuthMode, types: &mut Types) -> Vec<(&'static str, &'static str, Operation)> {
    vec![
        (JWKS[0], "get", jwks("jwks")),
        (JWKS[1], "get", jwks("jwksAlias")),
        ("/.well-known/openid-configuration", "get", discovery("openidConfiguration", types)),
        ("/.well-known/oauth-authorization-server", "get", discovery("oauthAuthorizationServer", types)),
        ("/faults", "get", faults(types)),
        ("/keys", "get", list_keys(types)),
        ("/openapi.json", "get", openapi()),
        ("/healthz", "get", health("alive", "Whether the process answers", &[], types)),
        ("/readyz", "get", health("ready", "Whether it can do its work", &[ErrorCode::NotReady], types)),
        (
            AUTH,
            "post",
            match mode {
                AuthMode::Open => issue_to_anybody(types),
                AuthMode::Password => sign_in(types),
            },
        ),
        ("/register", "post", register(mode, types)),
        ("/metrics", "get", metrics()),
        ("/upload", "post", upload(types)),
        ("/keys/{kid}", "delete", withdraw(types)),
    ]
}

fn jwks(id: &'static str) -> Operation {
    let mut whole = Answer::json(jwk::published_set(), "All keys that verify now").published();
    whole.headers.push(ETAG);
    let known = Answer {
        status: StatusCode::NOT_MODIFIED,
        about: "The caller has this version",
        content: None,
        headers: whole.headers.clone(),
        links: Vec::new(),
    };
    let if_none_match = Parameter {
        name: "If-None-Match",
        place: Place::Header,
        about: "Entity tags of versions that the caller has",
        schema: json!({"type": "string"}),
    };
    Operation {
        id,
        summary: "The public halves of all unexpired keys (RFC 7517)",
        access: Access::Anybody,
        parameters: vec![if_none_match],
        body: None,
        answers: vec![whole, known],
        refusals: vec![ErrorCode::NoKey, ErrorCode::Internal],
    }
}

fn discovery(id: &'static str, types: &mut Types) -> Operation {
    let metadata = types.written::<discovery::Metadata<'static>>();
    Operation {
        answers: vec![Answer::json(metadata, "The issuer, and where its keys are").published()],
        ..plain(id, "What a verifier needs to configure itself (OpenID Connect Discovery 1.0; RFC 8414)")
    }
}

fn faults(types: &mut Types) -> Operation {
    let faults = Answer::json(types.written::<open::Listing>(), "All that `?fault=` knows");
    Operation { answers: vec![faults], ..plain("faults", "The ways in which a token can be wrong") }
}

fn list_keys(types: &mut Types) -> Operation {
    let keys = Answer::json(types.written::<keys::Listing>(), "Ours, and those of others");
    Operation { answers: vec![keys], ..plain("listKeys", "What is published: kid, phase, exp") }
}

fn openapi() -> Operation {
    let document = json!({"type": "object", "required": ["openapi", "info", "paths", "components"]});
    let answer = Answer::json(document, "An OpenAPI document of version 3.1").published();
    Operation { answers: vec![answer], ..plain("openapi", "This document") }
}

fn health(id: &'static str, summary: &'static str, refusals: &[ErrorCode], types: &mut Types) -> Operation {
    let mut answer = Answer::json(types.written::<health::Answer>(), "All is well");
    answer.headers.push(CACHE_CONTROL);
    Operation { answers: vec![answer], refusals: refusals.to_vec(), ..plain(id, summary) }
}

fn sign_in(types: &mut Types) -> Operation {
    let credentials = json!({"schema": types.read::<credentials::Fields>()});
    let mut refusals = vec![
        ErrorCode::InvalidBody,
        ErrorCode::InvalidExpired,
        ErrorCode::InvalidFault,
        ErrorCode::InvalidCredentials,
        ErrorCode::FaultsClosed,
        ErrorCode::NoSuitableKey,
        ErrorCode::BodyTooLarge,
        ErrorCode::BodyTooSlow,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::RateLimited,
    ];
    refusals.extend(STORE);
    Operation {
        id: "signIn",
        summary: "A token for whoever knows the password of an account",
        access: Access::Named,
        parameters: vec![expired()],
        body: Some(Body {
            is_required: false,
            content: vec![(JSON, credentials.clone()), (FORM, credentials)],
        }),
        answers: vec![Answer::json(types.written::<auth::Answer>(), "A token")],
        refusals,
    }
}

fn issue_to_anybody(types: &mut Types) -> Operation {
    let example =
        json!({"sub": "alice", "aud": "https://api.example", "ttl": "5m", "claims": {"roles": ["admin"]}});
    let wish = json!({"schema": types.read::<open::Fields>(), "example": example});
    let form = json!({"schema": types.read::<open::Form>()});
    let fault = Parameter {
        name: "fault",
        place: Place::Query,
        about: "What is to be wrong with the token: GET /faults. It does not go with `expired`",
        schema: json!({"type": "string", "enum": Fault::ALL.map(Fault::name)}),
    };
    let mut refusals = vec![
        ErrorCode::InvalidBody,
        ErrorCode::InvalidExpired,
        ErrorCode::InvalidFault,
        ErrorCode::NoSuitableKey,
        ErrorCode::BodyTooLarge,
        ErrorCode::BodyTooSlow,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::RateLimited,
    ];
    refusals.extend(STORE);
    Operation {
        id: "issueToAnybody",
        summary: "A token for anybody, about anybody, also one that a good verifier refuses",
        access: Access::Named,
        parameters: vec![expired(), fault],
        body: Some(Body { is_required: false, content: vec![(JSON, wish), (FORM, form)] }),
        answers: vec![Answer::json(types.written::<auth::Answer>(), "A token")],
        refusals,
    }
}

fn expired() -> Parameter {
    Parameter {
        name: "expired",
        place: Place::Query,
        about: "Whether the token is to have expired, signed by a key that has too. Without a value: yes",
        schema: json!({"type": "string", "enum": ["", "true", "false"]}),
    }
}

fn register(mode: AuthMode, types: &mut Types) -> Operation {
    let mut answer = Answer::json(types.written::<register::Answer<'static>>(), "The account is made");
    answer.status = StatusCode::CREATED;
    if mode == AuthMode::Password {
        answer.links.push(("signIn", sign_in_next()));
    }
    let example = json!({"username": "alice", "email": "alice@example.com"});
    let wish = json!({"schema": types.read::<register::RegisterRequest>(), "example": example});
    let mut refusals = vec![
        ErrorCode::InvalidBody,
        ErrorCode::InvalidUsername,
        ErrorCode::InvalidEmail,
        ErrorCode::RegistrationClosed,
        ErrorCode::UsernameTaken,
        ErrorCode::EmailTaken,
        ErrorCode::BodyTooLarge,
        ErrorCode::BodyTooSlow,
        ErrorCode::UnsupportedMediaType,
        ErrorCode::RateLimited,
    ];
    refusals.extend(STORE);
    Operation {
        id: "register",
        summary: "An account with a random password, which is shown this once",
        access: Access::Private,
        parameters: Vec::new(),
        body: Some(Body { is_required: true, content: vec![(JSON, wish)] }),
        answers: vec![answer],
        refusals,
    }
}

fn sign_in_next() -> Value {
    json!({
        "operationId": "signIn",
        "requestBody": {"username": "$request.body#/username", "password": "$response.body#/password"},
    })
}

fn metrics() -> Operation {
    let text = json!({"type": "string"});
    let mut refusals = ADMIN.to_vec();
    refusals.push(ErrorCode::Internal);
    Operation {
        access: Access::Admin,
        answers: vec![Answer::ok("text/plain; version=0.0.4", text, "In the Prometheus text format")],
        refusals,
        ..plain("metrics", "What the service does, in figures")
    }
}

fn upload(types: &mut Types) -> Operation {
    let key = json!({"kty": "OKP", "crv": "Ed25519", "x": EXAMPLE_X, "kid": "example"});
    let keys = json!({"schema": jwk::upload(), "example": key});
    let file = json!({"type": "string", "contentMediaType": JSON});
    let form = json!({"schema": {
        "type": "object",
        "required": ["file"],
        "properties": {"file": file},
        "additionalProperties": false,
    }});
    let mut answer = Answer::json(types.written::<keys::Done>(), "They are published");
    answer.status = StatusCode::CREATED;
    let kid = json!({"kid": "$request.body#/kid"});
    answer.links.push(("withdraw", json!({"operationId": "withdrawKey", "parameters": kid})));
    let mut refusals = ADMIN.to_vec();
    refusals.extend([
        ErrorCode::InvalidBody,
        ErrorCode::InvalidJwk,
        ErrorCode::KidTaken,
        ErrorCode::BodyTooLarge,
        ErrorCode::BodyTooSlow,
    ]);
    refusals.extend(STORE);
    Operation {
        access: Access::Admin,
        body: Some(Body {
            is_required: true,
            content: vec![
                (JSON, keys.clone()),
                ("application/jwk-set+json", keys),
                ("multipart/form-data", form),
            ],
        }),
        answers: vec![answer],
        refusals,
        ..plain("upload", "Publishes public keys of others beside ours")
    }
}

fn withdraw(types: &mut Types) -> Operation {
    let kid = Parameter {
        name: "kid",
        place: Place::Path,
        about: "What tokens call the key",
        schema: json!({"type": "string", "minLength": 1}),
    };
    let mut refusals = ADMIN.to_vec();
    refusals.push(ErrorCode::UnknownKey);
    refusals.extend(STORE);
    Operation {
        access: Access::Admin,
        parameters: vec![kid],
        answers: vec![Answer::json(types.written::<keys::Done>(), "It is withdrawn")],
        refusals,
        ..plain("withdrawKey", "Takes back a key of others")
    }
}

/// For anybody, without parameters, a body or refusals.
fn plain(id: &'static str, summary: &'static str) -> Operation {
    Operation {
        id,
        summary,
        access: Access::Anybody,
        parameters: Vec::new(),
        body: None,
        answers: Vec::new(),
        refusals: Vec::new(),
    }
}
