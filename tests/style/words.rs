//! Words that make a text hard to read for newcomers, and citations in other forms than ours.

/// Words, and pairs of words, each with what to write instead where that is not plain.
const FORBIDDEN: [&str; 47] = [
    // People are the client, the operator, the user, callers, they.
    "nobody",
    "somebody",
    "anybody",
    "everybody",
    "whoever",
    "whomever",
    "whosoever",
    "stranger",
    "strangers",
    "he",
    "him",
    "himself",
    "his",
    // Always, again, only, next to, because there is no, there is only.
    "for ever",
    "anew",
    "alone",
    "beside",
    "besides",
    "for want of",
    "no more than there is",
    "unawares",
    // Not, no longer, invalid, missing; use, must be.
    "is none",
    "are none",
    "was none",
    "were none",
    "none of ours",
    "would do",
    "will do",
    "nought",
    "naught",
    "aught",
    // Of it, in it, from there, or else.
    "hereby",
    "herein",
    "hitherto",
    "lest",
    "thereby",
    "therein",
    "thereof",
    "thereupon",
    "therewith",
    "thence",
    "whence",
    "whereby",
    "wherein",
    "whereof",
    "whereupon",
    "whilst",
];

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
    let words = words(text);
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        for forbidden in FORBIDDEN {
            let rest = words.get(at + 1..).unwrap();
            let mut parts = forbidden.split(' ');
            // `is_none` is a method of `Option`: the words of a pair must be apart.
            if parts.next() == Some(&word.text)
                && parts.zip(rest.iter().map(Some).chain(std::iter::repeat(None))).all(|(part, word)| {
                    word.is_some_and(|word| word.text == part && is_in_a_sentence(word.before))
                })
            {
                found.push((word.line, forbidden.to_owned()));
            }
        }
        found.extend(negation(&words, at).map(|phrase| (word.line, phrase)));
    }
    found
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
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let [number, section, ..] = words.get(at + 1..).unwrap() else {
            break;
        };
        if word.text != "rfc" || !number.text.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let is_section = section.text.bytes().all(|byte| byte.is_ascii_digit()) && section.text.len() < 3
            || section.text == "section"
            || section.text.len() == 1 && ["a", "b", "c"].contains(&&*section.text);
        let between: String = section.before.chars().filter(|each| !each.is_whitespace()).collect();
        let is_apart = between.chars().all(|each| ",/!*:#".contains(each));
        // "RFC 8725 and a key": an article is not an appendix.
        let next = words.get(at + 3);
        let is_appendix = next.is_some_and(|next| next.before == ".");
        if is_section
            && is_apart
            && (section.text.len() > 1 || is_appendix || section.text.as_bytes()[0].is_ascii_digit())
        {
            let comma = if between.starts_with(',') { "," } else { "" };
            let rest = next.filter(|_| is_appendix).map_or(String::new(), |next| format!(".{}", next.text));
            let section = section.text.to_uppercase();
            found.push((word.line, format!("RFC {}{comma} {section}{rest}", number.text)));
        }
    }
    found
}
