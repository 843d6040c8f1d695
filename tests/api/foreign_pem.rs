//! Private keys in the database of another program, as PEM in the shapes that other tools write (RFC 7468 §2).

use jwksd_core::clock::Clock as _;
use jwksd_jose::pem::read_private_key;
use sqlx::Executor as _;

use crate::helpers::{Setup, TestApp, database, rsa_pem};

const KEYS: &str =
    "CREATE TABLE keys(kid INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL, exp INTEGER NOT NULL)";

#[tokio::test]
async fn a_plaintext_key_of_another_program_is_imported_whatever_the_shape_of_its_pem() {
    let shapes: [fn(&str) -> String; 6] = [
        |pem| pem.replace('\n', "\r\n"),
        |pem| pem.replace('\n', " "),
        |pem| format!("\u{feff}{pem}"),
        |pem| format!("Key Attributes: <none>\n{pem}\nthe end\n"),
        |pem| pem.replace('\n', "  \n\n"),
        |pem| {
            let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
            format!("-----BEGIN RSA PRIVATE KEY-----\n{base64}\n-----END RSA PRIVATE KEY-----")
        },
    ];
    let setup = Setup::default();
    let exp = setup.clock.now().as_secs() + 3 * 3600;
    let mut db = database(&setup.dir).await;
    db.execute(KEYS).await.unwrap();
    let keys = shapes.map(|_| rsa_pem());
    for (key, shape) in keys.iter().zip(shapes) {
        let insert = sqlx::query("INSERT INTO keys (key, exp) VALUES (?, ?)");
        insert.bind(shape(key).into_bytes()).bind(exp).execute(&mut db).await.unwrap();
    }
    let app = TestApp::with(setup).await;
    let published = app.get("/jwks").await.json["keys"].as_array().unwrap().clone();
    for (kid, key) in ["1", "2", "3", "4", "5", "6"].into_iter().zip(&keys) {
        let public = read_private_key(key.as_bytes()).unwrap().public().thumbprint();
        let jwk = published.iter().find(|jwk| jwk["kid"] == kid).unwrap();
        let seen = jwksd_jose::jwk::Jwk::parse(jwk).unwrap().key().thumbprint();
        assert_eq!(seen, public, "{kid}");
    }
    let rows: Vec<Vec<u8>> = sqlx::query_scalar("SELECT key FROM keys WHERE kid <= 6")
        .fetch_all(&mut app.db().await)
        .await
        .unwrap();
    assert!(rows.iter().all(|row| row[0] == 1), "all rows are sealed");
}
