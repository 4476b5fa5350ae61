//! Rules of parameters, headers and media types: everything that describes one value.

use ahash::AHashSet;

use crate::{
    node::Node,
    openapi::check::{Checker, Scope},
    path::Path,
};

impl<'t> Checker<'t> {
    pub(super) fn check_parameter(&mut self, node: Node<'t>, path: &Path<'_>) {
        self.check_value_source(node, path);
        let Some(location) = node.get("in").and_then(Node::as_str) else { return };
        if location == "path" && node.get("required").and_then(Node::as_bool) != Some(true) {
            let at = node.get("required").unwrap_or(node);
            self.error("path-parameter-required", at.start(), path, || {
                "a path parameter needs \"required\": true".to_owned()
            });
        }
        if location != "query" {
            if let Some(member) = node.member("allowEmptyValue") {
                self.error("parameter-location", member.key_start, &path.key(member.key), || {
                    "\"allowEmptyValue\" is for query parameters only".to_owned()
                });
            }
            if let Some(member) = node.member("allowReserved") {
                self.warning("parameter-location", member.key_start, &path.key(member.key), || {
                    "\"allowReserved\" is for query parameters only".to_owned()
                });
            }
        }
        let name = node.get("name").and_then(Node::as_str).unwrap_or_default();
        let ignored = ["accept", "content-type", "authorization"];
        if location == "header" && ignored.iter().any(|one| name.eq_ignore_ascii_case(one)) {
            self.info("ignored-header", node.start(), path, || {
                format!("a header parameter named {name:?} is ignored")
            });
        }
        self.check_style(node, location, path);
    }

    fn check_style(&mut self, node: Node<'t>, location: &str, path: &Path<'_>) {
        let Some(style) = node.get("style") else { return };
        let Some(text) = style.as_str() else { return };
        let locations: &[&str] = match text {
            "matrix" | "label" => &["path"],
            "simple" => &["path", "header"],
            "form" => &["query", "cookie"],
            "spaceDelimited" | "pipeDelimited" | "deepObject" => &["query"],
            // Reported with the shape of the field.
            _ => return,
        };
        if !locations.contains(&location) {
            self.error("parameter-style", style.start(), &path.key("style"), || {
                format!(
                    "the style {text:?} is not for {location:?} but for {}",
                    locations.join(", ")
                )
            });
        }
    }

    /// Checks how a parameter or header says what its value is.
    pub(super) fn check_value_source(&mut self, node: Node<'t>, path: &Path<'_>) {
        self.exclusive(node, ["example", "examples"], path);
        self.exclusive(node, ["schema", "content"], path);
        let Some(content) = node.get("content") else {
            if node.get("schema").is_none() {
                self.error("missing-field", node.start(), path, || {
                    "\"schema\" or \"content\" must be given".to_owned()
                });
            }
            return;
        };
        if content.is_object() && content.members().len() != 1 {
            self.error("single-content", content.start(), &path.key("content"), || {
                "\"content\" must have exactly one entry here".to_owned()
            });
        }
        for field in ["style", "explode", "allowReserved", "example", "examples"] {
            if let Some(member) = node.member(field) {
                self.warning("unused-field", member.key_start, &path.key(field), || {
                    format!("\"{field}\" is for use with \"schema\", not with \"content\"")
                });
            }
        }
    }

    pub(super) fn check_media_type(&mut self, node: Node<'t>, path: &Path<'_>, scope: Scope<'t>) {
        self.exclusive(node, ["example", "examples"], path);
        let Some(encoding) = node.get("encoding") else { return };
        let Some(schema) = node.get("schema").and_then(|schema| self.follow(schema, scope)) else {
            return;
        };
        let is_composed = ["allOf", "anyOf", "oneOf", "$ref", "if", "patternProperties"]
            .iter()
            .any(|keyword| schema.get(keyword).is_some());
        let Some(properties) = schema.get("properties").filter(|_| !is_composed) else { return };
        let list = path.key("encoding");
        for member in encoding.members() {
            if properties.get(member.key).is_none() {
                self.warning("unknown-encoding", member.key_start, &list.key(member.key), || {
                    format!("the schema has no property {:?}", member.key)
                });
            }
        }
    }

    /// Reports parameters that a list has before, by name and location.
    pub(super) fn check_duplicate_parameters(
        &mut self,
        list: Option<Node<'t>>,
        path: &Path<'_>,
        scope: Scope<'t>,
    ) {
        let here = path.key("parameters");
        let mut seen = AHashSet::new();
        for (index, item) in list.iter().flat_map(|list| list.items()).enumerate() {
            let Some(parameter) = self.follow(item, scope) else { continue };
            let name = parameter.get("name").and_then(Node::as_str);
            let location = parameter.get("in").and_then(Node::as_str);
            let (Some(name), Some(location)) = (name, location) else { continue };
            if !seen.insert((name, location)) {
                self.error("duplicate-parameter", item.start(), &here.index(index), || {
                    format!("the list already has a {location} parameter {name:?}")
                });
            }
        }
    }
}
