//! Specifications.

use authz::Action;
use http::{HeaderValue, StatusCode, header};
use market::{Finding, Kind, SpecificationSource};
use model::{ApiId, SpecificationFormat};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use spec::{Severity, Syntax};
use url::Url;

use crate::{
    call::Call,
    endpoint::{Endpoint, get, post},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(
            "/apis/{id}/specification",
            Action::ReadSpecification,
            "Read the specification of a version",
        )
        .query::<VersionQuery>()
        .answers_document(&["application/json", "application/yaml"])
        .run(read),
        get(
            "/apis/{id}/specification/summary",
            Action::ReadSpecificationSummary,
            "Read what a specification describes",
        )
        .query::<VersionQuery>()
        .answers::<SummaryView>()
        .run(summary),
        post(
            "/specifications/validate",
            Action::ValidateSpecification,
            "Validate a specification without storing it",
        )
        .with_specification()
        .answers::<ValidatedView>()
        .body(validate),
    ]
}

/// A specification: either its content or its address.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SpecificationBody {
    #[serde(rename = "format")]
    _format: SpecificationFormat,
    /// The document as a text (JSON or YAML), or as a JSON object.
    #[schemars(with = "Option<serde_json::Value>")]
    content: Option<Box<RawValue>>,
    /// An address at a host that the operator has listed.
    url: Option<Url>,
}

impl SpecificationBody {
    pub(super) fn into_source(self) -> Result<SpecificationSource, Problem> {
        match (self.content, self.url) {
            (Some(content), None) => {
                let raw = content.get();
                if raw.starts_with('"') {
                    let text: String =
                        serde_json::from_str(raw).map_err(|_unpaired_surrogate| {
                            Problem::invalid(
                                "specification.content",
                                "holds an escape that is no character",
                            )
                        })?;
                    Ok(SpecificationSource::Content(text.into_bytes()))
                } else {
                    Ok(SpecificationSource::Content(raw.as_bytes().to_vec()))
                }
            }
            (None, Some(url)) => Ok(SpecificationSource::Url(url)),
            _ => Err(Problem::invalid("specification", "must have either content or url")),
        }
    }
}

/// What a validation has to say.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ValidationResults {
    /// Whether there are no errors.
    valid: bool,
    errors: Vec<FindingView>,
    /// Warnings and notes.
    warnings: Vec<FindingView>,
}

/// One thing that a validation has to say.
#[derive(Serialize, JsonSchema)]
struct FindingView {
    /// `error`, `warning` or `info`.
    severity: String,
    rule: String,
    message: String,
    /// JSON path (RFC 9535).
    location: String,
    /// From 1.
    line: u32,
    /// In characters, from 1.
    column: u32,
}

impl From<Vec<Finding>> for ValidationResults {
    fn from(findings: Vec<Finding>) -> Self {
        let (errors, warnings): (Vec<_>, Vec<_>) =
            findings.into_iter().partition(|finding| finding.severity == Severity::Error);
        Self {
            valid: errors.is_empty(),
            errors: errors.into_iter().map(FindingView::from).collect(),
            warnings: warnings.into_iter().map(FindingView::from).collect(),
        }
    }
}

impl From<Finding> for FindingView {
    fn from(finding: Finding) -> Self {
        let Finding { severity, rule, message, location, line, column } = finding;
        let severity = match severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Info => "info",
        };
        Self { severity: severity.to_owned(), rule, message, location, line, column }
    }
}

/// Which version.
#[derive(Deserialize, JsonSchema)]
struct VersionQuery {
    /// The newest active one, when absent.
    version: Option<semver::Version>,
}

async fn read(call: Call) -> Result<Reply, Problem> {
    let id: ApiId = call.id("id", Kind::Api)?;
    let query: VersionQuery = call.query()?;
    let syntax = wanted_syntax(&call)?;
    let view = call
        .market
        .read_specification_of(call.request(), id, query.version.as_ref(), syntax)
        .await?;
    Ok(Reply::content(view.media_type, view.content)
        .header(header::VARY, HeaderValue::from_static("Accept"))
        // Served as it was handed in: a browser must never take it for a page.
        .header(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment")))
}

/// The syntax that `Accept` asks for; none for the original.
fn wanted_syntax(call: &Call) -> Result<Option<Syntax>, Problem> {
    let accepted = call.accepted();
    if accepted.is_empty() {
        return Ok(None);
    }
    for range in accepted {
        match range.as_str() {
            "*/*" | "application/*" => return Ok(None),
            "application/json" | "application/vnd.oai.openapi+json" => {
                return Ok(Some(Syntax::Json));
            }
            "application/yaml"
            | "application/x-yaml"
            | "text/yaml"
            | "application/vnd.oai.openapi" => {
                return Ok(Some(Syntax::Yaml));
            }
            _ => {}
        }
    }
    Err(Problem::new(
        StatusCode::NOT_ACCEPTABLE,
        "not_acceptable",
        "the specification is available as application/json and application/yaml",
    ))
}

/// What a specification describes.
#[derive(Serialize, JsonSchema)]
#[serde(transparent)]
struct SummaryView(#[schemars(with = "serde_json::Map<String, serde_json::Value>")] spec::Summary);

async fn summary(call: Call) -> Result<Reply, Problem> {
    let id: ApiId = call.id("id", Kind::Api)?;
    let query: VersionQuery = call.query()?;
    let summary = call.market.read_summary_of(call.request(), id, query.version.as_ref()).await?;
    Ok(Reply::ok(&SummaryView(summary)))
}

/// A specification to validate.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ValidateBody {
    specification: SpecificationBody,
}

/// What a validation found.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ValidatedView {
    format: Option<String>,
    format_version: Option<String>,
    #[serde(flatten)]
    results: ValidationResults,
    /// What the document describes.
    summary: Option<SummaryView>,
}

async fn validate(call: Call, body: ValidateBody) -> Result<Reply, Problem> {
    let source = body.specification.into_source()?;
    let report = call.market.validate_specification(call.request(), source).await?;
    let findings: Vec<Finding> = report.issues.iter().map(Finding::from).collect();
    Ok(Reply::ok(&ValidatedView {
        format: report.format.map(|format| format.name().to_owned()),
        format_version: report.format_version,
        results: ValidationResults::from(findings),
        summary: report.summary.map(SummaryView),
    }))
}
