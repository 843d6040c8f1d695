//! What editors, shells and copying put around `NOT_MY_KEY`.

use std::fs;
use std::path::Path;

use crate::support::{Server, run};
use crate::{DB, db, dir, get, stderr};

const KEY: &str = "g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzl_XxhHHw=";
const HEX: &str = "f015736f133968ea16f0f2d0e24859e4f713d8205c89e139a6102880a4b883a7";
const WRAPPED: &str = "has other characters, such as quotes, around or between 32 encoded bytes, and is a passphrase with \
                       them: remove them";

/// Status and standard error of `keys list` with this content of a key file.
fn with_file(dir: &Path, content: &[u8]) -> (i32, String) {
    fs::write(dir.join("master.key"), content).unwrap();
    let output = run(dir, &["keys", "list"], &[("NOT_MY_KEY_FILE", "master.key"), ("RUST_LOG", "off")], "");
    (output.status.code().unwrap(), stderr(&output))
}

#[tokio::test]
async fn white_space_and_a_byte_order_mark_around_the_master_key_do_not_count() {
    for key in [KEY, HEX, "correct horse battery staple"] {
        let dir = dir();
        let server = Server::start(dir.path(), &[("NOT_MY_KEY", key)]);
        let jwks = get(&server, "/jwks").await;
        drop(server);
        for (before, after) in [("\u{feff}", "\n"), (" ", " \r\n"), ("\u{a0}\t", "\u{200b}\n\n"), ("\n", "")]
        {
            let text = format!("{before}{key}{after}");
            assert_eq!(with_file(dir.path(), text.as_bytes()).0, 0, "{text:?}");
            // One encoding is enough for the other sources.
            if key != KEY {
                continue;
            }
            let server = Server::start(dir.path(), &[("NOT_MY_KEY", &text)]);
            assert_eq!(get(&server, "/jwks").await, jwks, "{text:?}");
            drop(server);
            let quoted = text.replace(['\n', '\r'], "");
            fs::write(dir.path().join(".env"), format!("NOT_MY_KEY=\"{quoted}\"\n")).unwrap();
            drop(Server::start(dir.path(), &[]));
            fs::remove_file(dir.path().join(".env")).unwrap();
        }
    }
}

#[test]
fn other_characters_around_an_encoded_key_are_refused_at_a_first_start() {
    for key in [KEY, HEX] {
        for text in [
            format!("\"{key}\""),
            format!("'{key}'\n"),
            format!("“{key}”"),
            format!("b'{key}'"),
            format!("b\"{key}\"\n"),
            format!("{key};"),
            format!("NOT_MY_KEY={key}"),
            format!("export NOT_MY_KEY=\"{key}\"\n"),
            format!("{} {}", &key[..20], &key[20..]),
        ] {
            let dir = dir();
            let message = format!("jwksd: NOT_MY_KEY {WRAPPED}\n");
            assert_eq!(with_file(dir.path(), text.as_bytes()), (2, message.clone()), "{text}");
            let output = run(dir.path(), &["serve"], &[("NOT_MY_KEY", &text), ("PORT", "0")], "");
            assert_eq!((output.status.code(), stderr(&output)), (Some(2), message.clone()), "{text}");
            let output = run(dir.path(), &["doctor"], &[("NOT_MY_KEY", &text), ("PORT", "0")], "");
            let found = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.code() == Some(2) && found.contains(WRAPPED), "{found}");
            assert!(!dir.path().join(DB).exists(), "nothing is created");
        }
        // dotenv removes the quotes of b'…' and leaves the b.
        let dir = dir();
        fs::write(dir.path().join(".env"), format!("NOT_MY_KEY=b'{key}'\n")).unwrap();
        let output = run(dir.path(), &["serve"], &[("PORT", "0")], "");
        assert_eq!(
            (output.status.code(), stderr(&output)),
            (Some(2), format!("jwksd: NOT_MY_KEY {WRAPPED}\n"))
        );
    }
}

#[test]
fn a_key_in_the_notation_of_a_program_is_refused_at_a_first_start_and_a_long_passphrase_is_not() {
    let upper = HEX.to_uppercase();
    let bytes = |separator: &str| {
        HEX.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap()).collect::<Vec<_>>().join(separator)
    };
    for text in [
        format!("\\x{HEX}"),
        format!("0x{HEX}"),
        format!("{upper}h"),
        format!("H'{upper}'"),
        format!("x'{HEX}'"),
        format!("hex:{HEX}"),
        format!("base64:{KEY}"),
        format!("base64-{}", KEY.trim_end_matches('=')),
        format!("{{0x{}}}", bytes(", 0x")),
        bytes("-"),
    ] {
        let dir = dir();
        assert_eq!(
            with_file(dir.path(), text.as_bytes()),
            (2, format!("jwksd: NOT_MY_KEY {WRAPPED}\n")),
            "{text}"
        );
        assert!(!dir.path().join(DB).exists(), "nothing is created");
    }
    for text in [format!("{HEX}{HEX}"), HEX[..63].to_owned(), "My-1-Long-Passphrase-".repeat(8)] {
        assert_eq!(with_file(dir().path(), text.as_bytes()).0, 0, "{text}");
    }
}

#[test]
fn other_characters_around_the_right_key_are_named_when_a_store_does_not_open() {
    let dir = dir();
    assert_eq!(with_file(dir.path(), KEY.as_bytes()).0, 0);
    let message = format!(
        "jwksd: {DB}: NOT_MY_KEY is not the key that this store was sealed with; nothing was changed; it {WRAPPED}\n"
    );
    assert_eq!(with_file(dir.path(), format!("'{KEY}'").as_bytes()), (2, message));
    let new = format!("“{KEY}”");
    let output = run(dir.path(), &["rekey"], &[("NOT_MY_KEY", KEY), ("NEW_NOT_MY_KEY", &new)], "");
    assert_eq!(
        (output.status.code(), stderr(&output)),
        (Some(2), format!("jwksd: NEW_NOT_MY_KEY {WRAPPED}\n"))
    );
}

#[test]
fn a_key_file_in_utf_16_or_of_raw_bytes_is_named() {
    let utf16: Vec<u8> = KEY.encode_utf16().flat_map(u16::to_le_bytes).collect();
    for content in [[b"\xFF\xFE", &*utf16].concat(), utf16] {
        let message = "jwksd: NOT_MY_KEY_FILE is master.key: the file is in UTF-16: save it as UTF-8\n";
        assert_eq!(with_file(dir().path(), &content), (2, message.to_owned()));
    }
    let message = "jwksd: NOT_MY_KEY_FILE is master.key: the file is not text: write the secret to it in UTF-8, bytes as base64\n";
    assert_eq!(with_file(dir().path(), &[0xA5; 32]), (2, message.to_owned()));
    let message = "jwksd: NOT_MY_KEY_FILE is master.key: the file is empty: write the secret to it\n";
    assert_eq!(with_file(dir().path(), "\u{feff}\r\n".as_bytes()), (2, message.to_owned()));
}

#[tokio::test]
async fn white_space_and_a_byte_order_mark_around_the_admin_token_do_not_count() {
    let dir = dir();
    fs::write(dir.path().join("token"), "\u{feff} 0123456789abcdef0123456789abcdef \r\n").unwrap();
    let server = Server::start(dir.path(), &[("ADMIN_TOKEN_FILE", "token")]);
    let metrics = reqwest::Client::new().get(format!("{}/metrics", server.url));
    let answer = metrics.bearer_auth("0123456789abcdef0123456789abcdef").send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
}

/// Earlier versions did not trim, and took every text that is not an encoded key for a passphrase.
#[tokio::test]
async fn a_store_that_was_sealed_under_an_untrimmed_passphrase_still_opens() {
    let dir = dir();
    assert_eq!(with_file(dir.path(), format!("{KEY}\n").as_bytes()).0, 0);
    let salt: Vec<u8> =
        sqlx::query_scalar("SELECT salt FROM master_key").fetch_one(&mut db(dir.path()).await).await.unwrap();
    let before = format!("\u{feff}{KEY}");
    let sealer = {
        use argon2::{Algorithm, Argon2, Params, Version};
        let params = Params::new(64 * 1024, 3, 1, Some(32)).unwrap();
        let mut key = [0; 32];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(before.as_bytes(), &salt, &mut key).unwrap();
        key.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    };
    // The store is now sealed as such a version would have done, under a key derived with the salt of the store.
    let moved = run(dir.path(), &["rekey"], &[("NOT_MY_KEY", KEY), ("NEW_NOT_MY_KEY", &sealer)], "");
    assert!(moved.status.success(), "{}", stderr(&moved));
    sqlx::query("UPDATE master_key SET salt = ?")
        .bind(&salt)
        .execute(&mut db(dir.path()).await)
        .await
        .unwrap();
    assert_eq!(with_file(dir.path(), format!("{before}\n").as_bytes()).0, 0);
    assert_eq!(with_file(dir.path(), KEY.as_bytes()).0, 2);
    let server = Server::start(dir.path(), &[("NOT_MY_KEY", &before)]);
    assert_eq!(get(&server, "/jwks").await["keys"].as_array().unwrap().len(), 1);
}
