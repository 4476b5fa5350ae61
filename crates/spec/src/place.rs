//! Where in a document something stands, for whoever reads more out of it than this crate does.

use crate::{issue::Cursor, limits::Limits, node::Node, read};

/// One step down a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'s> {
    /// To the value of a key.
    Key(&'s str),
    /// To an item, from 0.
    Index(usize),
}

/// Which part of an entry is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its key; the value where there is none.
    Key,
    /// Its value.
    Value,
}

/// Where something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// Where the value stands that a path leads to; where the path breaks off, the last value on it. `None` when the
/// document cannot be read.
#[must_use]
pub fn place_of(bytes: &[u8], limits: &Limits, path: &[Step<'_>], part: Part) -> Option<Place> {
    let text = read::decode(bytes, limits).ok()?;
    let source = read::read(text, limits).ok()?;
    let mut node: Node<'_> = source.tree.root();
    let mut offset = node.start();
    for step in path {
        let below = match step {
            Step::Key(key) => node.member(key).map(|member| (member.key_start, member.value)),
            Step::Index(index) => node.items().nth(*index).map(|item| (item.start(), item)),
        };
        let Some((start, value)) = below else { break };
        offset = if part == Part::Key { start } else { value.start() };
        node = value;
    }
    let mut cursor = Cursor::new(text);
    cursor.advance(usize::try_from(offset).ok()?);
    Some(Place { line: cursor.line, column: cursor.column })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_found() {
        let text = "a:\n  - b: 1\n  - ü: {c: [2, 30]}\n";
        let path = [Step::Key("a"), Step::Index(1), Step::Key("ü"), Step::Key("c"), Step::Index(1)];
        let place = |length: usize, part| {
            let place =
                place_of(text.as_bytes(), &Limits::default(), &path[..length], part).unwrap();
            (place.line, place.column)
        };
        assert_eq!(place(0, Part::Value), (1, 1));
        assert_eq!(place(3, Part::Key), (3, 5));
        assert_eq!(place(3, Part::Value), (3, 8));
        assert_eq!(place(4, Part::Key), (3, 9));
        assert_eq!(place(5, Part::Value), (3, 16));
        let lost = [Step::Key("a"), Step::Index(7)];
        let place = place_of(text.as_bytes(), &Limits::default(), &lost, Part::Key).unwrap();
        assert_eq!((place.line, place.column), (1, 1));
    }
}
