//! Where the words of a search stand in a hit.

use std::ops::Range;

use crate::{fields::stem_analyzer, words::Word};

/// A piece of an entry's text with the places of the words that were looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Highlight {
    /// What the piece is from.
    pub field: HighlightedField,
    /// The piece: plain text, not escaped for anything.
    pub fragment: String,
    /// The places in it, in bytes, in order and apart from each other.
    pub ranges: Vec<Range<usize>>,
}

/// A text of an entry that words are highlighted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HighlightedField {
    /// The name, whole.
    Name,
    /// The description.
    Description,
    /// Paths, summaries and schema names.
    Operations,
}

/// Bytes shown before the first word and in all.
const BEFORE: usize = 60;
const FRAGMENT: usize = 200;

/// Text beyond this is not looked at, in bytes.
const LONGEST_TEXT: usize = 64 * 1024;

/// The piece of a text around the first of the words; none if none is in it.
pub(crate) fn highlight(field: HighlightedField, text: &str, words: &[Word]) -> Option<Highlight> {
    let text = &text[..text.floor_char_boundary(LONGEST_TEXT)];
    let mut analyzer = stem_analyzer();
    let mut stream = analyzer.token_stream(text);
    let mut found: Vec<Range<usize>> = Vec::new();
    while let Some(token) = stream.next() {
        let range = token.offset_from..token.offset_to;
        let plain = text.get(range.clone()).unwrap_or_default().to_lowercase();
        if words.iter().any(|word| word.matches(&plain, &token.text)) {
            found.push(range);
        }
        let is_whole = field == HighlightedField::Name;
        if !is_whole
            && found.first().is_some_and(|first| token.offset_from > first.start + FRAGMENT)
        {
            break;
        }
    }
    let first = found.first()?;
    let cut = if field == HighlightedField::Name {
        0..text.len()
    } else {
        fragment_around(text, first.start)
    };
    let ranges = found
        .iter()
        .filter(|range| range.start >= cut.start && range.end <= cut.end)
        .map(|range| range.start - cut.start..range.end - cut.start)
        .collect();
    Some(Highlight { field, fragment: text[cut].to_owned(), ranges })
}

/// A range of whole words around a place.
fn fragment_around(text: &str, place: usize) -> Range<usize> {
    let mut start = text.floor_char_boundary(place.saturating_sub(BEFORE));
    if start > 0 {
        let space = text[start..place].find(char::is_whitespace);
        start = space.map_or(start, |space| text.ceil_char_boundary(start + space + 1));
    }
    let mut end = text.floor_char_boundary(start.saturating_add(FRAGMENT));
    if end < text.len() {
        let space = text[place..end].rfind(char::is_whitespace);
        end = space.map_or(end, |space| place + space);
    }
    start..end.max(start)
}
