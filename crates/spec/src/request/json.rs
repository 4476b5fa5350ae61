//! JSON to the letter of RFC 8259 as a flat list of values, borrowed from its text.
//!
//! A container is followed by everything in it and knows where that ends, so that a walk goes forward through memory
//! and skips in one step. Twelve bytes a value bound what a hostile text can ask for. Keys that occur twice are
//! refused: two readers could take different ones.

use ahash::AHashSet;

/// Deepest nesting of arrays and objects.
const DEPTH_MAX: usize = 128;
/// Objects with more members than this look for repeated keys in a hash table.
const FEW: usize = 8;

/// A text that is not JSON as it has to be: where, and what is wrong, without any of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What is wrong.
    pub problem: &'static str,
}

/// The values of a text in the order in which they stand there.
#[derive(Debug, Default)]
pub(super) struct Document<'b> {
    text: &'b str,
    slots: Vec<Slot>,
    /// Texts that do not stand in the source as they are.
    decoded: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    kind: Kind,
    /// Where a text starts; for a container, how many members or items it has.
    start: u32,
    /// Where a text ends, or its number among the decoded ones; for a container, the slot behind it.
    end: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    False,
    True,
    Number,
    DecodedNumber,
    String,
    DecodedString,
    Array,
    Object,
}

/// A value of a document.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node<'d> {
    document: &'d Document<'d>,
    at: usize,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'d> {
    Null,
    Bool(bool),
    /// A number as it is spelled.
    Number(&'d str),
    String(&'d str),
    Array,
    Object,
}

struct Problem {
    offset: usize,
    problem: &'static str,
}

impl<'b> Document<'b> {
    /// Reads one value and nothing after it.
    pub(super) fn parse(bytes: &'b [u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let problem = Problem { offset: error.valid_up_to(), problem: "the text is not UTF-8" };
            problem.locate(bytes)
        })?;
        Self::parse_text(text)
    }

    pub(super) fn parse_text(text: &'b str) -> Result<Self, Malformed> {
        let slots = Vec::with_capacity(text.len() / 12 + 1);
        let document = Self { text, slots, decoded: Vec::new() };
        let reader = Reader { bytes: text.as_bytes(), at: 0, document, open: Vec::new() };
        reader.read().map_err(|problem| problem.locate(text.as_bytes()))
    }

    pub(super) fn root(&self) -> Node<'_> {
        Node { document: self, at: 0 }
    }

    /// How many values there are, keys included.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn push_null(&mut self) {
        self.push(Kind::Null, 0, 0);
    }

    pub(super) fn push_bool(&mut self, value: bool) {
        self.push(if value { Kind::True } else { Kind::False }, 0, 0);
    }

    pub(super) fn push_number(&mut self, text: String) {
        self.push_decoded(Kind::DecodedNumber, text);
    }

    /// Adds a string, or the key of the value that comes next.
    pub(super) fn push_string(&mut self, text: String) {
        self.push_decoded(Kind::DecodedString, text);
    }

    /// Adds a value of another document.
    pub(super) fn push_copy(&mut self, node: Node<'_>) {
        match node.value() {
            Value::Null => self.push_null(),
            Value::Bool(value) => self.push_bool(value),
            Value::Number(text) => self.push_number(text.to_owned()),
            Value::String(text) => self.push_string(text.to_owned()),
            Value::Array => {
                let opened = self.open_array();
                node.items().for_each(|item| self.push_copy(item));
                self.close(opened, node.count());
            }
            Value::Object => {
                let opened = self.open_object();
                for (key, value) in node.members() {
                    self.push_string(key.to_owned());
                    self.push_copy(value);
                }
                self.close(opened, node.count());
            }
        }
    }

    pub(super) fn open_array(&mut self) -> usize {
        self.push(Kind::Array, 0, 0)
    }

    pub(super) fn open_object(&mut self) -> usize {
        self.push(Kind::Object, 0, 0)
    }

    /// Ends what was opened, with `count` items or members.
    pub(super) fn close(&mut self, opened: usize, count: usize) {
        self.slots[opened].start = narrow(count);
        self.slots[opened].end = narrow(self.slots.len());
    }

    fn push_decoded(&mut self, kind: Kind, text: String) {
        let number = narrow(self.decoded.len());
        self.decoded.push(text);
        self.push(kind, 0, number);
    }

    fn push(&mut self, kind: Kind, start: usize, end: u32) -> usize {
        self.slots.push(Slot { kind, start: narrow(start), end });
        self.slots.len() - 1
    }

    /// The slot behind a value and everything in it.
    fn behind(&self, at: usize) -> usize {
        let slot = self.slots[at];
        if matches!(slot.kind, Kind::Array | Kind::Object) { widen(slot.end) } else { at + 1 }
    }

    fn text_at(&self, at: usize) -> &str {
        let slot = self.slots[at];
        match slot.kind {
            Kind::DecodedNumber | Kind::DecodedString => &self.decoded[widen(slot.end)],
            _ => &self.text[widen(slot.start)..widen(slot.end)],
        }
    }

    fn has_repeated_key(&self, object: usize) -> bool {
        let count = widen(self.slots[object].start);
        if count < 2 {
            return false;
        }
        let node = Node { document: self, at: object };
        if count > FEW {
            let mut seen = AHashSet::with_capacity(count);
            return node.members().any(|(key, _)| !seen.insert(key));
        }
        let mut keys = [""; FEW];
        for (number, (key, _)) in node.members().enumerate() {
            if keys[..number].contains(&key) {
                return true;
            }
            keys[number] = key;
        }
        false
    }
}

impl<'d> Node<'d> {
    pub(super) fn value(self) -> Value<'d> {
        match self.document.slots[self.at].kind {
            Kind::Null => Value::Null,
            Kind::False => Value::Bool(false),
            Kind::True => Value::Bool(true),
            Kind::Number | Kind::DecodedNumber => Value::Number(self.document.text_at(self.at)),
            Kind::String | Kind::DecodedString => Value::String(self.document.text_at(self.at)),
            Kind::Array => Value::Array,
            Kind::Object => Value::Object,
        }
    }

    /// How many items or members it has.
    pub(super) fn count(self) -> usize {
        let slot = self.document.slots[self.at];
        if matches!(slot.kind, Kind::Array | Kind::Object) { widen(slot.start) } else { 0 }
    }

    /// How many values it is, itself and keys included.
    pub(super) fn weight(self) -> usize {
        self.document.behind(self.at) - self.at
    }

    /// The items of an array; none of anything else.
    pub(super) fn items(self) -> impl Iterator<Item = Node<'d>> {
        let end = self.end_of(Kind::Array);
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            let item = Node { document: self.document, at };
            (at < end).then(|| {
                at = item.document.behind(at);
                item
            })
        })
    }

    /// The members of an object; none of anything else.
    pub(super) fn members(self) -> impl Iterator<Item = (&'d str, Node<'d>)> {
        let end = self.end_of(Kind::Object);
        let mut at = self.at + 1;
        std::iter::from_fn(move || {
            (at < end).then(|| {
                let key = self.document.text_at(at);
                let value = Node { document: self.document, at: at + 1 };
                at = self.document.behind(at + 1);
                (key, value)
            })
        })
    }

    pub(super) fn get(self, key: &str) -> Option<Node<'d>> {
        self.members().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    fn end_of(self, kind: Kind) -> usize {
        let slot = self.document.slots[self.at];
        if slot.kind == kind { widen(slot.end) } else { 0 }
    }
}

impl Problem {
    fn locate(self, bytes: &[u8]) -> Malformed {
        let before = &bytes[..self.offset.min(bytes.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let lines = before.iter().filter(|byte| **byte == b'\n').count();
        let characters = before[line_start..].iter().filter(|byte| **byte & 0xC0 != 0x80).count();
        Malformed { line: narrow(lines + 1), column: narrow(characters + 1), problem: self.problem }
    }
}

struct Reader<'b> {
    bytes: &'b [u8],
    at: usize,
    document: Document<'b>,
    open: Vec<usize>,
}

impl<'b> Reader<'b> {
    fn read(mut self) -> Result<Document<'b>, Problem> {
        if u32::try_from(self.bytes.len()).is_err() {
            return Err(self.problem("the text is too long"));
        }
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
        match self.peek() {
            None => Ok(self.document),
            Some(_) => Err(self.problem("the end was expected")),
        }
    }

    /// Reads a scalar or an empty container, or opens a container and returns true.
    fn value(&mut self) -> Result<bool, Problem> {
        if let Some(container) = self.open.last()
            && self.document.slots[*container].kind == Kind::Array
        {
            self.document.slots[*container].start += 1;
        }
        match self.peek() {
            Some(b'{') => {
                self.open(Kind::Object)?;
                if self.peek() == Some(b'}') {
                    return self.close().map(|()| false);
                }
                self.key()?;
                return Ok(true);
            }
            Some(b'[') => {
                self.open(Kind::Array)?;
                if self.peek() == Some(b']') {
                    return self.close().map(|()| false);
                }
                return Ok(true);
            }
            Some(b'"') => self.string()?,
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.literal("true", Kind::True)?,
            Some(b'f') => self.literal("false", Kind::False)?,
            Some(b'n') => self.literal("null", Kind::Null)?,
            _ => return Err(self.problem("a value was expected")),
        }
        Ok(false)
    }

    /// Closes what ends here and returns whether another value follows.
    fn after_value(&mut self) -> Result<bool, Problem> {
        while let Some(container) = self.open.last() {
            let in_object = self.document.slots[*container].kind == Kind::Object;
            self.skip_blank();
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
                (Some(b'}'), true) | (Some(b']'), false) => self.close()?,
                (_, true) => return Err(self.problem("a comma or closing brace was expected")),
                (_, false) => return Err(self.problem("a comma or closing bracket was expected")),
            }
        }
        Ok(false)
    }

    fn open(&mut self, kind: Kind) -> Result<(), Problem> {
        if self.open.len() >= DEPTH_MAX {
            return Err(self.problem("arrays and objects are nested too deeply"));
        }
        let slot = self.document.push(kind, 0, 0);
        self.open.push(slot);
        self.at += 1;
        self.skip_blank();
        Ok(())
    }

    fn close(&mut self) -> Result<(), Problem> {
        self.at += 1;
        let Some(slot) = self.open.pop() else { return Ok(()) };
        self.document.slots[slot].end = narrow(self.document.slots.len());
        let is_object = self.document.slots[slot].kind == Kind::Object;
        if is_object && self.document.has_repeated_key(slot) {
            return Err(self.problem("the object that ends here has a key twice"));
        }
        Ok(())
    }

    fn key(&mut self) -> Result<(), Problem> {
        if self.peek() != Some(b'"') {
            return Err(self.problem("a key in double quotes was expected"));
        }
        if let Some(object) = self.open.last() {
            self.document.slots[*object].start += 1;
        }
        self.string()?;
        self.skip_blank();
        if self.peek() != Some(b':') {
            return Err(self.problem("a colon was expected"));
        }
        self.at += 1;
        Ok(())
    }

    fn literal(&mut self, word: &str, kind: Kind) -> Result<(), Problem> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.problem("a value was expected"));
        }
        self.at += word.len();
        self.document.push(kind, 0, 0);
        Ok(())
    }

    fn number(&mut self) -> Result<(), Problem> {
        let Some(length) = number_length(&self.bytes[self.at..]) else {
            return Err(self.problem("this is not a number"));
        };
        let start = self.at;
        self.at += length;
        self.document.push(Kind::Number, start, narrow(self.at));
        Ok(())
    }

    fn string(&mut self) -> Result<(), Problem> {
        let start = self.at + 1;
        self.at = start;
        self.skip_plain();
        if self.peek() == Some(b'"') {
            self.document.push(Kind::String, start, narrow(self.at));
            self.at += 1;
            return Ok(());
        }
        let mut decoded = String::new();
        let mut from = start;
        loop {
            self.skip_plain();
            decoded.push_str(&self.document.text[from..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    self.document.push_decoded(Kind::DecodedString, decoded);
                    return Ok(());
                }
                Some(b'\\') => {
                    let c = self.escape()?;
                    decoded.push(c);
                    from = self.at;
                }
                Some(_) => return Err(self.problem("a control character must be escaped")),
                None => return Err(self.problem("a string has no end")),
            }
        }
    }

    /// Goes to the next quote, backslash or control character.
    fn skip_plain(&mut self) {
        let rest = &self.bytes[self.at..];
        let stop = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1F));
        self.at += stop.unwrap_or(rest.len());
    }

    fn escape(&mut self) -> Result<char, Problem> {
        let simple = match self.bytes.get(self.at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{C}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode_escape(),
            _ => return Err(self.problem("this escape does not exist")),
        };
        self.at += 2;
        Ok(simple)
    }

    fn unicode_escape(&mut self) -> Result<char, Problem> {
        let first = self.four_hex()?;
        let code = if (0xD800..0xDC00).contains(&first) && self.bytes[self.at..].starts_with(b"\\u")
        {
            let second = self.four_hex()?;
            if (0xDC00..0xE000).contains(&second) {
                0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            } else {
                first
            }
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| self.problem("half of a surrogate pair stands alone"))
    }

    fn four_hex(&mut self) -> Result<u32, Problem> {
        let digits = self.bytes.get(self.at + 2..self.at + 6).unwrap_or_default();
        let code = digits
            .iter()
            .try_fold(0, |code, digit| Some(code * 16 + char::from(*digit).to_digit(16)?));
        match code {
            Some(code) if digits.len() == 4 => {
                self.at += 6;
                Ok(code)
            }
            _ => Err(self.problem("this escape needs four hexadecimal digits")),
        }
    }

    fn skip_blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn problem(&self, problem: &'static str) -> Problem {
        Problem { offset: self.at, problem }
    }
}

/// How many bytes at the start are a number of JSON.
fn number_length(bytes: &[u8]) -> Option<usize> {
    let digits = |from: usize| {
        bytes[from.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let mut at = usize::from(bytes.first() == Some(&b'-'));
    let whole = digits(at);
    if whole == 0 || whole > 1 && bytes.get(at) == Some(&b'0') {
        return None;
    }
    at += whole;
    if bytes.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return None;
        }
        at += 1 + fraction;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        if exponent == 0 {
            return None;
        }
        at += 1 + sign + exponent;
    }
    Some(at)
}

/// Whether a text is a number of JSON and nothing else.
pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && number_length(text.as_bytes()) == Some(text.len())
}

/// Narrows a position; texts of 4 GiB are refused before anything is read.
fn narrow(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}

fn widen(position: u32) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}
