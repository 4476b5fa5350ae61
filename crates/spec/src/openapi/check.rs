//! The walk: every value against its shape, every object against its table, then the rules of
//! its kind. References are looked up but not walked through, so that everything is visited
//! once, where it stands.

use ahash::{AHashMap, AHashSet};

use crate::{
    issue::{Findings, Severity},
    node::{Member, Node, NodeId, Value},
    openapi::{
        objects,
        references::{Identified, Target},
        shape::{Kind, Object, Shape, Version},
        text::{key_problem, text_problem},
    },
    path::Path,
    read::json_number,
};

/// Compares a document with its version of the specification.
pub(crate) fn check<'t>(root: Node<'t>, version: Version, findings: Findings) -> Findings {
    let mut checker = Checker::new(root, version, findings);
    let knows_dialect = checker.prepare();
    let scope = Scope { resource: root, knows_dialect };
    checker.object(root, Kind::OpenApi, &Path::ROOT, scope);
    checker.check_rest(scope);
    checker.findings
}

/// What the walk knows about the whole document.
pub(super) struct Checker<'t> {
    pub(super) version: Version,
    pub(super) root: Node<'t>,
    findings: Findings,
    /// Where references lead, by the schema resource they stand in and their text.
    pub(super) targets: AHashMap<(NodeId, &'t str), Target<'t>>,
    /// `$id`s and anchors, once a reference needed them.
    pub(super) identified: Option<Identified<'t>>,
    pub(super) declared_tags: AHashSet<&'t str>,
    pub(super) operation_ids: AHashSet<&'t str>,
    /// Operations that links name, to be looked up when all are known.
    pub(super) linked_operations: Vec<(&'t str, u32, String)>,
    /// What references found in places without a table, still to be checked.
    pub(super) unchecked: Vec<(Node<'t>, Kind, String)>,
    pub(super) queued: AHashSet<(NodeId, Kind)>,
    steps_left: usize,
}

/// What changes on the way down.
#[derive(Clone, Copy)]
pub(super) struct Scope<'t> {
    /// The schema with the nearest `$id`, or the document: where `#/…` starts.
    pub(super) resource: Node<'t>,
    /// Whether schemas here follow a dialect that this crate knows.
    pub(super) knows_dialect: bool,
}

impl<'t> Checker<'t> {
    /// Bounds the work of rules that look through references.
    const STEPS: usize = 5_000_000;

    fn new(root: Node<'t>, version: Version, findings: Findings) -> Self {
        Self {
            version,
            root,
            findings,
            targets: AHashMap::new(),
            identified: None,
            declared_tags: AHashSet::new(),
            operation_ids: AHashSet::new(),
            linked_operations: Vec::new(),
            unchecked: Vec::new(),
            queued: AHashSet::new(),
            steps_left: Self::STEPS,
        }
    }

    /// Compares a value with what has to stand in its place.
    pub(super) fn value(
        &mut self,
        node: Node<'t>,
        shape: Shape,
        path: &Path<'_>,
        scope: Scope<'t>,
    ) {
        match shape {
            Shape::Any => {}
            Shape::Text(format) => match node.as_str() {
                None => self.wrong_type(node, path, "a string"),
                Some(text) => {
                    if let Some(problem) = text_problem(format, text) {
                        self.error("format", node.start(), path, || format!("{text:?} {problem}"));
                    }
                }
            },
            Shape::Boolean => {
                if node.as_bool().is_none() {
                    self.wrong_type(node, path, "true or false");
                }
            }
            Shape::Number => self.number(node, path, "a number", |_| true),
            Shape::Positive => self.number(node, path, "a number above 0", |n| n > 0.0),
            Shape::Count => {
                self.number(node, path, "an integer of 0 or more", |n| {
                    n >= 0.0 && n.fract() == 0.0
                });
            }
            Shape::Choice(choices) => self.choice(node, choices, path),
            Shape::Object(kind) => self.object(node, kind, path, scope),
            Shape::Referable(kind) => {
                if !self.is_reference(node, kind, path, scope) {
                    self.object(node, kind, path, scope);
                }
            }
            Shape::Schema => self.schema(node, path, scope),
            Shape::SchemaOrBoolean if node.as_bool().is_some() => {}
            Shape::SchemaOrBoolean => self.schema(node, path, scope),
            Shape::SchemaType => self.schema_type(node, path),
            Shape::SchemaOrNames if node.is_array() => self.value(node, Shape::Names, path, scope),
            Shape::SchemaOrNames => self.schema(node, path, scope),
            Shape::List(item) => self.list(node, *item, path, scope),
            Shape::FilledList(item) => {
                if node.is_array() && node.items().len() == 0 {
                    self.error("empty-list", node.start(), path, || {
                        "the list must have at least one item".to_owned()
                    });
                }
                self.list(node, *item, path, scope);
            }
            Shape::Names => self.names(node, path, scope),
            Shape::Map(keys, item) => {
                if !node.is_object() {
                    return self.wrong_type(node, path, "an object");
                }
                for member in node.members() {
                    let here = path.key(member.key);
                    self.map_key(keys, member, &here);
                    self.value(member.value, *item, &here, scope);
                }
            }
        }
    }

    /// Compares an object with its table and the rules of its kind.
    pub(super) fn object(&mut self, node: Node<'t>, kind: Kind, path: &Path<'_>, scope: Scope<'t>) {
        if !node.is_object() {
            return self.wrong_type(node, path, "an object");
        }
        let table = objects::object(kind, self.version);
        for member in node.members() {
            let here = path.key(member.key);
            if let Some(field) = table.field(member.key, self.version) {
                self.value(member.value, field.shape, &here, scope);
            } else if table.extensible && member.key.starts_with("x-") {
            } else if let Some((keys, shape)) = table.patterned {
                self.map_key(keys, member, &here);
                self.value(member.value, shape, &here, scope);
            } else {
                self.unknown_field(member, table, &here);
            }
        }
        for field in table.fields {
            if field.is_required(self.version) && node.get(field.name).is_none() {
                self.error("missing-field", node.start(), path, || {
                    format!("the {} needs the field \"{}\"", table.name, field.name)
                });
            }
        }
        self.rules(node, kind, path, scope);
    }

    fn rules(&mut self, node: Node<'t>, kind: Kind, path: &Path<'_>, scope: Scope<'t>) {
        match kind {
            Kind::OpenApi => self.check_document(node, path),
            Kind::License => self.exclusive(node, ["identifier", "url"], path),
            Kind::Server => self.check_server(node, path),
            Kind::ServerVariable => self.check_server_variable(node, path),
            Kind::Paths => self.check_paths(node, path, scope),
            Kind::PathItem => self.check_path_item(node, path, scope),
            Kind::Operation => self.check_operation(node, path, scope),
            Kind::Parameter => self.check_parameter(node, path),
            Kind::Header => self.check_value_source(node, path),
            Kind::MediaType => self.check_media_type(node, path, scope),
            Kind::Responses => self.check_responses(node, path),
            Kind::Response => self.check_response(node, path),
            Kind::Example => self.exclusive(node, ["value", "externalValue"], path),
            Kind::Link => self.check_link(node, path, scope),
            Kind::Schema => self.check_schema(node, path, scope),
            Kind::SecurityScheme => self.check_security_scheme(node, path),
            Kind::OAuthFlows => self.check_flows(node, path),
            Kind::SecurityRequirement => self.check_requirement(node, path, scope),
            Kind::Info
            | Kind::Contact
            | Kind::Components
            | Kind::ExternalDocs
            | Kind::RequestBody
            | Kind::Encoding
            | Kind::Callback
            | Kind::Tag
            | Kind::Discriminator
            | Kind::Xml
            | Kind::OAuthFlow => {}
        }
    }

    /// Checks what could only be checked or found after the walk.
    fn check_rest(&mut self, scope: Scope<'t>) {
        while let Some((node, kind, written)) = self.unchecked.pop() {
            let path = Path::starting_at(&written);
            let shape = if kind == Kind::Schema { Shape::Schema } else { Shape::Referable(kind) };
            self.value(node, shape, &path, scope);
        }
        for (id, start, written) in std::mem::take(&mut self.linked_operations) {
            if !self.operation_ids.contains(id) {
                self.error("unknown-operation", start, &Path::starting_at(&written), || {
                    format!("no operation has the operationId {id:?}")
                });
            }
        }
    }

    fn list(&mut self, node: Node<'t>, item: Shape, path: &Path<'_>, scope: Scope<'t>) {
        if !node.is_array() {
            return self.wrong_type(node, path, "an array");
        }
        for (index, value) in node.items().enumerate() {
            self.value(value, item, &path.index(index), scope);
        }
    }

    fn names(&mut self, node: Node<'t>, path: &Path<'_>, scope: Scope<'t>) {
        self.list(node, Shape::Text(super::shape::Text::Any), path, scope);
        let mut seen = AHashSet::new();
        for (index, item) in node.items().enumerate() {
            if let Some(name) = item.as_str().filter(|name| !seen.insert(*name)) {
                self.error("duplicate-item", item.start(), &path.index(index), || {
                    format!("{name:?} is in the list twice")
                });
            }
        }
    }

    fn number(
        &mut self,
        node: Node<'t>,
        path: &Path<'_>,
        expected: &'static str,
        accepts: impl Fn(f64) -> bool,
    ) {
        if !number(node).is_some_and(accepts) {
            self.wrong_type(node, path, expected);
        }
    }

    fn choice(&mut self, node: Node<'t>, choices: &'static [&'static str], path: &Path<'_>) {
        let Some(text) = node.as_str() else {
            return self.wrong_type(node, path, "a string");
        };
        if !choices.contains(&text) {
            self.error("unknown-value", node.start(), path, || {
                let listed = choices.join(", ");
                format!("{text:?} is not one of {listed}{}", suggestion(text, choices))
            });
        }
    }

    fn map_key(&mut self, keys: super::shape::KeyFormat, member: Member<'t>, path: &Path<'_>) {
        if let Some((rule, problem)) = key_problem(keys, member.key) {
            self.error(rule, member.key_start, path, || format!("{:?} {problem}", member.key));
        }
    }

    fn unknown_field(&mut self, member: Member<'t>, table: &'static Object, path: &Path<'_>) {
        let version = self.version;
        self.error("unknown-field", member.key_start, path, || {
            let key = member.key;
            if key == "$ref" {
                return format!("the {} may not be replaced by a reference", table.name);
            }
            if table.fields.iter().any(|field| field.name == key) {
                return format!(
                    "the field \"{key}\" of the {} exists in OpenAPI {} only",
                    table.name,
                    version.other_name()
                );
            }
            let names: Vec<&str> = table
                .fields
                .iter()
                .filter(|field| field.is_allowed(version))
                .map(|field| field.name)
                .collect();
            format!("the {} has no field {key:?}{}", table.name, suggestion(key, &names))
        });
    }

    /// Says that at most one of two fields may be there.
    pub(super) fn exclusive(&mut self, node: Node<'t>, names: [&str; 2], path: &Path<'_>) {
        let [one, other] = names;
        if let (Some(_), Some(second)) = (node.member(one), node.member(other)) {
            self.error("exclusive-fields", second.key_start, path, || {
                format!("\"{one}\" and \"{other}\" exclude each other")
            });
        }
    }

    pub(super) fn wrong_type(&mut self, node: Node<'t>, path: &Path<'_>, expected: &str) {
        self.error("type", node.start(), path, || {
            format!("must be {expected}, not {}", describe(node))
        });
    }

    /// Takes steps off the budget and returns whether there is any left.
    pub(super) fn spend(&mut self, steps: usize) -> bool {
        if self.steps_left == 0 {
            return false;
        }
        self.steps_left = self.steps_left.saturating_sub(steps);
        if self.steps_left == 0 {
            self.error("too-complex", 0, &Path::ROOT, || {
                "the references of this document make it too large to check".to_owned()
            });
        }
        self.steps_left > 0
    }

    pub(super) fn error(
        &mut self,
        rule: &'static str,
        start: u32,
        path: &Path<'_>,
        message: impl FnOnce() -> String,
    ) {
        self.findings.add(Severity::Error, rule, start, || (message(), path.write()));
    }

    pub(super) fn warning(
        &mut self,
        rule: &'static str,
        start: u32,
        path: &Path<'_>,
        message: impl FnOnce() -> String,
    ) {
        self.findings.add(Severity::Warning, rule, start, || (message(), path.write()));
    }

    pub(super) fn info(
        &mut self,
        rule: &'static str,
        start: u32,
        path: &Path<'_>,
        message: impl FnOnce() -> String,
    ) {
        self.findings.add(Severity::Info, rule, start, || (message(), path.write()));
    }
}

/// The value of a number; none for infinity and what is not a number.
pub(super) fn number(node: Node<'_>) -> Option<f64> {
    match node.value() {
        Value::Number(text) => json_number(text)?.parse().ok(),
        _ => None,
    }
}

fn describe(node: Node<'_>) -> &'static str {
    match node.value() {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(text) if text.bytes().all(|b| b.is_ascii_digit()) => "an integer",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array => "an array",
        Value::Object => "an object",
    }
}

/// `; did you mean "…"?` when a name is close to what was written.
fn suggestion(written: &str, names: &[&str]) -> String {
    if written.len() > 40 {
        return String::new();
    }
    let closest = names.iter().map(|name| (distance(written, name), name)).min();
    match closest {
        Some((distance, name)) if distance <= 2 && distance < name.len() => {
            format!("; did you mean \"{name}\"?")
        }
        _ => String::new(),
    }
}

/// Edits from one word to the other, upper and lower case being the same.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().map(|c| c.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, c) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, d) in other.iter().enumerate() {
            let cost = usize::from(c.to_ascii_lowercase() != *d);
            let best = (diagonal + cost).min(row[column] + 1).min(row[column + 1] + 1);
            diagonal = row[column + 1];
            row[column + 1] = best;
        }
    }
    row[other.len()]
}
