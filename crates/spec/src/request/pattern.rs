//! Regular expressions of ECMA-262, as far as they can be matched in linear time.
//!
//! What ECMA-262 writes the same and means otherwise is rewritten; look-around and back-references, which take more
//! than linear time, are refused.

use std::{borrow::Cow, sync::OnceLock};

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

/// How large a compiled expression and the cache of its automaton may become, in bytes.
const SIZE_MAX: usize = 1 << 20;
/// Patterns up to this length are told to the client.
const SHOWN: usize = 100;

/// A pattern that strings have to match somewhere.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "Box<str>", into = "Box<str>")]
pub(super) struct Pattern {
    source: Box<str>,
    /// Compiled when it is first needed; none if it cannot be.
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    /// Takes a pattern that can be enforced.
    pub(super) fn parse(source: &str) -> Option<Self> {
        let pattern = Self::from(Box::from(source));
        pattern.regex().is_some().then_some(pattern)
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        self.regex().is_none_or(|regex| regex.is_match(text))
    }

    pub(super) fn message(&self) -> Cow<'static, str> {
        if self.source.len() > SHOWN {
            return "must match its pattern".into();
        }
        format!("must match the pattern {}", self.source).into()
    }

    fn regex(&self) -> Option<&Regex> {
        self.compiled.get_or_init(|| compile(&self.source)).as_ref()
    }
}

impl From<Box<str>> for Pattern {
    fn from(source: Box<str>) -> Self {
        Self { source, compiled: OnceLock::new() }
    }
}

impl From<Pattern> for Box<str> {
    fn from(pattern: Pattern) -> Self {
        pattern.source
    }
}

/// Whether a pattern can be enforced.
pub(crate) fn is_enforceable(source: &str) -> bool {
    compile(source).is_some()
}

fn compile(source: &str) -> Option<Regex> {
    let rewritten = rewrite(source)?;
    RegexBuilder::new(&rewritten)
        .size_limit(SIZE_MAX)
        .dfa_size_limit(SIZE_MAX)
        .nest_limit(64)
        .build()
        .ok()
}

/// The same expression in the syntax of the matcher; none where there is no such syntax.
fn rewrite(source: &str) -> Option<String> {
    let mut rewritten = String::with_capacity(source.len() + 16);
    let mut in_class = false;
    let mut chars = source.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' => rewrite_escape(chars.next()?, in_class, &mut rewritten)?,
            '[' if in_class => rewritten.push_str("\\["),
            '[' => {
                in_class = true;
                rewritten.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    rewritten.push('^');
                }
                // An empty class, or one of everything, exists in ECMA-262 only.
                if chars.peek() == Some(&']') {
                    return None;
                }
            }
            ']' if in_class => {
                in_class = false;
                rewritten.push(']');
            }
            ']' => rewritten.push_str("\\]"),
            // Doubled, these are operations on classes.
            '&' | '~' if in_class => {
                rewritten.push('\\');
                rewritten.push(c);
            }
            '-' if in_class && rewritten.ends_with('-') => rewritten.push_str("\\-"),
            '.' if !in_class => rewritten.push_str("[^\\n\\r\\u{2028}\\u{2029}]"),
            '(' if !in_class => {
                rewritten.push('(');
                if chars.next_if_eq(&'?').is_some() {
                    // Groups that do not capture, and names; flags are not part of ECMA-262.
                    match chars.next()? {
                        ':' => rewritten.push_str("?:"),
                        '<' if !matches!(chars.peek(), Some('=' | '!')) => rewritten.push_str("?<"),
                        _ => return None,
                    }
                }
            }
            c => rewritten.push(c),
        }
    }
    Some(rewritten)
}

fn rewrite_escape(c: char, in_class: bool, rewritten: &mut String) -> Option<()> {
    match c {
        'd' => rewritten.push_str("[0-9]"),
        'D' => rewritten.push_str("[^0-9]"),
        'w' => rewritten.push_str("[A-Za-z0-9_]"),
        'W' => rewritten.push_str("[^A-Za-z0-9_]"),
        's' => rewritten.push_str("[\\s\\u{FEFF}--\\u{85}]"),
        'S' => rewritten.push_str("[^\\s\\u{FEFF}--\\u{85}]"),
        'b' if in_class => rewritten.push_str("\\u{8}"),
        'b' => rewritten.push_str("(?-u:\\b)"),
        '/' => rewritten.push('/'),
        '0' => rewritten.push_str("\\x00"),
        't' | 'n' | 'r' | 'f' | 'v' | 'x' | 'u' | 'p' | 'P' => {
            rewritten.push('\\');
            rewritten.push(c);
        }
        // Back-references, control letters and what ECMA-262 does not have.
        c if c.is_ascii_alphanumeric() => return None,
        c if c.is_ascii_punctuation() => {
            rewritten.push('\\');
            rewritten.push(c);
        }
        c => rewritten.push(c),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_what_they_mean_in_ecma() {
        for (source, good, bad) in [
            ("^\\d{3}$", "123", "١٢٣"),
            ("^\\w+$", "a_1", "ä"),
            ("^[\\w.-]+$", "a-b.c", "a b"),
            ("^a.c$", "abc", "a\u{2028}c"),
            ("^[[a]$", "[", "b"),
            ("^[a&&b]+$", "a&b", "c"),
            ("^[a-z--]+$", "a-", "A"),
            ("^\\/a\\/$", "/a/", "a"),
            ("\\bfoo\\b", "a foo.", "afoo"),
            ("^\\s$", "\u{FEFF}", "\u{85}"),
            ("^\\S+$", "a\u{85}b", "a b"),
            ("^(?<year>\\d{4})-(?:0|1)\\d$", "2024-01", "24-01"),
            ("^\\u00e9$", "é", "e"),
            ("^\\p{Lu}$", "Ä", "ä"),
            ("^a$", "a", "a\n"),
            ("lab", "my lab", "la b"),
            ("^[^\\d]$", "a", "1"),
            ("^a]$", "a]", "a"),
        ] {
            let pattern = Pattern::parse(source).unwrap_or_else(|| panic!("{source}"));
            assert!(pattern.matches(good), "{source} {good}");
            assert!(!pattern.matches(bad), "{source} {bad}");
        }
    }

    #[test]
    fn what_takes_more_than_linear_time_or_much_memory_is_refused() {
        for source in [
            "^(?=a)",
            "(?!a)",
            "(?<=a)b",
            "(?<!a)b",
            "(a)\\1",
            "(?i)a",
            "a{1000}{1000}",
            "[^]",
            "(",
            "\\cA",
            "\\",
        ] {
            assert!(Pattern::parse(source).is_none(), "{source}");
        }
    }

    #[test]
    fn expressions_that_explode_elsewhere_take_no_time() {
        let pattern = Pattern::parse("^(a+)+$").unwrap();
        assert!(!pattern.matches(&format!("{}b", "a".repeat(100_000))));
    }
}
