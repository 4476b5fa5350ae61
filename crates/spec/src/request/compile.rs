//! From an OpenAPI document to rules for requests.

mod schemas;

use ahash::AHashSet;
use serde::{Deserialize, Serialize};

use super::{
    parameters::{Form, Location, Parameter, Shape, Style},
    schema::{Schema, SchemaId},
};
use crate::{
    format,
    issue::Issue,
    limits::Limits,
    node::Node,
    openapi::{METHODS, Version, follow_reference},
    read,
};
use schemas::Schemas;

/// What the requests of a version have to look like, compiled out of its specification.
///
/// It holds nothing but what is needed for that, can be written and read, and refers to no other text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RequestRules {
    pub(super) operations: Vec<OperationRules>,
    pub(super) schemas: Vec<Schema>,
}

/// What the requests of one operation have to look like.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct OperationRules {
    /// Upper-case method.
    pub(super) method: Box<str>,
    pub(super) template: Box<str>,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<BodyRules>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct BodyRules {
    pub(super) required: bool,
    pub(super) content: Vec<MediaRules>,
}

/// What a body of some media types has to look like.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct MediaRules {
    /// Type and subtype in lower case, either of which may be `*`.
    pub(super) kind: Box<str>,
    pub(super) subtype: Box<str>,
    pub(super) schema: Option<SchemaId>,
    /// How the fields of a form are written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) fields: Vec<Form>,
}

impl RequestRules {
    /// Compiles a valid document; what a document says wrongly is not enforced.
    ///
    /// # Errors
    ///
    /// When the document cannot be read, is no OpenAPI, or has too many schemas.
    pub fn compile(bytes: &[u8], limits: &Limits) -> Result<Self, Issue> {
        let located = |error: crate::issue::ReadError| error.into_issue(bytes);
        let text = read::decode(bytes, limits).map_err(located)?;
        let source = read::read(text, limits).map_err(located)?;
        let root = source.tree.root();
        let version = format::recognise_tree(root).and_then(|found| found.version).map_or(
            Version::V31,
            |version| {
                if version.starts_with("3.0") { Version::V30 } else { Version::V31 }
            },
        );
        let mut compiler = Compiler { root, schemas: Schemas::new(root, version) };
        let operations = compiler.operations();
        let schemas = compiler.schemas.finish().map_err(located)?;
        let mut rules = Self { operations, schemas };
        rules.learn_shapes();
        Ok(rules)
    }

    /// Texts are read by the types that the schemas allow.
    fn learn_shapes(&mut self) {
        let schemas = &self.schemas;
        for operation in &mut self.operations {
            for parameter in &mut operation.parameters {
                parameter.shape = Shape::of(schemas, parameter.schema);
            }
            for media in operation.body.iter_mut().flat_map(|body| &mut body.content) {
                if media.is_form() {
                    let shape = Shape::of(schemas, media.schema);
                    media.learn_fields(shape);
                }
            }
        }
    }
}

impl MediaRules {
    pub(super) fn is_form(&self) -> bool {
        (&*self.kind, &*self.subtype) == ("application", "x-www-form-urlencoded")
    }

    /// Gives every property of the form its shape, and those without an encoding the usual one.
    fn learn_fields(&mut self, shape: Shape) {
        for property in shape.properties {
            match self.fields.iter_mut().find(|field| field.name == property.name) {
                Some(field) => field.shape = property.shape,
                None => self.fields.push(Form {
                    name: property.name,
                    style: Style::Form,
                    explode: true,
                    is_styled: false,
                    shape: property.shape,
                }),
            }
        }
    }
}

struct Compiler<'t> {
    root: Node<'t>,
    schemas: Schemas<'t>,
}

impl<'t> Compiler<'t> {
    fn operations(&mut self) -> Vec<OperationRules> {
        let mut operations = Vec::new();
        for member in self.root.get("paths").iter().flat_map(|paths| paths.members()) {
            let Some(item) = follow_reference(self.root, member.value) else { continue };
            if !member.key.starts_with('/') {
                continue;
            }
            for entry in item.members().filter(|entry| METHODS.contains(&entry.key)) {
                let operation = entry.value;
                let lists = [operation.get("parameters"), item.get("parameters")];
                operations.push(OperationRules {
                    method: entry.key.to_ascii_uppercase().into(),
                    template: member.key.into(),
                    parameters: self.parameters(lists),
                    body: operation.get("requestBody").and_then(|body| self.body(body)),
                });
            }
        }
        operations
    }

    /// Those of the operation come first and win.
    fn parameters(&mut self, lists: [Option<Node<'t>>; 2]) -> Vec<Parameter> {
        let mut seen = AHashSet::new();
        let mut parameters = Vec::new();
        for item in lists.into_iter().flatten().flat_map(Node::items) {
            let Some(node) = follow_reference(self.root, item) else { continue };
            let name = node.get("name").and_then(Node::as_str);
            let location = node.get("in").and_then(Node::as_str).and_then(Location::parse);
            let (Some(name), Some(location)) = (name, location) else { continue };
            if seen.insert((name, location)) && !(location == Location::Header && is_ignored(name))
            {
                parameters.push(self.parameter(node, name, location));
            }
        }
        parameters
    }

    fn parameter(&mut self, node: Node<'t>, name: &str, location: Location) -> Parameter {
        let media = node.get("content").and_then(|content| content.members().next());
        let style = node.get("style").and_then(Node::as_str).and_then(Style::parse);
        let style = style.unwrap_or(location.style());
        let schema = match media {
            Some(media) => media.value.get("schema"),
            None => node.get("schema"),
        };
        Parameter {
            name: name.into(),
            location,
            required: is_true(node, "required") || location == Location::Path,
            style,
            explode: node.get("explode").and_then(Node::as_bool).unwrap_or(style == Style::Form),
            may_be_empty: is_true(node, "allowEmptyValue"),
            // Content of other types is not looked into.
            is_json: media.map(|media| is_json(media.key)),
            schema: schema.map(|schema| self.schemas.schema(schema)),
            shape: Shape::default(),
        }
    }

    fn body(&mut self, node: Node<'t>) -> Option<BodyRules> {
        let body = follow_reference(self.root, node)?;
        let mut content = Vec::new();
        for media in body.get("content").iter().flat_map(|content| content.members()) {
            let range = media.key.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            let Some((kind, subtype)) = range.split_once('/') else { continue };
            let encodings = media.value.get("encoding");
            content.push(MediaRules {
                kind: kind.into(),
                subtype: subtype.into(),
                schema: media.value.get("schema").map(|schema| self.schemas.schema(schema)),
                fields: encodings.iter().flat_map(|map| map.members()).map(field).collect(),
            });
        }
        // The most specific range that covers a type counts.
        content.sort_by_key(|media| (&*media.kind == "*", &*media.subtype == "*"));
        Some(BodyRules { required: is_true(body, "required"), content })
    }
}

fn field(member: crate::node::Member<'_>) -> Form {
    let encoding = member.value;
    let style = encoding.get("style").and_then(Node::as_str).and_then(Style::parse);
    let explode = encoding.get("explode").and_then(Node::as_bool);
    let is_styled = style.is_some() || explode.is_some();
    let style = style.unwrap_or(Style::Form);
    Form {
        name: member.key.into(),
        style,
        explode: explode.unwrap_or(style == Style::Form),
        is_styled,
        shape: Shape::default(),
    }
}

/// Header parameters of these names are said elsewhere in a document, and ignored here.
fn is_ignored(name: &str) -> bool {
    ["accept", "content-type", "authorization"].iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// Whether bodies of a media type are JSON.
pub(super) fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    let Some((kind, subtype)) = essence.split_once('/') else { return false };
    let is_suffixed = subtype.len() > 5
        && subtype.get(subtype.len() - 5..).is_some_and(|end| end.eq_ignore_ascii_case("+json"));
    is_suffixed || kind.eq_ignore_ascii_case("application") && subtype.eq_ignore_ascii_case("json")
}

fn is_true(node: Node<'_>, name: &str) -> bool {
    node.get(name).and_then(Node::as_bool) == Some(true)
}
