//! From bytes to a tree: size, encoding, and which of the two syntaxes a text is in.

use serde::{Deserialize, Serialize};

use crate::{
    issue::ReadError,
    limits::Limits,
    node::{Builder, Tree},
};

mod json;
mod scalar;
mod yaml;

pub(crate) use scalar::{Plain, classify_plain, json_number};

/// The two ways to write the same tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Syntax {
    /// RFC 8259.
    Json,
    /// YAML 1.2 with the core schema.
    Yaml,
}

impl Syntax {
    /// Which syntax a text seems to be in: JSON when its first character opens an array or an
    /// object, YAML otherwise. Reading may still find that it is YAML in flow style.
    #[must_use]
    pub fn detect(bytes: &[u8]) -> Self {
        match first_visible(bytes).next() {
            Some(b'{' | b'[') => Self::Json,
            _ => Self::Yaml,
        }
    }
}

/// A document as a tree.
pub(crate) struct Source<'s> {
    pub(crate) syntax: Syntax,
    pub(crate) tree: Tree<'s>,
    /// Byte offsets of merge keys, which YAML 1.2 does not know.
    pub(crate) merge_keys: Vec<usize>,
    /// Byte offsets of nodes with a tag outside the core schema.
    pub(crate) foreign_tags: Vec<usize>,
}

/// The text of a document: within its size, UTF-8, without its byte order mark if it has one.
/// The second value is how many bytes the mark took.
pub(crate) fn decode<'s>(bytes: &'s [u8], limits: &Limits) -> Result<&'s str, ReadError> {
    if bytes.len() > limits.document_bytes {
        return Err(ReadError {
            rule: "too-large",
            message: format!("the document has more than {} bytes", limits.document_bytes),
            offset: 0,
        });
    }
    if bytes.starts_with(&[0xFF, 0xFE]) || bytes.starts_with(&[0xFE, 0xFF]) {
        return Err(ReadError::syntax(0, "the text is UTF-16; only UTF-8 is accepted"));
    }
    std::str::from_utf8(bytes).map_err(|error| {
        ReadError::syntax(error.valid_up_to(), "the text is not valid UTF-8 from here on")
    })
}

/// Reads a text in whichever syntax it is.
pub(crate) fn read<'s>(text: &'s str, limits: &Limits) -> Result<Source<'s>, ReadError> {
    if Syntax::detect(text.as_bytes()) == Syntax::Yaml {
        return read_yaml(text, limits);
    }
    let error = match read_json(text, limits) {
        Ok(source) => return Ok(source),
        Err(error) => error,
    };
    if error.rule != "syntax" || is_plainly_json(text.as_bytes()) {
        return Err(error);
    }
    // Whoever got further understood more of it.
    read_yaml(text, limits).map_err(|other| if other.offset > error.offset { other } else { error })
}

fn read_json<'s>(text: &'s str, limits: &Limits) -> Result<Source<'s>, ReadError> {
    let tree = json::read(text, Builder::new(limits))?;
    Ok(Source { syntax: Syntax::Json, tree, merge_keys: Vec::new(), foreign_tags: Vec::new() })
}

fn read_yaml<'s>(text: &'s str, limits: &Limits) -> Result<Source<'s>, ReadError> {
    yaml::read(text, Builder::new(limits), limits)
}

/// Whether a text that starts like JSON also goes on like it: a quoted key, another opening,
/// or the end. YAML in flow style hardly ever does, and a JSON error is then the better one.
fn is_plainly_json(bytes: &[u8]) -> bool {
    let mut visible = first_visible(bytes).skip(1).skip_while(u8::is_ascii_whitespace);
    matches!(visible.next(), None | Some(b'"' | b'{' | b'[' | b'}' | b']'))
}

fn first_visible(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let bytes = bytes.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(bytes);
    bytes.iter().copied().skip_while(u8::is_ascii_whitespace)
}
