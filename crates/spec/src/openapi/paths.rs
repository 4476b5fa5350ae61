//! Rules of paths and operations: templates and their parameters, paths that match the same,
//! operation ids.

use ahash::{AHashMap, AHashSet};

use crate::{
    node::Node,
    openapi::{
        check::{Checker, Scope},
        shape::{Kind, Version},
        text::{template_names, without_template_names},
    },
    path::Path,
};

/// The fields of a path item that are operations.
pub(crate) const METHODS: [&str; 8] =
    ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// The path parameters of one list.
struct PathParameters<'t> {
    /// Place in the list, the item there, and the name.
    found: Vec<(usize, Node<'t>, &'t str)>,
    /// Whether a reference led nowhere, so that there may be more.
    is_incomplete: bool,
}

impl<'t> Checker<'t> {
    pub(super) fn check_paths(&mut self, node: Node<'t>, path: &Path<'_>, scope: Scope<'t>) {
        let mut patterns: AHashMap<String, &'t str> = AHashMap::new();
        for member in node.members().filter(|member| member.key.starts_with('/')) {
            let here = path.key(member.key);
            let names = match template_names(member.key) {
                Ok(names) => names,
                Err(problem) => {
                    self.error("path-template", member.key_start, &here, || problem.to_owned());
                    continue;
                }
            };
            let mut seen = AHashSet::new();
            for name in names.iter().filter(|name| !seen.insert(**name)) {
                self.error("path-template", member.key_start, &here, || {
                    format!("the path has {{{name}}} more than once")
                });
            }
            let pattern = without_template_names(member.key);
            let earlier = *patterns.entry(pattern).or_insert(member.key);
            if earlier != member.key {
                self.error("path-conflict", member.key_start, &here, || {
                    format!("the path matches the same as {earlier:?}")
                });
            }
            if member.key.contains(['?', '#']) {
                self.warning("path-query", member.key_start, &here, || {
                    "a path has no query and no fragment".to_owned()
                });
            }
            self.check_path_parameters(&seen, member.value, &here, scope);
        }
    }

    pub(super) fn check_path_item(&mut self, node: Node<'t>, path: &Path<'_>, scope: Scope<'t>) {
        if let Some((reference, text)) =
            node.get("$ref").and_then(|node| Some((node, node.as_str()?)))
        {
            self.check_reference(reference, text, Kind::PathItem, &path.key("$ref"), scope);
        }
        self.check_duplicate_parameters(node.get("parameters"), path, scope);
        for method in ["get", "head", "delete"] {
            let Some(body) = node.get(method).and_then(|operation| operation.member("requestBody"))
            else {
                continue;
            };
            let here = path.key(method);
            let here = here.key("requestBody");
            let start = body.key_start;
            if self.version == Version::V30 {
                self.warning("ignored-body", start, &here, || {
                    format!("the request body of {method} is ignored")
                });
            } else {
                self.info("ignored-body", start, &here, || {
                    format!("a request body of {method} has no meaning and should be avoided")
                });
            }
        }
    }

    pub(super) fn check_operation(&mut self, node: Node<'t>, path: &Path<'_>, scope: Scope<'t>) {
        if let Some((id, text)) = node.get("operationId").and_then(|id| Some((id, id.as_str()?)))
            && !self.operation_ids.insert(text)
        {
            self.error("duplicate-operation-id", id.start(), &path.key("operationId"), || {
                format!("another operation has the operationId {text:?}")
            });
        }
        self.check_duplicate_parameters(node.get("parameters"), path, scope);
        let list = path.key("tags");
        for (index, tag) in node.get("tags").iter().flat_map(|tags| tags.items()).enumerate() {
            let Some(name) = tag.as_str() else { continue };
            if !self.declared_tags.contains(name) {
                self.info("undeclared-tag", tag.start(), &list.index(index), || {
                    format!("the tag {name:?} is not described in the document's \"tags\"")
                });
            }
        }
    }

    /// Compares the names in a path with the path parameters of its operations.
    fn check_path_parameters(
        &mut self,
        names: &AHashSet<&'t str>,
        item: Node<'t>,
        path: &Path<'_>,
        scope: Scope<'t>,
    ) {
        let Some(target) = self.follow(item, scope) else { return };
        // What stands elsewhere is reported where it is used.
        let is_here = target.id() == item.id();
        let shared = self.path_parameters(target.get("parameters"), scope);
        self.refuse_unknown_names(names, &shared, path, is_here);
        for method in METHODS {
            let Some(operation) = target.get(method).filter(|operation| operation.is_object())
            else {
                continue;
            };
            let operation_path = path.key(method);
            let here = if is_here { &operation_path } else { path };
            let own = self.path_parameters(operation.get("parameters"), scope);
            self.refuse_unknown_names(names, &own, here, is_here);
            if shared.is_incomplete || own.is_incomplete {
                continue;
            }
            for name in names {
                let mut declared = shared.found.iter().chain(&own.found);
                if !declared.any(|(_, _, declared)| declared == name) {
                    let start = if is_here { operation.start() } else { item.start() };
                    self.error("path-parameter-missing", start, here, || {
                        format!("{{{name}}} of the path is not declared as a path parameter")
                    });
                }
            }
        }
    }

    fn refuse_unknown_names(
        &mut self,
        names: &AHashSet<&'t str>,
        parameters: &PathParameters<'t>,
        path: &Path<'_>,
        is_here: bool,
    ) {
        let list = path.key("parameters");
        for (index, item, name) in &parameters.found {
            if names.contains(name) {
                continue;
            }
            let here = list.index(*index);
            self.error(
                "path-parameter-unknown",
                item.start(),
                if is_here { &here } else { path },
                || format!("the path has no {{{name}}}"),
            );
        }
    }

    fn path_parameters(&mut self, list: Option<Node<'t>>, scope: Scope<'t>) -> PathParameters<'t> {
        let mut parameters = PathParameters { found: Vec::new(), is_incomplete: false };
        let Some(list) = list else { return parameters };
        if !self.spend(1 + list.items().len()) {
            parameters.is_incomplete = true;
            return parameters;
        }
        for (index, item) in list.items().enumerate() {
            let Some(parameter) = self.follow(item, scope) else {
                parameters.is_incomplete = true;
                continue;
            };
            if parameter.get("in").and_then(Node::as_str) != Some("path") {
                continue;
            }
            match parameter.get("name").and_then(Node::as_str) {
                Some(name) => parameters.found.push((index, item, name)),
                None => parameters.is_incomplete = true,
            }
        }
        parameters
    }
}
