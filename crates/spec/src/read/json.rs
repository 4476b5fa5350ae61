//! JSON to the letter of RFC 8259, without recursion. A byte order mark is skipped.

use std::borrow::Cow;

use crate::{
    issue::ReadError,
    node::{Builder, Tree},
};

/// Reads one value and nothing after it.
pub(super) fn read<'s>(text: &'s str, builder: Builder<'s>) -> Result<Tree<'s>, ReadError> {
    let at = if text.starts_with('\u{FEFF}') { '\u{FEFF}'.len_utf8() } else { 0 };
    let mut reader = Reader { text, bytes: text.as_bytes(), at, builder };
    reader.document()?;
    let end = reader.at;
    reader.builder.finish().ok_or_else(|| ReadError::syntax(end, "the document is empty"))
}

struct Reader<'s> {
    text: &'s str,
    bytes: &'s [u8],
    at: usize,
    builder: Builder<'s>,
}

impl<'s> Reader<'s> {
    fn document(&mut self) -> Result<(), ReadError> {
        loop {
            self.skip_blank();
            if self.value()? {
                continue;
            }
            if !self.after_value()? {
                break;
            }
        }
        self.skip_blank();
        if self.at < self.bytes.len() {
            return Err(self.unexpected("the end of the document"));
        }
        Ok(())
    }

    /// Reads a scalar, or opens a container and returns true if it has a first value.
    fn value(&mut self) -> Result<bool, ReadError> {
        let start = self.at;
        match self.peek() {
            Some(b'{') => {
                self.builder.open_object(start)?;
                self.at += 1;
                self.skip_blank();
                if self.peek() == Some(b'}') {
                    self.at += 1;
                    self.builder.close()?;
                    return Ok(false);
                }
                self.key()?;
                return Ok(true);
            }
            Some(b'[') => {
                self.builder.open_array(start)?;
                self.at += 1;
                self.skip_blank();
                if self.peek() == Some(b']') {
                    self.at += 1;
                    self.builder.close()?;
                    return Ok(false);
                }
                return Ok(true);
            }
            Some(b'"') => {
                let text = self.string()?;
                self.builder.string(start, text)?;
            }
            Some(b'-' | b'0'..=b'9') => {
                let text = self.number()?;
                self.builder.number(start, Cow::Borrowed(text))?;
            }
            Some(b't') => {
                self.literal("true")?;
                self.builder.bool(start, true)?;
            }
            Some(b'f') => {
                self.literal("false")?;
                self.builder.bool(start, false)?;
            }
            Some(b'n') => {
                self.literal("null")?;
                self.builder.null(start)?;
            }
            _ => return Err(self.unexpected("a value")),
        }
        Ok(false)
    }

    /// Closes what ends here and returns whether another value follows.
    fn after_value(&mut self) -> Result<bool, ReadError> {
        while self.builder.is_nested() {
            self.skip_blank();
            let in_object = self.builder.is_in_object();
            match (self.peek(), in_object) {
                (Some(b','), true) => {
                    self.at += 1;
                    self.skip_blank();
                    self.key()?;
                    return Ok(true);
                }
                (Some(b','), false) => {
                    self.at += 1;
                    return Ok(true);
                }
                (Some(b'}'), true) | (Some(b']'), false) => {
                    self.at += 1;
                    self.builder.close()?;
                }
                (_, true) => return Err(self.unexpected("\",\" or \"}\"")),
                (_, false) => return Err(self.unexpected("\",\" or \"]\"")),
            }
        }
        Ok(false)
    }

    fn key(&mut self) -> Result<(), ReadError> {
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key in double quotes"));
        }
        let text = self.string()?;
        self.builder.key(start, text, false)?;
        self.skip_blank();
        if self.peek() != Some(b':') {
            return Err(self.unexpected("\":\" after a key"));
        }
        self.at += 1;
        Ok(())
    }

    fn literal(&mut self, word: &str) -> Result<(), ReadError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.unexpected("a value"));
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<&'s str, ReadError> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        if self.peek() == Some(b'0') {
            self.at += 1;
            if matches!(self.peek(), Some(b'0'..=b'9')) {
                return Err(ReadError::syntax(start, "a number may not start with 0"));
            }
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Result<(), ReadError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected("a digit")) } else { Ok(()) }
    }

    /// Reads a string; `self.at` stands on its opening quote.
    fn string(&mut self) -> Result<Cow<'s, str>, ReadError> {
        let opening = self.at;
        self.at += 1;
        let mut from = self.at;
        let mut decoded: Option<String> = None;
        loop {
            let rest = &self.bytes[self.at..];
            let Some(length) = rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1F))
            else {
                return Err(ReadError::syntax(opening, "the string that starts here never ends"));
            };
            self.at += length;
            match self.bytes[self.at] {
                b'"' => {
                    let last = &self.text[from..self.at];
                    self.at += 1;
                    return Ok(match decoded {
                        None => Cow::Borrowed(last),
                        Some(mut text) => {
                            text.push_str(last);
                            Cow::Owned(text)
                        }
                    });
                }
                b'\\' => {
                    let text = decoded.get_or_insert_default();
                    text.push_str(&self.text[from..self.at]);
                    let c = self.escape()?;
                    decoded.get_or_insert_default().push(c);
                    from = self.at;
                }
                _ => {
                    return Err(ReadError::syntax(
                        self.at,
                        "a control character (or line break) in a string must be escaped",
                    ));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, ReadError> {
        let start = self.at;
        self.at += 2;
        let simple = match self.bytes.get(start + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{C}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(start),
            _ => return Err(ReadError::syntax(start, "this escape does not exist in JSON")),
        };
        Ok(simple)
    }

    fn unicode_escape(&mut self, start: usize) -> Result<char, ReadError> {
        let first = self.four_hex(start)?;
        let code = if (0xD800..0xDC00).contains(&first) && self.bytes[self.at..].starts_with(b"\\u")
        {
            self.at += 2;
            let second = self.four_hex(start)?;
            if (0xDC00..0xE000).contains(&second) {
                0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            } else {
                first
            }
        } else {
            first
        };
        char::from_u32(code)
            .ok_or_else(|| ReadError::syntax(start, "half of a surrogate pair stands alone"))
    }

    fn four_hex(&mut self, start: usize) -> Result<u32, ReadError> {
        let digits = self.bytes.get(self.at..self.at + 4).unwrap_or_default();
        let mut code = 0;
        for digit in digits {
            let Some(value) = char::from(*digit).to_digit(16) else { break };
            code = code * 16 + value;
        }
        if digits.len() < 4 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(ReadError::syntax(start, "\\u takes four hexadecimal digits"));
        }
        self.at += 4;
        Ok(code)
    }

    fn skip_blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn unexpected(&self, expected: &str) -> ReadError {
        let message = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            None => format!("the document ends where {expected} should stand"),
            Some(found) => format!("expected {expected}, found {found:?}"),
        };
        ReadError::syntax(self.at, message)
    }
}
