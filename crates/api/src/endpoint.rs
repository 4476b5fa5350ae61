//! Declaring routes.

use std::{future::Future, pin::Pin, sync::Arc};

use authz::{Access, Action};
use http::{Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;

use crate::{body, call::Call, problem::Problem, reply::Reply};

type Handler =
    Arc<dyn Fn(Call) -> Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send>> + Send + Sync>;
type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// A route of the control API: everything that is said about it stands in its declaration.
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) action: Action,
    pub(crate) summary: &'static str,
    pub(crate) tag: &'static str,
    pub(crate) query: Option<SchemaOf>,
    pub(crate) request: Option<RequestBody>,
    pub(crate) answer: Answer,
    pub(crate) has_revision: bool,
    pub(crate) body_limit: BodyLimit,
    pub(crate) handler: Handler,
}

/// What a request body is.
pub(crate) struct RequestBody {
    pub(crate) media_types: &'static [&'static str],
    pub(crate) schema: SchemaOf,
}

/// What an answer is.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) media_types: &'static [&'static str],
    pub(crate) schema: Option<SchemaOf>,
}

/// How large a body may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyLimit {
    /// As large as a form that people fill in.
    Form,
    /// As large as a specification.
    Specification,
}

/// A declaration that has no handler yet.
pub(crate) struct Declaration {
    method: Method,
    path: &'static str,
    action: Action,
    summary: &'static str,
    query: Option<SchemaOf>,
    answer: Answer,
    has_revision: bool,
    body_limit: BodyLimit,
    request_types: &'static [&'static str],
}

const JSON: &[&str] = &["application/json"];
const MERGE_PATCH: &[&str] = &["application/merge-patch+json", "application/json"];

fn declare(
    method: Method,
    path: &'static str,
    action: Action,
    summary: &'static str,
) -> Declaration {
    Declaration {
        method,
        path,
        action,
        summary,
        query: None,
        answer: Answer { status: StatusCode::NO_CONTENT, media_types: JSON, schema: None },
        has_revision: false,
        body_limit: BodyLimit::Form,
        request_types: JSON,
    }
}

/// Declares a route that reads.
pub(crate) fn get(path: &'static str, action: Action, summary: &'static str) -> Declaration {
    declare(Method::GET, path, action, summary)
}

/// Declares a route that makes or does something.
pub(crate) fn post(path: &'static str, action: Action, summary: &'static str) -> Declaration {
    declare(Method::POST, path, action, summary)
}

/// Declares a route that replaces something.
pub(crate) fn put(path: &'static str, action: Action, summary: &'static str) -> Declaration {
    declare(Method::PUT, path, action, summary).with_revision()
}

/// Declares a route that changes something by JSON Merge Patch.
pub(crate) fn patch(path: &'static str, action: Action, summary: &'static str) -> Declaration {
    let declaration = declare(Method::PATCH, path, action, summary).with_revision();
    Declaration { request_types: MERGE_PATCH, ..declaration }
}

/// Declares a route that removes something.
pub(crate) fn delete(path: &'static str, action: Action, summary: &'static str) -> Declaration {
    declare(Method::DELETE, path, action, summary).with_revision()
}

impl Declaration {
    /// It takes these query parameters.
    pub(crate) fn query<Q: JsonSchema>(self) -> Self {
        Self { query: Some(|generator| Q::json_schema(generator)), ..self }
    }

    /// It answers 200 with this.
    pub(crate) fn answers<T: JsonSchema>(self) -> Self {
        self.answers_with::<T>(StatusCode::OK)
    }

    /// It answers 201 with this.
    pub(crate) fn creates<T: JsonSchema>(self) -> Self {
        self.answers_with::<T>(StatusCode::CREATED)
    }

    fn answers_with<T: JsonSchema>(self, status: StatusCode) -> Self {
        let schema: SchemaOf = |generator| generator.subschema_for::<T>();
        Self { answer: Answer { status, media_types: JSON, schema: Some(schema) }, ..self }
    }

    /// It answers 200 with a document of one of these media types.
    pub(crate) fn answers_document(self, media_types: &'static [&'static str]) -> Self {
        Self { answer: Answer { status: StatusCode::OK, media_types, schema: None }, ..self }
    }

    /// It honours `If-Match`.
    pub(crate) fn with_revision(self) -> Self {
        Self { has_revision: true, ..self }
    }

    /// Its body may be as large as a specification.
    pub(crate) fn with_specification(self) -> Self {
        Self { body_limit: BodyLimit::Specification, ..self }
    }

    /// Handles it with a function that takes no body.
    pub(crate) fn run<F, R>(self, handler: F) -> Endpoint
    where
        F: Fn(Call) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let handler: Handler = Arc::new(move |call| Box::pin(handler(call)));
        self.finish(None, handler)
    }

    /// Handles it with a function that takes a JSON body; an absent body reads as `{}`.
    pub(crate) fn body<B, F, R>(self, handler: F) -> Endpoint
    where
        B: DeserializeOwned + JsonSchema + Send + 'static,
        F: Fn(Call, B) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let media_types = self.request_types;
        let handler: Handler = Arc::new(move |call| {
            let handler = Arc::clone(&handler);
            Box::pin(async move {
                body::require_media_type(&call.headers, &call.body, media_types)?;
                let bytes = if call.body.is_empty() { b"{}".as_slice() } else { &call.body };
                let parsed = body::parse(bytes)?;
                handler(call, parsed).await
            })
        });
        let schema: SchemaOf = |generator| generator.subschema_for::<B>();
        self.finish(Some(RequestBody { media_types, schema }), handler)
    }

    /// Handles it with a function that takes a form body.
    pub(crate) fn form<B, F, R>(self, handler: F) -> Endpoint
    where
        B: DeserializeOwned + JsonSchema + Send + 'static,
        F: Fn(Call, B) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Reply, Problem>> + Send + 'static,
    {
        const FORM: &[&str] = &["application/x-www-form-urlencoded"];
        let handler = Arc::new(handler);
        let handler: Handler = Arc::new(move |call| {
            let handler = Arc::clone(&handler);
            Box::pin(async move {
                body::require_media_type(&call.headers, &call.body, FORM)?;
                let parsed = serde_urlencoded::from_bytes(&call.body).map_err(|error| {
                    Problem::new(
                        StatusCode::BAD_REQUEST,
                        "invalid_form",
                        format!("the form is wrong: {error}"),
                    )
                })?;
                handler(call, parsed).await
            })
        });
        let schema: SchemaOf = |generator| generator.subschema_for::<B>();
        self.finish(Some(RequestBody { media_types: FORM, schema }), handler)
    }

    fn finish(self, request: Option<RequestBody>, handler: Handler) -> Endpoint {
        Endpoint {
            method: self.method,
            path: self.path,
            action: self.action,
            summary: self.summary,
            tag: "",
            query: self.query,
            request,
            answer: self.answer,
            has_revision: self.has_revision,
            body_limit: self.body_limit,
            handler,
        }
    }
}

impl Endpoint {
    /// Whether it changes something, and so takes dry runs and idempotency keys.
    pub(crate) fn is_write(&self) -> bool {
        self.method != Method::GET && self.action.access() != Access::Public
    }

    pub(crate) fn tagged(self, tag: &'static str) -> Self {
        Self { tag, ..self }
    }
}
