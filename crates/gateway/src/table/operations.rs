//! Which operation of a specification a call is.

use compact_str::CompactString;
use http::Method;
use model::OperationEntry;

/// The operations of a version, as a tree of path segments. Short texts lie where they are compared.
pub(crate) struct Operations {
    root: Node,
    operations: Vec<Operation>,
}

/// One operation.
pub(crate) struct Operation {
    pub(crate) request_types: MediaTypes,
    pub(crate) response_types: MediaTypes,
}

/// Media types without parameters, in lower case.
pub(crate) struct MediaTypes(Vec<MediaType>);

struct MediaType {
    text: CompactString,
    slash: usize,
}

#[derive(Default)]
struct Node {
    literals: Vec<(CompactString, Node)>,
    patterns: Vec<(Pattern, Node)>,
    methods: Vec<(Method, u16)>,
}

/// A segment with a parameter: what stands before and after it.
#[derive(PartialEq, Eq)]
struct Pattern {
    before: CompactString,
    after: CompactString,
}

impl Operations {
    pub(crate) fn compile(entries: &[OperationEntry]) -> Self {
        let mut root = Node::default();
        let mut operations = Vec::with_capacity(entries.len());
        for (index, entry) in (0..u16::MAX).zip(entries) {
            operations.push(Operation {
                request_types: MediaTypes::compile(&entry.request_media_types),
                response_types: MediaTypes::compile(&entry.response_media_types),
            });
            if let Ok(method) = Method::from_bytes(entry.method.as_bytes()) {
                let mut node = &mut root;
                for segment in segments(&entry.template) {
                    node = node.child(segment);
                }
                node.methods.push((method, index));
            }
        }
        Self { root, operations }
    }

    /// The operation whose template `path` matches; a literal segment is a better match than a parameter.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Option<u16> {
        if self.operations.is_empty() {
            return None;
        }
        self.root.find(method, path.strip_prefix('/').unwrap_or(path))
    }

    /// The methods of all operations whose template `path` matches.
    pub(crate) fn methods(&self, path: &str) -> Vec<Method> {
        let mut methods = Vec::new();
        self.root.collect_methods(path.strip_prefix('/').unwrap_or(path), &mut methods);
        methods.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
        methods.dedup();
        methods
    }

    pub(crate) fn get(&self, index: u16) -> Option<&Operation> {
        self.operations.get(usize::from(index))
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

impl Node {
    fn child(&mut self, segment: &str) -> &mut Self {
        match Pattern::parse(segment) {
            Some(pattern) => {
                let at = match self.patterns.iter().position(|(known, _)| *known == pattern) {
                    Some(at) => at,
                    None => {
                        self.patterns.push((pattern, Self::default()));
                        self.patterns.len() - 1
                    }
                };
                child_at(&mut self.patterns, at)
            }
            None => {
                let at = match self.literals.iter().position(|(known, _)| **known == *segment) {
                    Some(at) => at,
                    None => {
                        self.literals.push((segment.into(), Self::default()));
                        self.literals.len() - 1
                    }
                };
                child_at(&mut self.literals, at)
            }
        }
    }

    fn collect_methods(&self, path: &str, methods: &mut Vec<Method>) {
        let (segment, rest) = match path.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (path, None),
        };
        let literal = self.literals.iter().filter(|(known, _)| **known == *segment);
        let patterns = self.patterns.iter().filter(|(pattern, _)| pattern.matches(segment));
        for node in literal.map(|(_, node)| node).chain(patterns.map(|(_, node)| node)) {
            match rest {
                Some(rest) => node.collect_methods(rest, methods),
                None => methods.extend(node.methods.iter().map(|(method, _)| method.clone())),
            }
        }
    }

    /// Visits each node of the tree at most once, so that no path takes long.
    fn find(&self, method: &Method, path: &str) -> Option<u16> {
        let (segment, rest) = match path.split_once('/') {
            Some((segment, rest)) => (segment, Some(rest)),
            None => (path, None),
        };
        let literal = self.literals.iter().filter(|(known, _)| **known == *segment);
        let patterns = self.patterns.iter().filter(|(pattern, _)| pattern.matches(segment));
        literal.map(|(_, node)| node).chain(patterns.map(|(_, node)| node)).find_map(|node| {
            match rest {
                Some(rest) => node.find(method, rest),
                None => {
                    node.methods.iter().find(|(known, _)| known == method).map(|(_, index)| *index)
                }
            }
        })
    }
}

fn child_at<K>(children: &mut [(K, Node)], at: usize) -> &mut Node {
    children.get_mut(at).map(|(_, node)| node).expect("the place was just found or made")
}

impl Pattern {
    fn parse(segment: &str) -> Option<Self> {
        let (before, rest) = segment.split_once('{')?;
        let (_, after) = rest.rsplit_once('}')?;
        Some(Self { before: before.into(), after: after.into() })
    }

    fn matches(&self, segment: &str) -> bool {
        segment.len() > self.before.len() + self.after.len()
            && segment.starts_with(&*self.before)
            && segment.ends_with(&*self.after)
    }
}

impl MediaTypes {
    fn compile(types: &[String]) -> Self {
        let prepare = |text: &String| {
            let text = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            Some(MediaType { slash: text.find('/')?, text: text.into() })
        };
        Self(types.iter().filter_map(prepare).collect())
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them covers `media_type`, a `Content-Type`.
    pub(crate) fn contain(&self, media_type: &str) -> bool {
        let Some((kind, subtype)) = split_media_type(media_type) else { return false };
        self.0
            .iter()
            .map(MediaType::parts)
            .any(|(known, known_subtype)| covers(known, kind) && covers(known_subtype, subtype))
    }

    /// Whether one of them is accepted by the ranges of an `Accept` header.
    pub(crate) fn satisfy(&self, accept: &str) -> bool {
        // Most clients name the one type that they want.
        if self.0.iter().any(|known| *known.text == *accept) {
            return true;
        }
        accept.split(',').any(|range| {
            let refused = range.split(';').skip(1).any(|parameter| {
                let weight = parameter.trim().strip_prefix("q=");
                weight.is_some_and(|weight| weight.bytes().all(|byte| matches!(byte, b'0' | b'.')))
            });
            let Some((kind, subtype)) = split_media_type(range) else { return false };
            !refused
                && self.0.iter().map(MediaType::parts).any(|(known, known_subtype)| {
                    (covers(kind, known) || covers(known, kind))
                        && (covers(subtype, known_subtype) || covers(known_subtype, subtype))
                })
        })
    }
}

impl MediaType {
    /// The type and its subtype.
    fn parts(&self) -> (&str, &str) {
        let (kind, subtype) = self.text.split_at(self.slash);
        (kind, subtype.get(1..).unwrap_or_default())
    }
}

fn split_media_type(text: &str) -> Option<(&str, &str)> {
    let (kind, subtype) = text.split(';').next()?.trim().split_once('/')?;
    Some((kind, subtype))
}

fn covers(range: &str, part: &str) -> bool {
    range == "*" || range.eq_ignore_ascii_case(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations(templates: &[(&str, &str)]) -> Operations {
        let entries: Vec<_> = templates
            .iter()
            .map(|(method, template)| OperationEntry {
                method: (*method).to_owned(),
                template: (*template).to_owned(),
                request_media_types: Vec::new(),
                response_media_types: Vec::new(),
            })
            .collect();
        Operations::compile(&entries)
    }

    #[test]
    fn literal_segments_beat_parameters() {
        let operations = operations(&[
            ("GET", "/slots/{id}"),
            ("GET", "/slots/free"),
            ("POST", "/slots"),
            ("GET", "/slots/{id}/notes"),
            ("GET", "/slots/free/days"),
            ("GET", "/report.{format}"),
            ("GET", "/"),
        ]);
        let find = |method, path| operations.find(&method, path);
        assert_eq!(find(Method::GET, "/slots/7"), Some(0));
        assert_eq!(find(Method::GET, "/slots/free"), Some(1));
        assert_eq!(find(Method::GET, "/slots/free/notes"), Some(3));
        assert_eq!(find(Method::GET, "/report.pdf"), Some(5));
        assert_eq!(find(Method::GET, "/"), Some(6));
        assert_eq!(find(Method::GET, ""), Some(6));
        for (method, path) in
            [(Method::PUT, "/slots"), (Method::GET, "/slots/"), (Method::GET, "/slots/7/x")]
        {
            assert_eq!(find(method, path), None, "{path}");
        }
    }

    #[test]
    fn media_types_are_compared_without_parameters() {
        let types = MediaTypes::compile(&[
            "application/JSON; charset=utf-8".to_owned(),
            "image/*".to_owned(),
        ]);
        assert!(types.contain("application/json;charset=latin1"));
        assert!(types.contain("image/png"));
        assert!(!types.contain("text/plain"));
        assert!(!types.contain("nonsense"));
        for accept in ["*/*", "text/html, application/*;q=0.5", "image/png", "Application/Json"] {
            assert!(types.satisfy(accept), "{accept}");
        }
        for accept in ["text/html", "application/json;q=0", "application/json;q=0.000, text/*"] {
            assert!(!types.satisfy(accept), "{accept}");
        }
    }
}
