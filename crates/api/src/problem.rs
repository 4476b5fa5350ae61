//! Errors as problem documents (RFC 9457).

use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use market::{Conflict, Finding, MarketError, Violation};
use schemars::JsonSchema;
use serde::Serialize;

use crate::reply::Reply;

/// Why a request was not answered as asked.
#[derive(Debug)]
pub(crate) struct Problem(Box<Details>);

#[derive(Debug)]
struct Details {
    status: StatusCode,
    code: String,
    detail: String,
    errors: Vec<FieldError>,
    findings: Vec<Finding>,
    retry_after: Option<Duration>,
    supported: Option<&'static str>,
}

/// One thing that is wrong with a request.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FieldError {
    /// Path of the field.
    field: String,
    /// What is wrong with it.
    message: String,
    /// Rule of the specification that is broken.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    /// JSON path in the specification.
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    /// Line in the specification, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    /// Column in the specification, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<u32>,
}

/// An error (RFC 9457).
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Problem")]
pub(crate) struct ProblemDocument<'a> {
    /// A URI that names the kind of problem.
    #[serde(rename = "type")]
    kind: String,
    /// The kind of problem in words.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// What happened this time.
    detail: &'a str,
    /// The path that was asked.
    instance: &'a str,
    /// Stable code of the problem.
    code: &'a str,
    /// Fields that are wrong.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
    /// What the validation of a specification found.
    #[serde(skip_serializing_if = "Option::is_none")]
    validation_results: Option<crate::routes::ValidationResults>,
    /// Identifier of the request, for asking about it.
    request_id: &'a str,
    /// When it happened.
    timestamp: jiff::Timestamp,
}

impl Problem {
    pub(crate) fn new(
        status: StatusCode,
        code: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self(Box::new(Details {
            status,
            code: code.into(),
            detail: detail.into(),
            errors: Vec::new(),
            findings: Vec::new(),
            retry_after: None,
            supported: None,
        }))
    }

    pub(crate) fn not_found(kind: market::Kind) -> Self {
        MarketError::NotFound(kind).into()
    }

    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        MarketError::Invalid(vec![Violation::new(field, message)]).into()
    }

    pub(crate) fn unauthenticated() -> Self {
        MarketError::Unauthenticated.into()
    }

    pub(crate) fn too_many_requests(wait: Duration) -> Self {
        let mut problem = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            "too many requests; slow down",
        );
        problem.0.retry_after = Some(wait);
        problem
    }

    pub(crate) fn unsupported_version(supported: &'static str) -> Self {
        let mut problem = Self::new(
            StatusCode::BAD_REQUEST,
            "unsupported_api_version",
            format!(
                "the API-Version header asks for a version that is not supported; supported: {supported}"
            ),
        );
        problem.0.supported = Some(supported);
        problem
    }

    pub(crate) fn database_unavailable() -> Self {
        let mut problem = Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "database_unavailable",
            "the database is not available at the moment; nothing was changed",
        );
        problem.0.retry_after = Some(Duration::from_secs(2));
        problem
    }

    /// An internal failure: the chain of causes is logged, the client learns nothing.
    fn internal(error: &MarketError) -> Self {
        let mut chain = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            chain.push_str(": ");
            chain.push_str(&cause.to_string());
            source = cause.source();
        }
        tracing::error!(error = %chain, "an operation failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "something failed on our side; the request id helps the operator to find it",
        )
    }

    /// The answer for a request to `instance`.
    pub(crate) fn into_reply(
        self,
        instance: &str,
        request_id: &str,
        now: jiff::Timestamp,
    ) -> Reply {
        let Details { status, code, detail, errors, findings, retry_after, supported } = *self.0;
        let validation_results =
            (!findings.is_empty()).then(|| crate::routes::ValidationResults::from(findings));
        let document = ProblemDocument {
            kind: format!("urn:caduceus:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: &detail,
            instance,
            code: &code,
            errors: &errors,
            validation_results,
            request_id,
            timestamp: now,
        };
        let mut reply = Reply::json(status, &document)
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait) = retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            reply = reply.header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"caduceus\"");
            reply = reply.header(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(supported) = supported {
            let name = http::HeaderName::from_static("api-supported-versions");
            reply = reply.header(name, HeaderValue::from_static(supported));
        }
        reply
    }
}

impl From<MarketError> for Problem {
    fn from(error: MarketError) -> Self {
        let detail = error.to_string();
        match error {
            MarketError::Forbidden(_) => Self::new(StatusCode::FORBIDDEN, "forbidden", detail),
            MarketError::NotFound(kind) => {
                Self::new(StatusCode::NOT_FOUND, format!("{}_not_found", kind.as_str()), detail)
            }
            MarketError::Conflict(conflict) => Self::conflict(&conflict),
            MarketError::Invalid(violations) => {
                let mut problem =
                    Self::new(StatusCode::UNPROCESSABLE_ENTITY, "validation_failed", detail);
                problem.0.errors = violations.into_iter().map(FieldError::from).collect();
                problem
            }
            MarketError::Specification(report) => {
                let mut problem =
                    Self::new(StatusCode::UNPROCESSABLE_ENTITY, "specification_invalid", detail);
                problem.0.findings = report.issues.iter().map(Finding::from).collect();
                problem.0.errors = problem
                    .0
                    .findings
                    .iter()
                    .filter(|finding| finding.severity == spec::Severity::Error)
                    .map(FieldError::from)
                    .collect();
                problem
            }
            MarketError::Fetch(_) => {
                let mut problem = Self::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "specification_unreachable",
                    detail.clone(),
                );
                problem.0.errors = vec![Violation::new("specification.url", detail).into()];
                problem
            }
            MarketError::Stale => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "stale_revision",
                "it was changed by somebody else since it was read; read it again and repeat the change",
            ),
            MarketError::KeyReused => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
            }
            MarketError::Unauthenticated => {
                Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
            }
            MarketError::SecondFactorRequired => {
                Self::new(StatusCode::UNAUTHORIZED, "second_factor_required", detail)
            }
            MarketError::TooManyAttempts(wait) => {
                let mut problem =
                    Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", detail);
                problem.0.retry_after = Some(wait);
                problem
            }
            MarketError::Store(ref source) if source.is_unavailable() => {
                tracing::warn!(error = %source, "the database is not available");
                Self::database_unavailable()
            }
            MarketError::Store(_) | MarketError::Internal(..) => Self::internal(&error),
        }
    }
}

impl Problem {
    fn conflict(conflict: &Conflict) -> Self {
        Self::new(StatusCode::CONFLICT, conflict.code(), conflict.to_string())
    }
}

impl From<Violation> for FieldError {
    fn from(violation: Violation) -> Self {
        Self {
            field: violation.field,
            message: violation.message,
            rule: None,
            location: None,
            line: None,
            column: None,
        }
    }
}

impl From<&Finding> for FieldError {
    fn from(finding: &Finding) -> Self {
        Self {
            field: "specification.content".to_owned(),
            message: finding.message.clone(),
            rule: Some(finding.rule.clone()),
            location: Some(finding.location.clone()),
            line: Some(finding.line),
            column: Some(finding.column),
        }
    }
}
