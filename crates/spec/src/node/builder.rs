//! Builds a tree from the bottom up and keeps it within its bounds.

use std::{borrow::Cow, collections::HashSet};

use ahash::RandomState;

use crate::{
    issue::ReadError,
    limits::Limits,
    node::{Entry, LARGE_OBJECT, NodeId, Slot, Stored, Tree, index},
};

/// A finished value with its measures, as needed to use it again through an alias.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Built {
    id: NodeId,
    /// Values in it, aliases written out; long texts count more.
    weight: usize,
    /// Levels of arrays and objects in it.
    height: usize,
}

/// Takes values in document order and makes the tree.
pub(crate) struct Builder<'s> {
    slots: Vec<Slot<'s>>,
    entries: Vec<Entry<'s>>,
    items: Vec<NodeId>,
    sorted: Vec<u32>,
    duplicates: Vec<(NodeId, u32)>,
    open: Vec<Frame<'s>>,
    waiting_items: Vec<NodeId>,
    waiting_entries: Vec<Entry<'s>>,
    root: Option<NodeId>,
    weight: usize,
    deepest: usize,
    heaviest: usize,
}

struct Frame<'s> {
    start: usize,
    first: usize,
    kind: FrameKind<'s>,
    weight: usize,
    height: usize,
}

enum FrameKind<'s> {
    Array,
    Object { key: Option<Key<'s>>, merges: Vec<(u32, NodeId)> },
}

struct Key<'s> {
    text: Cow<'s, str>,
    start: usize,
    is_merge: bool,
}

impl<'s> Builder<'s> {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            slots: Vec::new(),
            entries: Vec::new(),
            items: Vec::new(),
            sorted: Vec::new(),
            duplicates: Vec::new(),
            open: Vec::new(),
            waiting_items: Vec::new(),
            waiting_entries: Vec::new(),
            root: None,
            weight: 0,
            deepest: limits.effective_depth(),
            heaviest: limits.values,
        }
    }

    /// Whether the next value belongs to an object and its key is still missing.
    pub(crate) fn expects_key(&self) -> bool {
        matches!(self.open.last(), Some(Frame { kind: FrameKind::Object { key: None, .. }, .. }))
    }

    /// Whether everything that was opened is closed and there is a value.
    pub(crate) fn is_complete(&self) -> bool {
        self.open.is_empty() && self.root.is_some()
    }

    pub(crate) fn is_in_object(&self) -> bool {
        matches!(self.open.last(), Some(Frame { kind: FrameKind::Object { .. }, .. }))
    }

    pub(crate) fn is_nested(&self) -> bool {
        !self.open.is_empty()
    }

    pub(crate) fn null(&mut self, start: usize) -> Result<Built, ReadError> {
        self.scalar(start, Stored::Null, 0)
    }

    pub(crate) fn bool(&mut self, start: usize, value: bool) -> Result<Built, ReadError> {
        self.scalar(start, Stored::Bool(value), 0)
    }

    pub(crate) fn number(&mut self, start: usize, text: Cow<'s, str>) -> Result<Built, ReadError> {
        let length = text.len();
        self.scalar(start, Stored::Number(text), length)
    }

    pub(crate) fn string(&mut self, start: usize, text: Cow<'s, str>) -> Result<Built, ReadError> {
        let length = text.len();
        self.scalar(start, Stored::String(text), length)
    }

    /// The key of the next value. A merge key (`<<`) inserts the entries of its value.
    pub(crate) fn key(
        &mut self,
        start: usize,
        text: Cow<'s, str>,
        is_merge: bool,
    ) -> Result<(), ReadError> {
        self.spend(start, text.len() / 32)?;
        if let Some(Frame { kind: FrameKind::Object { key, .. }, .. }) = self.open.last_mut() {
            *key = Some(Key { text, start, is_merge });
        }
        Ok(())
    }

    pub(crate) fn open_array(&mut self, start: usize) -> Result<(), ReadError> {
        let first = self.waiting_items.len();
        self.open(start, first, FrameKind::Array)
    }

    pub(crate) fn open_object(&mut self, start: usize) -> Result<(), ReadError> {
        let first = self.waiting_entries.len();
        self.open(start, first, FrameKind::Object { key: None, merges: Vec::new() })
    }

    /// Closes the innermost array or object.
    pub(crate) fn close(&mut self) -> Result<Option<Built>, ReadError> {
        let Some(frame) = self.open.pop() else {
            return Ok(None);
        };
        let stored = match frame.kind {
            FrameKind::Array => {
                let first = narrow(self.items.len());
                self.items.extend(self.waiting_items.drain(frame.first..));
                Stored::Array { first, count: narrow(self.items.len()) - first }
            }
            FrameKind::Object { merges, .. } => {
                self.merge(frame.first, &merges)?;
                self.close_object(frame.first)
            }
        };
        let id = self.push(frame.start, stored);
        let built = Built { id, weight: frame.weight + 1, height: frame.height + 1 };
        self.attach(built)?;
        Ok(Some(built))
    }

    /// Uses a finished value once more.
    pub(crate) fn alias(&mut self, start: usize, built: Built) -> Result<Built, ReadError> {
        self.spend(start, built.weight)?;
        if self.open.len() + built.height > self.deepest {
            return Err(self.too_deep(start));
        }
        self.attach(built)?;
        Ok(built)
    }

    /// The text of a finished string, number or literal, to use it as a key.
    pub(crate) fn text(&self, built: Built) -> Option<Cow<'s, str>> {
        match &self.slots[index(built.id.0)].stored {
            Stored::Null => Some(Cow::Borrowed("null")),
            Stored::Bool(true) => Some(Cow::Borrowed("true")),
            Stored::Bool(false) => Some(Cow::Borrowed("false")),
            Stored::Number(text) | Stored::String(text) => Some(text.clone()),
            Stored::Array { .. } | Stored::Object { .. } => None,
        }
    }

    /// A value that is part of nothing yet: a key with an anchor.
    pub(crate) fn detached(&mut self, start: usize, text: Cow<'s, str>) -> Built {
        let weight = 1 + text.len() / 32;
        Built { id: self.push(start, Stored::String(text)), weight, height: 0 }
    }

    pub(crate) fn finish(mut self) -> Option<Tree<'s>> {
        let root = self.root?;
        self.duplicates.sort_unstable();
        Some(Tree {
            slots: self.slots,
            entries: self.entries,
            items: self.items,
            sorted: self.sorted,
            duplicates: self.duplicates,
            root,
        })
    }

    fn open(&mut self, start: usize, first: usize, kind: FrameKind<'s>) -> Result<(), ReadError> {
        self.spend(start, 1)?;
        if self.open.len() >= self.deepest {
            return Err(self.too_deep(start));
        }
        self.open.push(Frame { start, first, kind, weight: 0, height: 0 });
        Ok(())
    }

    fn scalar(
        &mut self,
        start: usize,
        stored: Stored<'s>,
        length: usize,
    ) -> Result<Built, ReadError> {
        let weight = 1 + length / 32;
        self.spend(start, weight)?;
        let built = Built { id: self.push(start, stored), weight, height: 0 };
        self.attach(built)?;
        Ok(built)
    }

    fn push(&mut self, start: usize, stored: Stored<'s>) -> NodeId {
        let id = NodeId(narrow(self.slots.len()));
        self.slots.push(Slot { start: narrow(start), stored });
        id
    }

    fn attach(&mut self, built: Built) -> Result<(), ReadError> {
        let Some(frame) = self.open.last_mut() else {
            self.root = Some(built.id);
            return Ok(());
        };
        frame.weight = frame.weight.saturating_add(built.weight);
        frame.height = frame.height.max(built.height);
        match &mut frame.kind {
            FrameKind::Array => self.waiting_items.push(built.id),
            FrameKind::Object { key, merges } => match key.take() {
                Some(Key { start, is_merge: true, .. }) => merges.push((narrow(start), built.id)),
                Some(Key { text, start, is_merge: false }) => {
                    let key_start = narrow(start);
                    self.waiting_entries.push(Entry { key: text, key_start, value: built.id });
                }
                None => {
                    let start = index(self.slots[index(built.id.0)].start);
                    return Err(ReadError::syntax(start, "a value has no key"));
                }
            },
        }
        Ok(())
    }

    /// Adds the entries of merged objects to the object whose entries wait from `first` on.
    /// What the object says itself wins, then the earlier merge.
    fn merge(&mut self, first: usize, merges: &[(u32, NodeId)]) -> Result<(), ReadError> {
        if merges.is_empty() {
            return Ok(());
        }
        let mut seen: HashSet<Cow<'s, str>, RandomState> =
            self.waiting_entries[first..].iter().map(|entry| entry.key.clone()).collect();
        for (start, id) in merges {
            for source in self.merge_sources(*start, *id)? {
                let Stored::Object { first, count, .. } = self.slots[index(source.0)].stored else {
                    return Err(not_mergeable(*start));
                };
                for number in index(first)..index(first) + index(count) {
                    let entry = self.entries[number].clone();
                    self.spend(index(*start), 1 + entry.key.len() / 32)?;
                    if seen.insert(entry.key.clone()) {
                        self.waiting_entries.push(entry);
                    }
                }
            }
        }
        Ok(())
    }

    fn merge_sources(&self, start: u32, id: NodeId) -> Result<Vec<NodeId>, ReadError> {
        match self.slots[index(id.0)].stored {
            Stored::Object { .. } => Ok(vec![id]),
            Stored::Array { first, count } => {
                Ok(self.items[index(first)..index(first) + index(count)].to_vec())
            }
            _ => Err(not_mergeable(start)),
        }
    }

    fn close_object(&mut self, waiting_from: usize) -> Stored<'s> {
        let id = NodeId(narrow(self.slots.len()));
        let first = self.entries.len();
        self.entries.extend(self.waiting_entries.drain(waiting_from..));
        let entries = &self.entries[first..];
        let sorted = narrow(self.sorted.len());
        if entries.len() > LARGE_OBJECT {
            let mut order: Vec<u32> = (0..narrow(entries.len())).collect();
            order.sort_by(|one, other| entries[index(*one)].key.cmp(&entries[index(*other)].key));
            for pair in order.windows(2) {
                if entries[index(pair[0])].key == entries[index(pair[1])].key {
                    self.duplicates.push((id, pair[1]));
                }
            }
            self.sorted.extend(order);
        } else {
            for (number, entry) in entries.iter().enumerate().skip(1) {
                if entries[..number].iter().any(|earlier| earlier.key == entry.key) {
                    self.duplicates.push((id, narrow(number)));
                }
            }
        }
        Stored::Object { first: narrow(first), count: narrow(entries.len()), sorted }
    }

    fn spend(&mut self, start: usize, weight: usize) -> Result<(), ReadError> {
        self.weight = self.weight.saturating_add(weight);
        if self.weight <= self.heaviest {
            return Ok(());
        }
        Err(ReadError {
            rule: "too-large",
            message: format!(
                "the document has more than {} values, every use of an alias counted",
                self.heaviest
            ),
            offset: start,
        })
    }

    fn too_deep(&self, start: usize) -> ReadError {
        ReadError {
            rule: "too-deep",
            message: format!("arrays and objects are nested more than {} levels", self.deepest),
            offset: start,
        }
    }
}

fn not_mergeable(start: u32) -> ReadError {
    ReadError::syntax(index(start), "a merge key (<<) takes a mapping or a list of mappings")
}

/// Narrows a position. Limits keep documents below 4 GiB; beyond, places merely become wrong.
fn narrow(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(u32::MAX)
}
