//! PEM as other tools write it (RFC 7468 §2): one key in many shapes, read by every command that reads PEM.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::WorkDir;

/// An RSA key in lines of 76 characters, as Java writes it.
const KEY: &str = include_str!("../../crates/jose/tests/data/keys/rsa.pem");

fn base64_of(pem: &str) -> String {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

fn armoured(label: &str, body: &str) -> String {
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

fn wrapped(base64: &str, width: usize) -> String {
    let lines: Vec<_> =
        base64.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap()).collect();
    lines.join("\n")
}

/// The same key in every shape.
fn shapes() -> Vec<(&'static str, Vec<u8>)> {
    let base64 = base64_of(KEY);
    let of = |body: &str| armoured("PRIVATE KEY", body);
    let strict = of(&wrapped(&base64, 64));
    let latin1 = [&b"# Schl\xfcssel\n"[..], strict.as_bytes()].concat();
    [
        ("lines of 64", strict.clone()),
        ("lines of 76", KEY.to_owned()),
        ("lines of 1", of(&wrapped(&base64, 1))),
        ("lines of 77, which split groups of four", of(&wrapped(&base64, 77))),
        ("one line between the boundaries", of(&base64)),
        ("one line with the boundaries", strict.replace('\n', " ")),
        ("one line without any blank", strict.replace('\n', "")),
        ("no line break at the end", strict.trim_end().to_owned()),
        ("blanks at the ends of lines", strict.replace('\n', " \t \n")),
        ("indented lines", format!("  \t{}", strict.replace('\n', "\n  \t"))),
        ("empty lines", strict.replace('\n', "\n\n")),
        ("vertical tabs and form feeds", strict.replace('\n', "\x0b\x0c\n")),
        ("CRLF", strict.replace('\n', "\r\n")),
        ("CR", strict.replace('\n', "\r")),
        ("a byte order mark", format!("\u{feff}{strict}")),
        ("a byte order mark and CRLF", format!("\u{feff}{}", strict.replace('\n', "\r\n"))),
        ("text before", format!("Bag Attributes\n    friendlyName: mine\nKey Attributes: <none>\n{strict}")),
        ("text after", format!("{strict}\nthe key of the test issuer, see -----BEGIN in the manual\n")),
        ("a boundary in the text before", format!("paste it from -----BEGIN to -----END\n{strict}")),
        ("curve parameters before", format!("{}{strict}", armoured("EC PARAMETERS", "BggqhkjOPQMBBw=="))),
    ]
    .into_iter()
    .map(|(name, text)| (name, text.into_bytes()))
    .chain([("text that is not UTF-8", latin1)])
    .collect()
}

#[test]
fn a_pem_of_any_shape_is_converted_and_signs() {
    let dir = WorkDir::new();
    dir.write("key.pem", KEY);
    let expected = dir.run(&["jwk", "from-pem", "key.pem", "--private"]).out();
    let claims = ["--claim", "iat=1", "--claim", "exp=2", "--claim", "jti=x"];
    let token = |file| dir.run(&[&["jwt", "sign", "--key-file", file], &claims[..]].concat()).out();
    let signed = token("key.pem");
    for (name, shape) in shapes() {
        fs::write(dir.path().join("key.pem"), shape).unwrap();
        assert_eq!(dir.run(&["jwk", "from-pem", "key.pem", "--private"]).out(), expected, "{name}");
        assert_eq!(token("key.pem"), signed, "{name}");
    }
}

#[test]
fn a_public_pem_of_any_shape_is_converted() {
    let dir = WorkDir::new();
    dir.write("key.pem", KEY);
    dir.write("key.jwk", &dir.run(&["jwk", "from-pem", "key.pem"]).out());
    let expected = dir.read("key.jwk");
    let base64 = base64_of(&dir.run(&["jwk", "to-pem", "key.jwk"]).out());
    for body in [base64.clone(), wrapped(&base64, 76), wrapped(&base64, 5).replace('\n', "\r\n ")] {
        dir.write("key.pem", &armoured("PUBLIC KEY", &body));
        assert_eq!(dir.run(&["jwk", "from-pem", "key.pem"]).out(), expected);
    }
}

#[test]
fn a_pem_of_any_shape_and_der_are_imported() {
    let der = STANDARD.decode(base64_of(KEY)).unwrap();
    // PKCS#8 with RSA contains PKCS#1 after 26 bytes of header.
    let pkcs1 = der[26..].to_vec();
    let labelled = armoured("RSA PRIVATE KEY", &STANDARD.encode(&pkcs1)).into_bytes();
    let mut inputs = vec![("PKCS#8 DER", der), ("PKCS#1 DER", pkcs1), ("PKCS#1 PEM in one line", labelled)];
    let chosen = ["lines of 76", "one line with the boundaries", "a byte order mark and CRLF", "text before"];
    inputs.extend(shapes().into_iter().filter(|(name, _)| chosen.contains(name)));
    for (name, input) in inputs {
        let dir = WorkDir::new();
        fs::write(dir.path().join("key"), input).unwrap();
        let said = dir.run(&["keys", "import", "key"]);
        assert_eq!(said.code, Some(0), "{name}: {said:?}");
        assert!(said.stderr.contains("imported it as key 3: published now"), "{name}: {said:?}");
        let exported = dir.run(&["keys", "export", "3", "--yes"]).out();
        let jwk = |pem: &str| dir.run_with(&["jwk", "from-pem", "-", "--private"], &[], pem).out();
        assert_eq!(jwk(&exported), jwk(KEY), "{name}");
    }
}

#[test]
fn a_pem_that_is_not_one_whole_key_is_refused() {
    let dir = WorkDir::new();
    let damaged =
        "the PEM is damaged or incomplete: copy all of it again, from its BEGIN line to its END line";
    for (text, message) in [
        (format!("{KEY}{KEY}"), "more than one key or certificate: leave only one in the file"),
        (KEY.replace("END PRIVATE", "END RSA PRIVATE"), damaged),
        (KEY[..KEY.len() / 2].to_owned(), damaged),
        (KEY.replacen('M', "*", 1), damaged),
        (KEY.lines().take(3).chain(KEY.lines().skip(4)).collect::<Vec<_>>().join("\n"), damaged),
        (KEY.replace("PRIVATE KEY", "PUBLIC KEY"), damaged),
    ] {
        dir.run_with(&["jwk", "from-pem", "-"], &[], &text)
            .refused(1, &format!("cannot use standard input: {message}"));
    }
    let long = format!("{}{KEY}", "text\n".repeat(1024 * 1024));
    for args in [&["jwk", "from-pem", "-"][..], &["keys", "import", "-"]] {
        dir.run_with(args, &[], &long).refused(1, "standard input is longer than 1048576 bytes");
    }
}
