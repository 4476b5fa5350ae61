//! What a document describes, in the form that catalogues and pages show. Made leniently: parts
//! that break the specification are left out.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::{
    node::Node,
    openapi::{METHODS, follow_reference},
};

/// What a document describes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Title of the API.
    pub title: String,
    /// Version of the API.
    pub version: String,
    /// Description of the API.
    pub description: Option<String>,
    /// Version of OpenAPI.
    pub openapi: String,
    /// Servers of the whole document.
    pub servers: Vec<ServerSummary>,
    /// Operations in document order.
    pub operations: Vec<OperationSummary>,
    /// Names of the schemas among the components.
    pub schemas: Vec<String>,
    /// Names of the tags, those described first, then those only used.
    pub tags: Vec<String>,
    /// Security schemes among the components.
    pub security_schemes: Vec<SecuritySchemeSummary>,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerSummary {
    /// URL, perhaps with variables in braces.
    pub url: String,
    /// What it is for.
    pub description: Option<String>,
}

/// A security scheme.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecuritySchemeSummary {
    /// Name among the components.
    pub name: String,
    /// Type: `apiKey`, `http`, `oauth2`, `openIdConnect` or `mutualTLS`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// An operation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationSummary {
    /// HTTP method in upper case.
    pub method: String,
    /// Path template.
    pub path: String,
    /// Its id, unique in the document.
    pub operation_id: Option<String>,
    /// Short summary.
    pub summary: Option<String>,
    /// Tags.
    pub tags: Vec<String>,
    /// Whether it should no longer be used.
    pub deprecated: bool,
    /// Parameters of the operation and of its path.
    pub parameters: Vec<ParameterSummary>,
    /// Media types of the request body.
    pub request_media_types: Vec<String>,
    /// Whether a request body must be sent.
    pub request_body_required: bool,
    /// Media types of all responses.
    pub response_media_types: Vec<String>,
    /// Alternatives, each a set of schemes with scopes; empty when none is needed.
    pub security: Vec<BTreeMap<String, Vec<String>>>,
}

/// A parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParameterSummary {
    /// Name.
    pub name: String,
    /// `query`, `header`, `path` or `cookie`.
    #[serde(rename = "in")]
    pub location: String,
    /// Whether it must be sent.
    pub required: bool,
}

/// Summarises a document; `None` when its text would exceed `limit` bytes.
pub(crate) fn summarise(root: Node<'_>, limit: usize) -> Option<Summary> {
    let mut writer = Writer { root, left: limit };
    let info = root.get("info");
    let info_text = |name| info.and_then(|info| info.get(name));
    let mut summary = Summary {
        title: writer.text(info_text("title"))?.unwrap_or_default(),
        version: writer.text(info_text("version"))?.unwrap_or_default(),
        description: writer.text(info_text("description"))?,
        openapi: writer.text(root.get("openapi"))?.unwrap_or_default(),
        ..Summary::default()
    };
    for server in items(root.get("servers")) {
        if let Some(url) = writer.text(server.get("url"))? {
            let description = writer.text(server.get("description"))?;
            summary.servers.push(ServerSummary { url, description });
        }
    }
    if let Some(components) = root.get("components") {
        summary.schemas = writer.keys(components.get("schemas"))?;
        summary.security_schemes = writer.security_schemes(components.get("securitySchemes"))?;
    }
    let declared = items(root.get("tags")).filter_map(|tag| tag.get("name")?.as_str());
    let declared: Option<Vec<String>> = declared.map(|name| writer.copy(name)).collect();
    let paths = root.get("paths");
    for member in paths.iter().flat_map(|paths| paths.members()) {
        if member.key.starts_with('/') {
            writer.operations(member.key, member.value, &mut summary)?;
        }
    }
    let used = summary.operations.iter().flat_map(|operation| operation.tags.iter().cloned());
    let mut known = HashSet::new();
    let tags = declared?.into_iter().chain(used).filter(|tag| known.insert(tag.clone()));
    summary.tags = tags.collect();
    Some(summary)
}

/// Copies parts of a document and counts what it copies.
struct Writer<'t> {
    root: Node<'t>,
    left: usize,
}

/// Bytes an item of a summary costs besides its text.
const ITEM: usize = 64;

impl<'t> Writer<'t> {
    fn operations(&mut self, path: &str, item: Node<'t>, summary: &mut Summary) -> Option<()> {
        let Some(item) = follow_reference(self.root, item) else { return Some(()) };
        for member in item.members() {
            let operation = member.value;
            if !METHODS.contains(&member.key) || !operation.is_object() {
                continue;
            }
            let mut row = OperationSummary {
                method: member.key.to_ascii_uppercase(),
                path: self.copy(path)?,
                operation_id: self.text(operation.get("operationId"))?,
                summary: self.text(operation.get("summary"))?,
                tags: self.strings(operation.get("tags"))?,
                deprecated: is_true(operation.get("deprecated")),
                ..OperationSummary::default()
            };
            for list in [operation.get("parameters"), item.get("parameters")] {
                self.parameters(list, &mut row.parameters)?;
            }
            if let Some(body) = self.find(operation.get("requestBody")) {
                row.request_media_types = self.keys(body.get("content"))?;
                row.request_body_required = is_true(body.get("required"));
            }
            let responses = operation.get("responses");
            for response in responses.iter().flat_map(|responses| responses.members()) {
                self.spend(ITEM)?;
                if let Some(response) = self.find(Some(response.value)) {
                    self.new_keys(response.get("content"), &mut row.response_media_types)?;
                }
            }
            let security = operation.get("security").or_else(|| self.root.get("security"));
            for requirement in items(security) {
                row.security.push(self.requirement(requirement)?);
            }
            summary.operations.push(row);
        }
        Some(())
    }

    /// Adds parameters that are not there yet; those of the operation come first and win.
    fn parameters(
        &mut self,
        list: Option<Node<'t>>,
        found: &mut Vec<ParameterSummary>,
    ) -> Option<()> {
        for item in items(list) {
            self.spend(ITEM + found.len())?;
            let Some(parameter) = follow_reference(self.root, item) else { continue };
            let name = parameter.get("name").and_then(Node::as_str);
            let location = parameter.get("in").and_then(Node::as_str);
            let (Some(name), Some(location)) = (name, location) else { continue };
            if found.iter().any(|one| one.name == name && one.location == location) {
                continue;
            }
            found.push(ParameterSummary {
                name: self.copy(name)?,
                location: self.copy(location)?,
                required: is_true(parameter.get("required")),
            });
        }
        Some(())
    }

    fn requirement(&mut self, node: Node<'t>) -> Option<BTreeMap<String, Vec<String>>> {
        self.spend(ITEM)?;
        let mut schemes = BTreeMap::new();
        for member in node.members() {
            schemes.insert(self.copy(member.key)?, self.strings(Some(member.value))?);
        }
        Some(schemes)
    }

    fn security_schemes(&mut self, map: Option<Node<'t>>) -> Option<Vec<SecuritySchemeSummary>> {
        let mut schemes = Vec::new();
        for member in map.iter().flat_map(|map| map.members()) {
            let scheme = self.find(Some(member.value));
            if let Some(kind) = self.text(scheme.and_then(|scheme| scheme.get("type")))? {
                schemes.push(SecuritySchemeSummary { name: self.copy(member.key)?, kind });
            }
        }
        Some(schemes)
    }

    fn find(&self, node: Option<Node<'t>>) -> Option<Node<'t>> {
        follow_reference(self.root, node?)
    }

    fn keys(&mut self, map: Option<Node<'t>>) -> Option<Vec<String>> {
        let mut keys = Vec::new();
        for member in map.iter().flat_map(|map| map.members()) {
            keys.push(self.copy(member.key)?);
        }
        Some(keys)
    }

    fn new_keys(&mut self, map: Option<Node<'t>>, keys: &mut Vec<String>) -> Option<()> {
        for member in map.iter().flat_map(|map| map.members()) {
            self.spend(ITEM + keys.len())?;
            if !keys.iter().any(|key| key == member.key) {
                keys.push(self.copy(member.key)?);
            }
        }
        Some(())
    }

    fn strings(&mut self, list: Option<Node<'t>>) -> Option<Vec<String>> {
        items(list).filter_map(Node::as_str).map(|text| self.copy(text)).collect()
    }

    /// The text of a string; the outer option is empty when the limit is reached.
    #[expect(clippy::option_option, reason = "a missing text and a full summary differ")]
    fn text(&mut self, node: Option<Node<'t>>) -> Option<Option<String>> {
        match node.and_then(Node::as_str) {
            None => Some(None),
            Some(text) => self.copy(text).map(Some),
        }
    }

    fn copy(&mut self, text: &str) -> Option<String> {
        self.spend(ITEM + text.len())?;
        Some(text.to_owned())
    }

    fn spend(&mut self, bytes: usize) -> Option<()> {
        self.left = self.left.checked_sub(bytes)?;
        Some(())
    }
}

fn items<'t>(list: Option<Node<'t>>) -> impl Iterator<Item = Node<'t>> {
    list.into_iter().flat_map(Node::items)
}

fn is_true(node: Option<Node<'_>>) -> bool {
    node.and_then(Node::as_bool) == Some(true)
}
