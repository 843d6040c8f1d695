//! Schemas that are written by hand: public keys as JWKs (RFC 7517 §4), which no Rust type here describes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use jwksd_jose::algorithm::{Algorithm, Curve, KeyType};

const BASE64URL: &str = "^[A-Za-z0-9_-]+$";

/// The published JWK Set: this issuer's keys and external keys.
pub(crate) fn published_set() -> Value {
    let number = json!({"type": "string", "pattern": BASE64URL});
    let (curve, edwards) = (json!({"enum": Curve::ALL.map(Curve::name)}), json!({"const": "Ed25519"}));
    let keys = [
        jwk("RSA", |key_type| key_type == KeyType::Rsa, &[("n", &number), ("e", &number)]),
        jwk(
            "EC",
            |key_type| matches!(key_type, KeyType::Ec(_)),
            &[("crv", &curve), ("x", &number), ("y", &number)],
        ),
        jwk("OKP", |key_type| key_type == KeyType::Ed25519, &[("crv", &edwards), ("x", &number)]),
    ];
    json!({
        "type": "object",
        "required": ["keys"],
        // The JWKS is never served empty.
        "properties": {"keys": {"type": "array", "minItems": 1, "items": {"oneOf": keys}}},
    })
}

fn jwk(kty: &str, is_type: impl Fn(KeyType) -> bool, parameters: &[(&str, &Value)]) -> Value {
    let fitting = Algorithm::ALL.into_iter().filter(|algorithm| is_type(algorithm.key_type()));
    let algorithms: Vec<_> = fitting.map(Algorithm::name).collect();
    let common = [
        ("kty", &json!({"const": kty})),
        ("use", &json!({"const": "sig"})),
        ("alg", &json!({"enum": algorithms})),
        ("kid", &json!({"type": "string"})),
    ];
    let properties: BTreeMap<_, _> = common.iter().chain(parameters).copied().collect();
    let required: Vec<_> = properties.keys().collect();
    json!({"type": "object", "required": required, "properties": properties})
}

/// An uploaded JWK or JWK Set. A schema cannot tell whether the numbers in it are a valid key.
pub(crate) fn upload() -> Value {
    let key = json!({
        "type": "object",
        "required": ["kty", "kid"],
        "properties": {
            "kty": {"enum": ["RSA", "EC", "OKP"], "description": "Its parameters are those of RFC 7518 §6 and RFC 8037 §2"},
            "kid": {"type": "string", "pattern": "^[!-~]{1,256}$"},
            "exp": {
                "type": "integer",
                "minimum": 1,
                "exclusiveMaximum": 100_000_000_000_u64,
                "description": "End of its publication, in seconds since 1970",
            },
        },
    });
    let skipped = json!({
        "type": "object",
        "required": ["kty"],
        "description": "A key for another purpose or of another type, which is skipped (RFC 7517 §5)",
    });
    let set = json!({
        "type": "object",
        "required": ["keys"],
        "properties": {"keys": {"type": "array", "minItems": 1, "items": {"anyOf": [key, skipped]}}},
    });
    json!({"anyOf": [set, key]})
}
