//! The `.env` file: which of its lines set our settings, and to what.
//!
//! Other programs keep their settings in the same file, in dialects of their own. Their lines are skipped, also those that
//! cannot be read. A line that sets one of ours is read or refused, with its number and never with its value.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::Metadata;
use std::path::Path;

use zeroize::Zeroizing;

use super::dotenv_file::DOTENV;
use super::small_file::{self, Pipes, SmallFile, UnreadableFile, is_utf16};
use super::table::{SECRETS, SETTINGS};
use jwksd_core::setting::ConfigError;
use jwksd_core::trim::{is_invisible, trim_invisible};

/// Words that shells of Unix and Windows write before a name. Only `export` is part of the format.
const PREFIXES: [&str; 6] = ["export ", "export\t", "set ", "SET ", "setenv ", "$env:"];

/// Our settings, as the file has them.
pub(super) type Dotenv = HashMap<&'static str, Zeroizing<String>>;

/// The `.env` of the working directory, not of its parents, with the metadata of the file that was read.
pub(super) fn read() -> Result<(Dotenv, Option<Metadata>), ConfigError> {
    match small_file::read(Path::new(DOTENV), Pipes::Refused) {
        Ok(SmallFile { bytes, metadata }) => Ok((parse_dotenv(&bytes)?, Some(metadata))),
        Err(error) if error.is_missing() => Ok((Dotenv::new(), None)),
        Err(error) => {
            let remedy = match &error {
                UnreadableFile::Io(_) => "change its owner or its mode",
                UnreadableFile::Kind(_) | UnreadableFile::Silent => "put a file with NAME=value lines there",
                UnreadableFile::TooLong => "keep only settings in it",
            };
            Err(ConfigError::Dotenv(format!("{error}: {remedy}")))
        }
    }
}

/// Parses the bytes of a `.env` into those of our settings that it contains.
///
/// # Errors
/// [`ConfigError`] for UTF-16, for a NUL byte, for a line that sets one of our settings but cannot be read, and for a secret with a `$`
/// that dotenv would substitute.
pub fn parse_dotenv(bytes: &[u8]) -> Result<Dotenv, ConfigError> {
    if is_utf16(bytes) {
        return Err(ConfigError::Dotenv("it is in UTF-16: save it as UTF-8".to_owned()));
    }
    // A text in UTF-16 that was appended to one in UTF-8: its settings would be skipped without notice.
    if let Some(line) = line_with_nul(bytes) {
        let text = format!("line {line} has a NUL byte, as text in UTF-16 has: save the whole file as UTF-8");
        return Err(ConfigError::Dotenv(text));
    }
    let lines = lines(bytes);
    let mut readable = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    let mut unclosed = Unclosed::default();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        let line = &**line;
        let mut taken = 1;
        if let Some(name) = setting_with_invisible_name(line) {
            let text = "has an invisible character next to the name, as web pages have: type the name again";
            return Err(refusal(name, at + 1, text));
        }
        if let Some(name) = setting_of(line) {
            check(name, line, at + 1)?;
            push_line(&mut readable, line);
        } else if !line.starts_with('#') {
            taken = unclosed.lines_of_value(lines.get(at..).unwrap_or_default());
            let value = lines.iter().skip(at).take(taken).map(|line| &**line).collect::<Vec<_>>();
            let value = Zeroizing::new(value.join("\n"));
            // Kept if it can be read, because our lines may refer to it: DATABASE_URL=$HOME/jwksd.db.
            if pairs(&value).is_some() {
                push_line(&mut readable, &value);
            }
        }
        at += taken;
    }
    let unreadable = || ConfigError::Dotenv("it cannot be read: write NAME=value lines".to_owned());
    let pairs = pairs(&readable).ok_or_else(unreadable)?;
    Ok(pairs.into_iter().filter_map(|(name, value)| Some((ours(&name)?, value))).collect())
}

/// Names and values in the order of the file; `None` if it cannot be read.
fn pairs(text: &str) -> Option<Vec<(String, Zeroizing<String>)>> {
    // The library takes a blank before the end of the file for an open value, but not one before a line break.
    let text = Zeroizing::new(format!("{text}\n"));
    dotenvy::from_read_iter(text.as_bytes())
        .map(|pair| pair.map(|(name, value)| (name, Zeroizing::new(value))).ok())
        .collect()
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// The number of the first line with a NUL byte.
fn line_with_nul(bytes: &[u8]) -> Option<usize> {
    let before = bytes.get(..bytes.iter().position(|byte| *byte == 0)?)?;
    let is_at_start = matches!(before.last(), None | Some(b'\n' | b'\r'));
    Some(lines(before).len() + usize::from(is_at_start))
}

/// The lines without what surrounds them, such as the byte order marks of editors on Windows. Bytes that are not UTF-8
/// make a line owned.
fn lines(bytes: &[u8]) -> Vec<Cow<'_, str>> {
    let mut lines = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len());
        let (line, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        rest = match after {
            [b'\r', b'\n', after @ ..] | [_, after @ ..] => after,
            [] => after,
        };
        lines.push(match String::from_utf8_lossy(line) {
            Cow::Borrowed(line) => Cow::Borrowed(trim_invisible(line)),
            Cow::Owned(line) => Cow::Owned(trim_invisible(&line).to_owned()),
        });
    }
    lines
}

/// Our name for this setting, if it is one of ours.
fn ours(name: &str) -> Option<&'static str> {
    let settings = SETTINGS.iter().map(|setting| setting.name);
    settings.chain(SECRETS.iter().map(|secret| secret.name)).find(|ours| *ours == name)
}

fn is_secret(name: &str) -> bool {
    SECRETS.iter().any(|secret| secret.name == name)
}

/// The setting of ours that a line sets, or was meant to set.
fn setting_of(line: &str) -> Option<&'static str> {
    let prefixed = PREFIXES.iter().find_map(|prefix| line.strip_prefix(prefix));
    let rest = prefixed.unwrap_or(line).trim_start();
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let (name, after) = rest.split_at(rest.find(|c| !is_of_name(c)).unwrap_or(rest.len()));
    // HOST-NAME and PORT/x are names of other programs.
    if after.starts_with(|c: char| !c.is_whitespace() && !matches!(c, '=' | ':')) {
        return None;
    }
    let (name, after) = (ours(name)?, after.trim_start());
    // Without `=` it sets nothing, as in `export PORT` or in prose, unless it looks like `PORT: 80` or `PORT 80`.
    let is_meant = || {
        let words = after.split_whitespace().count();
        // In `HOST NAME=x`, the name of another program has a blank.
        let has_name = !is_secret(name) && after.trim_start_matches(is_of_name).starts_with('=');
        after.starts_with(':') || (words == 1 && !has_name) || (words > 1 && is_secret(name))
    };
    (after.starts_with('=') || (prefixed.is_none() && is_meant())).then_some(name)
}

/// The setting that a line sets for a reader, with a character before or in its name, or behind it, that cannot be seen. With
/// it, the name would count as that of another program.
fn setting_with_invisible_name(line: &str) -> Option<&'static str> {
    let is_hidden = |c: char| is_invisible(c) && !c.is_whitespace();
    let before_value = line.split('=').next().unwrap_or_default();
    before_value.contains(is_hidden).then(|| {
        let visible: Zeroizing<String> = Zeroizing::new(line.chars().filter(|c| !is_hidden(*c)).collect());
        setting_of(&visible)
    })?
}

fn refusal(name: &str, number: usize, why: &str) -> ConfigError {
    ConfigError::Dotenv(format!("line {number}, which sets {name}, {why}"))
}

/// Refuses a line that sets one of our settings, and that dotenv cannot read or would read as something else.
fn check(name: &'static str, line: &str, number: usize) -> Result<(), ConfigError> {
    let refuse = |why: &str| Err(refusal(name, number, why));
    if line.contains(char::REPLACEMENT_CHARACTER) {
        return refuse("is not in UTF-8: save the file as UTF-8");
    }
    let value = line.split_once('=').map_or("", |(_, value)| value.trim_start());
    // dotenvy replaces $NAME as a shell does, so the master key would differ from the text in the file.
    if is_secret(name) && value.contains('$') && !value.starts_with('\'') {
        let problem = format!("has a $ in .env (line {number}): put the value in 'single quotes'");
        return Err(ConfigError::Secret { name, problem });
    }
    // A shell would join the next line, dotenvy only drops the backslash.
    if line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1 {
        return refuse("ends in a backslash: write the whole value on that line");
    }
    if let Some(problem) = lost_line_break(value) {
        return refuse(&problem);
    }
    if pairs(line).is_none() {
        return refuse(
            "cannot be read: write NAME=value, with 'quotes' around a value that has spaces or quotes, and close them on \
             that line",
        );
    }
    Ok(())
}

/// What is wrong with a value that sets a secret too, as when a `;` or a blank stands where a line break belongs.
pub(super) fn lost_line_break(value: &str) -> Option<String> {
    let sets = |name: &str| {
        value.match_indices(name).any(|(at, _)| {
            value.get(at + name.len()..).is_some_and(|after| after.trim_start().starts_with('='))
        })
    };
    let secret = SECRETS.iter().find(|secret| sets(secret.name))?;
    Some(format!("contains {}=: write each setting on a line of its own", secret.name))
}

/// The kinds of quotes that are not closed anywhere in the rest of the file. Each is searched only once.
#[derive(Default)]
struct Unclosed(Vec<char>);

impl Unclosed {
    /// The number of lines that the first one takes up: more than one if a quote at the start of its value is closed at
    /// the end of a later line. An apostrophe elsewhere, or a quote that was never closed, is only a character.
    fn lines_of_value(&mut self, lines: &[Cow<'_, str>]) -> usize {
        let Some((_, value)) = lines.first().and_then(|line| line.split_once('=')) else {
            return 1;
        };
        let value = value.trim_start();
        let Some(quote) = value.chars().next().filter(|c| matches!(c, '\'' | '"' | '`')) else {
            return 1;
        };
        if self.0.contains(&quote) {
            return 1;
        }
        let first = value.get(1..).unwrap_or_default();
        let texts = std::iter::once(first).chain(lines.iter().skip(1).map(|line| &**line));
        for (count, text) in (1..).zip(texts) {
            if let Some(after) = after_quote(text, quote) {
                let is_end = after.trim_start().is_empty() || after.trim_start().starts_with('#');
                return if is_end { count } else { 1 };
            }
        }
        self.0.push(quote);
        1
    }
}

/// What follows the first of these quotes that is not escaped.
fn after_quote(text: &str, quote: char) -> Option<&str> {
    let mut is_escaped = false;
    let (at, _) = text.char_indices().find(|(_, c)| {
        let is_end = !is_escaped && *c == quote;
        is_escaped = !is_escaped && *c == '\\';
        is_end
    })?;
    text.get(at + quote.len_utf8()..)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOREIGN: &str = "APP_NAME=My App\nMOTD=it's fine\nMY-APP=1\nlonely\nGREETING=\"Hello\nexport HOST PORT\n\
                           HOST-NAME=x\nPORT-A=1\nPORT/x\nPORT'S\nNOT_MY_KEY-FILE=x y\nHOST[0]=x\nHOST+=x\nHOST is …\nHOST NAME=x\n\
                           HOST and PORT are set below\nset -a\n=x\n# it's a comment\nexport\nYAML: value\n'\n\"\n\
                           LAST=\"unclosed\n";

    fn value(bytes: &[u8], name: &str) -> Option<String> {
        parse_dotenv(bytes).unwrap().get(name).map(|value| value.as_str().to_owned())
    }

    #[track_caller]
    fn refused(text: &[u8]) -> String {
        parse_dotenv(text).unwrap_err().to_string()
    }

    #[test]
    fn lines_of_other_programs_are_skipped_wherever_they_stand() {
        let ours = "PORT=81 # it's ours\n\u{feff}export ISSUER = \"https://x\"";
        for text in
            [format!("{FOREIGN}{ours}\n"), format!("{ours}\n{FOREIGN}"), format!("{ours}\r\n{FOREIGN}")]
        {
            let found = parse_dotenv(text.as_bytes()).unwrap();
            assert_eq!(found.len(), 2, "{found:?}");
            assert_eq!(value(text.as_bytes(), "PORT").as_deref(), Some("81"));
            assert_eq!(value(text.as_bytes(), "ISSUER").as_deref(), Some("https://x"));
        }
        assert_eq!(value(b"NAME=Caf\xE9\nPORT=81\rAUDIENCE=x ", "PORT").as_deref(), Some("81"));
        assert_eq!(value(b"NAME=Caf\xE9\nPORT=81\rAUDIENCE=x ", "AUDIENCE").as_deref(), Some("x"));
    }

    #[test]
    fn a_quoted_value_of_another_program_may_have_lines_that_look_like_ours() {
        let text = b"CERT=\"-----BEGIN\nPORT=1\n-----END\" # end\nPORT=81\nKEY='a\\'\nPORT=2\n'\nBASE=/data\nDATABASE_URL=$BASE/x.db";
        assert_eq!(value(text, "PORT").as_deref(), Some("81"));
        assert_eq!(value(text, "DATABASE_URL").as_deref(), Some("/data/x.db"));
        // The quote in the first line was forgotten: the next one belongs to another value.
        assert_eq!(value(b"A=\"one\nPORT=81\nB=\"two\"\n", "PORT").as_deref(), Some("81"));
    }

    #[test]
    fn a_line_of_ours_that_cannot_be_read_is_refused_with_its_number_and_without_its_value() {
        for line in [
            "NOT_MY_KEY=two hunter2",
            "NOT_MY_KEY='hunter2",
            "NOT_MY_KEY=\"hunter2\nADMIN_TOKEN=\"x\"",
            "ADMIN_TOKEN=it's hunter2",
            "NOT_MY_KEY: hunter2",
            "NOT_MY_KEY hunter2 hunter2",
            "set NOT_MY_KEY=hunter2",
            "$env:NOT_MY_KEY = \"hunter2\"",
            "PORT 8081",
            "AUDIENCE=hunter2\\",
        ] {
            let said = refused(format!("{FOREIGN}\n{line}\n").as_bytes());
            assert!(said.starts_with(".env: line 26, which sets "), "{line}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
        let message = ".env: line 2, which sets AUDIENCE, is not in UTF-8: save the file as UTF-8";
        assert_eq!(refused(b"PORT=81\nAUDIENCE=Caf\xE9\n"), message);
        let message = "NOT_MY_KEY has a $ in .env (line 1): put the value in 'single quotes'";
        assert_eq!(refused(b"NOT_MY_KEY=hunter$2\n"), message);
    }

    #[test]
    fn a_line_of_ours_with_an_invisible_character_is_refused_and_not_skipped() {
        for hidden in
            ["\u{200b}", "\u{feff}", "\u{2060}", "\u{ad}", "\u{200d}", "\u{202a}", "\u{3164}", "\u{8}"]
        {
            for line in [
                "NOT_MY_KEY?=hunter2",
                "NOT_MY_KEY ?= hunter2",
                "NOT_?MY_KEY=hunter2",
                "export ?NOT_MY_KEY=hunter2",
                "NOT_MY_KEY?: hunter2",
                "x?NOT_MY_KEY=hunter2",
            ] {
                let line = line.trim_start_matches('x').replace('?', hidden);
                let text = format!("PORT=81\n{line}\n");
                let found = parse_dotenv(text.as_bytes());
                // Some are trimmed from the start of a line, which is then read.
                if line.starts_with(hidden) && found.is_ok() {
                    assert_eq!(value(text.as_bytes(), "NOT_MY_KEY").as_deref(), Some("hunter2"));
                    continue;
                }
                let expected = ".env: line 2, which sets NOT_MY_KEY, has an invisible character next to the name, as web \
                                pages have: type the name again";
                assert_eq!(found.unwrap_err().to_string(), expected, "{line:?}");
            }
        }
        assert_eq!(value(b"export\tPORT\t=\t81\n", "PORT").as_deref(), Some("81"));
        // In a value, in a comment and in the lines of other programs they mean nothing.
        let text = "AUDIENCE=a\u{200b}b\n# PORT\u{200b}=1\nMY\u{200b}APP=1\n";
        assert_eq!(value(text.as_bytes(), "AUDIENCE").as_deref(), Some("a\u{200b}b"));
    }

    #[test]
    fn a_nul_byte_is_refused_with_the_number_of_its_line() {
        let units: Vec<u8> = "\u{feff}NOT_MY_KEY=x\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (before, line) in
            [("PORT=81\n", 2), ("PORT=81\r\nHOST=::1\r\n", 3), ("PORT=81", 1), ("# é\n\n\r", 4)]
        {
            let said = refused(&[before.as_bytes(), &*units].concat());
            let expected = format!(
                ".env: line {line} has a NUL byte, as text in UTF-16 has: save the whole file as UTF-8"
            );
            assert_eq!(said, expected);
        }
        assert!(refused(b"PORT=81\n\0").starts_with(".env: line 2 has a NUL byte"));
    }

    #[test]
    fn utf_16_is_named() {
        let units: Vec<u16> = "PORT=81\n".encode_utf16().collect();
        let [little, big]: [Vec<u8>; 2] = [
            units.iter().flat_map(|unit| unit.to_le_bytes()).collect(),
            units.iter().flat_map(|unit| unit.to_be_bytes()).collect(),
        ];
        for text in [[&[0xFF, 0xFE], &*little].concat(), [&[0xFE, 0xFF], &*big].concat(), little, big] {
            assert_eq!(refused(&text), ".env: it is in UTF-16: save it as UTF-8");
        }
    }
}
