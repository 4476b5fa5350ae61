//! Where `$ref` leads: pointers into the document, in 3.1 also anchors and embedded `$id`s.
//! Nothing is ever fetched; a reference that leaves the document is reported.

use std::borrow::Cow;

use ahash::{AHashMap, AHashSet};

use crate::{
    node::Node,
    openapi::{
        check::{Checker, Scope},
        objects,
        shape::{Kind, Shape, Text, Version},
        text::text_problem,
    },
    path::{Path, push_key},
};

/// Where a reference leads.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'t> {
    /// A value, and what stands there by the tables.
    Found(Node<'t>, Place),
    Missing,
    /// Another document.
    Remote,
}

/// What the tables say about the place of a value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Shaped(Shape),
    /// An extension or free value, where nothing is expected.
    Free,
}

/// The schemas of a document that have names of their own.
#[derive(Debug, Default)]
pub(crate) struct Identified<'t> {
    /// By `$id`, as it is written.
    pub(crate) ids: AHashMap<&'t str, Node<'t>>,
    /// By `$anchor` and `$dynamicAnchor`.
    pub(crate) anchors: AHashMap<&'t str, Node<'t>>,
    /// Names that several schemas have.
    pub(crate) ambiguous: AHashSet<&'t str>,
}

/// Longest chain of references that is followed.
const LONGEST_CHAIN: usize = 32;

/// What stands at the end of the pointers that start here, without names and other documents.
pub(crate) fn follow_reference<'t>(root: Node<'t>, node: Node<'t>) -> Option<Node<'t>> {
    let mut node = node;
    for _ in 0..LONGEST_CHAIN {
        let Some(text) = node.get("$ref").and_then(Node::as_str) else { return Some(node) };
        let pointer = percent_decode(text.strip_prefix('#')?)?;
        let mut target = root;
        for token in pointer_tokens(&pointer)? {
            target = child(target, &token)?;
        }
        node = target;
    }
    None
}

impl<'t> Checker<'t> {
    /// Checks a reference in the place of a `kind`; false if the object is none.
    pub(super) fn is_reference(
        &mut self,
        node: Node<'t>,
        kind: Kind,
        path: &Path<'_>,
        scope: Scope<'t>,
    ) -> bool {
        let Some(reference) = node.get("$ref") else { return false };
        let here = path.key("$ref");
        let Some(text) = reference.as_str() else {
            self.wrong_type(reference, &here, "a string");
            return true;
        };
        self.check_reference(reference, text, kind, &here, scope);
        for member in node.members() {
            let is_known = member.key == "$ref"
                || self.version == Version::V31 && matches!(member.key, "summary" | "description");
            if !is_known {
                self.warning("reference-sibling", member.key_start, &path.key(member.key), || {
                    format!("{:?} is ignored beside $ref", member.key)
                });
            }
        }
        true
    }

    /// Checks that `text` leads to a `kind`.
    pub(super) fn check_reference(
        &mut self,
        reference: Node<'t>,
        text: &'t str,
        kind: Kind,
        path: &Path<'_>,
        scope: Scope<'t>,
    ) {
        match self.resolve(text, scope) {
            Target::Remote => self.error("remote-reference", reference.start(), path, || {
                format!("{text:?} leads out of this document and is not fetched")
            }),
            Target::Missing => self.error("unresolved-reference", reference.start(), path, || {
                format!("{text:?} leads to nothing in this document")
            }),
            Target::Found(_, Place::Shaped(shape)) if shape.kind() != Some(kind) => {
                let name = objects::object(kind, self.version).name;
                self.error("reference-kind", reference.start(), path, || {
                    format!("{text:?} does not lead to a {name}")
                });
            }
            Target::Found(node, place) => {
                if self.is_endless(text, scope) {
                    return self.error("reference-cycle", reference.start(), path, || {
                        format!("{text:?} only leads to more references, and never to an end")
                    });
                }
                if text_problem(Text::Url, text).is_some() {
                    self.warning("reference-format", reference.start(), path, || {
                        format!("{text:?} has characters that a URL must percent-encode")
                    });
                }
                if matches!(place, Place::Free) && self.queued.insert((node.id(), kind)) {
                    self.unchecked.push((node, kind, written_pointer(text)));
                }
            }
        }
    }

    /// What stands at the end of the references that start here; none if they lead nowhere.
    pub(super) fn follow(&mut self, node: Node<'t>, scope: Scope<'t>) -> Option<Node<'t>> {
        let mut node = node;
        for _ in 0..LONGEST_CHAIN {
            let Some(text) = node.get("$ref").and_then(Node::as_str) else { return Some(node) };
            match self.resolve(text, scope) {
                Target::Found(target, _) => node = target,
                Target::Missing | Target::Remote => return None,
            }
        }
        None
    }

    pub(super) fn resolve(&mut self, text: &'t str, scope: Scope<'t>) -> Target<'t> {
        let key = (scope.resource.id(), text);
        if let Some(target) = self.targets.get(&key) {
            return *target;
        }
        let target = self.find(text, scope);
        self.targets.insert(key, target);
        target
    }

    fn is_endless(&mut self, text: &'t str, scope: Scope<'t>) -> bool {
        let mut text = text;
        for _ in 0..LONGEST_CHAIN {
            let Target::Found(node, _) = self.resolve(text, scope) else { return false };
            match node.get("$ref").and_then(Node::as_str) {
                Some(next) => text = next,
                None => return false,
            }
        }
        true
    }

    fn find(&mut self, text: &'t str, scope: Scope<'t>) -> Target<'t> {
        let (base, fragment) = text.split_once('#').unwrap_or((text, ""));
        let start = if base.is_empty() {
            scope.resource
        } else {
            match self.identified().ids.get(base) {
                Some(node) => *node,
                None => return Target::Remote,
            }
        };
        let Some(fragment) = percent_decode(fragment) else { return Target::Missing };
        if !fragment.is_empty() && !fragment.starts_with('/') {
            return match self.identified().anchors.get(&*fragment) {
                Some(node) => Target::Found(*node, Place::Shaped(Shape::Schema)),
                None => Target::Missing,
            };
        }
        let is_document = start.id() == self.root.id();
        let kind = if is_document { Kind::OpenApi } else { Kind::Schema };
        self.walk_pointer(start, kind, &fragment)
    }

    fn walk_pointer(&self, start: Node<'t>, kind: Kind, pointer: &str) -> Target<'t> {
        let Some(tokens) = pointer_tokens(pointer) else { return Target::Missing };
        let mut node = start;
        let mut place = Place::Shaped(Shape::Object(kind));
        for token in tokens {
            let Some(next) = child(node, &token) else { return Target::Missing };
            node = next;
            place = match place {
                Place::Shaped(shape) => match shape.step(&token, self.version) {
                    None | Some(Shape::Any) => Place::Free,
                    Some(shape) => Place::Shaped(shape),
                },
                Place::Free => Place::Free,
            };
        }
        Target::Found(node, place)
    }

    /// Schemas that can be referred to by name. In 3.0 there are none.
    fn identified(&mut self) -> &Identified<'t> {
        let (root, version) = (self.root, self.version);
        self.identified.get_or_insert_with(|| {
            let mut identified = Identified::default();
            if version == Version::V31 {
                identified.collect(root);
            }
            identified
        })
    }
}

impl<'t> Identified<'t> {
    pub(crate) fn collect(&mut self, node: Node<'t>) {
        for member in node.members() {
            match (member.key, member.value.as_str()) {
                ("$id", Some(id)) => {
                    self.ids.entry(id.trim_end_matches('#')).or_insert(node);
                }
                ("$anchor" | "$dynamicAnchor", Some(anchor)) => {
                    let known = self.anchors.entry(anchor).or_insert(node);
                    if known.id() != node.id() {
                        self.ambiguous.insert(anchor);
                    }
                }
                _ => {}
            }
            self.collect(member.value);
        }
        for item in node.items() {
            self.collect(item);
        }
    }
}

pub(crate) fn child<'t>(node: Node<'t>, token: &str) -> Option<Node<'t>> {
    if node.is_object() {
        return node.get(token);
    }
    let is_index =
        token == "0" || !token.starts_with('0') && token.bytes().all(|b| b.is_ascii_digit());
    if !is_index {
        return None;
    }
    node.items().nth(token.parse().ok()?)
}

pub(crate) fn pointer_tokens(pointer: &str) -> Option<impl Iterator<Item = Cow<'_, str>>> {
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return None;
    }
    Some(pointer.split('/').skip(1).map(|token| {
        if token.contains('~') {
            Cow::Owned(token.replace("~1", "/").replace("~0", "~"))
        } else {
            Cow::Borrowed(token)
        }
    }))
}

pub(crate) fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let high = char::from(bytes.next()?).to_digit(16)?;
        let low = char::from(bytes.next()?).to_digit(16)?;
        decoded.push(u8::try_from(high * 16 + low).ok()?);
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

/// A reference within the document as a JSON path.
fn written_pointer(text: &str) -> String {
    let fragment = text.split_once('#').map_or("", |(_, fragment)| fragment);
    let decoded = percent_decode(fragment).unwrap_or_default();
    let mut written = "$".to_owned();
    for token in pointer_tokens(&decoded).into_iter().flatten() {
        push_key(&mut written, &token);
    }
    written
}
