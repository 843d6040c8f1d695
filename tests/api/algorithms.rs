//! Keys of every algorithm, from their creation to their end, and changes from one to another.

use std::time::Duration;

use jwksd_core::issuer::Keyring;
use jwksd_core::key::lifecycle::{Phase, RotationPolicy};
use jwksd_core::key::{KeyProfile, KeySpec, Kid, KidFormat, RsaBits};
use jwksd_http::AuthMode;
use jwksd_jose::algorithm::Algorithm;
use jwksd_jose::jwk::Jwk;
use jwksd_jose::private_key::{NewKey, PrivateKey};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::helpers::{
    DAY, HOUR, MASTER_KEY, MINUTE, Setup, TestApp, TestResponse, context, decode, master_key, verify,
};

const ADMIN: &str = "0123456789abcdef0123456789abcdef";

const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::EdDsa,
];

pub(crate) fn spec(algorithm: Algorithm) -> KeySpec {
    KeySpec { profile: KeyProfile { algorithm, ..KeyProfile::default() }, ..KeySpec::default() }
}

fn with_thumbprint(algorithm: Algorithm) -> KeySpec {
    let profile = KeyProfile { algorithm, kid_format: KidFormat::Thumbprint };
    KeySpec { profile, ..KeySpec::default() }
}

async fn app(spec: KeySpec) -> TestApp {
    let setup = Setup { auth_mode: AuthMode::Open, admin_token: Some(ADMIN), spec, ..Setup::default() };
    TestApp::with(setup).await
}

/// The keyring of another process on the same store, with other settings of new keys.
async fn other_process(app: &TestApp, spec: KeySpec) -> Keyring {
    let context = context(&app.dir, &app.clock).await;
    let master_key = master_key(MASTER_KEY, &context).await;
    Keyring::open(context, master_key, Setup::default().policy, spec).await.unwrap()
}

async fn token(app: &TestApp, query: &str) -> String {
    TestResponse::send(app.post(&format!("/auth{query}"))).await.token()
}

/// The `kid` and the `alg` of each published key.
async fn published(app: &TestApp) -> Vec<(String, String)> {
    let keys = app.get("/jwks").await.json["keys"].as_array().unwrap().clone();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    keys.iter().map(|key| (text(&key["kid"]), text(&key["alg"]))).collect()
}

fn algorithm(token: &str) -> String {
    decode(token).0["alg"].as_str().unwrap().to_owned()
}

fn pair(kid: &str, alg: &str) -> (String, String) {
    (kid.to_owned(), alg.to_owned())
}

#[tokio::test]
async fn each_algorithm_signs_tokens_that_verify_through_the_jwks_and_discovery_names_it() {
    for chosen in ALGORITHMS {
        let app = app(spec(chosen)).await;
        assert_eq!(published(&app).await, [pair("1", chosen.name())]);
        let valid = token(&app, "").await;
        assert_eq!(decode(&valid).0, json!({"alg": chosen.name(), "typ": "JWT", "kid": "1"}));
        verify(&valid, &app.jwks().await).unwrap();
        let expired = token(&app, "?expired").await;
        assert_eq!(decode(&expired).0, json!({"alg": chosen.name(), "typ": "JWT", "kid": "2"}));
        let discovery = app.get("/.well-known/openid-configuration").await;
        assert_eq!(discovery.json["id_token_signing_alg_values_supported"], json!([chosen.name()]));
        assert_eq!(app.get("/readyz").await.status, 200);
    }
}

#[tokio::test]
async fn rsa_keys_have_the_chosen_size() {
    let app = app(KeySpec { rsa_bits: RsaBits::Bits3072, ..spec(Algorithm::Ps256) }).await;
    let n = app.get("/jwks").await.json["keys"][0]["n"].as_str().unwrap().len();
    assert_eq!(n, 3072 / 8 * 4 / 3);
    verify(&token(&app, "").await, &app.jwks().await).unwrap();
}

#[tokio::test]
async fn a_changed_algorithm_takes_effect_with_the_next_rotation_and_tokens_of_both_verify() {
    let app = app(spec(Algorithm::Rs256)).await;
    let old = token(&app, "").await;
    let other = other_process(&app, spec(Algorithm::Es256)).await;
    app.clock.advance(21 * HOUR);
    other.tick().await.unwrap();
    assert_eq!(other.report().len(), 2, "a setting by itself changes nothing");
    app.clock.advance(45 * MINUTE);
    other.tick().await.unwrap();
    app.keyring.tick().await.unwrap();
    assert_eq!(published(&app).await, [pair("1", "RS256"), pair("3", "ES256")]);
    let discovery = app.get("/.well-known/openid-configuration").await.json;
    assert_eq!(discovery["id_token_signing_alg_values_supported"], json!(["RS256", "ES256"]));
    let during = token(&app, "").await;
    assert_eq!(algorithm(&during), "RS256", "the new key is not known to verifiers yet");

    app.clock.advance(2 * HOUR + MINUTE);
    app.keyring.tick().await.unwrap();
    let new = token(&app, "").await;
    assert_eq!(algorithm(&new), "ES256");
    for token in [&old, &during, &new] {
        verify(token, &app.jwks().await).unwrap();
    }
    app.clock.advance(15 * MINUTE);
    app.keyring.tick().await.unwrap();
    assert_eq!(published(&app).await, [pair("3", "ES256")]);
    assert_eq!(
        algorithm(&token(&app, "?expired").await),
        "RS256",
        "the newest expired key, whatever its algorithm"
    );
}

#[tokio::test]
async fn rotate_creates_a_key_of_the_chosen_kind_although_one_of_another_kind_is_the_next() {
    let app = app(spec(Algorithm::Rs256)).await;
    app.keyring.rotate(false).await.unwrap();
    let other = other_process(&app, spec(Algorithm::EdDsa)).await;
    other.rotate(false).await.unwrap();
    app.keyring.tick().await.unwrap();
    assert_eq!(published(&app).await, [pair("1", "RS256"), pair("3", "RS256"), pair("4", "EdDSA")]);
    let refused = other.rotate(false).await.unwrap_err().to_string();
    assert!(refused.starts_with("key 4 is already the next key"), "{refused}");
    other.rotate(true).await.unwrap();
    app.keyring.tick().await.unwrap();
    let new = token(&app, "").await;
    assert_eq!(decode(&new).0, json!({"alg": "EdDSA", "typ": "JWT", "kid": "4"}));
    verify(&new, &app.jwks().await).unwrap();
}

#[tokio::test]
async fn rotate_now_signs_with_the_chosen_kind_although_one_of_another_kind_is_the_next() {
    let app = app(spec(Algorithm::Rs256)).await;
    app.keyring.rotate(false).await.unwrap();
    other_process(&app, KeySpec { rsa_bits: RsaBits::Bits3072, ..KeySpec::default() })
        .await
        .rotate(true)
        .await
        .unwrap();
    app.keyring.tick().await.unwrap();
    assert_eq!(decode(&token(&app, "").await).0["kid"], "4", "the size counts as well");
}

#[tokio::test]
async fn processes_with_different_algorithms_accept_each_others_keys() {
    let app = app(spec(Algorithm::Rs256)).await;
    let others = [
        other_process(&app, spec(Algorithm::Es384)).await,
        other_process(&app, with_thumbprint(Algorithm::EdDsa)).await,
    ];
    for step in 0..3 * 24 * 4_u32 {
        // Another one of them is the first to notice what is due.
        let mut keyrings = [&*app.keyring, &others[0], &others[1]];
        keyrings.rotate_left(usize::try_from(step % 3).unwrap());
        for keyring in keyrings {
            keyring.tick().await.unwrap();
        }
        let valid = token(&app, "").await;
        verify(&valid, &app.jwks().await).unwrap();
        app.clock.advance(15 * MINUTE);
    }
    let created = app.keyring.full_report().await.unwrap().len();
    assert!((5..=6).contains(&created), "one a day, and two at the start: {created}");
}

#[tokio::test]
async fn tokens_verify_for_their_whole_life_whatever_kinds_and_policies_follow_each_other() {
    for seed in 0..6 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut app = app(spec(Algorithm::Es256)).await;
        let mut tokens = Vec::new();
        for step in 0..40 {
            match rng.random_range(0..6) {
                0 => app = restarted(app, &mut rng).await,
                // Refused while there is a next key of that kind.
                1 => drop(app.keyring.rotate(false).await),
                2 => app.keyring.rotate(true).await.unwrap(),
                _ => {}
            }
            app.pass(MINUTE * rng.random_range(1..200)).await;
            tokens.push(token(&app, "").await);
            let jwks = app.jwks().await;
            tokens.retain(|token| decode(token).1["exp"].as_i64() > Some(app.now()));
            for token in &tokens {
                verify(token, &jwks).unwrap_or_else(|error| panic!("seed {seed}, step {step}: {error}"));
            }
            let mut algorithms: Vec<_> = published(&app).await.into_iter().map(|(_, alg)| alg).collect();
            let discovery = app.get("/.well-known/openid-configuration").await.json;
            let mut named: Vec<String> =
                serde_json::from_value(discovery["id_token_signing_alg_values_supported"].clone()).unwrap();
            algorithms.sort();
            algorithms.dedup();
            named.sort();
            assert_eq!(named, algorithms, "seed {seed}, step {step}");
            assert_eq!(app.get("/readyz").await.status, 200, "seed {seed}, step {step}");
            decode(&token(&app, "?expired").await);
        }
        assert_eq!(app.keyring.unreadable(), [], "seed {seed}");
    }
}

/// The next process on the same store, with other settings.
async fn restarted(app: TestApp, rng: &mut StdRng) -> TestApp {
    let algorithms = [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa];
    let algorithm = algorithms[rng.random_range(0..4)];
    let spec = if rng.random() { spec(algorithm) } else { with_thumbprint(algorithm) };
    let (lifetime, lead) = [(DAY, 2 * HOUR), (12 * HOUR, HOUR), (5 * HOUR, HOUR / 4), (HOUR, Duration::ZERO)]
        [rng.random_range(0..4)];
    let policy = RotationPolicy::new(lifetime, DAY, lead, MINUTE * 15, MINUTE * 5).unwrap();
    let TestApp { dir, clock, .. } = app;
    TestApp::with(Setup { auth_mode: AuthMode::Open, spec, policy, dir, clock, ..Setup::default() }).await
}

#[tokio::test]
async fn a_recorded_algorithm_that_does_not_fit_the_key_is_refused_in_words() {
    for (column, value, why) in [
        (
            "alg",
            "ES256",
            "what is recorded about it was changed: \"alg\" is \"ES256\", which does not fit an RSA key",
        ),
        ("alg", "none", "its algorithm or the form of its kid was changed in the file"),
        ("kid_format", "uuid", "its algorithm or the form of its kid was changed in the file"),
    ] {
        let app = app(spec(Algorithm::Rs256)).await;
        let sql = format!("UPDATE key_lives SET {column} = CAST('{value}' AS BLOB) WHERE kid = 1");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut app.db().await).await.unwrap();
        app.keyring.tick().await.unwrap();
        let unreadable = app.keyring.unreadable();
        assert_eq!((unreadable.len(), unreadable[0].kid), (1, Kid(1)), "{value}");
        assert!(unreadable[0].why.starts_with(why), "{}", unreadable[0].why);
        assert_eq!(published(&app).await, [pair("3", "RS256")], "another key signs");
        verify(&token(&app, "").await, &app.jwks().await).unwrap();
    }
}

#[tokio::test]
async fn a_key_is_published_under_its_thumbprint_everywhere_and_found_by_it() {
    let app = app(with_thumbprint(Algorithm::Es256)).await;
    let jwk = app.get("/jwks").await.json["keys"][0].clone();
    let kid = jwk["kid"].as_str().unwrap().to_owned();
    let key = jwksd_jose::public_key::PublicKey::from_members(jwk.as_object().unwrap()).unwrap();
    assert_eq!(kid, key.thumbprint());
    let valid = token(&app, "").await;
    assert_eq!(decode(&valid).0, json!({"alg": "ES256", "typ": "JWT", "kid": kid}));
    verify(&valid, &app.jwks().await).unwrap();
    assert_eq!(app.get("/keys").await.json["keys"][0]["kid"], json!(kid));
    assert_eq!(app.keyring.thumbprint_kids().await.unwrap()[&Kid(1)], kid);
    assert_eq!(app.keyring.find(&kid).await.unwrap(), Kid(1));
    assert_eq!(app.keyring.find("1").await.unwrap(), Kid(1));
    assert_eq!(
        app.keyring.find("x").await.unwrap_err().to_string(),
        "there is no key \"x\": use its number or its published kid, as in `jwksd keys list`"
    );
}

#[tokio::test]
async fn each_key_keeps_the_form_of_kid_that_it_was_made_with() {
    let app = app(spec(Algorithm::EdDsa)).await;
    let other = other_process(&app, with_thumbprint(Algorithm::EdDsa)).await;
    other.rotate(false).await.unwrap();
    app.keyring.tick().await.unwrap();
    let [number, thumbprint] = <[_; 2]>::try_from(published(&app).await).unwrap();
    assert_eq!((number.0.as_str(), thumbprint.0.len()), ("1", 43));
    app.clock.advance(2 * HOUR + MINUTE);
    app.keyring.tick().await.unwrap();
    let new = token(&app, "").await;
    assert_eq!(decode(&new).0["kid"], json!(thumbprint.0));
    verify(&new, &app.jwks().await).unwrap();
    // A process with the other setting creates the successor.
    app.clock.advance(DAY - HOUR);
    app.keyring.tick().await.unwrap();
    assert_eq!(published(&app).await.last().unwrap().0, "4");
}

async fn upload(app: &TestApp, jwk: &Value) -> TestResponse {
    TestResponse::send(app.post("/upload").bearer_auth(ADMIN).body(jwk.to_string())).await
}

#[tokio::test]
async fn an_external_key_cannot_take_the_thumbprint_of_a_key_of_ours() {
    let app = app(with_thumbprint(Algorithm::EdDsa)).await;
    let ours = app.get("/jwks").await.json["keys"][0].clone();
    let answer = upload(&app, &ours).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json["message"]),
        (201, &json!("0 added, 1 left as they are"))
    );

    let kid = ours["kid"].as_str().unwrap();
    let mut renamed = ours.clone();
    for (name, sentence) in [
        ("theirs", "The keys cannot be published: the key \"theirs\" is our own key 1"),
        ("1", "The keys cannot be published: the key \"1\" is our own key 1"),
    ] {
        renamed["kid"] = json!(name);
        upload(&app, &renamed).await.expect_error(400, "invalid_jwk", sentence);
    }
    let theirs = PrivateKey::generate(NewKey::Ed25519).unwrap();
    let theirs = json!(Jwk::new(theirs.public().clone(), kid.to_owned(), Algorithm::EdDsa).unwrap());
    let sentence = format!(
        "The keys cannot be published: the kid {kid:?} is the thumbprint of a key of our own, and this is another key"
    );
    upload(&app, &theirs).await.expect_error(400, "invalid_jwk", &sentence);
    assert_eq!(published(&app).await, [pair(kid, "EdDSA")]);
}

#[tokio::test]
async fn an_imported_key_cannot_take_the_kid_of_an_external_key() {
    let app = app(with_thumbprint(Algorithm::EdDsa)).await;
    let [imported, theirs] = [(); 2].map(|()| PrivateKey::generate(NewKey::Ed25519).unwrap());
    let kid = imported.public().thumbprint();
    let external = json!(Jwk::new(theirs.public().clone(), kid.clone(), Algorithm::EdDsa).unwrap());
    assert_eq!(upload(&app, &external).await.status, 201);
    assert_eq!(
        app.keyring.import(&imported).await.unwrap_err().to_string(),
        format!("an external key has the kid {kid:?}: withdraw that one first, with `jwksd keys withdraw`")
    );
    app.keyring.withdraw(&kid).await.unwrap();
    app.keyring.import(&imported).await.unwrap();
    assert_eq!(published(&app).await[1], pair(&kid, "EdDSA"));
}

#[tokio::test]
async fn keys_of_every_type_are_imported_and_exported_in_their_form() {
    use jwksd_jose::algorithm::Curve;
    use jwksd_jose::pem::to_stored_pem;

    let app = app(spec(Algorithm::Ps256)).await;
    for (kid, (new, algorithm)) in (3..).zip([
        (NewKey::Rsa2048, "PS256"),
        (NewKey::Ec(Curve::P256), "ES256"),
        (NewKey::Ec(Curve::P384), "ES384"),
        (NewKey::Ed25519, "EdDSA"),
    ]) {
        let key = PrivateKey::generate(new).unwrap();
        app.keyring.import(&key).await.unwrap();
        assert_eq!(*published(&app).await.last().unwrap(), pair(&kid.to_string(), algorithm));
        assert_eq!(app.keyring.export(Kid(kid)).await.unwrap(), to_stored_pem(&key).unwrap());
    }
    let p521 = PrivateKey::generate(NewKey::Ec(Curve::P521)).unwrap();
    assert_eq!(
        app.keyring.import(&p521).await.unwrap_err().to_string(),
        "jwksd does not sign with EC P-521 keys: use RSA, EC P-256, EC P-384 or Ed25519"
    );
    app.clock.advance(2 * HOUR + MINUTE);
    app.keyring.tick().await.unwrap();
    let valid = token(&app, "").await;
    assert_eq!(decode(&valid).0["kid"], "6");
    verify(&valid, &app.jwks().await).unwrap();
    assert_eq!(app.keyring.report().last().unwrap().phase, Phase::Current);
}

#[tokio::test]
async fn a_revoked_key_of_another_algorithm_signs_the_fault_of_revoked_keys() {
    let app = app(spec(Algorithm::Es384)).await;
    app.keyring.rotate(true).await.unwrap();
    app.keyring.revoke(Kid(1)).await.unwrap();
    other_process(&app, spec(Algorithm::EdDsa)).await.rotate(true).await.unwrap();
    app.keyring.tick().await.unwrap();
    assert_eq!(
        decode(&token(&app, "?fault=revoked-key").await).0,
        json!({"alg": "ES384", "typ": "JWT", "kid": "1"})
    );
    assert_eq!(algorithm(&token(&app, "").await), "EdDSA");
}
