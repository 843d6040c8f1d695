//! The layers: lower ones do not name upper ones, nor libraries that only upper ones use.

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

fn expect_absent(layer: &str, names: &[&str]) {
    // The issuer's unit tests use a real database.
    for (path, text) in sources(layer).into_iter().filter(|(path, _)| !path.ends_with("tests.rs")) {
        for (number, line) in
            text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
        {
            for name in names {
                assert!(!line.contains(name), "{}:{}: {name}", path.display(), number + 1);
            }
        }
    }
}

/// Each layer with what it must not name: the layers above it, and the libraries that only those use.
const LAYERS: [(&str, &[&str]); 9] = [
    ("setting", &["config", "cli", "app", "http", "issuer", "store", "domain", "rate_limit", "telemetry"]),
    ("domain", &["config", "cli", "app", "http", "issuer", "store", "rate_limit", "telemetry", "setting"]),
    ("store", &["config", "cli", "app", "http", "issuer", "rate_limit", "telemetry"]),
    ("issuer", &["config", "cli", "app", "http", "rate_limit", "telemetry", "store::sqlite"]),
    ("rate_limit.rs", &["config", "cli", "app", "http", "issuer", "store", "telemetry"]),
    ("telemetry", &["config", "cli", "app", "http", "issuer", "store", "rate_limit"]),
    ("http", &["config", "cli", "app", "store::sqlite"]),
    ("config", &["cli", "app"]),
    ("app.rs", &["cli"]),
];

#[test]
fn lower_layers_do_not_name_upper_ones() {
    for (layer, above) in LAYERS {
        let names: Vec<_> = above.iter().map(|name| format!("crate::{name}")).collect();
        expect_absent(&format!("src/{layer}"), &names.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn the_domain_and_jose_do_no_io() {
    for layer in ["src/domain", "crates/jose/src"] {
        expect_absent(layer, &["axum", "sqlx", "tokio", "std::fs", "std::net"]);
    }
}

#[test]
fn only_the_store_knows_the_database_and_only_http_knows_axum() {
    for layer in
        ["src/store", "src/issuer", "src/rate_limit.rs", "src/telemetry", "src/config", "src/setting"]
    {
        expect_absent(layer, &["axum"]);
    }
    for layer in ["src/issuer", "src/http", "src/rate_limit.rs", "src/telemetry", "src/setting"] {
        expect_absent(layer, &["sqlx"]);
    }
}

#[test]
fn sql_is_in_one_folder_and_error_status_codes_are_in_one_file() {
    for (path, text) in sources("src") {
        if !path.components().any(|part| part.as_os_str() == "sqlite") {
            assert!(!text.contains("SELECT ") && !text.contains("INSERT INTO"), "{}", path.display());
        }
        if !path.ends_with("http/error.rs") {
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
    for (path, text) in sources("src").into_iter().chain(sources("crates/jose/src")) {
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
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for package in metadata["packages"].as_array().unwrap() {
        let (name, source) = (&package["name"], package["source"].as_str());
        let is_ours = name == "jwksd" || name == "jwksd-jose";
        assert!(is_ours || source == Some("registry+https://github.com/rust-lang/crates.io-index"), "{name}");
        let licence = package["license"].as_str().unwrap_or_default().replace('/', " OR ");
        let is_allowed =
            |all: &str| all.split(" AND ").all(|part| allowed.contains(&part.trim_matches(['(', ')', ' '])));
        assert!(licence.split(" OR ").any(is_allowed), "{name}: {licence}");
    }
}
