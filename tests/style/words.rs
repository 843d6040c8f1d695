//! Words that make a text hard to read for newcomers, and citations in other forms than ours.

/// Write instead: the client, the operator, callers, they; always, again, only, next to; not, invalid, missing.
const WORDS: &str = "
    nobody somebody anybody everybody whoever whomever whosoever stranger strangers he him himself his
    alone anew beside besides unawares hitherto lest whilst nought naught aught
    hereby herein therein thereof thereupon therewith thence whence whereby wherein whereof whereupon";

/// Write instead: because there is no, always, is not a, use. `is_none` is a method and passes: only spaces join a phrase.
const PHRASES: [&str; 10] = [
    "for want of",
    "for ever",
    "no more than there is",
    "is none",
    "are none",
    "was none",
    "were none",
    "none of ours",
    "would do",
    "will do",
];

/// Names that clients of the HTTP API see, and that therefore stay.
const API_NAMES: [&str; 1] = ["issueToAnybody"];

/// A word in lower case, the number of its line, and what stands between it and the word before it.
struct Word<'a> {
    line: usize,
    text: String,
    before: &'a str,
}

/// The words of a text. Identifiers are taken apart at `_` and at capitals.
fn words(text: &str) -> Vec<Word<'_>> {
    let (mut words, mut end, mut line) = (Vec::new(), 0, 1);
    let mut letters = text.char_indices().peekable();
    while let Some((start, letter)) = letters.next() {
        if letter == '\n' {
            line += 1;
        }
        if !letter.is_alphanumeric() {
            continue;
        }
        let mut last = (start, letter);
        while let Some(next) = letters
            .next_if(|(_, next)| next.is_alphanumeric() && !(next.is_uppercase() && last.1.is_lowercase()))
        {
            last = next;
        }
        let stop = last.0 + last.1.len_utf8();
        let before = text.get(end..start).unwrap();
        words.push(Word { line, text: text.get(start..stop).unwrap().to_lowercase(), before });
        end = stop;
    }
    words
}

/// Whether two words follow each other in a sentence: with a line's end and the marks of a comment between them at most.
fn is_in_a_sentence(between: &str) -> bool {
    !between.is_empty() && between.chars().all(|each| each.is_whitespace() || "/!#*>\\".contains(each))
}

/// The forbidden words of a text with the number of the line on which each begins.
pub(crate) fn forbidden(text: &str) -> Vec<(usize, String)> {
    let text = API_NAMES.iter().fold(text.to_owned(), |text, name| text.replace(name, ""));
    let words = words(&text);
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let rest = words.get(at..).unwrap();
        let mut phrases = PHRASES.into_iter().filter(|phrase| begins_with(rest, phrase)).map(str::to_owned);
        let single = WORDS.split_whitespace().find(|forbidden| *forbidden == word.text).map(str::to_owned);
        let hit = single.or_else(|| phrases.next()).or_else(|| negation(&words, at));
        found.extend(hit.map(|hit| (word.line, hit)));
    }
    found
}

fn begins_with(words: &[Word<'_>], phrase: &str) -> bool {
    phrase.split(' ').enumerate().all(|(at, part)| {
        words.get(at).is_some_and(|word| word.text == part && (at == 0 || is_in_a_sentence(word.before)))
    })
}

/// "A is no B" for "A is not a B". "There is no B" and "is no longer" are plain.
fn negation(words: &[Word<'_>], at: usize) -> Option<String> {
    let (verb, no, noun) = (words.get(at)?, words.get(at + 1)?, words.get(at + 2)?);
    let is_there =
        at.checked_sub(1).and_then(|before| words.get(before)).is_some_and(|word| word.text == "there");
    let is_plain =
        is_there || ["longer", "more", "less", "later", "earlier", "greater", "fewer"].contains(&&*noun.text);
    (["is", "are", "was", "were"].contains(&&*verb.text)
        && no.text == "no"
        && is_in_a_sentence(no.before)
        && is_in_a_sentence(noun.before)
        && !is_plain)
        .then(|| format!("{} no {}", verb.text, noun.text))
}

/// Citations of a section in another form than "RFC 7517 §4.3", with the number of their line.
pub(crate) fn other_citations(text: &str) -> Vec<(usize, String)> {
    let words = words(text);
    let citations = (0..words.len()).filter_map(|at| {
        let words = words.get(at..)?;
        Some((words.first()?.line, other_citation(words)?))
    });
    citations.collect()
}

fn other_citation(words: &[Word<'_>]) -> Option<String> {
    let [rfc, number, section, rest @ ..] = words else {
        return None;
    };
    let is_number = |word: &Word<'_>| word.text.bytes().all(|byte| byte.is_ascii_digit());
    // A point tells an appendix from an article: "RFC 7515 A.3", "RFC 7515 and a key".
    let below = rest.first().filter(|word| word.before == ".").map(|word| format!(".{}", word.text));
    let is_section = section.text == "section"
        || is_number(section) && section.text.len() < 3
        || section.text.len() == 1 && below.is_some();
    let is_other_form = section.before.chars().all(|each| each.is_whitespace() || ",/!*:#".contains(each));
    let comma = if section.before.starts_with(',') { "," } else { "" };
    (rfc.text == "rfc" && is_number(number) && is_section && is_other_form).then(|| {
        format!("RFC {}{comma} {}{}", number.text, section.text.to_uppercase(), below.unwrap_or_default())
    })
}
