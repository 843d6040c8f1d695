//! Starts on the database of another program: what is taken over, what is left as it is, and what is refused.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use jwksd_jose::algorithm::Curve;
use jwksd_jose::pem::{private_pem, to_stored_pem};
use jwksd_jose::private_key::{NewKey, PrivateKey};
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use crate::support::{Server, jwksd, run};
use crate::{DB, KEY, command, db, dir, get, post, sign_in, stderr};

const KEYS: &str =
    "CREATE TABLE keys(kid INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL, exp INTEGER NOT NULL)";

/// Runs these statements on a new database.
async fn create(dir: &Path, sql: &'static str) -> SqliteConnection {
    let url = format!("sqlite://{}?mode=rwc", dir.join(DB).display());
    let mut db = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut db).await.unwrap();
    db
}

/// Inserts a key with an `exp` that is computed by SQLite.
async fn insert(db: &mut SqliteConnection, key: &[u8], exp: &str) {
    let sql = format!("INSERT INTO keys (key, exp) VALUES (?, {exp})");
    sqlx::query(sqlx::AssertSqlSafe(sql)).bind(key).execute(db).await.unwrap();
}

fn rsa() -> PrivateKey {
    PrivateKey::generate(NewKey::Rsa2048).unwrap()
}

fn pkcs1() -> Vec<u8> {
    to_stored_pem(&rsa()).unwrap().as_bytes().to_vec()
}

fn der(pem: &str) -> Vec<u8> {
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    base64::engine::general_purpose::STANDARD.decode(base64).unwrap()
}

/// Runs the first command on a database, and returns its log.
fn first_start(dir: &Path) -> String {
    let output = run(dir, &["keys", "list"], &[KEY], "");
    let log = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{log}");
    log
}

/// Waits until the server has logged this, and returns the log.
fn log_with(server: &Server, text: &str) -> String {
    let mut log = String::new();
    for _ in 0..100 {
        log.push_str(&server.log());
        if log.contains(text) {
            return log;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("not logged: {text}\n{log}")
}

async fn kids(server: &Server) -> Vec<String> {
    let set = get(server, "/jwks").await;
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// The texts of findings that are not ok.
fn doctor(dir: &Path) -> Vec<(String, String)> {
    let output = run(dir, &["doctor", "--json"], &[KEY, ("PORT", "0")], "");
    let stdout = String::from_utf8(output.stdout).unwrap();
    let findings = stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap().to_owned();
    findings
        .filter(|finding| finding["level"] != "ok" && finding["about"] != "files")
        .map(|finding| (text(&finding, "about"), text(&finding, "text")))
        .collect()
}

type KeyRow = (i64, Vec<u8>, String, Vec<u8>);

async fn rows(dir: &Path) -> Vec<KeyRow> {
    let sql =
        "SELECT kid, CAST(key AS BLOB), typeof(exp), coalesce(CAST(exp AS BLOB), x'') FROM keys ORDER BY kid";
    sqlx::query_as(sql).fetch_all(&mut db(dir).await).await.unwrap()
}

#[tokio::test]
async fn an_exp_in_another_unit_is_converted_to_seconds_and_the_log_says_so() {
    for (factor, unit) in
        [("1000", "milliseconds"), ("1000000", "microseconds"), ("1000000000", "nanoseconds")]
    {
        let dir = dir();
        let mut db = create(dir.path(), KEYS).await;
        insert(&mut db, &pkcs1(), &format!("(unixepoch() + 3600) * {factor}")).await;
        insert(&mut db, &pkcs1(), &format!("(unixepoch() - 3600) * {factor}")).await;
        drop(db);
        let log = first_start(dir.path());
        let server = Server::start(dir.path(), &[KEY, ("AUTH_MODE", "open")]);
        for kid in [1, 2] {
            let line = format!(
                "sealed key {kid}, which another program had stored as plaintext; its exp was in {unit} and is now in seconds"
            );
            assert!(log.contains(&line), "{log}");
        }
        assert_eq!(kids(&server).await, ["1", "3"], "the second one has expired, and a next key is due");
        let hour: Vec<i64> = sqlx::query_scalar("SELECT abs(exp - unixepoch()) / 60 FROM keys WHERE kid < 3")
            .fetch_all(&mut crate::db(dir.path()).await)
            .await
            .unwrap();
        assert!(hour.iter().all(|minutes| (59..=60).contains(minutes)), "{hour:?}");
        let (_, answer) = post(&server, "/auth?expired", json!({})).await;
        let header = answer["token"].as_str().unwrap().split('.').next().unwrap().to_owned();
        let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(header).unwrap();
        assert!(String::from_utf8(header).unwrap().contains(r#""kid":"2""#));
        drop(server);
        assert_eq!(doctor(dir.path()), []);
    }
}

#[tokio::test]
async fn an_exp_that_is_not_a_time_in_seconds_is_left_out_and_left_as_it_is_and_named() {
    let dir = dir();
    // NOT NULL is missing here, as in the databases of some programs.
    let mut db =
        create(dir.path(), "CREATE TABLE keys(kid INTEGER PRIMARY KEY, key BLOB, exp INTEGER)").await;
    let exps = [
        ("strftime('%Y-%m-%dT%H:%M:%S', unixepoch() + 3600, 'unixepoch')", "its exp is text"),
        ("'never'", "its exp is text"),
        ("''", "its exp is text"),
        ("NULL", "its exp is NULL"),
        ("x'01'", "its exp is a BLOB"),
        ("-1", "its exp is -1,"),
        ("0", "its exp is 0,"),
        ("3600", "its exp is 3600,"),
        ("20301231235959", "its exp is 20301231235959,"),
        ("9223372036854775807", "its exp is 9223372036854775807,"),
        ("9e999", "its exp is 9223372036854775807,"),
    ];
    for (exp, _) in exps {
        insert(&mut db, &pkcs1(), exp).await;
    }
    insert(&mut db, &pkcs1(), "unixepoch() - 86400").await;
    insert(&mut db, &pkcs1(), "unixepoch() - 3600").await;
    drop(db);
    let before = rows(dir.path()).await;
    let found = doctor(dir.path());
    assert_eq!(
        found.iter().filter(|(_, text)| text.contains("the next start leaves key")).count(),
        exps.len()
    );

    let log = first_start(dir.path());
    let server = Server::start(dir.path(), &[KEY, ("AUTH_MODE", "open"), ("KEY_RETENTION", "0s")]);
    assert!(
        log.contains("rows of another program in the table keys that are left out and left as they are: 11;"),
        "{log}"
    );
    for (kid, (_, why)) in (1..).zip(exps) {
        let line = format!("key {kid} is left out of signing and of the JWKS: {why}");
        assert!(log.contains(&line), "{line}\n{log}");
    }
    assert_eq!(kids(&server).await, ["14"]);
    std::thread::sleep(Duration::from_secs(2));
    drop(server);
    let after = rows(dir.path()).await;
    assert_eq!(after[..11], before[..11], "they are as they were");
    assert_eq!(
        after.iter().map(|row| row.0).collect::<Vec<_>>(),
        (1..=14).collect::<Vec<_>>(),
        "all are there"
    );
    let found = doctor(dir.path());
    for (kid, (_, why)) in (1..).zip(exps) {
        let wanted = format!("key {kid} is neither published nor used ({why}");
        let text = found.iter().find(|(_, text)| text.starts_with(&wanted));
        let (_, text) = text.unwrap_or_else(|| panic!("{wanted}: {found:?}"));
        assert!(
            text.contains("its private key lies in the file in the clear") && !text.contains("restore"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_store_with_one_usable_key_and_rows_that_are_left_out_can_be_copied_and_rekeyed() {
    let dir = dir();
    let mut db = create(dir.path(), KEYS).await;
    insert(&mut db, &pkcs1(), "'never'").await;
    insert(&mut db, &pkcs1(), "unixepoch() + 50000").await;
    drop(db);
    let backup = run(dir.path(), &["keys", "list"], &[KEY], "");
    assert!(backup.status.success(), "{}", stderr(&backup));
    let backup = run(dir.path(), &["backup", "copy.db"], &[KEY], "");
    assert!(
        stderr(&backup).contains("of which NOT_MY_KEY does not open 1, as in the original"),
        "{}",
        stderr(&backup)
    );
    let restore = run(dir.path(), &["restore", "copy.db"], &[KEY], "");
    assert!(restore.status.success(), "{}", stderr(&restore));
    let new = ("NEW_NOT_MY_KEY", "another passphrase of some length");
    let rekey = run(dir.path(), &["rekey"], &[KEY, new], "");
    assert!(
        stderr(&rekey).contains("left unchanged, because NOT_MY_KEY does not open them: 1"),
        "{}",
        stderr(&rekey)
    );
}

#[tokio::test]
async fn private_keys_in_every_form_that_can_be_imported_are_sealed_and_used() {
    let keys: Vec<_> = (0..4).map(|_| rsa()).collect();
    let other = |new| PrivateKey::generate(new).unwrap();
    let (p256, p384) = (other(NewKey::Ec(Curve::P256)), other(NewKey::Ec(Curve::P384)));
    let pkcs8 = private_pem(&keys[0]).unwrap();
    let forms = [
        pkcs8.as_bytes().to_vec(),
        der(&private_pem(&keys[1]).unwrap()),
        der(&to_stored_pem(&keys[2]).unwrap()),
        format!("Bag Attributes\n{}", *private_pem(&keys[3]).unwrap()).into_bytes(),
        private_pem(&p256).unwrap().as_bytes().to_vec(),
        der(&private_pem(&p384).unwrap()),
        private_pem(&other(NewKey::Ed25519)).unwrap().as_bytes().to_vec(),
    ];
    let dir = dir();
    let mut db = create(dir.path(), KEYS).await;
    for form in &forms {
        insert(&mut db, form, "unixepoch() + 50000").await;
    }
    drop(db);
    assert!(doctor(dir.path()).iter().all(|(about, _)| about == "store"), "{:?}", doctor(dir.path()));
    let server = Server::start(dir.path(), &[KEY, ("AUTH_MODE", "open")]);
    assert_eq!(kids(&server).await, ["1", "2", "3", "4", "5", "6", "7"]);
    drop(server);
    let listing = run(dir.path(), &["keys", "list", "--json"], &[KEY], "");
    let listing: Value = serde_json::from_slice(&listing.stdout).unwrap();
    let algorithms: Vec<_> =
        listing["keys"].as_array().unwrap().iter().map(|key| key["alg"].as_str().unwrap()).collect();
    assert_eq!(algorithms[..7], ["RS256", "RS256", "RS256", "RS256", "ES256", "ES384", "EdDSA"]);
    assert!(rows(dir.path()).await.iter().all(|(_, key, ..)| key[0] == 1), "all are sealed");
    assert_eq!(doctor(dir.path()), []);
}

#[tokio::test]
async fn a_private_key_that_cannot_be_used_is_reported_as_lying_in_the_file_in_the_clear() {
    let ec = private_pem(&PrivateKey::generate(NewKey::Ec(Curve::P521)).unwrap()).unwrap();
    let short = include_str!("../../crates/jose/tests/data/rsa-1024.pem");
    let dir = dir();
    let jwk = run(dir.path(), &["jwk", "from-pem", "-", "--private"], &[KEY], &ec);
    let jwk = String::from_utf8(jwk.stdout).unwrap();
    let mut db = create(dir.path(), KEYS).await;
    for key in [ec.as_bytes(), &der(&ec), short.as_bytes(), &der(short), jwk.as_bytes()] {
        insert(&mut db, key, "unixepoch() + 50000").await;
    }
    insert(&mut db, b"gAAAAABfernet", "unixepoch() + 50000").await;
    drop(db);
    let log = first_start(dir.path());
    let found = doctor(dir.path());
    for (kid, why) in (1..).zip([
        "this is an EC P-521 key",
        "this is an EC P-521 key",
        "has 1024 bits",
        "has 1024 bits",
        "this is an EC P-521 key: use RSA, EC P-256, EC P-384 or Ed25519",
    ]) {
        let (_, text) = found.iter().find(|(_, text)| text.starts_with(&format!("key {kid} is"))).unwrap();
        let delete = format!("`sqlite3 FILE \"delete from keys where kid = {kid}; vacuum\"`");
        for part in ["its private key lies in the file in the clear, and cannot be used: ", why, &delete] {
            assert!(text.contains(part), "{text}");
        }
        assert!(
            log.contains(&format!("key {kid} is left out of signing and of the JWKS: its private key lies")),
            "{log}"
        );
    }
    let (_, text) = found.iter().find(|(_, text)| text.starts_with("key 6 is")).unwrap();
    assert!(text.contains("another program wrote it") && text.contains("jwksd keys import"), "{text}");
    assert!(found.iter().all(|(_, text)| !text.contains("restore")), "{found:?}");
}

/// One RSA key in forms that `keys import` does not read, each with how doctor names it.
fn encoded(dir: &Path, key: &PrivateKey) -> Vec<(&'static str, Vec<u8>)> {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    let pem = private_pem(key).unwrap();
    let der = der(&to_stored_pem(key).unwrap());
    let output = run(dir, &["jwk", "from-pem", "-", "--private"], &[KEY], &pem);
    let jwk = String::from_utf8(output.stdout).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let utf16 =
        |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<_>>();
    let escaped = pem.replace('\n', "\\n");
    let lines = STANDARD.encode(&der).as_bytes().chunks(76).collect::<Vec<_>>().join(&b"\r\n"[..]);
    vec![
        ("base64", STANDARD.encode(&der).into_bytes()),
        ("base64", lines),
        ("base64", URL_SAFE_NO_PAD.encode(&der).into_bytes()),
        ("base64", STANDARD.encode(&*pem).into_bytes()),
        ("hex", hex(&der).into_bytes()),
        ("hex", format!("\\x{}", hex(&der).to_uppercase()).into_bytes()),
        ("hex", format!("0x{}", hex(pem.as_bytes())).into_bytes()),
        ("UTF-16", utf16(&format!("\u{feff}{}", *pem), u16::to_le_bytes)),
        ("UTF-16", utf16(&pem, u16::to_be_bytes)),
        ("line breaks as \\n", escaped.clone().into_bytes()),
        ("line breaks as \\n", json!({"private_key": *pem}).to_string().replace('/', "\\/").into_bytes()),
        ("a JWK", jwk.clone().into_bytes()),
        ("base64, a JWK", STANDARD.encode(&jwk).into_bytes()),
        ("UTF-16, base64", utf16(&STANDARD.encode(&der), u16::to_le_bytes)),
    ]
}

#[tokio::test]
async fn a_private_key_in_an_encoding_is_reported_as_lying_in_the_clear_with_commands_that_import_it() {
    let (dir, store) = (dir(), dir());
    assert!(run(store.path(), &["keys", "list"], &[FAST_KEY], "").status.success());
    let key = rsa();
    let forms = encoded(dir.path(), &key);
    let mut db = create(dir.path(), KEYS).await;
    for (_, form) in &forms {
        insert(&mut db, form, "unixepoch() + 50000").await;
    }
    drop(db);
    let before = rows(dir.path()).await;
    let log = first_start(dir.path());
    assert!(rows(dir.path()).await.starts_with(&before), "they are as they were");
    let found = doctor(dir.path());
    for (kid, (name, _)) in (1..).zip(&forms) {
        let wanted = format!(
            "key {kid} is neither published nor used (its private key lies in the file in the clear ({name})): "
        );
        let text = found.iter().find_map(|(_, text)| text.strip_prefix(&wanted));
        let text = text.unwrap_or_else(|| panic!("{wanted}: {found:?}"));
        assert!(text.contains("jwksd keys import KEY.pem") && !text.contains("restore"), "{text}");
        assert!(
            log.contains(&format!("key {kid} is left out of signing and of the JWKS: its private key lies"))
        );
        #[cfg(unix)]
        expect_advice_works(dir.path(), store.path(), text, &key);
    }
}

/// A master key that needs no KDF.
const FAST_KEY: (&str, &str) = ("NOT_MY_KEY", "g744zYz6qjlsAfSEbbIeuFURXmGrWHG3ZEzl_XxhHHw=");

/// Runs the commands of an advice, and expects that the key can be imported after them, into a copy of this store.
#[cfg(unix)]
fn expect_advice_works(dir: &Path, store: &Path, advice: &str, key: &PrivateKey) {
    use std::os::unix::fs::PermissionsExt as _;
    let has = |tool: &str| std::process::Command::new(tool).arg("--version").output().is_ok();
    if !["sqlite3", "perl", "iconv"].into_iter().all(has) {
        return eprintln!("not tested: sqlite3, perl or iconv is not installed");
    }
    let work = crate::dir();
    let commands: Vec<_> = advice.split('`').skip(1).step_by(2).collect();
    let [save, convert, "jwksd keys import KEY.pem", delete] = commands[..] else { panic!("{advice}") };
    fs::copy(dir.join(DB), work.path().join("FILE")).unwrap();
    fs::copy(store.join(DB), work.path().join(DB)).unwrap();
    let program = Path::new(crate::support::BINARY).parent().unwrap().display();
    for command in [save, convert, delete] {
        let output = std::process::Command::new("sh")
            .args(["-c", &format!("PATH={program}:$PATH\n{command}")])
            .current_dir(work.path())
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{command}: {}", stderr(&output));
    }
    let pem = work.path().join("KEY.pem");
    assert_eq!(pem.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let imported = run(work.path(), &["keys", "import", "KEY.pem"], &[FAST_KEY], "");
    assert!(imported.status.success(), "{convert}: {}", stderr(&imported));
    let exported = run(work.path(), &["keys", "export", "3", "--yes"], &[FAST_KEY], "");
    assert_eq!(String::from_utf8(exported.stdout).unwrap(), **to_stored_pem(key).unwrap());
}

#[tokio::test]
async fn an_encoded_key_that_cannot_be_used_is_in_the_clear_and_one_that_is_encrypted_is_not() {
    use base64::engine::general_purpose::STANDARD;
    let ec = private_pem(&PrivateKey::generate(NewKey::Ec(Curve::P521)).unwrap()).unwrap();
    let encrypted = der(include_str!("../../crates/jose/tests/data/keys/encrypted-pkcs8.pem"));
    let xml = "<RSAKeyValue><Modulus>AQAB</Modulus><D>AQAB</D></RSAKeyValue>";
    let short = der(include_str!("../../crates/jose/tests/data/rsa-1024.pem"));
    let unusable = "its private key lies in the file in the clear, and cannot be used: ";
    let dir = dir();
    let mut db = create(dir.path(), KEYS).await;
    let rows = [
        (STANDARD.encode(der(&ec)).into_bytes(), unusable, "this is an EC P-521 key"),
        (ec.replace('\n', "\\n").into_bytes(), unusable, "this is an EC P-521 key"),
        (STANDARD.encode(short).into_bytes(), unusable, "has 1024 bits"),
        (xml.as_bytes().to_vec(), unusable, ""),
        (br#"{"keys":[{"kty":"EC","crv":"P-256","d":"AQAB"}]}"#.to_vec(), unusable, ""),
        (STANDARD.encode(&encrypted).into_bytes(), "it is not sealed by jwksd", "keys import"),
        (b"gAAAAABfernet".to_vec(), "it is not sealed by jwksd", "keys import"),
        ([0xFF, 0xFE, 1, 2, 3, 4].repeat(30), "it is not sealed by jwksd", "keys import"),
        // What jwksd seals begins with 1 too.
        ([1, 2, 3, 4].repeat(30), "it is not sealed by jwksd: another program wrote it", "export it with"),
        (
            [b"\x30\x82\x01\x00\x02\x01\x03\x30\x82".as_slice(), &[9; 90]].concat(),
            "it is not sealed by jwksd: this is a PKCS#12 file",
            "save it with",
        ),
        (encrypted.clone(), "it is not sealed by jwksd: the key is encrypted", "save it with"),
    ];
    for (row, ..) in &rows {
        insert(&mut db, row, "unixepoch() + 50000").await;
    }
    drop(db);
    first_start(dir.path());
    let found = doctor(dir.path());
    for (kid, (_, why, part)) in (1..).zip(rows) {
        let wanted = format!("key {kid} is neither published nor used ({why}");
        let text = found.iter().find(|(_, text)| text.starts_with(&wanted));
        let (_, text) = text.unwrap_or_else(|| panic!("{wanted}: {found:?}"));
        assert!(text.contains(part), "{text}");
        assert_eq!(text.contains("; vacuum"), why == unusable, "{text}");
    }
}

#[tokio::test]
async fn tables_that_cannot_be_worked_with_are_refused_before_anything_is_written() {
    const USERS: &str = "username TEXT NOT NULL UNIQUE, password_hash TEXT NOT NULL, email TEXT UNIQUE,
        date_registered TIMESTAMP DEFAULT CURRENT_TIMESTAMP, last_login TIMESTAMP";
    let users = |id: &str| format!("CREATE TABLE users({id}, {USERS})");
    let logs = |id: &str, user: &str| {
        format!("CREATE TABLE auth_logs({id}, request_ip TEXT, request_timestamp TIMESTAMP, user_id {user})")
    };
    for (sql, why) in [
        (
            "CREATE TABLE keys(kid TEXT PRIMARY KEY, key BLOB, exp INTEGER)".to_owned(),
            "its table keys declares kid as TEXT instead of INTEGER PRIMARY KEY",
        ),
        (
            "CREATE TABLE keys(kid VARCHAR(36) PRIMARY KEY, key BLOB, exp INTEGER)".to_owned(),
            "its table keys declares kid as VARCHAR(36)",
        ),
        (
            "CREATE TABLE keys(kid INT PRIMARY KEY, key BLOB, exp INTEGER)".to_owned(),
            "its table keys declares kid as INT ",
        ),
        (
            "CREATE TABLE keys(kid INTEGER, key BLOB, exp INTEGER)".to_owned(),
            "its table keys declares kid as INTEGER, which is not the number of the row",
        ),
        (
            "CREATE TABLE keys(kid INTEGER PRIMARY KEY DESC, key BLOB, exp INTEGER)".to_owned(),
            "which is not the number of the row",
        ),
        (
            "CREATE TABLE keys(kid INTEGER PRIMARY KEY, key BLOB, exp INTEGER) WITHOUT ROWID".to_owned(),
            "which is not the number of the row",
        ),
        (
            "CREATE TABLE keys(kid PRIMARY KEY, key, exp)".to_owned(),
            "its table keys declares kid without a type instead of INTEGER PRIMARY KEY",
        ),
        (
            "CREATE TABLE keys(kid INTEGER PRIMARY KEY, key BLOB, exp TEXT)".to_owned(),
            "its table keys declares exp as TEXT instead of INTEGER",
        ),
        (
            "CREATE TABLE keys(kid INTEGER PRIMARY KEY, key TEXT, exp INTEGER) STRICT".to_owned(),
            "its table keys declares key as TEXT instead of BLOB",
        ),
        (
            "CREATE VIEW keys(kid, key, exp) AS SELECT 1, 'x', 2".to_owned(),
            "its keys is a view and not a table",
        ),
        (users("id TEXT PRIMARY KEY"), "its table users declares id as TEXT instead of INTEGER PRIMARY KEY"),
        (users("id INT PRIMARY KEY"), "its table users declares id as INT "),
        (
            users("id INTEGER PRIMARY KEY").replace("last_login TIMESTAMP", "last_login TIMESTAMP NOT NULL"),
            "its table users declares last_login as NOT NULL, so no account could be registered",
        ),
        (users("id UUID PRIMARY KEY"), "its table users declares id as UUID "),
        (logs("id TEXT PRIMARY KEY", "INTEGER"), "its table auth_logs declares id as TEXT "),
        (
            logs("id INTEGER PRIMARY KEY", "TEXT"),
            "its table auth_logs declares user_id as TEXT instead of INTEGER",
        ),
        (
            format!("{KEYS}; INSERT INTO keys VALUES (9223372036854775806, 'x', 1900000000)"),
            "its table keys has the kid 9223372036854775806,",
        ),
        (
            format!(
                "{KEYS}; INSERT INTO keys VALUES (9223372036854775807, 'x', 1900000000); DELETE FROM keys"
            ),
            "its table keys has had the kid 9223372036854775807,",
        ),
        (
            format!(
                "{}; INSERT INTO users (id, username, password_hash) VALUES (9223372036854775807, 'x', 'x')",
                users("id INTEGER PRIMARY KEY AUTOINCREMENT")
            ),
            "its table users has the id 9223372036854775807,",
        ),
    ] {
        expect_refused_untouched(sql, why).await;
    }
}

/// Whether every command refuses the database that these statements make, in one line, and writes nothing.
async fn expect_refused_untouched(sql: String, why: &str) {
    let dir = dir();
    create(dir.path(), Box::leak(sql.clone().into_boxed_str())).await.close().await.unwrap();
    let before = fs::read(dir.path().join(DB)).unwrap();
    for args in [&["serve"][..], &["users", "add", "alice"], &["keys", "list"]] {
        let output = run(dir.path(), args, &[KEY, ("PORT", "0")], "");
        let said = stderr(&output);
        assert_eq!((output.status.code(), said.lines().count()), (Some(2), 1), "{sql}: {said}");
        assert!(said.contains(why), "{sql}: {said}");
        assert!(said.contains("nothing was changed; "), "{said}");
    }
    let found = doctor(dir.path());
    assert!(found.iter().any(|(about, text)| about == "store" && text.contains(why)), "{found:?}");
    assert!(found.iter().all(|(_, text)| !text.contains("restore")), "{found:?}");
    assert!(fs::read(dir.path().join(DB)).unwrap() == before, "{sql}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{sql}");
}

#[tokio::test]
async fn tables_whose_columns_are_computed_or_named_otherwise_are_refused_before_anything_is_written() {
    let named = "its table keys has the columns";
    for (sql, why) in [
        (
            "CREATE TABLE keys(kid INTEGER PRIMARY KEY, key BLOB, exp INTEGER AS (kid) STORED)",
            "its table keys computes exp (GENERATED ALWAYS), so nothing can be stored in it",
        ),
        (
            "CREATE TABLE auth_logs(id INTEGER PRIMARY KEY, request_ip TEXT, request_timestamp TIMESTAMP,
                                    user_id INTEGER AS (id))",
            "its table auth_logs computes user_id (GENERATED ALWAYS)",
        ),
        ("CREATE TABLE keys(kid INTEGER PRIMARY KEY, key BLOB, exp INTEGER, note AS (exp))", named),
        ("CREATE TABLE keys(\"\" TEXT)", named),
        ("CREATE TABLE keys(\"kid,key\" TEXT, exp INTEGER)", named),
        ("CREATE VIEW keys AS SELECT 1 AS \"\"", named),
    ] {
        expect_refused_untouched(sql.to_owned(), why).await;
    }
}

#[tokio::test]
async fn a_database_in_utf_16_is_refused_before_anything_is_written() {
    for encoding in ["UTF-16le", "UTF-16be"] {
        let sql = format!("PRAGMA encoding = '{encoding}'; {KEYS}");
        let why = format!("its texts are in {encoding} instead of UTF-8: nothing was changed");
        expect_refused_untouched(sql, &why).await;
    }
}

const COURSE: &str = include_str!("../../migrations/sqlite/0001_course_schema.sql");

#[tokio::test]
async fn a_table_that_would_keep_rows_from_being_deleted_or_changed_is_refused_before_anything_is_written() {
    let keys = "its table tok refers to keys with its column kid, so jwksd could not delete rows there: nothing was changed; \
                declare that reference with ON DELETE CASCADE or ON DELETE SET NULL, or drop the table tok";
    let sign_ins =
        "its table tok refers to auth_logs with its column kid, so jwksd could not delete rows there";
    for (sql, why) in [
        ("CREATE TABLE tok(kid INTEGER REFERENCES keys(kid))", keys),
        ("CREATE TABLE tok(kid INTEGER REFERENCES Keys ON DELETE RESTRICT)", keys),
        ("CREATE TABLE tok(kid INTEGER REFERENCES keys DEFERRABLE INITIALLY DEFERRED)", keys),
        ("CREATE TABLE tok(kid INTEGER NOT NULL REFERENCES keys ON DELETE SET NULL)", keys),
        ("CREATE TABLE tok(kid INTEGER DEFAULT 7 REFERENCES keys ON DELETE SET DEFAULT)", keys),
        (
            "CREATE TABLE tok(kid INTEGER PRIMARY KEY REFERENCES keys ON DELETE CASCADE);
             CREATE TABLE uses(tok INTEGER REFERENCES tok)",
            keys,
        ),
        ("CREATE TABLE tok(kid INTEGER REFERENCES auth_logs(id))", sign_ins),
        (
            "CREATE TABLE tok(kid TEXT REFERENCES users(username) ON DELETE CASCADE)",
            "its table tok refers to users with its column kid, so jwksd could not change accounts there",
        ),
        (
            "CREATE TABLE tok(kid TEXT REFERENCES key_lives)",
            "its table tok refers to key_lives with its column kid, so jwksd could not change rows there",
        ),
    ] {
        expect_refused_untouched(format!("{COURSE}; {sql}"), why).await;
        // Also without the keys that it refers to. A store of ours goes on.
        if !why.contains("auth_logs") {
            expect_refused_untouched(sql.to_owned(), why).await;
        }
        if ["keys(kid)", "auth_logs(id)", "users(username)"].iter().any(|parent| sql.contains(parent)) {
            expect_own_store_goes_on(sql, why.split(": nothing was changed").next().unwrap()).await;
        }
    }
}

/// Whether a store of ours to which these statements have added something goes on, and says what it cannot do.
async fn expect_own_store_goes_on(sql: &'static str, why: &str) {
    let dir = dir();
    let added = run(dir.path(), &["users", "add", "alice"], &[KEY], "");
    assert!(added.status.success(), "{}", stderr(&added));
    create(dir.path(), sql).await.close().await.unwrap();
    for args in
        [&["users", "reset", "alice"][..], &["keys", "list"], &["keys", "rotate"], &["backup", "copy.db"]]
    {
        let output = run(dir.path(), args, &[KEY, ("PORT", "0")], "");
        assert_eq!(output.status.code(), Some(0), "{sql}: {}", stderr(&output));
    }
    let log = start_log(dir.path());
    assert!(log.contains(&format!("WARN {DB} can be used, but {why}")), "{log}");
    let found = doctor(dir.path());
    assert!(found.iter().any(|(about, text)| about == "schema" && text.contains(why)), "{found:?}");
    let checked = run(dir.path(), &["doctor"], &[KEY, ("PORT", "0")], "");
    assert_eq!(checked.status.code(), Some(2));
}

/// What a server logs until it serves.
fn start_log(dir: &Path) -> String {
    let mut server = jwksd(dir, &["serve"], &[KEY, ("PORT", "0")]).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = String::new();
    for line in BufReader::new(server.stderr.take().unwrap()).lines().map_while(Result::ok) {
        log.push_str(&line);
        if line.contains("serving on ") {
            break;
        }
    }
    server.kill().unwrap();
    server.wait().unwrap();
    log
}

#[tokio::test]
async fn tables_with_the_names_of_side_tables_are_refused_before_anything_is_written() {
    let store = dir();
    first_start(store.path());
    let mut db = db(store.path()).await;
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'
               AND name NOT IN ('keys', 'users', 'auth_logs', '_sqlx_migrations')";
    let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut db).await.unwrap();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        let why = format!("could not add its own tables and indexes in it (table {name} already exists)");
        expect_refused_untouched(format!("CREATE TABLE {name}(x)"), &why).await;
        expect_refused_untouched(
            format!("{COURSE}; CREATE TABLE {name}(id INTEGER, salt, check_value)"),
            &why,
        )
        .await;
    }
    let why = "another program records its own migrations in its table _sqlx_migrations";
    for sql in [
        "CREATE TABLE _sqlx_migrations(x)",
        "CREATE TABLE _sqlx_migrations(version BIGINT PRIMARY KEY, description TEXT, installed_on TIMESTAMP, success BOOLEAN,
             checksum BLOB, execution_time BIGINT);
         INSERT INTO _sqlx_migrations VALUES (1, 'init', '2026-01-01', 1, x'00', 0)",
        "CREATE TABLE _sqlx_migrations(version, checksum); INSERT INTO _sqlx_migrations VALUES (20260101000000, x'00')",
    ] {
        expect_refused_untouched(sql.to_owned(), why).await;
    }
}

#[tokio::test]
async fn tables_that_refer_to_ours_and_allow_every_deletion_are_left_as_they_are() {
    let dir = dir();
    let references = "CREATE TABLE tok(kid INTEGER REFERENCES keys ON DELETE CASCADE, note TEXT);
        CREATE TABLE uses(kid INTEGER REFERENCES keys(kid) ON DELETE SET NULL);
        CREATE TABLE profiles(user INTEGER NOT NULL UNIQUE REFERENCES users(id), name TEXT REFERENCES users(username) ON UPDATE CASCADE);
        CREATE TABLE pages(id INTEGER PRIMARY KEY, parent INTEGER REFERENCES pages)";
    let mut db = create(dir.path(), COURSE).await;
    sqlx::raw_sql(references).execute(&mut db).await.unwrap();
    insert(&mut db, &pkcs1(), "unixepoch() - 900000").await;
    insert(&mut db, &pkcs1(), "unixepoch() - 800000").await;
    sqlx::raw_sql("INSERT INTO tok VALUES (1, 'x'); INSERT INTO uses VALUES (1), (2)")
        .execute(&mut db)
        .await
        .unwrap();
    db.close().await.unwrap();
    let server = Server::start(dir.path(), &[KEY]);
    let (_, alice) = post(&server, "/register", json!({"username": "alice", "email": "a@x.io"})).await;
    assert_eq!(sign_in(&server, "alice", alice["password"].as_str().unwrap()).await, 200);
    sqlx::raw_sql("INSERT INTO profiles VALUES (1, 'alice')")
        .execute(&mut crate::db(dir.path()).await)
        .await
        .unwrap();
    drop(server);
    let deleted = run(dir.path(), &["users", "delete", "alice", "--yes"], &[KEY], "");
    assert!(deleted.status.success(), "{}", stderr(&deleted));
    assert_eq!(doctor(dir.path()), []);
}

#[tokio::test]
async fn constraints_that_forbid_what_jwksd_writes_are_refused_before_anything_is_written() {
    let keys =
        |rest: &str| format!("CREATE TABLE keys(kid INTEGER PRIMARY KEY, key BLOB, exp INTEGER, {rest})");
    let users =
        |rest: &str| COURSE.replace("last_login TIMESTAMP\n", &format!("last_login TIMESTAMP, {rest}\n"));
    let logs = |rest: &str| COURSE.replace("FOREIGN KEY(user_id) REFERENCES users(id)", rest);
    let forbidden = |act: &str, reason: &str| format!("jwksd could not {act} in it ({reason}");
    for (sql, why) in [
        (
            keys("CHECK (key LIKE '-----BEGIN%')"),
            forbidden("store a sealed key", "CHECK constraint failed: key LIKE '-----BEGIN%')"),
        ),
        (
            keys("CHECK (length(key)\n  < 100)"),
            forbidden("store a sealed key", "CHECK constraint failed: length(key) < 100)"),
        ),
        (keys("CHECK (exp > 4102444800)"), forbidden("store a sealed key", "CHECK")),
        (keys("CHECK (kid < 2)"), forbidden("store a sealed key", "CHECK")),
        (
            keys("FOREIGN KEY (kid) REFERENCES owners"),
            forbidden("store a sealed key", "no such table: main.owners)"),
        ),
        (
            format!(
                "CREATE TABLE owners(id INTEGER PRIMARY KEY); {}",
                keys("FOREIGN KEY (kid) REFERENCES owners")
            ),
            forbidden("store a sealed key", "FOREIGN KEY constraint failed)"),
        ),
        (
            format!("{}; CREATE INDEX broken ON keys(json(key))", keys("CHECK (1)")),
            forbidden("store a sealed key", "malformed JSON)"),
        ),
        (users("CHECK (length(username) > 5)"), forbidden("register an account", "CHECK")),
        (users("CHECK (password_hash LIKE '$2b$%')"), forbidden("register an account", "CHECK")),
        (users("CHECK (email LIKE '%@school.example')"), forbidden("register an account", "CHECK")),
        (
            COURSE
                .replace("username TEXT NOT NULL UNIQUE", "username TEXT NOT NULL UNIQUE ON CONFLICT IGNORE"),
            "it does not refuse a second account with the username \"alice\"".to_owned(),
        ),
        (users("CHECK (last_login IS NULL)"), forbidden("record a sign-in", "CHECK")),
        (logs("CHECK (request_ip LIKE '%:%')"), forbidden("record a sign-in", "CHECK")),
        (
            logs("FOREIGN KEY(user_id) REFERENCES accounts(id)"),
            forbidden("record a sign-in", "no such table"),
        ),
        (
            logs("FOREIGN KEY(user_id) REFERENCES users(username)"),
            forbidden("record a sign-in", "FOREIGN KEY"),
        ),
        (
            format!("{COURSE}; CREATE TABLE key_lives(x)"),
            forbidden("add its own tables and indexes", "table key_lives already exists)"),
        ),
        (
            format!("{COURSE}; CREATE TABLE notes(x); CREATE INDEX jwksd_keys_exp ON notes(x)"),
            forbidden("add its own tables and indexes", "index jwksd_keys_exp already exists)"),
        ),
        (
            format!("{COURSE}; CREATE TABLE names_given(name TEXT); CREATE TABLE account_states(x)"),
            forbidden("add its own tables and indexes", "table names_given already exists)"),
        ),
        (
            format!("{COURSE}; CREATE VIRTUAL TABLE hash_costs USING fts5(text)"),
            forbidden("add its own tables and indexes", "table hash_costs already exists)"),
        ),
    ] {
        expect_refused_untouched(sql, &why).await;
    }
}

#[tokio::test]
async fn rules_that_forbid_only_some_accounts_are_taken_over_and_named() {
    let dir = dir();
    let sql = COURSE
        .replace(
            "username TEXT NOT NULL UNIQUE",
            "username TEXT NOT NULL UNIQUE CHECK (length(username) BETWEEN 3 AND 50)",
        )
        .replace(
            "password_hash TEXT NOT NULL",
            "password_hash TEXT NOT NULL CHECK (password_hash LIKE '$argon2%')",
        )
        .replace("email TEXT UNIQUE", "email TEXT UNIQUE NOT NULL CHECK (length(email) >= 8)")
        .replace("request_ip TEXT NOT NULL", "request_ip TEXT NOT NULL CHECK (length(request_ip) <= 15)")
        .replace("last_login TIMESTAMP", "last_login TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP");
    create(dir.path(), Box::leak(sql.into_boxed_str())).await.close().await.unwrap();
    let forbidden = |act: &str, why: &str| {
        (
            "schema".to_owned(),
            format!("its tables do not let jwksd {act} ({why}): change them if that is needed"),
        )
    };
    let name = "CHECK constraint failed: length(username) BETWEEN 3 AND 50";
    let expected = [
        forbidden("register an account without an e-mail address", "NOT NULL constraint failed: users.email"),
        forbidden("register a username of one character", name),
        forbidden("register a username of the maximum length", name),
        forbidden(
            "register an e-mail address of few characters",
            "CHECK constraint failed: length(email) >= 8",
        ),
        forbidden(
            "record a sign-in from an IPv6 address",
            "CHECK constraint failed: length(request_ip) <= 15",
        ),
        forbidden("remove an e-mail address", "NOT NULL constraint failed: users.email"),
        forbidden("delete an account", "NOT NULL constraint failed: users.email"),
    ];
    let proxied = [KEY, ("TRUSTED_PROXIES", "127.0.0.1")];
    let server = Server::start(dir.path(), &proxied);
    let why = format!("the database of this server does not accept such an account ({name})");
    let refused = post(&server, "/register", json!({"username": "al", "email": "al@example.com"})).await;
    assert_eq!(refused, (400, json!({"error": why, "code": "invalid_body"})));
    let alice = json!({"username": "alice", "email": "alice@example.com"});
    let (status, alice) = post(&server, "/register", alice).await;
    assert_eq!(status, 201);
    let alice = json!({"username": "alice", "password": alice["password"]});
    let from = async |address: &str| {
        let request = reqwest::Client::new().post(format!("{}/auth", server.url)).json(&alice);
        request.header("x-forwarded-for", address).send().await.unwrap().status().as_u16()
    };
    assert_eq!((from("192.0.2.1").await, from("2001:db8:1111:2222::1").await), (200, 500));
    log_with(&server, "length(request_ip) <= 15");
    for args in [&["add", "bob"][..], &["delete", "alice", "--yes"], &["set-email", "alice", "--none"]] {
        let output = run(dir.path(), &[&["users"], args].concat(), &[KEY], "");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = stderr(&output);
        assert!(
            said.contains("the database forbids it, by a rule that jwksd has not made ("),
            "{args:?}: {said}"
        );
    }
    assert_eq!(from("192.0.2.1").await, 200, "the account is as before");
    drop(server);
    assert_eq!(doctor(dir.path()), expected);
    let log = start_log(dir.path());
    assert!(expected.iter().all(|(_, text)| log.contains(text)), "{log}");
}

#[tokio::test]
async fn unique_indexes_of_others_that_forbid_what_jwksd_writes_are_refused_before_anything_is_written() {
    for index in [
        "ON users(substr(username, 1, 3))",
        "ON users(password_hash)",
        "ON users(date_registered) WHERE email IS NOT NULL",
        "ON users(email COLLATE RTRIM)",
        "ON keys(exp)",
        "ON keys(length(key))",
        "ON auth_logs(user_id, request_timestamp)",
    ] {
        let sql = format!("{COURSE}; CREATE UNIQUE INDEX \"their index\" {index}");
        let dir = dir();
        create(dir.path(), Box::leak(sql.into_boxed_str())).await.close().await.unwrap();
        let before = fs::read(dir.path().join(DB)).unwrap();
        let output = run(dir.path(), &["users", "add", "alice"], &[KEY], "");
        let why = "its index \"their index\" was not made by jwksd, and can forbid what is stored: find out what it has done, \
                   then run the SQL `DROP INDEX \"their index\"`";
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(why), "{index}: {}", stderr(&output));
        assert!(fs::read(dir.path().join(DB)).unwrap() == before, "{index}");
    }
    for (what, columns) in [("password_hash", "password_hash"), ("email, date_registered, last_login", "")] {
        let dir = dir();
        let sql =
            COURSE.replace("last_login TIMESTAMP\n", &format!("last_login TIMESTAMP, UNIQUE ({what})\n"));
        create(dir.path(), Box::leak(sql.into_boxed_str())).await.close().await.unwrap();
        let output = run(dir.path(), &["users", "add", "alice"], &[KEY], "");
        let why = format!("its table users declares UNIQUE ({columns}), which can forbid what is stored");
        let is_refused = stderr(&output).contains(&why);
        assert_eq!(
            (output.status.code(), is_refused),
            (Some(if columns.is_empty() { 0 } else { 2 }), !columns.is_empty())
        );
    }
}

#[tokio::test]
async fn unique_indexes_that_are_satisfied_in_any_case_are_taken_over() {
    let dir = dir();
    let mut db = create(dir.path(), COURSE).await;
    let indexes = "CREATE UNIQUE INDEX ix_users_username ON users(username);
        CREATE UNIQUE INDEX ix_users_email ON users(email COLLATE NOCASE) WHERE email IS NOT NULL;
        CREATE UNIQUE INDEX ix_users_lower ON users(lower(username));
        CREATE UNIQUE INDEX ix_users_upper ON users(upper(\"email\") DESC);
        CREATE UNIQUE INDEX ix_users_both ON users(date_registered, username);
        CREATE UNIQUE INDEX ix_keys_kid ON keys(kid);
        CREATE UNIQUE INDEX ix_keys_key ON keys(exp, key);
        CREATE UNIQUE INDEX ix_logs ON auth_logs(user_id, id);
        CREATE INDEX ix_exp ON keys(exp)";
    sqlx::raw_sql(indexes).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
    for (name, status, said) in [("alice", 0, ""), ("bob", 0, ""), ("Alice", 4, "the username is taken")] {
        let added = run(dir.path(), &["users", "add", name], &[KEY], "");
        assert_eq!(added.status.code(), Some(status), "{}", stderr(&added));
        assert!(stderr(&added).contains(said), "{}", stderr(&added));
    }
    assert_eq!(doctor(dir.path()), []);
}

#[tokio::test]
async fn tables_of_other_types_that_work_are_taken_over() {
    let dir = dir();
    let sql = "CREATE TABLE keys(kid INTEGER PRIMARY KEY, key TEXT, exp REAL);
        CREATE TABLE users(id INTEGER PRIMARY KEY, username VARCHAR(64), password_hash VARCHAR(255), email, date_registered DATETIME, last_login DATETIME);
        CREATE TABLE auth_logs(id INTEGER PRIMARY KEY, request_ip VARCHAR(45), request_timestamp DATETIME, user_id BIGINT)";
    let mut db = create(dir.path(), sql).await;
    let text = String::from_utf8(pkcs1()).unwrap();
    let sql = "INSERT INTO keys (key, exp) VALUES (?, unixepoch() + 50000.5)";
    sqlx::query(sql).bind(text).execute(&mut db).await.unwrap();
    drop(db);
    let server = Server::start(dir.path(), &[KEY]);
    assert_eq!(kids(&server).await, ["1"]);
    let (status, answer) =
        post(&server, "/register", json!({"username": "alice", "email": "a@example.com"})).await;
    assert_eq!(status, 201);
    assert_eq!(sign_in(&server, "alice", answer["password"].as_str().unwrap()).await, 200);
    let (status, _, said) = command(dir.path(), &["keys", "rotate"]);
    assert_eq!((status, said.contains("NOT_MY_KEY is not set")), (2, true), "{said}");
    let rotated = run(dir.path(), &["keys", "rotate"], &[KEY], "");
    assert!(rotated.status.success(), "{}", stderr(&rotated));
}

#[tokio::test]
async fn accounts_whose_hash_nothing_can_match_are_counted_and_the_prefix_of_django_is_removed() {
    // Of `password`, from the tests of the reference implementation.
    const HASH: &str =
        "argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    let dir = dir();
    let sql = "CREATE TABLE users(id INTEGER PRIMARY KEY AUTOINCREMENT, username TEXT NOT NULL UNIQUE, password_hash TEXT,
        email TEXT UNIQUE, date_registered TIMESTAMP DEFAULT CURRENT_TIMESTAMP, last_login TIMESTAMP)";
    let mut db = create(dir.path(), sql).await;
    sqlx::raw_sql(KEYS).execute(&mut db).await.unwrap();
    insert(&mut db, &pkcs1(), "unixepoch() + 50000").await;
    for (name, hash) in [
        ("plain", format!("${HASH}")),
        ("django", format!("argon2${HASH}")),
        ("spring", format!("{{argon2@SpringSecurity_v5_8}}${HASH}")),
        ("bcrypt", "$2b$12$R9h/cIPz0gi.URNNX3kh2OPST9/PgBkqquzi.Ss7KIUgO2t0jWMUW".to_owned()),
        ("clear", "hunter2".to_owned()),
        ("pbkdf2", "pbkdf2_sha256$600000$salt$aGFzaA==".to_owned()),
        ("truncated", "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ".to_owned()),
        (
            "extreme",
            "$argon2id$v=19$m=4194304000,t=1,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
                .to_owned(),
        ),
        // 100 GiB × passes: were it computed, each refused sign-in would take minutes.
        (
            "slow",
            "$argon2id$v=19$m=1048576,t=100,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
                .to_owned(),
        ),
    ] {
        let sql = "INSERT INTO users (username, password_hash) VALUES (?, ?)";
        sqlx::query(sql).bind(name).bind(hash).execute(&mut db).await.unwrap();
    }
    sqlx::raw_sql("INSERT INTO users (username) VALUES ('null')").execute(&mut db).await.unwrap();
    drop(db);
    let log = first_start(dir.path());
    let server = Server::start(dir.path(), &[KEY]);
    assert!(
        log.contains(
            "accounts of another program with a password hash that no password matches, because it is not Argon2 or costs \
             too much: 7; give"
        ),
        "{log}"
    );
    assert!(log.contains("jwksd users reset NAME"), "{log}");
    for name in ["plain", "django", "spring"] {
        assert_eq!(sign_in(&server, name, "password").await, 200, "{name}");
    }
    assert_eq!(sign_in(&server, "clear", "hunter2").await, 401);
    assert_eq!(sign_in(&server, "slow", "password").await, 401);
    drop(server);
    let unusable = |count: u8| {
        let text = format!(
            "accounts with a hash that no password matches, because it is not Argon2 or costs too much: {count}; give each a \
             new password with `jwksd users reset NAME`"
        );
        ("passwords".to_owned(), text)
    };
    assert_eq!(doctor(dir.path()), [unusable(7)]);
    let output = run(dir.path(), &["doctor"], &[KEY, ("PORT", "0")], "");
    let output = String::from_utf8_lossy(&output.stdout);
    // Hashes that cost too much are not listed, because they are not computed.
    assert!(!output.contains("m=1048576"), "{output}");
    let reset = run(dir.path(), &["users", "reset", "bcrypt"], &[KEY], "");
    assert!(reset.status.success(), "{}", stderr(&reset));
    assert_eq!(doctor(dir.path()), [unusable(6)]);
}

#[tokio::test]
async fn two_servers_with_different_policies_do_not_replace_each_others_keys_without_end() {
    let dir = dir();
    let open = [KEY, ("AUTH_MODE", "open"), ("JWKS_MAX_AGE", "1s"), ("KEY_LEAD", "0")];
    let of_minutes = [&open[..], &[("KEY_LIFETIME", "10m"), ("TOKEN_TTL", "1m")]].concat();
    let of_a_day = [&open[..], &[("KEY_LIFETIME", "24h"), ("TOKEN_TTL", "1h")]].concat();
    let servers = [Server::start(dir.path(), &of_a_day), Server::start(dir.path(), &of_minutes)];
    let line = "has other settings than the server that started last on this store (KEY_LIFETIME is";
    let log = log_with(&servers[0], line);
    assert!(
        log.contains("KEY_LIFETIME is 1day here and 10m there")
            && log.contains("TOKEN_TTL is 1h here and 1m there"),
        "{log}"
    );
    std::thread::sleep(Duration::from_secs(5));
    let created: i64 = sqlx::query_scalar("SELECT count(*) FROM key_lives")
        .fetch_one(&mut db(dir.path()).await)
        .await
        .unwrap();
    assert!(created <= 6, "{created} keys in five seconds");
    let found = doctor(dir.path());
    let wanted = "the server that started last on this store has other settings (KEY_LIFETIME is 1day here and 10m there";
    assert!(found.iter().any(|(about, text)| about == "rotation" && text.starts_with(wanted)), "{found:?}");
}

#[tokio::test]
async fn the_list_of_keys_says_when_a_key_of_another_program_really_stops_signing() {
    // The lead of two hours does not fit into what is left of the first key, and the second one outlives the policy.
    for (exp, stops_in) in [("3600 + unixepoch()", 3600 - 900), ("31536000 + unixepoch()", 7201)] {
        let dir = dir();
        let mut db = create(dir.path(), KEYS).await;
        insert(&mut db, &pkcs1(), exp).await;
        drop(db);
        let times = [KEY, ("TOKEN_TTL", "15m"), ("KEY_LEAD", "2h"), ("AUTH_MODE", "open")];
        let server = Server::start(dir.path(), &times);
        std::thread::sleep(Duration::from_secs(2));
        drop(server);
        let output = run(dir.path(), &["keys", "list", "--json"], &times, "");
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        let keys = listed["keys"].as_array().unwrap();
        let next = keys.iter().find(|key| key["phase"] == "next").unwrap();
        assert_eq!(
            (&keys[0]["phase"], &keys[0]["signs_until"]),
            (&json!("current"), &next["signs_from"]),
            "{listed}"
        );
        let sql = "SELECT unixepoch(?) - unixepoch()";
        let until = keys[0]["signs_until"].as_str().unwrap();
        let left: i64 =
            sqlx::query_scalar(sql).bind(until).fetch_one(&mut crate::db(dir.path()).await).await.unwrap();
        assert!((stops_in - 120..=stops_in).contains(&left), "{left} s: {listed}");
    }
}

#[tokio::test]
async fn doctor_warns_of_a_published_key_that_ends_later_than_the_policy_allows() {
    let dir = dir();
    let mut db = create(dir.path(), KEYS).await;
    insert(&mut db, &pkcs1(), "unixepoch() + 31536000").await;
    drop(db);
    drop(Server::start(dir.path(), &[KEY, ("AUTH_MODE", "open")]));
    let found = doctor(dir.path());
    let is_warning = |(about, text): &(String, String)| {
        about == "rotation"
            && text.starts_with("key 1 is published until ")
            && text.contains("longer than KEY_LIFETIME")
    };
    assert!(found.iter().any(is_warning), "{found:?}");
    let output = run(dir.path(), &["doctor"], &[KEY, ("PORT", "0")], "");
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test]
async fn tables_whose_names_are_in_another_case_are_taken_over_and_refuse_taken_names() {
    let dir = dir();
    let sql = COURSE
        .replace("EXISTS keys(", "EXISTS Keys(")
        .replace("EXISTS users(", "EXISTS Users(")
        .replace("EXISTS auth_logs(", "EXISTS Auth_Logs(");
    let mut db = create(dir.path(), Box::leak(sql.into_boxed_str())).await;
    insert(&mut db, &pkcs1(), "unixepoch() + 50000").await;
    // AUTOINCREMENT has given out these numbers before.
    sqlx::raw_sql("INSERT INTO keys VALUES (40, '', 0); DELETE FROM keys WHERE kid = 40")
        .execute(&mut db)
        .await
        .unwrap();
    db.close().await.unwrap();
    first_start(dir.path());
    assert_eq!(rows(dir.path()).await[0].1[0], 1, "the key is sealed");
    for (name, email, status) in
        [("alice", "a@example.com", 0), ("ALICE", "b@example.com", 4), ("bob", "A@example.com", 4)]
    {
        let added = run(dir.path(), &["users", "add", name, "--email", email], &[KEY], "");
        assert_eq!(added.status.code(), Some(status), "{name}: {}", stderr(&added));
    }
    assert!(rows(dir.path()).await.iter().all(|(kid, ..)| *kid == 1 || *kid > 40));
    let copied = run(dir.path(), &["backup", "copy.db"], &[KEY], "");
    assert!(copied.status.success(), "{}", stderr(&copied));
    let restored = run(dir.path(), &["restore", "copy.db"], &[KEY], "");
    assert!(restored.status.success(), "{}", stderr(&restored));
    drop(Server::start(dir.path(), &[KEY]));
    assert_eq!(doctor(dir.path()), []);
}
