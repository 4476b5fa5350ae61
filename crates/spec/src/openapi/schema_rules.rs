//! Rules of schemas: types and values that fit them, ranges, discriminators, and in 3.1 the
//! dialect that decides whether any of this applies.

use ahash::AHashSet;

use crate::{
    node::{Node, Value},
    openapi::{
        check::{Checker, Scope, number},
        references::Target,
        shape::{Kind, Version},
        text::is_component_name,
    },
    path::Path,
    request::is_enforceable,
};

const TYPES: [&str; 7] = ["string", "object", "array", "integer", "number", "boolean", "null"];

const RANGES: [(&str, &str); 5] = [
    ("minimum", "maximum"),
    ("minLength", "maxLength"),
    ("minItems", "maxItems"),
    ("minProperties", "maxProperties"),
    ("minContains", "maxContains"),
];

/// Whether a dialect is JSON Schema 2020-12, with or without the keywords of OpenAPI.
pub(super) fn is_known_dialect(dialect: &str) -> bool {
    dialect.starts_with("https://spec.openapis.org/oas/3.1/dialect/")
        || dialect.trim_end_matches('#') == "https://json-schema.org/draft/2020-12/schema"
}

impl<'t> Checker<'t> {
    /// A schema as the version has it: 3.0 an object or reference, 3.1 an object or a boolean.
    pub(super) fn schema(&mut self, node: Node<'t>, path: &Path<'_>, scope: Scope<'t>) {
        if self.version == Version::V30 {
            if !self.is_reference(node, Kind::Schema, path, scope) {
                self.object(node, Kind::Schema, path, scope);
            }
            return;
        }
        if node.as_bool().is_some() {
            return;
        }
        let mut scope = scope;
        if let Some(dialect) = node.get("$schema").and_then(Node::as_str) {
            scope.knows_dialect = is_known_dialect(dialect);
            if !scope.knows_dialect {
                self.info("unknown-dialect", node.start(), path, || {
                    format!("schemas of the dialect {dialect:?} are not checked")
                });
            }
        }
        if !scope.knows_dialect {
            return;
        }
        if node.get("$id").and_then(Node::as_str).is_some_and(|id| !id.starts_with('#')) {
            scope.resource = node;
        }
        self.object(node, Kind::Schema, path, scope);
    }

    pub(super) fn schema_type(&mut self, node: Node<'t>, path: &Path<'_>) {
        if self.version == Version::V31 && node.is_array() {
            if node.items().len() == 0 {
                self.error("empty-list", node.start(), path, || {
                    "the list must have at least one item".to_owned()
                });
            }
            let mut seen = AHashSet::new();
            for (index, item) in node.items().enumerate() {
                self.one_type(item, &path.index(index));
                if item.as_str().is_some_and(|name| !seen.insert(name)) {
                    self.error("duplicate-item", item.start(), &path.index(index), || {
                        "the type is in the list twice".to_owned()
                    });
                }
            }
            return;
        }
        self.one_type(node, path);
    }

    fn one_type(&mut self, node: Node<'t>, path: &Path<'_>) {
        let Some(name) = node.as_str() else {
            let is_list = self.version == Version::V30 && node.is_array();
            let expected =
                if is_list { "one type (lists are for OpenAPI 3.1)" } else { "a string" };
            return self.wrong_type(node, path, expected);
        };
        let is_null_in_30 = self.version == Version::V30 && name == "null";
        if is_null_in_30 || !TYPES.contains(&name) {
            self.error("unknown-value", node.start(), path, || {
                if is_null_in_30 {
                    return "there is no type \"null\" in OpenAPI 3.0; use \"nullable\"".to_owned();
                }
                format!("{name:?} is not a type; there are {}", TYPES[..6].join(", "))
            });
        }
    }

    pub(super) fn check_schema(&mut self, node: Node<'t>, path: &Path<'_>, scope: Scope<'t>) {
        match self.version {
            Version::V30 => self.check_schema_30(node, path),
            Version::V31 => self.check_schema_31(node, path, scope),
        }
        for (low, high) in RANGES {
            let (Some(low_end), Some(high_end)) =
                (node.get(low).and_then(number), node.get(high).and_then(number))
            else {
                continue;
            };
            if let Some(member) = node.member(low).filter(|_| low_end > high_end) {
                self.warning("empty-range", member.key_start, &path.key(low), || {
                    format!("\"{low}\" is above \"{high}\", so that nothing matches")
                });
            }
        }
        if let Some(pattern) = node.get("pattern")
            && pattern.as_str().is_some_and(|text| !is_enforceable(text))
        {
            self.warning("pattern-not-enforced", pattern.start(), &path.key("pattern"), || {
                "requests are not compared with this pattern: it is not a regular expression of ECMA-262, uses \
                 look-around or back-references, or is too large"
                    .to_owned()
            });
        }
        let is_true = |name| node.get(name).and_then(Node::as_bool) == Some(true);
        if is_true("readOnly") && is_true("writeOnly") {
            let message = || "\"readOnly\" and \"writeOnly\" exclude each other".to_owned();
            match self.version {
                Version::V30 => self.error("exclusive-fields", node.start(), path, message),
                Version::V31 => self.warning("exclusive-fields", node.start(), path, message),
            }
        }
        self.check_values(node, path);
        if let Some(discriminator) = node.get("discriminator") {
            self.check_discriminator(discriminator, &path.key("discriminator"), scope);
        }
    }

    fn check_schema_30(&mut self, node: Node<'t>, path: &Path<'_>) {
        let kind = node.get("type").and_then(Node::as_str);
        if kind == Some("array") && node.get("items").is_none() {
            self.error("missing-field", node.start(), path, || {
                "a schema of type \"array\" needs \"items\"".to_owned()
            });
        }
        if let Some(list) = node.get("required").filter(|list| list.is_array())
            && list.items().len() == 0
        {
            self.error("empty-list", list.start(), &path.key("required"), || {
                "the list must have at least one item".to_owned()
            });
        }
        if let Some(member) = node.member("nullable")
            && member.value.as_bool() == Some(true)
            && node.get("type").is_none()
        {
            self.info("nullable-without-type", member.key_start, &path.key("nullable"), || {
                "\"nullable\" only has an effect beside \"type\"".to_owned()
            });
        }
    }

    fn check_schema_31(&mut self, node: Node<'t>, path: &Path<'_>, scope: Scope<'t>) {
        if let Some(member) = node.member("nullable") {
            self.info("nullable-ignored", member.key_start, &path.key("nullable"), || {
                "\"nullable\" has no meaning in OpenAPI 3.1; add \"null\" to the types".to_owned()
            });
        }
        if let Some((node, text)) = node.get("$ref").and_then(|node| Some((node, node.as_str()?))) {
            self.check_reference(node, text, Kind::Schema, &path.key("$ref"), scope);
        }
        if let Some((node, text)) =
            node.get("$dynamicRef").and_then(|node| Some((node, node.as_str()?)))
        {
            let here = path.key("$dynamicRef");
            match self.resolve(text, scope) {
                Target::Found(..) => {}
                Target::Missing => self.error("unresolved-reference", node.start(), &here, || {
                    format!("{text:?} leads to nothing in this document")
                }),
                Target::Remote => self.error("remote-reference", node.start(), &here, || {
                    format!("{text:?} leads out of this document and is not fetched")
                }),
            }
        }
    }

    /// Compares `enum` and `default` with `type`.
    fn check_values(&mut self, node: Node<'t>, path: &Path<'_>) {
        let types = schema_types(node);
        if let Some(values) = node.get("enum").filter(|values| values.is_array()) {
            let here = path.key("enum");
            if values.items().len() == 0 {
                let message = || "the enum has no values".to_owned();
                match self.version {
                    Version::V30 => self.error("empty-enum", values.start(), &here, message),
                    Version::V31 => self.warning("empty-enum", values.start(), &here, message),
                }
            }
            let mut seen = AHashSet::new();
            for (index, value) in values.items().enumerate() {
                if !matches_types(value, &types) {
                    self.warning("enum-type", value.start(), &here.index(index), || {
                        "the value is not of the schema's type".to_owned()
                    });
                }
                if value.as_str().is_some_and(|text| !seen.insert(text)) {
                    self.warning("duplicate-item", value.start(), &here.index(index), || {
                        "the value is in the enum twice".to_owned()
                    });
                }
            }
        }
        let Some(default) = node.get("default").filter(|value| !matches_types(*value, &types))
        else {
            return;
        };
        let message = || "the default is not of the schema's type".to_owned();
        let here = path.key("default");
        match self.version {
            Version::V30 => self.error("default-type", default.start(), &here, message),
            Version::V31 => self.warning("default-type", default.start(), &here, message),
        }
    }

    fn check_discriminator(&mut self, node: Node<'t>, path: &Path<'_>, scope: Scope<'t>) {
        let schemas = self.root.get("components").and_then(|node| node.get("schemas"));
        let here = path.key("mapping");
        for member in node.get("mapping").iter().flat_map(|mapping| mapping.members()) {
            let Some(text) = member.value.as_str() else { continue };
            let here = here.key(member.key);
            if !is_component_name(text) {
                self.check_reference(member.value, text, Kind::Schema, &here, scope);
            } else if schemas.and_then(|schemas| schemas.get(text)).is_none() {
                self.warning("unknown-mapping", member.value.start(), &here, || {
                    format!("components.schemas has no {text:?}")
                });
            }
        }
    }
}

/// The types a schema allows; none if it does not say.
fn schema_types<'t>(node: Node<'t>) -> Vec<&'t str> {
    let Some(declared) = node.get("type") else { return Vec::new() };
    let mut types: Vec<&str> = declared.as_str().into_iter().collect();
    types.extend(declared.items().filter_map(Node::as_str));
    if !types.is_empty() && node.get("nullable").and_then(Node::as_bool) == Some(true) {
        types.push("null");
    }
    types
}

fn matches_types(node: Node<'_>, types: &[&str]) -> bool {
    // An unknown type is reported by itself.
    types.is_empty()
        || types.iter().any(|name| match *name {
            "null" => node.value() == Value::Null,
            "boolean" => node.as_bool().is_some(),
            "string" => node.as_str().is_some(),
            "array" => node.is_array(),
            "object" => node.is_object(),
            "number" => matches!(node.value(), Value::Number(_)),
            "integer" => number(node).is_some_and(|value| value.fract() == 0.0),
            _ => true,
        })
}
