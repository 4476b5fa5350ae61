//! Rules of the document itself, its servers, tags, responses and links.

use ahash::AHashSet;

use crate::{
    node::Node,
    openapi::{
        check::{Checker, Scope},
        references::{Target, percent_decode},
        schema_rules::is_known_dialect,
        shape::{Kind, Version},
        text::{is_runtime_expression, template_names},
    },
    path::Path,
};

impl<'t> Checker<'t> {
    /// Notes what rules need from elsewhere in the document; returns whether the document's
    /// schema dialect is one that can be checked.
    pub(super) fn prepare(&mut self) -> bool {
        if let Some(tags) = self.root.get("tags") {
            let names = tags.items().filter_map(|tag| tag.get("name").and_then(Node::as_str));
            self.declared_tags.extend(names);
        }
        let Some(dialect) = self.root.get("jsonSchemaDialect") else { return true };
        if self.version == Version::V30 || dialect.as_str().is_none_or(is_known_dialect) {
            return true;
        }
        self.info("unknown-dialect", dialect.start(), &Path::ROOT.key("jsonSchemaDialect"), || {
            "schemas of this dialect are not checked".to_owned()
        });
        false
    }

    pub(super) fn check_document(&mut self, node: Node<'t>, path: &Path<'_>) {
        let parts = ["paths", "components", "webhooks"];
        if self.version == Version::V31 && !parts.iter().any(|part| node.get(part).is_some()) {
            self.error("missing-field", node.start(), path, || {
                "the document needs \"paths\", \"components\" or \"webhooks\"".to_owned()
            });
        }
        let Some(tags) = node.get("tags") else { return };
        let list = path.key("tags");
        let mut seen = AHashSet::new();
        for (index, tag) in tags.items().enumerate() {
            let Some(name) = tag.get("name") else { continue };
            if name.as_str().is_some_and(|text| !seen.insert(text)) {
                self.error("duplicate-tag", name.start(), &list.index(index).key("name"), || {
                    "another tag has the same name".to_owned()
                });
            }
        }
    }

    pub(super) fn check_server(&mut self, node: Node<'t>, path: &Path<'_>) {
        let Some(url) = node.get("url") else { return };
        let Some(template) = url.as_str() else { return };
        let here = path.key("url");
        let names = match template_names(template) {
            Ok(names) => names,
            Err(problem) => {
                return self.error("server-url", url.start(), &here, || problem.to_owned());
            }
        };
        let variables = node.get("variables");
        for name in &names {
            if variables.and_then(|variables| variables.get(name)).is_none() {
                self.error("server-variable", url.start(), &here, || {
                    format!("the variable {name:?} of the URL is not defined in \"variables\"")
                });
            }
        }
        let names: AHashSet<&str> = names.into_iter().collect();
        for member in variables.iter().flat_map(|variables| variables.members()) {
            if !names.contains(member.key) {
                let here = path.key("variables");
                self.warning("unused-variable", member.key_start, &here.key(member.key), || {
                    format!("the URL has no variable {:?}", member.key)
                });
            }
        }
    }

    pub(super) fn check_server_variable(&mut self, node: Node<'t>, path: &Path<'_>) {
        let Some(choices) = node.get("enum").filter(|choices| choices.is_array()) else { return };
        let is_strict = self.version == Version::V31;
        if choices.items().len() == 0 {
            let here = path.key("enum");
            let message = || "the enum has no values".to_owned();
            if is_strict {
                self.error("empty-enum", choices.start(), &here, message);
            } else {
                self.warning("empty-enum", choices.start(), &here, message);
            }
            return;
        }
        let Some(default) = node.get("default") else { return };
        let Some(text) = default.as_str() else { return };
        if choices.items().any(|choice| choice.as_str() == Some(text)) {
            return;
        }
        let here = path.key("default");
        let message = || format!("{text:?} is not among the values of the enum");
        if is_strict {
            self.error("server-default", default.start(), &here, message);
        } else {
            self.warning("server-default", default.start(), &here, message);
        }
    }

    pub(super) fn check_responses(&mut self, node: Node<'t>, path: &Path<'_>) {
        if node.members().all(|member| member.key.starts_with("x-")) {
            self.error("no-response", node.start(), path, || {
                "at least one response must be described".to_owned()
            });
        }
    }

    pub(super) fn check_response(&mut self, node: Node<'t>, path: &Path<'_>) {
        let list = path.key("headers");
        for member in node.get("headers").iter().flat_map(|headers| headers.members()) {
            if member.key.eq_ignore_ascii_case("content-type") {
                self.info("ignored-header", member.key_start, &list.key(member.key), || {
                    "a response header of this name is ignored; \"content\" says it".to_owned()
                });
            }
        }
    }

    pub(super) fn check_link(&mut self, node: Node<'t>, path: &Path<'_>, scope: Scope<'t>) {
        self.exclusive(node, ["operationRef", "operationId"], path);
        let (reference, id) = (node.get("operationRef"), node.get("operationId"));
        if reference.is_none() && id.is_none() {
            self.error("missing-field", node.start(), path, || {
                "a link needs \"operationRef\" or \"operationId\"".to_owned()
            });
        }
        if let Some((id, text)) = id.and_then(|id| Some((id, id.as_str()?))) {
            let written = path.key("operationId").write();
            self.linked_operations.push((text, id.start(), written));
        }
        if let Some((reference, text)) = reference.and_then(|node| Some((node, node.as_str()?))) {
            self.check_operation_reference(reference, text, &path.key("operationRef"), scope);
        }
        let list = path.key("parameters");
        for member in node.get("parameters").iter().flat_map(|list| list.members()) {
            self.check_expression(member.value, &list.key(member.key));
        }
        if let Some(body) = node.get("requestBody") {
            self.check_expression(body, &path.key("requestBody"));
        }
    }

    fn check_operation_reference(
        &mut self,
        node: Node<'t>,
        text: &'t str,
        path: &Path<'_>,
        scope: Scope<'t>,
    ) {
        if percent_decode(text).is_none() {
            return;
        }
        match self.resolve(text, scope) {
            Target::Remote => self.info("remote-operation", node.start(), path, || {
                format!("{text:?} leads out of this document and is not fetched")
            }),
            _ => self.check_reference(node, text, Kind::Operation, path, scope),
        }
    }

    /// A value of a link is anything; a string that looks like an expression should be one.
    fn check_expression(&mut self, node: Node<'t>, path: &Path<'_>) {
        let Some(text) = node.as_str() else { return };
        let is_meant = ["$request.", "$response.", "$url", "$method", "$statusCode"]
            .iter()
            .any(|start| text.starts_with(start));
        if is_meant && !is_runtime_expression(text) {
            self.warning("runtime-expression", node.start(), path, || {
                format!("{text:?} is not a valid runtime expression")
            });
        }
    }
}
