//! Secret types: what they print, serialize and leave in memory.

use jwksd_core::issuer::{self, MasterKey};
use jwksd_core::key::SigningKey;
use jwksd_core::key::seal::{MasterSecret, Sealer};
use jwksd_core::password::{CredentialCache, Password, PasswordHash};
use jwksd_core::setting::Secret;
use jwksd_http::{AuthMode, ClientIpHeader, ClientIpPolicy, HttpConfig, Registration, SecretToken};
use jwksd_jose::json::SecretJson;
use jwksd_jose::private_key::{PrivateJwk, PrivateKey};
use jwksd_store_sqlite::Contents;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::helpers::{MASTER_KEY, MINUTE, TestApp, database_file};

/// Compiles only for types that do not implement `Serialize`.
macro_rules! expect_no_serialize {
    ($($secret:ty),+) => {$({
        trait Ambiguous<A> {
            fn is_named() {}
        }
        struct Serializes;
        impl<T: ?Sized> Ambiguous<()> for T {}
        impl<T: ?Sized + serde::Serialize> Ambiguous<Serializes> for T {}
        <$secret as Ambiguous<_>>::is_named();
    })+};
}

#[test]
fn secret_types_do_not_implement_serialize() {
    expect_no_serialize!(
        SecretToken,
        CredentialCache,
        MasterKey,
        MasterSecret,
        Password,
        PasswordHash,
        PrivateJwk,
        PrivateKey,
        Sealer,
        Secret,
        SecretJson,
        SigningKey
    );
}

#[test]
fn the_buffers_of_secrets_are_wiped_on_drop() {
    fn expect_wiped<T: ZeroizeOnDrop>() {}
    // Bodies, passwords and settings; private keys; the sealer. Each depends on a feature of its crate.
    expect_wiped::<Zeroizing<Vec<u8>>>();
    expect_wiped::<Zeroizing<String>>();
    expect_wiped::<rsa::pkcs8::SecretDocument>();
    expect_wiped::<aes_gcm::Aes256Gcm>();
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let app = TestApp::spawn().await;
    let Contents::Ours(record) = database_file(&app.dir).probe().await.unwrap().contents else {
        panic!("the store has a master key");
    };
    let master_key = issuer::unlock(&MasterSecret::parse(MASTER_KEY).unwrap(), record).unwrap();
    assert!(format!("{master_key:?}").starts_with("MasterKey { sealer: Sealer, record: "));
    assert_eq!(
        format!("{:?}", CredentialCache::new(MINUTE, &mut StdRng::seed_from_u64(1))),
        "CredentialCache"
    );
    assert_eq!(format!("{:?}", SecretJson::parse(br#"{"d":"hunter2"}"#).unwrap()), "SecretJson");
    let settings = HttpConfig {
        max_age: MINUTE,
        max_silence: std::time::Duration::ZERO,
        auth_mode: AuthMode::Password,
        registration: Registration::Open,
        client_ip: ClientIpPolicy { trusted: Vec::new(), header: ClientIpHeader::XForwardedFor },
        browsers: jwksd_http::BrowserConfig::default(),
        admin_token: Some(SecretToken::new("hunter2")),
        introspect_token: Some(SecretToken::new("hunter2")),
    };
    assert!(
        format!("{settings:?}")
            .ends_with("admin_token: Some(SecretToken), introspect_token: Some(SecretToken) }")
    );
}
