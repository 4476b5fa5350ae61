//! Which specification format a document is in, told from its content alone.

use serde::{Deserialize, Serialize};

use crate::node::{Node, Value};

/// A specification format that can be told apart. Only OpenAPI 3.0 and 3.1 are validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// OpenAPI 3.
    OpenApi,
    /// Swagger 2.0 and older.
    Swagger,
    /// AsyncAPI.
    AsyncApi,
    /// RAML.
    Raml,
    /// WSDL.
    Wsdl,
    /// A GraphQL schema.
    GraphQl,
    /// A CapabilityStatement of FHIR.
    #[serde(rename = "capability-statement")]
    CapabilityStatement,
}

/// A format, the version the document says, and the root's field that says it.
pub(crate) struct Recognised<'t> {
    pub(crate) format: Format,
    pub(crate) version: Option<String>,
    pub(crate) field: Option<(&'static str, Node<'t>)>,
}

impl Format {
    /// What people call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenApi => "OpenAPI",
            Self::Swagger => "Swagger",
            Self::AsyncApi => "AsyncAPI",
            Self::Raml => "RAML",
            Self::Wsdl => "WSDL",
            Self::GraphQl => "GraphQL",
            Self::CapabilityStatement => "FHIR CapabilityStatement",
        }
    }
}

/// Tells formats that are not written in JSON or plain YAML.
pub(crate) fn recognise_text(text: &str) -> Option<Recognised<'static>> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text).trim_start();
    if let Some(rest) = text.strip_prefix("#%RAML") {
        let version = rest.split_whitespace().next().map(str::to_owned);
        return Some(Recognised { format: Format::Raml, version, field: None });
    }
    let format = if text.starts_with('<') {
        xml_format(text)?
    } else if is_graphql(text) {
        Format::GraphQl
    } else {
        return None;
    };
    Some(Recognised { format, version: None, field: None })
}

/// Tells formats by the fields of their root object.
pub(crate) fn recognise_tree(root: Node<'_>) -> Option<Recognised<'_>> {
    let fields = [
        ("openapi", Format::OpenApi),
        ("swagger", Format::Swagger),
        ("swaggerVersion", Format::Swagger),
        ("asyncapi", Format::AsyncApi),
    ];
    for (name, format) in fields {
        if let Some(node) = root.get(name) {
            let version = match node.value() {
                Value::String(text) | Value::Number(text) => Some(text.to_owned()),
                _ => None,
            };
            return Some(Recognised { format, version, field: Some((name, node)) });
        }
    }
    let node = root.get("resourceType")?;
    let is_statement = node.as_str() == Some("CapabilityStatement");
    let version = root.get("fhirVersion").and_then(Node::as_str).map(str::to_owned);
    is_statement.then_some(Recognised {
        format: Format::CapabilityStatement,
        version,
        field: Some(("resourceType", node)),
    })
}

/// The format by the name of an XML document's root element.
fn xml_format(text: &str) -> Option<Format> {
    let mut rest = text;
    loop {
        rest = rest.trim_start().strip_prefix('<')?;
        // Comments, declarations and processing instructions come before the root.
        let end = if rest.starts_with("!--") {
            "-->"
        } else if rest.starts_with(['?', '!']) {
            ">"
        } else {
            break;
        };
        rest = rest.split_once(end)?.1;
    }
    let name = rest.split(|c: char| c.is_whitespace() || matches!(c, '>' | '/')).next()?;
    match name.rsplit(':').next()? {
        "definitions" | "description" => Some(Format::Wsdl),
        "CapabilityStatement" => Some(Format::CapabilityStatement),
        _ => None,
    }
}

/// Whether the first line that is no comment or description starts a GraphQL definition.
fn is_graphql(text: &str) -> bool {
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if let Some(comment) = rest.strip_prefix('#') {
            rest = comment.split_once('\n').map_or("", |(_, after)| after);
        } else if let Some(description) = rest.strip_prefix("\"\"\"") {
            rest = description.split_once("\"\"\"").map_or("", |(_, after)| after);
        } else if let Some((_, after)) =
            rest.split_once('\n').filter(|(line, _)| is_quoted_line(line))
        {
            rest = after;
        } else {
            break;
        }
    }
    let line = rest.lines().next().unwrap_or_default();
    let mut words = line.split_whitespace();
    let keyword = words.next().unwrap_or_default();
    let next = words.next().unwrap_or_default();
    match keyword {
        "schema" | "query" | "mutation" => next.starts_with(['{', '@']),
        "extend" | "type" | "interface" | "union" | "enum" | "input" | "scalar" => {
            next.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && !line.contains(": ")
        }
        "directive" => next.starts_with('@'),
        _ => false,
    }
}

/// Whether a line is one string and nothing else: a description.
fn is_quoted_line(line: &str) -> bool {
    let line = line.trim_end();
    line.len() > 1 && line.starts_with('"') && line.ends_with('"')
}
