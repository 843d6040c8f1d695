use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::Path;

use jwksd_http::AuthMode;
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::conformance::Document;
use crate::helpers::{Setup, TestApp, TestResponse};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

async fn app(auth_mode: AuthMode) -> (TestApp, &'static Document) {
    let app = TestApp::with(Setup { auth_mode, admin_token: Some(TOKEN), ..Setup::default() }).await;
    let document = Document::fetch(&app.url).await;
    (app, document)
}

#[tokio::test]
async fn the_document_is_openapi_3_1_and_publicly_cacheable() {
    for mode in [AuthMode::Open, AuthMode::Password] {
        let (app, _) = app(mode).await;
        let answer = app.get("/openapi.json").await;
        assert_eq!((answer.status.as_u16(), &answer.json["openapi"]), (200, &json!("3.1.0")));
        assert_eq!(answer.json["info"]["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    }
}

/// Every string literal under crates/http/src/routes that could be a path.
fn paths_in_the_code() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/http/src/routes");
    let files =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let mut paths = BTreeSet::new();
    for text in files.map(|path| fs::read_to_string(path).unwrap()) {
        let code = text.split("#[cfg(test)]").next().unwrap();
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let texts = line.split('"').skip(1).step_by(2);
            paths.extend(texts.filter(|text| text.starts_with('/')).map(str::to_owned));
        }
    }
    paths
}

#[tokio::test]
async fn the_router_and_the_document_have_the_same_paths() {
    for mode in [AuthMode::Open, AuthMode::Password] {
        let (app, document) = app(mode).await;
        let paths: BTreeSet<_> = document.operations().map(|(path, ..)| path.to_owned()).collect();
        assert_eq!(paths, paths_in_the_code());
        // `Allow` lists the router's methods, and is compared with the document for every response.
        for path in paths {
            for method in [Method::TRACE, Method::OPTIONS, Method::from_bytes(b"BREW").unwrap()] {
                let answer =
                    TestResponse::send(app.request(method.clone(), &path.replace("{kid}", "1"))).await;
                assert_eq!(answer.status, 405, "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn every_error_code_is_documented_for_a_response_and_in_the_readme() {
    let mut documented = BTreeSet::new();
    let mut known = BTreeSet::new();
    for mode in [AuthMode::Open, AuthMode::Password] {
        let (_, document) = app(mode).await;
        let elsewhere = document.json["components"]["responses"].as_object().unwrap().values();
        let responses =
            document.operations().flat_map(|(_, _, said)| said["responses"].as_object().unwrap().values());
        for response in responses.chain(elsewhere) {
            let codes = &response["content"]["application/json"]["schema"]["allOf"][1]["properties"]["code"];
            documented.extend(codes["enum"].as_array().into_iter().flatten().map(text));
        }
        let all = &document.json["components"]["schemas"]["Error"]["properties"]["code"]["enum"];
        known.extend(all.as_array().unwrap().iter().map(text));
    }
    assert_eq!(documented, known);
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    assert_eq!(known.iter().find(|code| !readme.contains(&format!("`{code}`"))), None);
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Successful requests: together, every success response of every operation.
async fn granted(app: &TestApp, mode: AuthMode) -> Vec<RequestBuilder> {
    let get = |path: &str| app.request(Method::GET, path);
    let etag = app.get("/jwks").await.header("etag").unwrap().to_owned();
    let mut requests: Vec<_> = [
        "/.well-known/jwks.json",
        "/jwks",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
        "/faults",
        "/keys",
        "/openapi.json",
        "/healthz",
        "/readyz",
    ]
    .map(get)
    .into();
    requests.extend(["/.well-known/jwks.json", "/jwks"].map(|path| get(path).header("if-none-match", &etag)));
    let upload = json!({
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "theirs",
    });
    requests.push(app.post("/upload").bearer_auth(TOKEN).json(&upload));
    requests.extend(["/jwks", "/keys"].map(get));
    requests.push(app.request(Method::DELETE, "/keys/theirs").bearer_auth(TOKEN));
    requests.push(get("/metrics").bearer_auth(TOKEN));
    requests.push(app.post("/introspect").bearer_auth(TOKEN).form(&[("token", "x")]));
    match mode {
        AuthMode::Open => {
            let token = TestResponse::send(app.post("/auth")).await.token();
            requests.push(get("/verify").bearer_auth(token));
            requests.push(app.post("/auth"));
            requests.push(app.post("/auth?fault=alg-none").form(&[("claims", "{}"), ("ttl", "5m")]));
        }
        AuthMode::Password => {
            let password = app.register("alice").await;
            requests.push(get("/verify").bearer_auth(app.auth("alice", &password).await.token()));
            requests.push(app.post("/auth?expired").basic_auth("alice", Some(&password)));
            requests.push(app.post("/auth").form(&[("username", "alice"), ("password", password.as_str())]));
        }
    }
    // Last, because open mode issues no tokens on a store with accounts.
    requests.push(app.post("/register").json(&json!({"username": "bob", "email": "bob@example.com"})));
    requests
}

/// Successful requests about a new account. Not before the others, because open mode issues no tokens on a store with
/// accounts.
async fn granted_to_an_account(app: &TestApp) -> Vec<RequestBuilder> {
    let password = app.register("carol").await;
    let chosen = "correct horse battery staple";
    let change = json!({"username": "carol", "password": password, "new_password": chosen});
    vec![
        app.post("/password").json(&change),
        app.post("/password").form(&[("username", "carol"), ("password", chosen)]),
    ]
}

#[tokio::test]
async fn every_documented_success_response_occurs_and_no_other() {
    for mode in [AuthMode::Open, AuthMode::Password] {
        let (app, document) = app(mode).await;
        let mut seen = BTreeSet::new();
        let mut requests = VecDeque::from(granted(&app, mode).await);
        while let Some(request) = requests.pop_front() {
            let (method, path) = {
                let request = request.try_clone().unwrap().build().unwrap();
                (request.method().as_str().to_ascii_lowercase(), request.url().path().to_owned())
            };
            // `TestResponse` compares each response with the document.
            let answer = TestResponse::send(request).await;
            if path == "/register" {
                requests.extend(granted_to_an_account(&app).await);
            }
            seen.insert((document.path_of(&path).unwrap(), method, text(&json!(answer.status.as_str()))));
        }
        let mut announced = BTreeSet::new();
        for (path, method, said) in document.operations() {
            let statuses =
                said["responses"].as_object().unwrap().keys().filter(|status| status.as_str() < "400");
            announced.extend(statuses.map(|status| (path, method.to_owned(), status.clone())));
        }
        assert_eq!(seen, announced);
    }
}

#[tokio::test]
async fn the_examples_match_their_schemas_and_are_accepted() {
    for mode in [AuthMode::Open, AuthMode::Password] {
        let (app, document) = app(mode).await;
        for (path, method, said) in document.operations() {
            for (media_type, content) in said["requestBody"]["content"].as_object().into_iter().flatten() {
                let Some(example) = content.get("example") else { continue };
                let place = format!("/paths/{}/{method}/requestBody", path.replace('/', "~1"));
                let pointer = format!("{place}/content/{}/schema", media_type.replace('/', "~1"));
                document.validate(&pointer, example).unwrap();
                let request = app.post(path).bearer_auth(TOKEN).header("content-type", media_type);
                let answer = TestResponse::send(request.body(example.to_string())).await;
                assert!(answer.status.is_success(), "{answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_undocumented_response_is_detected() {
    let (app, document) = app(AuthMode::Password).await;
    let real = app.get("/readyz").await;
    let altered = |alter: &dyn Fn(&mut TestResponse)| {
        let (status, headers) = (real.status, real.headers.clone());
        let mut answer = TestResponse { status, headers, text: real.text.clone(), json: real.json.clone() };
        alter(&mut answer);
        document.check(&Method::GET, "/readyz", &answer)
    };
    assert_eq!(altered(&|_| {}), Ok(()));
    let changes: [&dyn Fn(&mut TestResponse); 4] = [
        &|answer| answer.status = StatusCode::IM_A_TEAPOT,
        &|answer| answer.headers = HeaderMap::new(),
        &|answer| answer.json = json!({"state": "ready"}),
        &|answer| {
            answer.headers.insert("content-type", "text/html".parse().unwrap());
        },
    ];
    for change in changes {
        assert_ne!(altered(change), Ok(()));
    }
    assert_ne!(document.check(&Method::GET, "/nowhere", &real), Ok(()));
    assert_ne!(document.check(&Method::POST, "/readyz", &real), Ok(()));
}
