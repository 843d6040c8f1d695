//! How the project is written: plain words, comments that give reasons, modules that a newcomer can follow.

mod imports;
mod source;
mod words;

use std::fs;
use std::path::Path;

use syn::visit::Visit;

use self::source::{Line, rust_files, texts};

/// Texts that the rules of language hold for. SQL is missing: a released migration is never edited.
const TEXTS: [&str; 18] = [
    "src",
    "crates",
    "tests",
    "benches",
    "fuzz/fuzz_targets",
    "fuzz/oracles",
    "fuzz/Cargo.toml",
    "docs",
    "packaging",
    "README.md",
    "ARCHITECTURE.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "Cargo.toml",
    ".env.example",
    ".ci",
    "Dockerfile",
];

/// Reports all findings of a rule at once, one a line.
fn expect_none(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n{}\n{} findings", findings.join("\n"), findings.len());
}

#[test]
fn all_texts_use_plain_words() {
    let mut findings = Vec::new();
    for (path, text) in texts(&TEXTS) {
        let found = words::forbidden(&text).into_iter();
        findings.extend(found.map(|(line, word)| format!("{path}:{line}: {word}")));
    }
    expect_none("write it in plain English", &findings);
}

#[test]
fn citations_name_the_section_as_in_rfc_7517_section_4_3() {
    let mut findings = Vec::new();
    for (path, text) in texts(&TEXTS) {
        let found = words::other_citations(&text).into_iter();
        findings.extend(found.map(|(line, citation)| format!("{path}:{line}: {citation}")));
    }
    expect_none("cite as \"RFC 7517 §4.3\"", &findings);
}

#[test]
fn three_to_seven_comments_in_a_hundred_lines_of_code_give_reasons() {
    let (mut code, mut comments) = (0_u32, 0_u32);
    for (_, text) in rust_files().filter(|(path, _)| !path.ends_with("/tests.rs")) {
        for line in source::lines(&text) {
            match line {
                Line::Code => code += 1,
                Line::CodeAndComment => (code, comments) = (code + 1, comments + 1),
                Line::Comment => comments += 1,
                Line::Other => {}
            }
        }
    }
    let per_hundred = f64::from(comments) * 100.0 / f64::from(code);
    println!("{comments} lines of plain comments in {code} lines of code: {per_hundred:.2} per hundred");
    assert!((3.0..=7.0).contains(&per_hundred), "{per_hundred:.2} per hundred lines of code");
}

/// Names of the types that the items define, or what a table of contents must not contain.
#[derive(Default)]
struct Contents {
    types: Vec<String>,
    others: Vec<String>,
}

impl<'ast> Visit<'ast> for Contents {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        match item {
            _ if source::is_for_tests(source::attributes(item)) => {}
            syn::Item::Mod(module) if module.content.is_none() => {}
            syn::Item::Use(_) | syn::Item::Impl(_) => {}
            syn::Item::Struct(defined) => self.types.push(defined.ident.to_string()),
            syn::Item::Enum(defined) => self.types.push(defined.ident.to_string()),
            syn::Item::Trait(defined) => self.types.push(defined.ident.to_string()),
            syn::Item::Fn(function) => self.others.push(format!("fn {}", function.sig.ident)),
            syn::Item::Mod(module) => self.others.push(format!("mod {} {{ … }}", module.ident)),
            syn::Item::Const(constant) => self.others.push(format!("const {}", constant.ident)),
            syn::Item::Static(constant) => self.others.push(format!("static {}", constant.ident)),
            syn::Item::Type(alias) => self.others.push(format!("type {}", alias.ident)),
            _ => self.others.push("an item of another kind".to_owned()),
        }
    }
}

#[test]
fn module_roots_are_tables_of_contents_with_at_most_one_type() {
    let mut findings = Vec::new();
    for (path, text) in
        rust_files().filter(|(path, _)| path.ends_with("/mod.rs") || path.ends_with("/lib.rs"))
    {
        let mut contents = Contents::default();
        contents.visit_file(&syn::parse_file(&text).unwrap());
        findings.extend(contents.others.iter().map(|other| format!("{path}: {other}")));
        if contents.types.len() > 1 {
            findings.push(format!("{path}: several types: {}", contents.types.join(", ")));
        }
    }
    expect_none("move it to a file that is named after it", &findings);
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let findings: Vec<_> = source::crates()
        .into_iter()
        .flat_map(|root| imports::circles(&root))
        .map(|circle| circle.join(" -> "))
        .collect();
    expect_none("a newcomer must be able to read one file before the other", &findings);
}

#[test]
fn the_rules_find_what_they_are_for() {
    let text = "/// The key is none\n/// of for want\n//! of `nobody_knows` Somebody's RFC 7517, 4.3, RFC 7515 A.3.\n";
    let text =
        format!("{text}is_none() there is no key, no longer alone; RFC 7517 §4.3, RFC 7515 and RFC 7519.\n");
    let found = words::forbidden(&text).into_iter().map(|(line, word)| format!("{line} {word}"));
    assert_eq!(
        found.collect::<Vec<_>>(),
        ["1 is none", "2 for want of", "3 nobody", "3 somebody", "4 alone"]
    );
    let found =
        words::other_citations(&text).into_iter().map(|(line, citation)| format!("{line} {citation}"));
    assert_eq!(found.collect::<Vec<_>>(), ["3 RFC 7517, 4.3", "3 RFC 7515 A.3"]);

    let text = "//! a\n\nfn f() { // why\n    g(\"// x\"); // why\n}\n// why\n/* why */\n#[cfg(test)]\nmod tests {\n// why\n}\n";
    let kinds: Vec<_> = source::lines(text).collect();
    let expected = [
        Line::Other,
        Line::Other,
        Line::CodeAndComment,
        Line::CodeAndComment,
        Line::Code,
        Line::Comment,
        Line::Comment,
    ];
    assert_eq!(kinds, expected);
}

#[test]
fn the_circles_are_found_through_re_exports_and_macros() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("lib.rs", "mod a; mod b;\n#[cfg(test)] mod tests { use crate::a::One; }");
    write("a/mod.rs", "mod one; mod two;\npub use self::one::One;");
    write("a/one.rs", "pub struct One;\nuse super::two;\nfn f() { two::g() }");
    write("a/two.rs", "pub fn g() { println!(\"{}\", crate::b::h()) }");
    write("b.rs", "use crate::a::One;\npub fn h() -> One { One }");
    let circles = imports::circles(folder.path());
    let names = |path: &Path| path.strip_prefix(folder.path()).unwrap().display().to_string();
    let circles: Vec<Vec<_>> =
        circles.iter().map(|circle| circle.iter().map(|path| names(Path::new(path))).collect()).collect();
    assert_eq!(circles, [["a/one.rs", "a/two.rs", "b.rs", "a/one.rs"]]);
    write("a/two.rs", "pub fn g() {}\n#[cfg(test)] mod tests { use crate::b::h; }");
    assert!(imports::circles(folder.path()).is_empty());
}
