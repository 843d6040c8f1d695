//! What pages in browsers may do: `Host`, `Origin`, `Sec-Fetch-Site` and CORS.

use jwksd_http::{AllowedOrigins, AuthMode, BrowserConfig};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::helpers::{ISSUER, Setup, TestApp, TestResponse, decode, verify};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const PAGE: &str = "https://app.example";

const CROSS_SITE: &str = "A page of another origin may not do this: add its origin to ALLOWED_ORIGINS, or the name of this server to ALLOWED_HOSTS";
const UNKNOWN_HOST: &str =
    "This name of the server is unknown: use its IP address, or add the name to ALLOWED_HOSTS";

async fn app() -> TestApp {
    with_limit(0).await
}

/// Lets this many requests to /auth through in a second; all if it is 0.
async fn with_limit(auth_rate_limit: u32) -> TestApp {
    let browsers = BrowserConfig {
        hosts: vec!["known.example".to_owned()],
        origins: AllowedOrigins::Listed(vec![PAGE.to_owned()]),
    };
    let setup = Setup { admin_token: Some(TOKEN), browsers, ..Setup::default() };
    TestApp::with(Setup { auth_rate_limit, ..setup }).await
}

fn port(app: &TestApp) -> &str {
    app.url.rsplit(':').next().unwrap()
}

fn new_account(name: &str) -> Value {
    json!({"username": name, "email": format!("{name}@example.com")})
}

async fn send(request: RequestBuilder, headers: &[(&str, &str)]) -> TestResponse {
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    TestResponse::send(request).await
}

#[tokio::test]
async fn pages_and_the_admin_api_are_served_only_under_known_hosts() {
    let app = app().await;
    let metrics = |host: &str| {
        let request = app.request(Method::GET, "/metrics").bearer_auth(TOKEN);
        TestResponse::send(request.header("host", host.to_owned()))
    };
    for known in [
        "127.0.0.1",
        "127.0.0.1:8080",
        "[::1]:9",
        "192.0.2.7",
        "localhost",
        "LOCALHOST.:1",
        "issuer.example",
        "Known.Example:81",
        "known.example.",
    ] {
        assert_eq!(metrics(known).await.status, 200, "{known}");
    }
    for foreign in [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "notlocalhost",
        "known.example.evil.example",
        "127.0.0.1.evil.example",
        "127.1",
        "0x7f000001",
        "sub.known.example",
        "",
    ] {
        metrics(foreign).await.expect_error(421, "unknown_host", UNKNOWN_HOST);
    }
    for (method, path) in [
        (Method::POST, "/upload"),
        (Method::DELETE, "/keys/1"),
        (Method::GET, "/"),
        (Method::GET, "/console/x"),
    ] {
        let answer = send(app.request(method, path), &[("host", "evil.example")]).await;
        answer.expect_error(421, "unknown_host", UNKNOWN_HOST);
        assert!(answer.header("x-request-id").is_some());
    }
    app.get("/").await.expect_error(404, "not_found", "Not found");
}

#[tokio::test]
async fn verifiers_and_probes_reach_public_documents_under_every_host() {
    let app = app().await;
    for path in [
        "/.well-known/jwks.json",
        "/jwks",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server",
        "/healthz",
        "/readyz",
        "/keys",
        "/faults",
        "/openapi.json",
    ] {
        for host in ["jwksd:8080", "evil.example", "_x", ""] {
            let headers =
                [("host", host), ("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
            assert_eq!(send(app.request(Method::GET, path), &headers).await.status, 200, "{path} {host}");
        }
    }
    let password = app.register("alice").await;
    let account = json!({"username": "alice", "password": password});
    let elsewhere = send(app.post("/auth").json(&account), &[("host", "jwksd:8080")]).await;
    assert_eq!(elsewhere.status, 200, "servers call by any name");
}

#[tokio::test]
async fn a_page_of_another_origin_can_neither_register_nor_sign_in() {
    let app = app().await;
    let password = app.register("alice").await;
    let port = port(&app);
    let own = format!("127.0.0.1:{port}");
    for headers in [
        &[("origin", "https://evil.example")][..],
        &[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")],
        &[("origin", "null")],
        &[("origin", "")],
        &[("origin", "http://127.0.0.1:1")],
        &[("origin", "http://localhost:1")],
        &[("origin", "http://203.0.113.9")],
        &[("origin", "https://app.example.evil.example")],
        &[("origin", "https://app.example:8443")],
        &[("origin", "http://app.example")],
        &[("origin", "chrome-extension://known.example")],
        &[("origin", PAGE), ("origin", "https://evil.example")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "anything")],
    ] {
        let account = json!({"username": "alice", "password": password});
        let bodies = [("/register", new_account("eve")), ("/auth", account.clone()), ("/password", account)];
        for (path, body) in bodies {
            // A body that begins with `{` is JSON whatever its label, so a browser would send no preflight.
            let request = app.post(path).header("content-type", "text/plain").body(body.to_string());
            let answer = send(request.header("host", &own), headers).await;
            answer.expect_error(403, "cross_site", CROSS_SITE);
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("access-control-allow-origin"), None);
        }
    }
    let foreign = [("origin", "https://evil.example")];
    for (method, path) in [
        (Method::PUT, "/auth"),
        (Method::PATCH, "/nowhere"),
        (Method::DELETE, "/jwks"),
        (Method::POST, "/upload"),
        (Method::DELETE, "/keys/1"),
    ] {
        send(app.request(method, path), &foreign).await.expect_error(403, "cross_site", CROSS_SITE);
    }
    assert_eq!((app.count("users").await, app.count("auth_logs").await), (1, 0));
    app.auth("alice", &password).await.token();
}

#[tokio::test]
async fn dns_rebinding_is_refused_although_origin_and_host_agree() {
    let app = TestApp::with(Setup { auth_mode: AuthMode::Open, ..Setup::default() }).await;
    for host in ["evil.example", "evil.example:8080", "localhost.evil.example"] {
        let origin = format!("http://{host}");
        for site in [&[][..], &[("sec-fetch-site", "same-origin")]] {
            for path in ["/auth", "/register", "/password"] {
                let request = app.post(path).json(&new_account("eve")).header("host", host);
                let answer = send(request.header("origin", &origin), site).await;
                answer.expect_error(403, "cross_site", CROSS_SITE);
            }
        }
    }
    assert_eq!(app.count("users").await, 0);
}

#[tokio::test]
async fn pages_of_this_server_and_clients_without_an_origin_are_not_affected() {
    let app = app().await;
    let port = port(&app);
    let (ip, name) = (format!("127.0.0.1:{port}"), format!("localhost:{port}"));
    let (from_ip, from_name) = (format!("http://{ip}"), format!("http://{name}"));
    let cases: [(&str, &[(&str, &str)]); 9] = [
        (&ip, &[]),
        (&ip, &[("sec-fetch-site", "none")]),
        (&ip, &[("origin", &from_ip), ("sec-fetch-site", "same-origin")]),
        (&name, &[("origin", &from_name)]),
        (&ip, &[("origin", &from_name)]),
        // Behind a proxy that ends TLS and replaces `Host`.
        (&ip, &[("origin", ISSUER), ("sec-fetch-site", "same-origin")]),
        ("192.0.2.5", &[("origin", "https://192.0.2.5:443")]),
        ("[::1]:8080", &[("origin", "http://[::1]:8080")]),
        ("known.example", &[("origin", "https://known.example")]),
    ];
    for (at, (host, headers)) in cases.into_iter().enumerate() {
        let request = app.post("/register").json(&new_account(&format!("user{at}"))).header("host", host);
        assert_eq!(send(request, headers).await.status, 201, "{host} {headers:?}");
    }
    assert_eq!(app.count("users").await, 9);
}

fn preflight(app: &TestApp, path: &str, origin: &str, method: &str) -> RequestBuilder {
    let request = app.request(Method::OPTIONS, path).header("origin", origin);
    let request = request.header("access-control-request-method", method);
    request.header("access-control-request-headers", "content-type").header("sec-fetch-site", "cross-site")
}

#[tokio::test]
async fn every_page_may_read_what_is_public_also_after_a_preflight() {
    let app = app().await;
    for path in
        ["/jwks", "/.well-known/jwks.json", "/.well-known/openid-configuration", "/keys", "/openapi.json"]
    {
        let answer = TestResponse::send(preflight(&app, path, "https://anyone.example", "GET")).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""), "{path}");
        for (name, value) in [
            ("access-control-allow-origin", "*"),
            ("access-control-allow-methods", "GET, HEAD"),
            ("access-control-allow-headers", "*, Authorization"),
            ("access-control-expose-headers", "ETag"),
            ("access-control-max-age", "7200"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        assert!(answer.header("x-request-id").is_some());
    }
    for (path, allow) in [("/jwks", "GET,HEAD"), ("/auth", "POST")] {
        // Without these two headers it is not a preflight.
        let answer = TestResponse::send(app.request(Method::OPTIONS, path)).await;
        answer.expect_error(405, "method_not_allowed", "Method not allowed");
        assert_eq!(answer.header("allow"), Some(allow));
    }
}

#[tokio::test]
async fn a_preflight_is_judged_by_the_method_that_it_asks_about() {
    let app = app().await;
    for (path, method, status) in [
        ("/jwks", "HEAD", 204),
        ("/jwks", "POST", 405),
        ("/keys", "DELETE", 405),
        ("/keys", "b@d", 405),
        ("/keys/1", "GET", 405),
        ("/auth", "POST", 204),
        ("/auth", "GET", 405),
    ] {
        let answer = TestResponse::send(preflight(&app, path, PAGE, method)).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
        let is_granted = answer.header("access-control-allow-origin").is_some();
        assert_eq!(is_granted, status == 204, "{method} {path}");
    }
}

/// What a response says about the pages that may read it.
fn granted(answer: &TestResponse) -> [Option<&str>; 3] {
    ["access-control-allow-origin", "access-control-expose-headers", "vary"].map(|name| answer.header(name))
}

#[tokio::test]
async fn a_preflight_grants_exactly_what_the_responses_of_each_route_carry() {
    let app = app().await;
    let document = app.get("/openapi.json").await.json;
    let mut readable = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let url = path.replace("{kid}", "1");
        for method in methods.as_object().unwrap().keys().map(|method| method.to_ascii_uppercase()) {
            for origin in ["https://anyone.example", PAGE] {
                let before = TestResponse::send(preflight(&app, &url, origin, &method)).await;
                for method in if method == "GET" { vec!["GET", "HEAD"] } else { vec![&method[..]] } {
                    let request = app.request(method.parse().unwrap(), &url).header("origin", origin);
                    let answer = send(request, &[("sec-fetch-site", "cross-site")]).await;
                    assert_eq!(granted(&before), granted(&answer), "{method} {path} {origin}");
                    let is_granted = answer.header("access-control-allow-origin").is_some();
                    assert_eq!(before.status.as_u16(), if is_granted { 204 } else { 405 }, "{method} {path}");
                    if is_granted && origin != PAGE && method == "GET" {
                        readable.push(path.as_str());
                    }
                }
            }
        }
    }
    assert_eq!(
        readable,
        [
            "/.well-known/jwks.json",
            "/.well-known/oauth-authorization-server",
            "/.well-known/openid-configuration",
            "/faults",
            "/healthz",
            "/jwks",
            "/keys",
            "/openapi.json",
            "/readyz"
        ]
    );
    let refused = send(app.post("/jwks"), &[("origin", PAGE)]).await;
    assert_eq!((refused.status.as_u16(), granted(&refused)), (405, [None; 3]));
}

#[tokio::test]
async fn only_listed_origins_may_call_auth_register_and_password() {
    let app = with_limit(5).await;
    let password = app.register("alice").await;
    let page = [("origin", PAGE), ("sec-fetch-site", "cross-site")];
    for path in ["/auth", "/register", "/password"] {
        let answer = TestResponse::send(preflight(&app, path, PAGE, "POST")).await;
        assert_eq!((answer.status.as_u16(), answer.text.as_str()), (204, ""));
        for (name, value) in [
            ("access-control-allow-origin", PAGE),
            ("access-control-allow-methods", "POST"),
            ("access-control-allow-headers", "Authorization, Content-Type, X-Request-Id"),
            ("vary", "Origin"),
            ("cache-control", "no-store"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{path}");
        }
        for other in ["https://evil.example", "null", "https://app.example:444", "https://APP.example"] {
            let answer = TestResponse::send(preflight(&app, path, other, "POST")).await;
            answer.expect_error(405, "method_not_allowed", "Method not allowed");
            assert_eq!(answer.header("access-control-allow-origin"), None);
            assert_eq!(answer.header("vary"), Some("Origin"));
        }
    }
    let account = json!({"username": "alice", "password": password});
    let mut statuses = Vec::new();
    for body in [account.to_string(), "{}".to_owned(), "{".to_owned(), "{}".into(), "{}".into(), "{}".into()]
    {
        let answer = send(app.post("/auth").body(body), &page).await;
        assert_eq!(answer.header("access-control-allow-origin"), Some(PAGE));
        assert_eq!(answer.header("vary"), Some("Origin"));
        assert_eq!(
            answer.header("access-control-expose-headers"),
            Some("Retry-After, WWW-Authenticate, X-Request-Id")
        );
        statuses.push(answer.status.as_u16());
    }
    assert_eq!(statuses, [200, 401, 400, 401, 401, 429]);
    assert_eq!(send(app.post("/register").json(&new_account("bob")), &page).await.status, 201);
    let own = TestResponse::send(app.post("/register").json(&new_account("carol"))).await;
    assert_eq!((own.status.as_u16(), own.header("vary")), (201, Some("Origin")));
    assert_eq!(own.header("access-control-allow-origin"), None);
    // The list does not open the admin API to pages.
    let answer = TestResponse::send(preflight(&app, "/upload", PAGE, "POST")).await;
    answer.expect_error(405, "method_not_allowed", "Method not allowed");
    send(app.post("/upload").bearer_auth(TOKEN).body("{}"), &page).await.expect_error(
        403,
        "cross_site",
        CROSS_SITE,
    );
}

#[tokio::test]
async fn open_mode_can_allow_every_origin() {
    let browsers = BrowserConfig { hosts: Vec::new(), origins: AllowedOrigins::Any };
    let setup = Setup { auth_mode: AuthMode::Open, browsers, ..Setup::default() };
    let app = TestApp::with(Setup { admin_token: Some(TOKEN), ..setup }).await;
    for origin in ["https://anyone.example", "null"] {
        let answer = TestResponse::send(preflight(&app, "/auth", origin, "POST")).await;
        assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (204, Some("*")));
        let answer = send(app.post("/auth"), &[("origin", origin), ("sec-fetch-site", "cross-site")]).await;
        answer.token();
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let upload = app.post("/upload").bearer_auth(TOKEN).body("{}");
        send(upload, &[("origin", origin)]).await.expect_error(403, "cross_site", CROSS_SITE);
    }
}

#[tokio::test]
async fn an_issuer_with_a_path_answers_under_it_and_at_the_paths_of_both_standards() {
    for issuer in ["https://id.example/a/tenant", "https://id.example/a/tenant/"] {
        let app = TestApp::with(Setup { issuer, admin_token: Some(TOKEN), ..Setup::default() }).await;
        let get = async |path: &str| {
            let answer = reqwest::get(format!("{}{path}", app.url)).await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        };
        let discovery = get("/.well-known/openid-configuration").await;
        assert_eq!(discovery.1["issuer"], issuer);
        assert_eq!(discovery.1["jwks_uri"], "https://id.example/a/tenant/.well-known/jwks.json");
        for path in [
            "/.well-known/oauth-authorization-server/a/tenant",
            "/a/tenant/.well-known/openid-configuration",
            "/.well-known/openid-configuration/a/tenant",
            "/a/tenant/.well-known/oauth-authorization-server",
        ] {
            assert_eq!(get(path).await, discovery, "{path}");
        }
        let jwks = get("/jwks").await;
        for path in ["/a/tenant/.well-known/jwks.json", "/a/tenant/jwks", "/a/tenant/jwks?x=y"] {
            assert_eq!(get(path).await, jwks, "{path}");
        }
        assert_eq!(get("/a/tenant/healthz").await.0, 200);
        for path in ["/a/tenant", "/a/tenantjwks", "/tenant/jwks", "/jwks/a/tenant", "/a/tenant/metrics"] {
            assert_eq!(get(path).await.0, 404, "{path}");
        }

        let client = reqwest::Client::new();
        let post = async |path: &str, body: &Value| {
            let answer = client.post(format!("{}{path}", app.url)).json(body).send().await.unwrap();
            (answer.status().as_u16(), answer.json::<Value>().await.unwrap())
        };
        let (status, made) = post("/a/tenant/register", &new_account("alice")).await;
        assert_eq!(status, 201);
        let account = json!({"username": "alice", "password": made["password"]});
        let (status, answer) = post("/a/tenant/auth?expired=false", &account).await;
        assert_eq!(status, 200, "{answer}");
        let token = answer["token"].as_str().unwrap();
        assert_eq!(decode(token).1["iss"], issuer);
        // `verify` expects the issuer of the other tests: only that may be wrong.
        assert_eq!(verify(token, &app.jwks().await).unwrap_err(), "InvalidIssuer");
        assert_eq!(post("/a/tenant/auth?expired=x", &account).await.1["code"], "invalid_expired");
    }
}

#[tokio::test]
async fn the_limit_of_auth_holds_under_the_path_of_the_issuer_too() {
    let setup = Setup { issuer: "https://id.example/tenant", auth_rate_limit: 2, ..Setup::default() };
    let app = TestApp::with(setup).await;
    let client = reqwest::Client::new();
    let mut statuses = Vec::new();
    for path in ["/tenant/auth", "/auth", "/tenant/auth", "/auth"] {
        statuses.push(client.post(format!("{}{path}", app.url)).send().await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [401, 401, 429, 429]);
}
