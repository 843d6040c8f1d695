//! The layers: lower ones do not name upper ones, nor libraries that only upper ones use.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

fn sources(under: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(under)];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            found.push((path.clone(), fs::read_to_string(path).unwrap()));
        }
    }
    found
}

/// The sources of the program and of its crates.
fn rust_sources() -> Vec<(PathBuf, String)> {
    let is_source = |path: &Path| path.components().any(|part| part.as_os_str() == "src");
    let crates = sources("crates").into_iter().filter(|(path, _)| is_source(path));
    sources("src").into_iter().chain(crates).collect()
}

fn expect_absent(layer: &str, names: &[&str]) {
    for (path, text) in sources(layer) {
        for (number, line) in
            text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for name in names {
                assert!(!line.contains(name), "{}:{}: {name}", path.display(), number + 1);
            }
        }
    }
}

/// Each layer with what it must not name: the layers above it. What lies in a crate of its own, the compiler knows.
const LAYERS: [(&str, &[&str]); 8] = [
    (
        "crates/core/src/setting",
        &["issuer", "store", "key", "password", "token", "account", "rate_limit", "outage"],
    ),
    ("crates/core/src/key", &["issuer", "store", "rate_limit", "outage", "setting"]),
    ("crates/core/src/password", &["issuer", "store", "rate_limit", "outage", "setting"]),
    ("crates/core/src/token", &["issuer", "store", "rate_limit", "outage", "setting"]),
    ("crates/core/src/store", &["issuer", "rate_limit", "outage", "setting"]),
    ("crates/core/src/rate_limit.rs", &["issuer", "store", "outage"]),
    ("src/telemetry", &["config", "cli", "app"]),
    ("src/config", &["cli", "app"]),
];

#[test]
fn lower_layers_do_not_name_upper_ones() {
    for (layer, above) in LAYERS {
        let names: Vec<_> = above.iter().map(|name| format!("crate::{name}")).collect();
        expect_absent(layer, &names.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn what_things_are_does_no_io() {
    let core = ["account.rs", "client.rs", "clock.rs", "key", "password", "token"];
    for layer in core
        .map(|name| format!("crates/core/src/{name}"))
        .iter()
        .map(String::as_str)
        .chain(["crates/jose/src"])
    {
        expect_absent(layer, &["tokio", "std::fs", "std::net"]);
    }
}

/// What a crate does not depend on, it cannot name: so only the dependencies are looked at.
#[test]
fn each_crate_depends_only_on_crates_below_it_and_on_the_libraries_of_its_layer() {
    const ALL: [&str; 8] = [
        "jwksd-http",
        "jwksd-limit-valkey",
        "jwksd-store-postgres",
        "jwksd-store-sqlite",
        "jwksd-core",
        "axum",
        "redis",
        "sqlx",
    ];
    for (name, may) in [
        (".", &ALL[..5]),
        ("crates/limit-valkey", &["jwksd-core", "redis"]),
        ("crates/http", &["jwksd-core", "axum"]),
        ("crates/store-postgres", &["jwksd-core", "sqlx"]),
        ("crates/store-sqlite", &["jwksd-core", "sqlx"]),
        ("crates/core", &[]),
        ("crates/jose", &[]),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name).join("Cargo.toml");
        let manifest = fs::read_to_string(path).unwrap();
        let (_, dependencies) = manifest.split_once("\n[dependencies]\n").unwrap();
        let dependencies = dependencies.split("\n[").next().unwrap();
        let names: Vec<_> = dependencies.lines().filter_map(|line| line.split(['.', ' ']).next()).collect();
        let found: Vec<_> = ALL.into_iter().filter(|name| names.contains(name)).collect();
        assert_eq!(found, may, "{name}");
    }
}

#[test]
fn sql_is_in_the_crates_of_the_stores_and_error_status_codes_are_in_one_file() {
    for (path, text) in rust_sources() {
        let is_store = |part: &OsStr| part == "store-postgres" || part == "store-sqlite";
        if !path.components().any(|part| is_store(part.as_os_str())) {
            assert!(!text.contains("SELECT ") && !text.contains("INSERT INTO"), "{}", path.display());
        }
        if !path.ends_with("http/src/error.rs") {
            for code in
                ["BAD_REQUEST", "UNAUTHORIZED", "CONFLICT", "SERVICE_UNAVAILABLE", "TOO_MANY_REQUESTS"]
            {
                assert!(!text.contains(&format!("::{code}")), "{}: {code}", path.display());
            }
        }
    }
}

/// RUSTSEC-2023-0071 concerns operations of `rsa` on private keys. The only place that gives it one computes the primes of
/// a JWK that lacks them, for the commands.
#[test]
fn the_rsa_crate_reads_and_writes_keys_and_neither_signs_nor_decrypts() {
    for (path, text) in rust_sources() {
        for line in text.lines().filter(|line| line.trim_start().starts_with("use rsa::")) {
            let may = ["use rsa::pkcs1", "use rsa::pkcs8", "use rsa::BigUint;"];
            let is_the_one =
                path.ends_with("jose/src/private_key.rs") && line == "use rsa::{BigUint, RsaPrivateKey};";
            let names_more = line.contains("pkcs1v15");
            assert!(
                !names_more && (is_the_one || may.iter().any(|start| line.starts_with(start))),
                "{}: {line}",
                path.display()
            );
        }
        let others = text.replace("aws_lc_rs::rsa::", "").replace("use rsa::", "");
        assert!(!others.contains(" rsa::") && !others.contains("(rsa::"), "{}", path.display());
    }
}

/// Of the program and of every crate below `crates/`.
fn manifests() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let members = sources("crates").into_iter().filter(|(path, _)| path.ends_with("Cargo.toml"));
    [(root.clone(), fs::read_to_string(root).unwrap())].into_iter().chain(members).collect()
}

#[test]
fn our_code_forbids_unsafe() {
    let has = |manifest: &str, line| manifest.lines().any(|found| found == line);
    let manifests = manifests();
    assert!(has(&manifests[0].1, r#"unsafe_code = "forbid""#));
    for (path, manifest) in manifests {
        assert!(manifest.contains("[lints]\nworkspace = true\n"), "{}", path.display());
    }
}

#[test]
fn every_dependency_has_a_reason() {
    for (path, manifest) in manifests() {
        let (mut is_dependency, mut before) = (false, "");
        for line in manifest.lines() {
            if line.starts_with('[') {
                // The members that use a dependency of the workspace say why.
                is_dependency = line.ends_with("dependencies]") && line != "[workspace.dependencies]";
            } else if is_dependency && !line.is_empty() && !line.starts_with('#') {
                let has_reason = before.starts_with("# ") && !before.starts_with("# ---");
                assert!(has_reason, "{}: {line}", path.display());
            }
            before = line;
        }
    }
}

/// A file name without a folder belongs to the folder of the previous one.
#[test]
fn the_tests_that_security_md_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let (_, table) = page.split_once("## Where this is tested").unwrap();
    let (mut folder, mut named) = ("", 0);
    for name in table.split('`').skip(1).step_by(2).filter(|name| name.contains(['.', '/'])) {
        let (parent, file) = name.rsplit_once('/').unwrap_or((folder, name));
        assert!(root.join(parent).join(file).exists(), "{name}");
        (folder, named) = (parent, named + 1);
    }
    assert!(named > 20, "{named}");
}

#[test]
fn every_file_has_a_description() {
    for (path, text) in sources("src").into_iter().chain(sources("crates")).chain(sources("tests")) {
        let is_rust = path.extension().is_some_and(|extension| extension == "rs");
        let is_list_of_tests = path.parent().is_some_and(|parent| parent.ends_with("api"));
        assert!(!is_rust || is_list_of_tests || text.starts_with("//!"), "{}", path.display());
    }
}

#[test]
fn every_dependency_comes_from_the_registry_under_a_licence_that_deny_toml_allows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let deny = fs::read_to_string(root.join("deny.toml")).unwrap();
    let allowed: Vec<&str> = deny
        .lines()
        .skip_while(|line| !line.starts_with("allow = ["))
        .skip(1)
        .take_while(|line| !line.starts_with(']'))
        .filter_map(|line| line.trim().strip_prefix('"')?.split('"').next())
        .collect();
    let output = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        let (name, source) = (&package["name"], package["source"].as_str());
        let is_ours = name.as_str().is_some_and(|name| name == "jwksd" || name.starts_with("jwksd-"));
        assert!(is_ours || source == Some("registry+https://github.com/rust-lang/crates.io-index"), "{name}");
        let licence = package["license"].as_str().unwrap_or_default().replace('/', " OR ");
        let is_allowed =
            |all: &str| all.split(" AND ").all(|part| allowed.contains(&part.trim_matches(['(', ')', ' '])));
        assert!(licence.split(" OR ").any(is_allowed), "{name}: {licence}");
    }
}
