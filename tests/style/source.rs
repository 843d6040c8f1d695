//! The files of the project, and which of their lines are code and which are comments.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The `src` folders of the root package and of the other crates of the workspace.
pub(crate) fn crates() -> Vec<PathBuf> {
    let others = fs::read_dir(root().join("crates")).into_iter().flatten();
    let others = others.map(|entry| entry.unwrap().path().join("src")).filter(|path| path.is_dir());
    [root().join("src")].into_iter().chain(others).collect()
}

/// Every Rust file of those folders, as a path below the root, with its text.
pub(crate) fn rust_files() -> impl Iterator<Item = (String, String)> {
    let files = crates().into_iter().flat_map(|folder| files(&folder));
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).map(|path| read(&path))
}

/// Every text below these places, if they exist, except recorded data, lists of passwords with their licences, and the lists of this test itself.
pub(crate) fn texts(places: &[&str]) -> Vec<(String, String)> {
    let exceptions =
        ["tests/data/", "crates/jose/tests/data/", "tests/style/", "crates/core/src/password/common/"];
    places
        .iter()
        .flat_map(|place| files(&root().join(place)))
        .filter(|path| fs::read(path).is_ok_and(|bytes| str::from_utf8(&bytes).is_ok()))
        .map(|path| read(&path))
        .filter(|(path, _)| !exceptions.iter().any(|start| path.starts_with(start)))
        .collect()
}

fn read(path: &Path) -> (String, String) {
    let name = path.strip_prefix(root()).unwrap().display().to_string();
    (name, fs::read_to_string(path).unwrap())
}

/// The files below a place in a fixed order: none if it is missing, itself if it is a file.
pub(crate) fn files(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let mut entries: Vec<_> =
        fs::read_dir(place).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries.iter().flat_map(|entry| files(entry)).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Code,
    /// Code with a plain comment behind it.
    CodeAndComment,
    /// A plain comment, `//` or `/* */`.
    Comment,
    /// Blank, or documentation.
    Other,
}

/// What each line of a Rust file is, up to its unit tests, which are last by the rules of the project.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = Line> {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let text = text.get(..end).unwrap();
    let (code, comments) = (without_comments(text), without_documentation(text));
    let lines: Vec<_> = code
        .lines()
        .zip(comments.lines())
        .map(|(code, all)| match (code.trim().is_empty(), code.trim() == all.trim()) {
            (true, true) => Line::Other,
            (false, true) => Line::Code,
            (false, false) => Line::CodeAndComment,
            (true, false) => Line::Comment,
        })
        .collect();
    lines.into_iter()
}

/// The text with documentation blanked; plain comments stay.
fn without_documentation(text: &str) -> String {
    let blank = |line: &str| {
        let line = line.trim_start();
        (line.starts_with("///") && !line.starts_with("////")) || line.starts_with("//!")
    };
    text.lines().map(|line| if blank(line) { "\n".to_owned() } else { format!("{line}\n") }).collect()
}

/// The text with every comment blanked, line by line. Texts in quotes are no comments.
fn without_comments(text: &str) -> String {
    let (mut rest, mut code) = (text, String::new());
    while let Some(first) = rest.chars().next() {
        let (length, is_comment) = token(rest, first);
        let (token, after) = rest.split_at(length);
        if is_comment {
            code.extend(token.chars().filter(|each| *each == '\n'));
        } else {
            code.push_str(token);
        }
        rest = after;
    }
    code
}

/// The length of a comment, of a text in quotes, or of one character; and whether it is a comment.
fn token(rest: &str, first: char) -> (usize, bool) {
    let until = |end: &str, from: usize| {
        let found = rest.get(from..).and_then(|rest| rest.find(end));
        found.map_or(rest.len(), |at| from + at + end.len())
    };
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), true);
    }
    if rest.starts_with("/*") {
        return (until("*/", 2), true);
    }
    if first == 'r' && (rest.starts_with("r\"") || rest.starts_with("r#")) {
        let hashes = rest.chars().skip(1).take_while(|each| *each == '#').count();
        if rest.chars().nth(1 + hashes) == Some('"') {
            return (until(&format!("\"{}", "#".repeat(hashes)), hashes + 2), false);
        }
    }
    if first == '"' {
        let mut is_escaped = false;
        for (at, each) in rest.char_indices().skip(1) {
            match each {
                '"' if !is_escaped => return (at + 1, false),
                '\\' => is_escaped = !is_escaped,
                _ => is_escaped = false,
            }
        }
    }
    // A quote as a character would begin a text otherwise.
    for quote in ["'\"'", "'\\\"'", "b'\"'"] {
        if rest.starts_with(quote) {
            return (quote.len(), false);
        }
    }
    (first.len_utf8(), false)
}

/// Whether an item is compiled for unit tests only.
pub(crate) fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

/// The attributes of an item, of the kinds that files contain.
pub(crate) fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
