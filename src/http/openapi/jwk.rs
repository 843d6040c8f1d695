//! The schemas that no type of ours says: public keys as JWKs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::domain::jose::algorithm::{Algorithm, Curve, KeyType};

const BASE64URL: &str = "^[A-Za-z0-9_-]+$";

/// A JWK Set as it is published: our keys, and those of others.
pub(super) fn published_set() -> Value {
    let number = json!({"type": "string", "pattern": BASE64URL});
    let (curve, edwards) = (json!({"enum": Curve::ALL.map(Curve::name)}), json!({"const": "Ed25519"}));
    let keys = [
        jwk("RSA", |kind| kind == KeyType::Rsa, &[("n", &number), ("e", &number)]),
        jwk("EC", |kind| matches!(kind, KeyType::Ec(_)), &[("crv", &curve), ("x", &number), ("y", &number)]),
        jwk("OKP", |kind| kind == KeyType::Ed25519, &[("crv", &edwards), ("x", &number)]),
    ];
    json!({
        "type": "object",
        "required": ["keys"],
        "properties": {"keys": {"type": "array", "minItems": 1, "items": {"oneOf": keys}}},
    })
}

fn jwk(kty: &str, is_kind: impl Fn(KeyType) -> bool, numbers: &[(&str, &Value)]) -> Value {
    let of_kind = Algorithm::ALL.into_iter().filter(|algorithm| is_kind(algorithm.key_type()));
    let algorithms: Vec<_> = of_kind.map(Algorithm::name).collect();
    let said = [
        ("kty", &json!({"const": kty})),
        ("use", &json!({"const": "sig"})),
        ("alg", &json!({"enum": algorithms})),
        ("kid", &json!({"type": "string"})),
    ];
    let properties: BTreeMap<_, _> = said.iter().chain(numbers).copied().collect();
    let required: Vec<_> = properties.keys().collect();
    json!({"type": "object", "required": required, "properties": properties})
}

/// A JWK or a JWK Set as somebody uploads it. Whether its numbers are a key, no schema can say.
pub(super) fn upload() -> Value {
    let key = json!({
        "type": "object",
        "required": ["kty", "kid"],
        "properties": {
            "kty": {"enum": ["RSA", "EC", "OKP"], "description": "The numbers that belong to it: RFC 7518, 6; RFC 8037, 2"},
            "kid": {"type": "string", "pattern": "^[!-~]{1,256}$"},
            "exp": {
                "type": "integer",
                "minimum": 1,
                "description": "Until when it is published, in seconds since 1970",
            },
        },
    });
    let set = json!({
        "type": "object",
        "required": ["keys"],
        "properties": {"keys": {"type": "array", "minItems": 1, "items": key}},
    });
    json!({"anyOf": [set, key]})
}
