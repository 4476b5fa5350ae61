//! Schemas of OpenAPI 3.0 and 3.1 into the arena. References become numbers, so that only what a request can reach is
//! kept, and schemas may contain themselves.

use std::rc::Rc;

use ahash::{AHashMap, AHashSet};

use crate::{
    issue::ReadError,
    node::{Node, NodeId, Value},
    openapi::{Identified, Version, child, percent_decode, pointer_tokens},
    read::json_number,
    request::{
        format::{NumberFormat, TextFormat},
        number::{Bound, Divisor},
        pattern::Pattern,
        schema::{
            ArrayRules, Branches, Choices, Constant, Contains, Discriminator, NumberRules,
            ObjectRules, Property, Rule, Schema, SchemaId, TextRules, Types,
        },
    },
};

/// Longest chain of references that is followed.
const LONGEST_CHAIN: usize = 32;
/// Most schemas of a document, and most names of properties looked at for being read-only.
const SCHEMAS_MAX: usize = 200_000;

/// Collects the schemas that are asked for, and those that they need.
pub(super) struct Schemas<'t> {
    root: Node<'t>,
    version: Version,
    identified: Identified<'t>,
    known: AHashMap<(NodeId, ReadOnly<'t>), SchemaId>,
    compiled: Vec<Schema>,
    /// What still has to be compiled into its place.
    waiting: Vec<(SchemaId, Node<'t>, Scope<'t>)>,
    steps_left: usize,
}

/// Properties that are read-only by what another part of the same `allOf` says, in order.
type ReadOnly<'t> = Option<Rc<[&'t str]>>;

/// What holds around a schema.
#[derive(Clone)]
struct Scope<'t> {
    /// The schema with the nearest `$id`, or the document.
    resource: Node<'t>,
    read_only: ReadOnly<'t>,
}

impl<'t> Schemas<'t> {
    pub(super) fn new(root: Node<'t>, version: Version) -> Self {
        let mut identified = Identified::default();
        if version == Version::V31 {
            identified.collect(root);
        }
        Self {
            root,
            version,
            identified,
            known: AHashMap::new(),
            compiled: Vec::new(),
            waiting: Vec::new(),
            steps_left: SCHEMAS_MAX,
        }
    }

    /// The number of a schema.
    pub(super) fn schema(&mut self, node: Node<'t>) -> SchemaId {
        let scope = Scope { resource: self.root, read_only: None };
        self.number(node, &scope)
    }

    /// All schemas, by their numbers.
    pub(super) fn finish(mut self) -> Result<Vec<Schema>, ReadError> {
        while let Some((id, node, scope)) = self.waiting.pop() {
            if self.steps_left == 0 {
                return Err(ReadError {
                    rule: "too-complex",
                    message: format!("the requests need more than {SCHEMAS_MAX} schemas"),
                    offset: 0,
                });
            }
            let schema = self.compile(node, &scope);
            if let Some(place) = usize::try_from(id).ok().and_then(|id| self.compiled.get_mut(id)) {
                *place = schema;
            }
        }
        Ok(self.compiled)
    }

    /// The number of a schema within others; references that say nothing else are skipped.
    fn number(&mut self, node: Node<'t>, scope: &Scope<'t>) -> SchemaId {
        let (mut node, mut scope) = (node, scope.clone());
        for _ in 0..LONGEST_CHAIN {
            scope.resource = resource(node, scope.resource);
            let Some(text) = node.get("$ref").and_then(Node::as_str) else { break };
            if !self.is_plain_reference(node) {
                break;
            }
            match self.resolve(text, scope.resource) {
                Some((target, resource)) => (node, scope.resource) = (target, resource),
                None => return self.add(Schema::anything()),
            }
        }
        let key = (node.id(), scope.read_only.clone());
        if let Some(id) = self.known.get(&key) {
            return *id;
        }
        let id = self.add(Schema::anything());
        self.known.insert(key, id);
        self.waiting.push((id, node, scope));
        id
    }

    fn add(&mut self, schema: Schema) -> SchemaId {
        self.steps_left = self.steps_left.saturating_sub(1);
        self.compiled.push(schema);
        SchemaId::try_from(self.compiled.len() - 1).unwrap_or(SchemaId::MAX)
    }

    /// In 3.0 nothing counts beside `$ref`; in 3.1 everything but annotations does.
    fn is_plain_reference(&self, node: Node<'_>) -> bool {
        self.version == Version::V30
            || node.members().all(|member| {
                matches!(
                    member.key,
                    "$ref"
                        | "title"
                        | "description"
                        | "summary"
                        | "default"
                        | "example"
                        | "examples"
                        | "deprecated"
                        | "externalDocs"
                        | "$comment"
                        | "readOnly"
                        | "writeOnly"
                        | "xml"
                ) || member.key.starts_with("x-")
            })
    }

    /// Where a reference leads, and the resource that it leads into.
    fn resolve(&self, text: &'t str, resource: Node<'t>) -> Option<(Node<'t>, Node<'t>)> {
        let (base, fragment) = text.split_once('#').unwrap_or((text, ""));
        let start = if base.is_empty() { resource } else { *self.identified.ids.get(base)? };
        let fragment = percent_decode(fragment)?;
        if !fragment.is_empty() && !fragment.starts_with('/') {
            return Some((*self.identified.anchors.get(&*fragment)?, start));
        }
        let mut node = start;
        for token in pointer_tokens(&fragment)? {
            node = child(node, &token)?;
        }
        Some((node, start))
    }

    fn compile(&mut self, node: Node<'t>, scope: &Scope<'t>) -> Schema {
        match node.as_bool() {
            Some(true) => return Schema::anything(),
            Some(false) => return Schema::nothing(),
            None => {}
        }
        let mut schema = Schema::anything();
        let is_30 = self.version == Version::V30;
        if let Some(types) = node.get("type") {
            schema.types = declared_types(types);
            if is_30 && is_true(node, "nullable") {
                schema.types = schema.types.or(Types::NULL);
                schema.nullable = true;
            }
        }
        let mut scope = scope.clone();
        let own = self.read_only_names(node, scope.resource);
        if !own.is_empty() {
            scope.read_only = joined(&scope.read_only, &own);
        }
        let scope = &scope;
        let rules = &mut schema.rules;
        rules.extend(choices(node, is_30));
        let texts = text_rules(node);
        let has_pattern = matches!(&texts, Some(Rule::Text(rules)) if rules.pattern.is_some());
        if node.get("pattern").is_some() && !has_pattern {
            rules.push(Rule::Unknown);
        }
        rules.extend(texts);
        rules.extend(number_rules(node, is_30));
        rules.extend(self.array_rules(node, scope));
        rules.extend(self.object_rules(node, scope));
        self.references(node, scope, rules);
        self.combinations(node, scope, rules);
        if !is_30 {
            self.unevaluated(node, scope, &mut schema);
        }
        schema
    }

    /// `$ref` beside other keywords, and `$dynamicRef`.
    fn references(&mut self, node: Node<'t>, scope: &Scope<'t>, rules: &mut Vec<Rule>) {
        if self.version == Version::V30 {
            return;
        }
        for keyword in ["$ref", "$dynamicRef"] {
            let Some(text) = node.get(keyword).and_then(Node::as_str) else { continue };
            // Which of several schemas a dynamic anchor means depends on the way there.
            let is_ambiguous = keyword == "$dynamicRef"
                && text
                    .rsplit('#')
                    .next()
                    .is_some_and(|name| self.identified.ambiguous.contains(name));
            match self.resolve(text, scope.resource) {
                Some((target, resource)) if !is_ambiguous => {
                    let scope = Scope { resource, read_only: scope.read_only.clone() };
                    rules.push(Rule::Ref(self.number(target, &scope)));
                }
                _ => rules.push(Rule::Unknown),
            }
        }
    }

    fn combinations(&mut self, node: Node<'t>, scope: &Scope<'t>, rules: &mut Vec<Rule>) {
        if let Some(list) = node.get("allOf").filter(|list| list.is_array()) {
            rules.push(Rule::AllOf(list.items().map(|item| self.number(item, scope)).collect()));
        }
        if let Some(list) = node.get("anyOf").filter(|list| list.is_array()) {
            rules.push(Rule::AnyOf(Box::new(self.branches(node, list, scope))));
        }
        if let Some(list) = node.get("oneOf").filter(|list| list.is_array()) {
            rules.push(Rule::OneOf(Box::new(self.branches(node, list, scope))));
        }
        if let Some(excluded) = node.get("not") {
            rules.push(Rule::Not(self.number(excluded, scope)));
        }
        if self.version == Version::V30 {
            return;
        }
        if let Some(condition) = node.get("if") {
            let then = node.get("then").map(|then| self.number(then, scope));
            let otherwise = node.get("else").map(|otherwise| self.number(otherwise, scope));
            rules.push(Rule::If { condition: self.number(condition, scope), then, otherwise });
        }
        let dependent = node.get("dependentSchemas");
        let dependent: Vec<_> = dependent
            .iter()
            .flat_map(|map| map.members())
            .map(|member| (member.key.into(), self.number(member.value, scope)))
            .collect();
        if !dependent.is_empty() {
            rules.push(Rule::Dependent(dependent));
        }
    }

    fn branches(&mut self, node: Node<'t>, list: Node<'t>, scope: &Scope<'t>) -> Branches {
        let schemas: Vec<SchemaId> = list.items().map(|item| self.number(item, scope)).collect();
        let discriminator = node.get("discriminator").and_then(|discriminator| {
            let property = discriminator.get("propertyName")?.as_str()?;
            let mut names: Vec<(Box<str>, SchemaId)> = Vec::new();
            for member in discriminator.get("mapping").iter().flat_map(|map| map.members()) {
                let text = member.value.as_str()?;
                let schemas = self.root.get("components").and_then(|node| node.get("schemas"));
                let named = schemas.and_then(|schemas| schemas.get(text));
                let target = named.or_else(|| Some(self.resolve(text, scope.resource)?.0))?;
                names.push((member.key.into(), self.number(target, scope)));
            }
            for (item, id) in list.items().zip(&schemas) {
                let reference = item.get("$ref").and_then(Node::as_str);
                if let Some(name) = reference.and_then(|text| text.rsplit('/').next()) {
                    names.push((name.into(), *id));
                }
            }
            names.retain(|(_, id)| schemas.contains(id));
            Some(Discriminator { property: property.into(), names })
        });
        Branches { schemas, discriminator }
    }

    fn unevaluated(&mut self, node: Node<'t>, scope: &Scope<'t>, schema: &mut Schema) {
        let scope = Scope { resource: scope.resource, read_only: None };
        if let Some(items) = node.get("unevaluatedItems") {
            schema.rules.push(Rule::UnevaluatedItems(self.number(items, &scope)));
            schema.tracks = true;
        }
        if let Some(properties) = node.get("unevaluatedProperties") {
            schema.rules.push(Rule::UnevaluatedProperties(self.number(properties, &scope)));
            schema.tracks = true;
        }
    }

    fn array_rules(&mut self, node: Node<'t>, scope: &Scope<'t>) -> Option<Rule> {
        let scope = &Scope { resource: scope.resource, read_only: None };
        let items = node.get("items").map(|items| self.number(items, scope));
        let mut rules = ArrayRules {
            min: count(node, "minItems"),
            max: count(node, "maxItems"),
            unique: is_true(node, "uniqueItems"),
            items,
            ..ArrayRules::default()
        };
        if self.version == Version::V31 {
            let first = node.get("prefixItems").into_iter().flat_map(Node::items);
            rules.first = first.map(|item| self.number(item, scope)).collect();
            rules.contains = node.get("contains").map(|contains| Contains {
                schema: self.number(contains, scope),
                min: count(node, "minContains").unwrap_or(1),
                max: count(node, "maxContains"),
            });
        }
        let is_empty = rules.min.is_none()
            && rules.max.is_none()
            && !rules.unique
            && rules.items.is_none()
            && rules.first.is_empty()
            && rules.contains.is_none();
        (!is_empty).then(|| Rule::Array(Box::new(rules)))
    }

    fn object_rules(&mut self, node: Node<'t>, scope: &Scope<'t>) -> Option<Rule> {
        let inner = &Scope { resource: scope.resource, read_only: None };
        let mut rules = ObjectRules {
            properties: self.properties(node, scope, inner),
            min: count(node, "minProperties"),
            max: count(node, "maxProperties"),
            others: node.get("additionalProperties").map(|others| self.number(others, inner)),
            ..ObjectRules::default()
        };
        rules.required = rules.properties.iter().filter(|property| property.required).count();
        if self.version == Version::V31 {
            for member in node.get("patternProperties").iter().flat_map(|map| map.members()) {
                match Pattern::parse(member.key) {
                    Some(pattern) => {
                        rules.patterns.push((pattern, self.number(member.value, inner)))
                    }
                    // What it covers is not known, so that nothing can be said of the others.
                    None => rules.others = Some(self.add(Schema::anything())),
                }
            }
            rules.names = node.get("propertyNames").map(|names| self.number(names, inner));
            for member in node.get("dependentRequired").iter().flat_map(|map| map.members()) {
                let others = member.value.items().filter_map(Node::as_str).map(Into::into);
                rules.together.push((member.key.into(), others.collect()));
            }
        }
        let is_empty = rules.properties.is_empty()
            && rules.min.is_none()
            && rules.max.is_none()
            && rules.others.is_none()
            && rules.patterns.is_empty()
            && rules.names.is_none()
            && rules.together.is_empty();
        (!is_empty).then(|| Rule::Object(Box::new(rules)))
    }

    /// What is said of single properties. What is read-only is not required of requests.
    fn properties(
        &mut self,
        node: Node<'t>,
        scope: &Scope<'t>,
        inner: &Scope<'t>,
    ) -> Vec<Property> {
        let mut properties: Vec<Property> = Vec::new();
        for member in node.get("properties").iter().flat_map(|map| map.members()) {
            properties.push(Property {
                name: member.key.into(),
                schema: Some(self.number(member.value, inner)),
                required: false,
                read_only: self.is_read_only(member.value, scope.resource),
            });
        }
        properties.sort_by(|one, other| one.name.cmp(&other.name));
        let required = node.get("required").into_iter().flat_map(Node::items);
        let mut missing: AHashSet<&str> = AHashSet::new();
        for name in required.filter_map(Node::as_str) {
            let is_read_only =
                scope.read_only.as_ref().is_some_and(|names| names.binary_search(&name).is_ok());
            match properties.binary_search_by(|property| (*property.name).cmp(name)) {
                Ok(at) => properties[at].required = !properties[at].read_only && !is_read_only,
                Err(_) if !is_read_only => drop(missing.insert(name)),
                Err(_) => {}
            }
        }
        properties.extend(missing.into_iter().map(|name| Property {
            name: name.into(),
            schema: None,
            required: true,
            read_only: false,
        }));
        properties.sort_by(|one, other| one.name.cmp(&other.name));
        properties
    }

    fn is_read_only(&self, node: Node<'t>, resource: Node<'t>) -> bool {
        let (mut node, mut resource) = (node, resource);
        for _ in 0..LONGEST_CHAIN {
            let reference = node.get("$ref").and_then(Node::as_str);
            let counts = reference.is_none() || self.version == Version::V31;
            if counts && is_true(node, "readOnly") {
                return true;
            }
            match reference.and_then(|text| self.resolve(text, resource)) {
                Some(target) => (node, resource) = target,
                None => return false,
            }
        }
        false
    }

    /// The read-only properties of everything that a schema's `allOf` brings together.
    fn read_only_names(&mut self, node: Node<'t>, resource: Node<'t>) -> Vec<&'t str> {
        let mut names = Vec::new();
        if node.get("allOf").is_some() {
            self.collect_read_only(node, resource, 0, &mut names);
        }
        names
    }

    fn collect_read_only(
        &mut self,
        node: Node<'t>,
        resource: Node<'t>,
        depth: usize,
        names: &mut Vec<&'t str>,
    ) {
        if depth > 8 || self.steps_left == 0 {
            return;
        }
        for member in node.get("properties").iter().flat_map(|map| map.members()) {
            if self.is_read_only(member.value, resource) {
                names.push(member.key);
            }
        }
        for item in node.get("allOf").into_iter().flat_map(Node::items) {
            self.steps_left = self.steps_left.saturating_sub(1);
            self.collect_read_only(item, resource, depth + 1, names);
        }
        let reference = node.get("$ref").and_then(Node::as_str);
        if let Some((target, resource)) = reference.and_then(|text| self.resolve(text, resource)) {
            self.collect_read_only(target, resource, depth + 1, names);
        }
    }
}

fn resource<'t>(node: Node<'t>, around: Node<'t>) -> Node<'t> {
    let is_resource = node.get("$id").and_then(Node::as_str).is_some_and(|id| !id.starts_with('#'));
    if is_resource { node } else { around }
}

fn joined<'t>(known: &ReadOnly<'t>, names: &[&'t str]) -> ReadOnly<'t> {
    let mut all: Vec<&str> = known.iter().flat_map(|known| known.iter().copied()).collect();
    all.extend_from_slice(names);
    all.sort_unstable();
    all.dedup();
    Some(all.into())
}

fn declared_types(node: Node<'_>) -> Types {
    let one = node.as_str().into_iter();
    one.chain(node.items().filter_map(Node::as_str)).map(Types::parse).fold(Types::NONE, Types::or)
}

fn choices(node: Node<'_>, is_30: bool) -> impl Iterator<Item = Rule> {
    let constant = node.get("const").filter(|_| !is_30);
    let values = node.get("enum").filter(|values| values.is_array());
    [constant.map(|value| vec![value]), values.map(|values| values.items().collect())]
        .into_iter()
        .flatten()
        .map(|values: Vec<Node<'_>>| {
            let mut choices = Choices::default();
            for value in values {
                match constant_of(value) {
                    Constant::String(text) => choices.texts.push(text),
                    other => choices.others.push(other),
                }
            }
            choices.texts.sort_unstable();
            Rule::Enum(Box::new(choices))
        })
}

fn constant_of(node: Node<'_>) -> Constant {
    match node.value() {
        Value::Null => Constant::Null,
        Value::Bool(value) => Constant::Bool(value),
        Value::Number(text) => {
            json_number(text).map_or(Constant::Null, |text| Constant::Number(text.into()))
        }
        Value::String(text) => Constant::String(text.into()),
        Value::Array => Constant::Array(node.items().map(constant_of).collect()),
        Value::Object => Constant::Object(
            node.members().map(|member| (member.key.into(), constant_of(member.value))).collect(),
        ),
    }
}

fn text_rules(node: Node<'_>) -> Option<Rule> {
    let format = node.get("format").and_then(Node::as_str).and_then(TextFormat::parse);
    let rules = TextRules {
        min: count(node, "minLength").filter(|min| *min > 0),
        max: count(node, "maxLength"),
        pattern: node.get("pattern").and_then(Node::as_str).and_then(Pattern::parse),
        format,
    };
    let is_empty = rules.min.is_none()
        && rules.max.is_none()
        && rules.pattern.is_none()
        && rules.format.is_none();
    (!is_empty).then(|| Rule::Text(Box::new(rules)))
}

fn number_rules(node: Node<'_>, is_30: bool) -> Option<Rule> {
    let bound = |name: &str| number_text(node, name).map(Bound::from);
    let mut rules = NumberRules {
        min: bound("minimum"),
        max: bound("maximum"),
        multiple_of: number_text(node, "multipleOf").and_then(|text| Divisor::try_from(text).ok()),
        format: node.get("format").and_then(Node::as_str).and_then(NumberFormat::parse),
        ..NumberRules::default()
    };
    if is_30 {
        // In 3.0 they are flags of the bounds.
        if is_true(node, "exclusiveMinimum") {
            rules.above = rules.min.take();
        }
        if is_true(node, "exclusiveMaximum") {
            rules.below = rules.max.take();
        }
    } else {
        rules.above = bound("exclusiveMinimum");
        rules.below = bound("exclusiveMaximum");
    }
    let is_empty = rules.min.is_none()
        && rules.above.is_none()
        && rules.max.is_none()
        && rules.below.is_none()
        && rules.multiple_of.is_none()
        && rules.format.is_none();
    (!is_empty).then(|| Rule::Number(Box::new(rules)))
}

fn number_text(node: Node<'_>, name: &str) -> Option<Box<str>> {
    match node.get(name)?.value() {
        Value::Number(text) => json_number(text).map(Into::into),
        _ => None,
    }
}

/// A count, which may be spelled as a number with exponent or zeros behind the point.
fn count(node: Node<'_>, name: &str) -> Option<usize> {
    let text = number_text(node, name)?;
    if let Ok(count) = text.parse() {
        return Some(count);
    }
    let number: f64 = text.parse().ok()?;
    let is_count = number >= 0.0 && number.fract() == 0.0 && number < 9e15;
    is_count.then(|| format!("{number:.0}").parse().ok()).flatten()
}

fn is_true(node: Node<'_>, name: &str) -> bool {
    node.get(name).and_then(Node::as_bool) == Some(true)
}
