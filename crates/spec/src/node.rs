//! The located tree every document is read into.
//!
//! All values live in one arena and know where they start. Strings are borrowed from the text
//! where they stand there as they are. A YAML alias is the same value a second time, so a tree
//! is a graph without cycles; its size with every alias written out is bounded by the builder.

use std::borrow::Cow;

mod builder;

pub(crate) use builder::{Builder, Built};

/// A document's values. Objects keep their entries in order, duplicates included.
#[derive(Debug)]
pub(crate) struct Tree<'s> {
    slots: Vec<Slot<'s>>,
    entries: Vec<Entry<'s>>,
    items: Vec<NodeId>,
    /// Entry numbers of large objects in order of their keys.
    sorted: Vec<u32>,
    /// Objects with a key that occurs before, by the number of the second entry.
    duplicates: Vec<(NodeId, u32)>,
    root: NodeId,
}

/// Number of a value in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(u32);

#[derive(Debug)]
struct Slot<'s> {
    start: u32,
    stored: Stored<'s>,
}

#[derive(Debug)]
enum Stored<'s> {
    Null,
    Bool(bool),
    Number(Cow<'s, str>),
    String(Cow<'s, str>),
    Array { first: u32, count: u32 },
    Object { first: u32, count: u32, sorted: u32 },
}

#[derive(Debug, Clone)]
struct Entry<'s> {
    key: Cow<'s, str>,
    key_start: u32,
    value: NodeId,
}

/// Objects with more entries than this are searched through a sorted index.
const LARGE_OBJECT: usize = 16;

/// A value of a tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node<'t> {
    tree: &'t Tree<'t>,
    id: NodeId,
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'t> {
    Null,
    Bool(bool),
    /// A number as it is spelled; in YAML that may be `0x1F` or `.inf`.
    Number(&'t str),
    String(&'t str),
    Array,
    Object,
}

/// An entry of an object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member<'t> {
    pub(crate) key: &'t str,
    /// Where the key starts, in bytes.
    pub(crate) key_start: u32,
    pub(crate) value: Node<'t>,
}

impl<'s> Tree<'s> {
    pub(crate) fn root<'t>(&'t self) -> Node<'t>
    where
        's: 't,
    {
        Node { tree: self, id: self.root }
    }

    pub(crate) fn has_duplicates(&self) -> bool {
        !self.duplicates.is_empty()
    }

    fn entries(&self, first: u32, count: u32) -> &[Entry<'s>] {
        let first = index(first);
        &self.entries[first..first + index(count)]
    }
}

impl<'t> Node<'t> {
    pub(crate) fn id(self) -> NodeId {
        self.id
    }

    /// Where the value starts, in bytes.
    pub(crate) fn start(self) -> u32 {
        self.slot().start
    }

    pub(crate) fn value(self) -> Value<'t> {
        match &self.slot().stored {
            Stored::Null => Value::Null,
            Stored::Bool(value) => Value::Bool(*value),
            Stored::Number(text) => Value::Number(text),
            Stored::String(text) => Value::String(text),
            Stored::Array { .. } => Value::Array,
            Stored::Object { .. } => Value::Object,
        }
    }

    pub(crate) fn is_object(self) -> bool {
        matches!(self.slot().stored, Stored::Object { .. })
    }

    pub(crate) fn is_array(self) -> bool {
        matches!(self.slot().stored, Stored::Array { .. })
    }

    pub(crate) fn as_str(self) -> Option<&'t str> {
        match &self.slot().stored {
            Stored::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_bool(self) -> Option<bool> {
        match self.slot().stored {
            Stored::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The entries of an object in order; none for anything else.
    pub(crate) fn members(self) -> impl ExactSizeIterator<Item = Member<'t>> + Clone {
        let tree = self.tree;
        let entries = match self.slot().stored {
            Stored::Object { first, count, .. } => tree.entries(first, count),
            _ => &[],
        };
        entries.iter().map(move |entry| Member {
            key: &entry.key,
            key_start: entry.key_start,
            value: Node { tree, id: entry.value },
        })
    }

    /// The items of an array in order; none for anything else.
    pub(crate) fn items(self) -> impl ExactSizeIterator<Item = Node<'t>> + Clone {
        let tree = self.tree;
        let items = match self.slot().stored {
            Stored::Array { first, count } => {
                &tree.items[index(first)..index(first) + index(count)]
            }
            _ => &[],
        };
        items.iter().map(move |id| Node { tree, id: *id })
    }

    /// The value of `key`, the first one if there are several.
    pub(crate) fn get(self, key: &str) -> Option<Node<'t>> {
        self.member(key).map(|member| member.value)
    }

    /// The entry of `key`, the first one if there are several.
    pub(crate) fn member(self, key: &str) -> Option<Member<'t>> {
        let Stored::Object { first, count, sorted } = self.slot().stored else {
            return None;
        };
        let entries = self.tree.entries(first, count);
        let entry = if entries.len() > LARGE_OBJECT {
            let order = &self.tree.sorted[index(sorted)..index(sorted) + entries.len()];
            let place = order.partition_point(|number| *entries[index(*number)].key < *key);
            &entries[index(*order.get(place)?)]
        } else {
            entries.iter().find(|entry| entry.key == key)?
        };
        (entry.key == key).then(|| Member {
            key: &entry.key,
            key_start: entry.key_start,
            value: Node { tree: self.tree, id: entry.value },
        })
    }

    /// The keys of an object that occur before, in order.
    pub(crate) fn duplicate_members(self) -> impl Iterator<Item = Member<'t>> {
        let duplicates = &self.tree.duplicates;
        let from = duplicates.partition_point(|(id, _)| *id < self.id);
        let numbers = duplicates[from..].iter().take_while(move |(id, _)| *id == self.id);
        let members = self.members();
        numbers.filter_map(move |(_, number)| members.clone().nth(index(*number)))
    }

    fn slot(self) -> &'t Slot<'t> {
        &self.tree.slots[index(self.id.0)]
    }
}

/// Widens a stored position. Documents are far below 4 GiB on every machine that reads them.
fn index(position: u32) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}
