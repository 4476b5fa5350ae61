//! What the control API says of itself.

use http::Method;
use serde_json::Value;

use crate::client::{Client, ProveError, text};

/// One operation of the description.
pub(crate) struct Operation {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Its name, as in `api.read`.
    pub(crate) name: String,
    pub(crate) has_json_body: bool,
    /// Whether it can be tried without consequences.
    pub(crate) has_dry_run: bool,
    pub(crate) is_public: bool,
    pub(crate) queries: Vec<String>,
}

/// Reads the description.
pub(crate) async fn read(nobody: &Client) -> Result<Vec<Operation>, ProveError> {
    let document = nobody.get("/openapi.json").await?;
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let parameters = operation["parameters"].as_array();
            let queries = parameters.into_iter().flatten();
            let queries = queries.filter(|parameter| parameter["in"] == "query");
            let queries: Vec<_> = queries.map(|parameter| text(&parameter["name"])).collect();
            let content = operation.pointer("/requestBody/content");
            let json = content.and_then(|content| content.get("application/json"));
            operations.push(Operation {
                method: method.to_uppercase().parse().unwrap_or_default(),
                path: path.clone(),
                name: text(&operation["operationId"]),
                has_json_body: json.is_some(),
                has_dry_run: queries.iter().any(|name| name == "dryRun"),
                is_public: operation["security"].as_array().is_some_and(Vec::is_empty),
                queries,
            });
        }
    }
    if operations.is_empty() {
        return Err(ProveError::Unexpected {
            what: "the description of the API".to_owned(),
            status: 200,
            body: Value::to_string(&document).chars().take(300).collect(),
        });
    }
    Ok(operations)
}
