//! A specification, as its reader wants it: what to send and what comes back.
//!
//! Works on documents that were validated when they were registered, and nevertheless trusts nothing in them: references are
//! followed a bounded number of times, and everything shown is escaped where it is shown.

pub(crate) mod samples;
mod schema;

use serde_json::Value;

use crate::markdown::SafeHtml;
pub(crate) use schema::{Row, example, rows};

/// How many references are followed from one to the next.
const REFERENCES: usize = 16;

/// A specification in JSON.
pub(crate) struct Reference(Value);

/// One operation.
pub(crate) struct Operation {
    pub(crate) summary: String,
    pub(crate) description: SafeHtml,
    pub(crate) is_deprecated: bool,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Option<Body>,
    pub(crate) answers: Vec<Response>,
}

/// Something that is said in path, query, header or cookie.
pub(crate) struct Parameter {
    pub(crate) name: String,
    /// `path`, `query`, `header` or `cookie`.
    pub(crate) place: String,
    pub(crate) is_required: bool,
    pub(crate) kind: String,
    pub(crate) notes: String,
    pub(crate) description: SafeHtml,
    pub(crate) example: String,
}

/// What is sent.
pub(crate) struct Body {
    pub(crate) is_required: bool,
    pub(crate) content: Vec<Content>,
}

/// What comes back.
pub(crate) struct Response {
    pub(crate) status: String,
    pub(crate) description: SafeHtml,
    pub(crate) content: Vec<Content>,
}

/// A media type with its schema.
pub(crate) struct Content {
    pub(crate) media_type: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) example: String,
}

impl Reference {
    /// Reads a document.
    pub(crate) fn parse(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok().map(Self)
    }

    /// The operation with this method and path.
    pub(crate) fn operation(&self, method: &str, path: &str) -> Option<Operation> {
        let item = self.follow(self.0.get("paths")?.get(path)?)?;
        let operation = item.get(method.to_ascii_lowercase())?;
        let own = operation.get("parameters").and_then(Value::as_array);
        let shared = item.get("parameters").and_then(Value::as_array);
        let mut parameters: Vec<Parameter> = Vec::new();
        for parameter in own.into_iter().chain(shared).flatten().take(200) {
            let Some(read) = self.follow(parameter).and_then(|found| self.parameter(found)) else {
                continue;
            };
            let is_known = |known: &Parameter| known.name == read.name && known.place == read.place;
            if !parameters.iter().any(is_known) {
                parameters.push(read);
            }
        }
        let order = ["path", "query", "header", "cookie"];
        parameters
            .sort_by_key(|parameter| order.iter().position(|place| *place == parameter.place));
        let answers = operation.get("responses").and_then(Value::as_object);
        Some(Operation {
            summary: text(operation, "summary"),
            description: SafeHtml::from_markdown(&text(operation, "description")),
            is_deprecated: operation.get("deprecated") == Some(&Value::Bool(true)),
            parameters,
            body: operation.get("requestBody").and_then(|body| self.follow(body)).map(|body| {
                Body {
                    is_required: body.get("required") == Some(&Value::Bool(true)),
                    content: self.content(body),
                }
            }),
            answers: answers
                .into_iter()
                .flatten()
                .take(50)
                .filter_map(|(status, answer)| {
                    let answer = self.follow(answer)?;
                    Some(Response {
                        status: status.clone(),
                        description: SafeHtml::from_markdown(&text(answer, "description")),
                        content: self.content(answer),
                    })
                })
                .collect(),
        })
    }

    fn parameter(&self, parameter: &Value) -> Option<Parameter> {
        let schema = parameter
            .get("schema")
            .or_else(|| parameter.get("content")?.as_object()?.values().next()?.get("schema"));
        let schema = schema.and_then(|schema| self.follow(schema)).unwrap_or(&Value::Null);
        let given = parameter
            .get("example")
            .or_else(|| schema.get("example"))
            .or_else(|| schema.get("default"));
        let given = given.or_else(|| schema.get("enum").and_then(|all| all.get(0)));
        Some(Parameter {
            name: parameter.get("name")?.as_str()?.to_owned(),
            place: text(parameter, "in"),
            is_required: parameter.get("required") == Some(&Value::Bool(true)),
            kind: schema::kind(self, schema),
            notes: schema::notes(schema),
            description: SafeHtml::from_markdown(&text(parameter, "description")),
            example: given.map_or_else(
                || match schema.get("type").and_then(Value::as_str) {
                    Some("integer" | "number") => "1".to_owned(),
                    Some("boolean") => "true".to_owned(),
                    _ => String::new(),
                },
                plain,
            ),
        })
    }

    fn content(&self, of: &Value) -> Vec<Content> {
        let all = of.get("content").and_then(Value::as_object);
        let content = all.into_iter().flatten().take(10).map(|(media_type, content)| {
            let schema = content.get("schema").unwrap_or(&Value::Null);
            let given = content.get("example").cloned().or_else(|| {
                let first = content.get("examples")?.as_object()?.values().next()?;
                self.follow(first)?.get("value").cloned()
            });
            let shown = given.unwrap_or_else(|| example(self, schema));
            let is_json = media_type.contains("json");
            Content {
                media_type: media_type.clone(),
                rows: rows(self, schema),
                example: match shown {
                    Value::Null => String::new(),
                    Value::String(text) if !is_json => text,
                    other => serde_json::to_string_pretty(&other).unwrap_or_default(),
                },
            }
        });
        content.collect()
    }

    /// What a value stands for, when it is a reference within the document.
    fn follow<'document>(&'document self, mut value: &'document Value) -> Option<&'document Value> {
        for _ in 0..REFERENCES {
            match value.get("$ref").and_then(Value::as_str) {
                None => return Some(value),
                Some(reference) => value = self.0.pointer(reference.strip_prefix('#')?)?,
            }
        }
        None
    }
}

fn text(of: &Value, name: &str) -> String {
    of.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A value as somebody would type it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
