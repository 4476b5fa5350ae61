//! Writes a tree as JSON or YAML, entries in their order and numbers as they were spelled.

use crate::{
    issue::ReadError,
    node::{Node, Value},
    read::{Plain, classify_plain, json_number},
};

/// JSON with an indentation of two.
pub(crate) fn json(root: Node<'_>, limit: usize) -> Result<String, ReadError> {
    let mut output = Output { text: String::new(), limit };
    output.json(root, 0)?;
    output.text.push('\n');
    Ok(output.text)
}

/// YAML in block style.
pub(crate) fn yaml(root: Node<'_>, limit: usize) -> Result<String, ReadError> {
    let mut output = Output { text: String::new(), limit };
    output.yaml_root(root)?;
    Ok(output.text)
}

struct Output {
    text: String,
    limit: usize,
}

impl Output {
    fn json(&mut self, node: Node<'_>, level: usize) -> Result<(), ReadError> {
        self.check_size(node)?;
        match node.value() {
            Value::Null => self.text.push_str("null"),
            Value::Bool(value) => self.text.push_str(if value { "true" } else { "false" }),
            Value::Number(text) => match json_number(text) {
                Some(number) => self.text.push_str(&number),
                None => {
                    return Err(ReadError {
                        rule: "not-representable",
                        message: format!("JSON has no number {text}"),
                        offset: usize::try_from(node.start()).unwrap_or(usize::MAX),
                    });
                }
            },
            Value::String(text) => push_quoted(&mut self.text, text),
            Value::Array if node.items().len() == 0 => self.text.push_str("[]"),
            Value::Array => {
                for (index, item) in node.items().enumerate() {
                    self.text.push_str(if index == 0 { "[" } else { "," });
                    self.line(level + 1);
                    self.json(item, level + 1)?;
                }
                self.line(level);
                self.text.push(']');
            }
            Value::Object if node.members().len() == 0 => self.text.push_str("{}"),
            Value::Object => {
                for (index, member) in node.members().enumerate() {
                    self.text.push_str(if index == 0 { "{" } else { "," });
                    self.line(level + 1);
                    push_quoted(&mut self.text, member.key);
                    self.text.push_str(": ");
                    self.json(member.value, level + 1)?;
                }
                self.line(level);
                self.text.push('}');
            }
        }
        Ok(())
    }

    fn yaml_root(&mut self, root: Node<'_>) -> Result<(), ReadError> {
        if is_block(root) {
            return self.yaml_block(root, 0);
        }
        self.yaml_inline(root, 0)?;
        self.text.push('\n');
        Ok(())
    }

    /// Writes an array or object with entries, from the start of a line (or the place after a
    /// dash) to the end of its last line.
    fn yaml_block(&mut self, node: Node<'_>, level: usize) -> Result<(), ReadError> {
        self.check_size(node)?;
        for (index, item) in node.items().enumerate() {
            if index > 0 {
                self.indent(level);
            }
            self.text.push('-');
            self.text.push(' ');
            if is_block(item) {
                self.yaml_block(item, level + 1)?;
            } else {
                self.yaml_inline(item, level)?;
                self.text.push('\n');
            }
        }
        for (index, member) in node.members().enumerate() {
            if index > 0 {
                self.indent(level);
            }
            self.yaml_key(member.key, level);
            if is_block(member.value) {
                self.text.push('\n');
                self.indent(level + 1);
                self.yaml_block(member.value, level + 1)?;
            } else {
                self.text.push(' ');
                self.yaml_inline(member.value, level)?;
                self.text.push('\n');
            }
        }
        Ok(())
    }

    fn yaml_key(&mut self, key: &str, level: usize) {
        // A key that is not marked as one may have 1,024 characters, escapes included.
        let is_long = key.len() > 150;
        if is_long {
            self.text.push_str("? ");
        }
        if is_plain(key) {
            self.text.push_str(key);
        } else {
            push_quoted(&mut self.text, key);
        }
        if is_long {
            self.text.push('\n');
            self.indent(level);
        }
        self.text.push(':');
    }

    /// Writes what fits behind a key or dash.
    fn yaml_inline(&mut self, node: Node<'_>, level: usize) -> Result<(), ReadError> {
        self.check_size(node)?;
        match node.value() {
            Value::Null => self.text.push_str("null"),
            Value::Bool(value) => self.text.push_str(if value { "true" } else { "false" }),
            Value::Number(text) => self.text.push_str(text),
            Value::Array => self.text.push_str("[]"),
            Value::Object => self.text.push_str("{}"),
            Value::String(text) if is_plain(text) => self.text.push_str(text),
            Value::String(text) if is_literal(text) => {
                self.text.push_str(if text.ends_with('\n') { "|" } else { "|-" });
                for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
                    self.text.push('\n');
                    if !line.is_empty() {
                        self.indent(level + 1);
                        self.text.push_str(line);
                    }
                }
            }
            Value::String(text) => push_quoted(&mut self.text, text),
        }
        Ok(())
    }

    fn line(&mut self, level: usize) {
        self.text.push('\n');
        self.indent(level);
    }

    fn indent(&mut self, level: usize) {
        for _ in 0..level {
            self.text.push_str("  ");
        }
    }

    fn check_size(&self, node: Node<'_>) -> Result<(), ReadError> {
        if self.text.len() <= self.limit {
            return Ok(());
        }
        Err(ReadError {
            rule: "too-large",
            message: format!("converted, the document has more than {} bytes", self.limit),
            offset: usize::try_from(node.start()).unwrap_or(usize::MAX),
        })
    }
}

fn is_block(node: Node<'_>) -> bool {
    node.items().len() > 0 || node.members().len() > 0
}

/// A string in double quotes, as JSON has it and YAML reads it.
fn push_quoted(output: &mut String, text: &str) {
    output.push('"');
    for c in text.chars() {
        match c {
            '"' => output.push_str("\\\""),
            '\\' => output.push_str("\\\\"),
            '\n' => output.push_str("\\n"),
            '\r' => output.push_str("\\r"),
            '\t' => output.push_str("\\t"),
            // What YAML cannot print, or takes for a line break.
            '\0'..='\u{1F}'
            | '\u{7F}'..='\u{9F}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{FEFF}'
            | '\u{FFFE}'
            | '\u{FFFF}' => output.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => output.push(c),
        }
    }
    output.push('"');
}

/// Whether a string may stand without quotes, in YAML 1.2 as in 1.1.
fn is_plain(text: &str) -> bool {
    let is_word = |word: &str| {
        ["y", "n", "yes", "no", "on", "off"].iter().any(|one| word.eq_ignore_ascii_case(one))
    };
    text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '_' | '$'))
        && !text.ends_with([' ', ':'])
        && !text.contains(": ")
        && !text.contains(" #")
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b" _-./$:;()'+=<>^~@%*?!&|#\"\\".contains(&b))
        && classify_plain(text) == Plain::String
        && !is_word(text)
}

/// Whether a string of several lines comes out the same from a literal block.
fn is_literal(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\n'])
        && !text.ends_with("\n\n")
        && text.split('\n').all(|line| !line.ends_with([' ', '\t']) && !line.starts_with('\t'))
        && !text.chars().any(|c| {
            c.is_control() && c != '\n' && c != '\t'
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{FEFF}' | '\u{FFFE}' | '\u{FFFF}')
        })
}
