//! Files in the formats of other tools: what cannot be read is named, with the way to convert it.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::WorkDir;
use crate::site::Site;

const RSA: &str = include_str!("../../crates/jose/tests/data/keys/rsa.pem");
const IMPORT: &[&str] = &["keys", "import"];
const FROM_PEM: &[&str] = &["jwk", "from-pem"];
const SIGN: &[&str] = &["jwt", "sign", "--key-file"];
const UPLOAD: &[&str] = &["jwk", "upload"];
const THUMBPRINT: &[&str] = &["jwk", "thumbprint"];
const PUBLIC: &[&str] = &["jwk", "public"];
const TO_PEM: &[&str] = &["jwk", "to-pem"];

/// The content of a PEM, or of base64 without boundaries.
fn der(pem: &str) -> Vec<u8> {
    let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(base64).unwrap()
}

fn utf16(text: &str) -> Vec<u8> {
    "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
}

/// Every command refuses the input with the same words and changes nothing.
fn refused(input: &[u8], commands: &[&[&str]], words: &str) {
    let dir = WorkDir::new();
    fs::write(dir.path().join("key"), input).unwrap();
    #[cfg(unix)]
    fs::set_permissions(dir.path().join("key"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    for command in commands {
        let said = dir.run_with(&[command, &["key"][..]].concat(), &[("ADMIN_TOKEN", "s3cret")], "");
        let verb = if *command == IMPORT { "import" } else { "use" };
        said.refused(1, &format!("cannot {verb} key: {words}"));
    }
    assert_eq!(dir.files(), ["key"], "nothing was created");
}

#[test]
fn a_key_in_a_foreign_format_is_named_with_the_command_that_converts_it() {
    let pem_readers: &[&[&str]] = &[IMPORT, FROM_PEM, SIGN, UPLOAD];
    let encrypted = "the key is encrypted: decrypt it with `openssl pkey -in FILE -out PLAIN`";
    let openssh = "this is an OpenSSH private key: convert a copy of it with `ssh-keygen -p -m PKCS8 -f COPY` (for \
                   Ed25519, an older ssh-keygen leaves the file as it is)";
    let pkcs12 =
        "this is a PKCS#12 file: extract its key with `openssl pkcs12 -in FILE -nocerts -nodes -out KEY.pem`";
    let utf16_words = "this is UTF-16 text: convert it with `iconv -f UTF-16 -t UTF-8 FILE >KEY.pem`";
    let primes = "the RSA key has more than two primes, which is not supported: generate one with two, for example \
                  with `jwksd jwk generate --save`";
    let pss = "this is an RSA-PSS key (its type is id-RSASSA-PSS), which is not supported: use a plain RSA key, which \
               can sign PS256 too (`jwksd jwk generate --alg PS256 --save`)";
    let unsupported = "the key type is not supported: use RSA, EC on P-256, P-384 or P-521, or Ed25519";
    let ppk = "PuTTY-User-Key-File-3: ssh-ed25519\r\nEncryption: none\r\n";
    let public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJjGE5UwbjlPZ5oA6jZPbhhsVaT6SEqDWSqXcjpSGDLx me@here\n";
    let escaped = RSA.trim_end().replace('\n', "\\n");
    for (input, words) in [
        (&include_bytes!("../../crates/jose/tests/data/keys/openssh.key")[..], openssh),
        (include_bytes!("../../crates/jose/tests/data/keys/encrypted-pkcs8.pem"), encrypted),
        (include_bytes!("../../crates/jose/tests/data/keys/encrypted-traditional.pem"), encrypted),
        (&der(include_str!("../../crates/jose/tests/data/keys/encrypted-pkcs8.pem")), encrypted),
        (&der(include_str!("../../crates/jose/tests/data/keys/rsa.p12.base64")), pkcs12),
        (include_bytes!("../../crates/jose/tests/data/keys/three-primes.pem"), primes),
        (include_bytes!("../../crates/jose/tests/data/keys/rsa-pss.pem"), pss),
        (include_bytes!("../../crates/jose/tests/data/keys/secp256k1.pem"), unsupported),
        (include_bytes!("../../crates/jose/tests/data/keys/ed448.pem"), unsupported),
        (&utf16(RSA), utf16_words),
        (&RSA.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>(), utf16_words),
        (
            b"\xfe\xed\xfe\xed\0\0\0\x02",
            "this is a Java keystore: convert it with `keytool -importkeystore -srckeystore FILE -deststoretype PKCS12 \
             -destkeystore KEY.p12`, then extract the key with `openssl pkcs12 -in KEY.p12 -nocerts -nodes -out KEY.pem`",
        ),
        (
            ppk.as_bytes(),
            "this is a PuTTY key: convert it with `puttygen FILE -O private-openssh -o KEY.pem`",
        ),
        (
            public.as_bytes(),
            "this is an OpenSSH public key: convert it with `ssh-keygen -e -m PKCS8 -f FILE >KEY.pem`",
        ),
        (
            escaped.as_bytes(),
            "its line breaks are written as \\n: convert it with `printf '%b' \"$(cat FILE)\" >KEY.pem`",
        ),
        (
            STANDARD.encode(der(RSA)).as_bytes(),
            "this is base64 without its BEGIN and END lines: convert it with `openssl base64 -d -A -in FILE | openssl \
             pkey -inform DER -out KEY.pem`",
        ),
        (b" \n", "there is nothing in it: use a file with a key in PEM"),
        (b"secret", "not a key in PEM"),
    ] {
        refused(input, pem_readers, words);
    }
}

#[test]
fn der_is_named_where_pem_is_required() {
    refused(
        &der(RSA),
        &[FROM_PEM, SIGN, UPLOAD],
        "this is DER, not PEM: convert it with `openssl pkey -inform DER -in FILE -out KEY.pem`",
    );
    let dir = WorkDir::new();
    dir.key("k", &["ec"]);
    let spki = der(&dir.run(&["jwk", "to-pem", "k.pub"]).out());
    refused(
        &spki,
        &[FROM_PEM, SIGN, UPLOAD, IMPORT],
        "this is DER, not PEM: convert it with `openssl pkey -pubin -inform DER -in FILE -out KEY.pem`",
    );
}

#[test]
fn a_public_key_or_a_certificate_is_named_where_a_private_key_is_required() {
    let dir = WorkDir::new();
    dir.key("k", &["rsa"]);
    let public = dir.run(&["jwk", "to-pem", "k.pub"]).out();
    refused(public.as_bytes(), &[IMPORT, SIGN], "this is a public key: use the private key");
    refused(
        include_bytes!("../data/tls/leaf.pem"),
        &[IMPORT, SIGN, FROM_PEM],
        "this is a certificate, which has only a public key: extract it with `openssl x509 -in FILE -noout -pubkey`",
    );
}

#[test]
fn a_jwk_is_named_where_pem_is_required_and_the_other_way_round() {
    let jwk = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    for input in [jwk.to_owned(), format!("\u{feff} {jwk}")] {
        refused(
            input.as_bytes(),
            &[FROM_PEM, IMPORT],
            "this is JSON, not PEM: if it is a JWK, convert it with `jwksd jwk to-pem FILE --output KEY.pem`",
        );
    }
    let jwk_readers = &[THUMBPRINT, PUBLIC, TO_PEM];
    refused(
        RSA.as_bytes(),
        jwk_readers,
        "this is PEM, not JSON: convert the key with `jwksd jwk from-pem FILE`",
    );
    refused(
        &der(RSA),
        jwk_readers,
        "this is DER, not JSON: convert it with `openssl pkey -inform DER -in FILE -out KEY.pem`, and then with `jwksd \
         jwk from-pem KEY.pem`",
    );
    refused(
        &der(include_str!("../../crates/jose/tests/data/keys/rsa.p12.base64")),
        jwk_readers,
        "this is a PKCS#12 file: extract its key with `openssl pkcs12 -in FILE -nocerts -nodes -out KEY.pem`",
    );
    refused(
        &utf16(jwk),
        jwk_readers,
        "this is UTF-16 text: convert it with `iconv -f UTF-16 -t UTF-8 FILE >KEY.json`",
    );
}

#[test]
fn a_set_is_named_where_one_key_is_required() {
    let dir = WorkDir::new();
    dir.key("k", &["ed25519"]);
    let set = format!("{{\"keys\":[{}]}}", dir.read("k.jwk"));
    refused(
        set.as_bytes(),
        &[THUMBPRINT, TO_PEM, SIGN, UPLOAD],
        "this is a JWK Set: use one key of its \"keys\", for example with `jq '.keys[0]' FILE`",
    );
}

#[test]
fn trusted_keys_in_pem_are_named() {
    let dir = WorkDir::new();
    dir.key("k", &["ed25519"]);
    let token = dir.token("k", &["sub=me"]);
    dir.write("key.pem", &dir.run(&["jwk", "to-pem", "k.pub"]).out());
    dir.run(&["jwt", "verify", "--jwks-file", "key.pem", &token]).refused(
        2,
        "could not verify the token: cannot use key.pem: this is PEM, not JSON: convert the key with `jwksd jwk from-pem \
         FILE`",
    );
}

#[test]
fn a_byte_order_mark_before_json_is_skipped() {
    let dir = WorkDir::new();
    dir.key("k", &["ed25519"]);
    let marked = |name: &str| format!("\u{feff}{}", dir.read(name));
    dir.write("marked.jwk", &marked("k.jwk"));
    dir.write("marked.pub", &marked("k.pub"));
    dir.write("claims.json", "\u{feff}{\"iss\":\"me\"}");
    for (args, file) in [
        (&["jwk", "thumbprint"][..], "pub"),
        (&["jwk", "public"], "jwk"),
        (&["jwk", "to-pem"], "pub"),
        (&["jwk", "to-pem", "--private"], "jwk"),
    ] {
        let run = |name: &str| dir.run(&[args, &[&format!("{name}.{file}")]].concat()).out();
        assert_eq!(run("marked"), run("k"), "{args:?}");
    }
    let token = dir.run(&["jwt", "sign", "--key-file", "marked.jwk", "--payload", "claims.json"]).out();
    let site = Site::start(&[
        ("/jwks", "200 OK", &marked("k.pub")),
        (
            "/.well-known/openid-configuration",
            "200 OK",
            "\u{feff}{\"issuer\":\"URL\",\"jwks_uri\":\"URL/jwks\"}",
        ),
        ("/upload", "201 Created", "\u{feff}{\"message\":\"1 added\",\"keys_count\":2}"),
    ]);
    let url = format!("{}/jwks", site.url);
    for keys in [["--jwks-file", "marked.pub"], ["--jwks-url", &url]] {
        let args = [&["jwt", "verify", "--issuer", "me", "-"], &keys[..]].concat();
        let said = dir.run_with(&args, &[], &format!("\u{feff}{token}")).out();
        assert!(said.starts_with("valid\n"), "{said}");
    }
    let said = dir.run_with(&["jwt", "verify", "--issuer", &site.url, "-"], &[], &token);
    assert!(said.stdout.starts_with("invalid: the issuer is \"me\""), "discovery was read: {said:?}");
    let args = ["jwk", "upload", "marked.jwk", "--server", &site.url];
    let said = dir.run_with(&args, &[("ADMIN_TOKEN", "s3cret")], "");
    assert_eq!((said.code, said.stderr), (Some(0), format!("{}/upload: 1 added; it has 2 keys\n", site.url)));
}

#[test]
fn a_token_in_utf_16_is_named() {
    let dir = WorkDir::new();
    dir.key("k", &["ed25519"]);
    fs::write(dir.path().join("token"), utf16(&dir.token("k", &["sub=me"]))).unwrap();
    for (command, prefix, code) in
        [("verify --jwks-file k.pub", "could not verify the token: ", 2), ("inspect", "", 1)]
    {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_jwksd"))
            .args(["jwt"].into_iter().chain(command.split(' ')).chain(["-"]))
            .stdin(fs::File::open(dir.path().join("token")).unwrap())
            .current_dir(dir.path())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let words = "the token is UTF-16 text: convert it with `iconv -f UTF-16 -t UTF-8`";
        assert_eq!((output.status.code(), said), (Some(code), format!("jwksd: {prefix}{words}\n")));
    }
}

#[test]
fn uncompressed_responses_are_requested_and_compressed_ones_are_named() {
    let dir = WorkDir::new();
    dir.key("k", &["ed25519"]);
    let token = dir.token("k", &["sub=me"]);
    let jwks = dir.read("k.pub");
    let site = Site::start(&[
        ("/gzip", "200 OK\r\nContent-Encoding: gzip", &jwks),
        ("/plain", "200 OK\r\nContent-Encoding: identity", &jwks),
    ]);
    let verify =
        |path: &str| dir.run(&["jwt", "verify", "--jwks-url", &format!("{}{path}", site.url), &token]);
    assert!(verify("/plain").out().starts_with("valid\n"));
    let url = format!("{}/gzip", site.url);
    verify("/gzip").refused(
        2,
        &format!(
            "could not verify the token: {url} answered with \"gzip\" compression, although none was requested: fetch it \
             with `curl --compressed {url} >jwks.json`, and use --jwks-file jwks.json"
        ),
    );
    for request in site.requests() {
        assert!(request.headers.contains(&"accept-encoding: identity".to_owned()), "{request:?}");
    }
}
