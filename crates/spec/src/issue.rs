//! Issues, and how they are collected: in any order while walking, then sorted by place, so that
//! lines and columns are counted in one pass over the text.

use std::cmp::Reverse;

use serde::{Deserialize, Serialize};

/// How bad an issue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing is wrong.
    Info,
    /// Allowed, but it has no effect or cannot work as written.
    Warning,
    /// The document breaks its specification.
    Error,
}

/// One thing to say about a document, at one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Issue {
    /// How bad it is.
    pub severity: Severity,
    /// Stable id of the rule, in kebab case.
    pub rule: &'static str,
    /// What is wrong, in plain words.
    pub message: String,
    /// JSON path (RFC 9535) of the value, `$` for the document.
    pub location: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// A problem that stops reading: where it is, in bytes, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReadError {
    pub(crate) rule: &'static str,
    pub(crate) message: String,
    pub(crate) offset: usize,
}

impl ReadError {
    pub(crate) fn syntax(offset: usize, message: impl Into<String>) -> Self {
        Self { rule: "syntax", message: message.into(), offset }
    }

    /// The issue this is, located in as much of `bytes` as is text.
    pub(crate) fn into_issue(self, bytes: &[u8]) -> Issue {
        let before = &bytes[..self.offset.min(bytes.len())];
        let text = match std::str::from_utf8(before) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&before[..error.valid_up_to()]).unwrap_or_default(),
        };
        let mut cursor = Cursor::new(text);
        cursor.advance(text.len());
        Issue {
            severity: Severity::Error,
            rule: self.rule,
            message: self.message,
            location: "$".to_owned(),
            line: cursor.line,
            column: cursor.column,
        }
    }
}

struct Finding {
    severity: Severity,
    rule: &'static str,
    message: String,
    location: String,
    offset: u32,
}

/// Issues found so far, at most as many as the limit.
pub(crate) struct Findings {
    found: Vec<Finding>,
    limit: usize,
    dropped: Option<Severity>,
}

impl Findings {
    pub(crate) fn new(limit: usize) -> Self {
        Self { found: Vec::new(), limit, dropped: None }
    }

    /// Adds an issue; text and location are only made while there is room for them.
    pub(crate) fn add(
        &mut self,
        severity: Severity,
        rule: &'static str,
        offset: u32,
        text: impl FnOnce() -> (String, String),
    ) {
        if self.found.len() >= self.limit {
            self.dropped = self.dropped.max(Some(severity));
            return;
        }
        let (message, location) = text();
        self.found.push(Finding { severity, rule, message, location, offset });
    }

    /// All issues in document order, with lines and columns in `source`.
    pub(crate) fn into_issues(mut self, source: &str) -> Vec<Issue> {
        self.found.sort_by_key(|finding| (finding.offset, Reverse(finding.severity)));
        let mut cursor = Cursor::new(source);
        let mut issues: Vec<Issue> = Vec::with_capacity(self.found.len() + 1);
        for finding in self.found {
            cursor.advance(usize::try_from(finding.offset).unwrap_or(usize::MAX));
            issues.push(Issue {
                severity: finding.severity,
                rule: finding.rule,
                message: finding.message,
                location: finding.location,
                line: cursor.line,
                column: cursor.column,
            });
        }
        if let Some(severity) = self.dropped {
            issues.push(Issue {
                severity,
                rule: "too-many-issues",
                message: format!("there are more than {} issues; the rest is left out", self.limit),
                location: "$".to_owned(),
                line: 1,
                column: 1,
            });
        }
        issues
    }
}

/// Counts lines and columns while moving forward through a text.
pub(crate) struct Cursor<'s> {
    source: &'s str,
    offset: usize,
    pub(crate) line: u32,
    pub(crate) column: u32,
    after_return: bool,
}

impl<'s> Cursor<'s> {
    pub(crate) fn new(source: &'s str) -> Self {
        Self { source, offset: 0, line: 1, column: 1, after_return: false }
    }

    pub(crate) fn advance(&mut self, offset: usize) {
        let end = offset.min(self.source.len());
        for byte in self.source.as_bytes().get(self.offset..end).unwrap_or_default() {
            match byte {
                b'\n' if self.after_return => {}
                b'\n' | b'\r' => {
                    self.line += 1;
                    self.column = 1;
                }
                // Only the first byte of a character counts.
                byte if byte & 0xC0 == 0x80 => {}
                _ => self.column += 1,
            }
            self.after_return = *byte == b'\r';
        }
        self.offset = self.offset.max(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_every_line_break_counts_once() {
        let mut cursor = Cursor::new("é\r\nab\rc\nü→x");
        cursor.advance(5);
        assert_eq!((cursor.line, cursor.column), (2, 2));
        cursor.advance("é\r\nab\rc\nü→".len());
        assert_eq!((cursor.line, cursor.column), (4, 3));
    }

    #[test]
    fn a_dropped_error_is_still_an_error() {
        let mut findings = Findings::new(1);
        findings.add(Severity::Info, "first", 0, || (String::new(), "$".to_owned()));
        findings.add(Severity::Error, "second", 0, || (String::new(), "$".to_owned()));
        let issues = findings.into_issues("");
        assert_eq!(issues[1].rule, "too-many-issues");
        assert_eq!(issues[1].severity, Severity::Error);
    }
}
