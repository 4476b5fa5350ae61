//! The description of the control API, made from the declarations of its routes (OpenAPI 3.1).

use std::collections::BTreeMap;

use authz::{Access, Action};
use bytes::Bytes;
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use crate::{
    endpoint::{Endpoint, get},
    problem::ProblemDocument,
    reply::Reply,
};

/// The query parameter of every write that asks for a check without effect.
pub(crate) const DRY_RUN: &str = "dryRun";

const SUMMARY: &str = "Read this description";

/// The route of the document.
pub(crate) fn endpoint(document: Bytes) -> Endpoint {
    get("/openapi.json", Action::ReadOpenApi, SUMMARY)
        .answers_document(&["application/json"])
        .run(move |_call| {
            std::future::ready(Ok(Reply::content("application/json", document.clone())))
        })
        .tagged("Installation")
}

/// The document of these routes and its own, pretty-printed.
pub(crate) fn render(endpoints: &[Endpoint]) -> String {
    let settings = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<ProblemDocument<'_>>();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let own = endpoint(Bytes::new());
    for endpoint in endpoints.iter().chain([&own]) {
        let item = paths.entry(endpoint.path.to_owned()).or_default();
        let operation = describe(endpoint, &mut generator);
        item.insert(endpoint.method.as_str().to_ascii_lowercase(), operation);
    }
    let schemas = generator.take_definitions(true);
    let document = json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Caduceus control API",
            "version": "1.0.0",
            "summary": "Register, approve, find, subscribe to and deploy APIs.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/api/v1" }],
        "security": [{ "bearer": [] }],
        "tags": tags(endpoints),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
            },
            "responses": {
                "Problem": {
                    "description": "What went wrong (RFC 9457).",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
            "schemas": schemas,
        },
    });
    let mut text = serde_json::to_string_pretty(&document).expect("the document has text keys");
    text.push('\n');
    text
}

/// The names of the query parameters that a route has.
pub(crate) fn query_names(endpoint: &Endpoint) -> Vec<String> {
    let mut names: Vec<String> =
        query_properties(endpoint).into_iter().map(|(name, _)| name).collect();
    if endpoint.is_write() {
        names.push(DRY_RUN.to_owned());
    }
    names
}

fn query_properties(endpoint: &Endpoint) -> Vec<(String, Value)> {
    let Some(schema_of) = endpoint.query else { return Vec::new() };
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = schema_of(&mut settings.into_generator());
    let properties = schema.get("properties").and_then(Value::as_object).cloned();
    properties.unwrap_or_default().into_iter().collect()
}

fn describe(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let mut operation = Map::new();
    operation.insert("operationId".into(), json!(endpoint.action.as_str()));
    operation.insert("summary".into(), json!(endpoint.summary));
    operation.insert("tags".into(), json!([endpoint.tag]));
    if let Some(roles) = roles(endpoint) {
        operation.insert("description".into(), json!(roles));
    }
    if endpoint.action.access() == Access::Public {
        operation.insert("security".into(), json!([]));
    }
    let parameters = parameters(endpoint);
    if !parameters.is_empty() {
        operation.insert("parameters".into(), Value::Array(parameters));
    }
    if let Some(request) = &endpoint.request {
        let schema = (request.schema)(generator);
        let content: Map<String, Value> = request
            .media_types
            .iter()
            .map(|media_type| ((*media_type).to_owned(), json!({ "schema": schema })))
            .collect();
        operation.insert("requestBody".into(), json!({ "content": content }));
    }
    operation.insert("responses".into(), responses(endpoint, generator));
    Value::Object(operation)
}

fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let mut parameters: Vec<Value> = endpoint
        .path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    for (name, mut schema) in query_properties(endpoint) {
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        let mut parameter = json!({ "name": name, "in": "query", "schema": schema });
        if let (Some(description), Some(object)) = (description, parameter.as_object_mut()) {
            object.insert("description".into(), description);
        }
        parameters.push(parameter);
    }
    if endpoint.is_write() {
        parameters.push(json!({
            "name": DRY_RUN, "in": "query", "schema": { "type": "boolean" },
            "description": "Check everything and store nothing.",
        }));
        parameters.push(json!({
            "name": "Idempotency-Key", "in": "header", "schema": { "type": "string", "maxLength": 255 },
            "description": "The same key with the same request is done once and answered alike.",
        }));
    }
    if endpoint.has_revision {
        parameters.push(json!({
            "name": "If-Match", "in": "header", "schema": { "type": "string" },
            "description": "The entity tag that was read; 412 when it has changed since.",
        }));
    }
    parameters.push(json!({
        "name": "API-Version", "in": "header", "schema": { "type": "string", "enum": ["1", "1.0"] },
        "description": "The minor version that is wanted.",
    }));
    parameters
}

fn responses(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let status = endpoint.answer.status;
    let mut success = json!({ "description": status.canonical_reason().unwrap_or("Success") });
    if status != http::StatusCode::NO_CONTENT
        && let Some(object) = success.as_object_mut()
    {
        let schema = endpoint.answer.schema.map(|schema| schema(generator));
        let content: Map<String, Value> = endpoint
            .answer
            .media_types
            .iter()
            .map(|media_type| {
                let content =
                    schema.as_ref().map_or_else(|| json!({}), |schema| json!({ "schema": schema }));
                ((*media_type).to_owned(), content)
            })
            .collect();
        object.insert("content".into(), Value::Object(content));
    }
    json!({ status.as_u16().to_string(): success, "default": { "$ref": "#/components/responses/Problem" } })
}

fn roles(endpoint: &Endpoint) -> Option<String> {
    match endpoint.action.access() {
        Access::Public => Some("Needs no token.".to_owned()),
        Access::SignedIn => None,
        Access::AnyOf(roles) => {
            let names: Vec<_> = roles.iter().map(model::Role::as_str).collect();
            Some(format!("For the roles {}.", names.join(", ")))
        }
    }
}

fn tags(endpoints: &[Endpoint]) -> Value {
    let mut names: Vec<&str> = Vec::new();
    for endpoint in endpoints {
        if !names.contains(&endpoint.tag) {
            names.push(endpoint.tag);
        }
    }
    names.into_iter().map(|name| json!({ "name": name })).collect()
}
