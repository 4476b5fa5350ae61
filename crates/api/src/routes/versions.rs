//! Versions of APIs.

use authz::Action;
use jiff::Timestamp;
use market::{Deprecation, Kind, Review, VersionDraft};
use model::{Api, ApiId, ApiVersion, Name, UserId, VersionId, VersionStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Items, apis::RegisteredView, specifications::SpecificationBody};
use crate::{
    call::Call,
    endpoint::{Endpoint, get, post},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/apis/{id}/versions", Action::ListVersions, "List the versions of an API")
            .answers::<Items<VersionView>>()
            .run(list),
        post("/apis/{id}/versions", Action::SubmitVersion, "Submit a version")
            .with_specification()
            .creates::<RegisteredView>()
            .body(submit),
        post("/apis/{id}/approve", Action::ApproveVersion, "Approve a version")
            .with_revision()
            .answers::<ReviewedView>()
            .body(approve),
        post("/apis/{id}/reject", Action::RejectVersion, "Reject a version")
            .with_revision()
            .answers::<ReviewedView>()
            .body(reject),
        post("/apis/{id}/deprecate", Action::DeprecateVersion, "Announce the end of a version")
            .with_revision()
            .answers::<ReviewedView>()
            .body(deprecate),
        post("/apis/{id}/retire", Action::RetireVersion, "End a version")
            .with_revision()
            .answers::<ReviewedView>()
            .body(retire),
    ]
}

/// A version of an API.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct VersionView {
    id: VersionId,
    version: String,
    status: VersionStatus,
    /// SHA-256 of the specification as it was handed in, in hex.
    specification_sha256: String,
    /// Only shown to the owning tenant.
    submitted_by: Option<UserId>,
    /// Only shown to the owning tenant.
    approval_details: Option<DecisionView>,
    deprecated_at: Option<Timestamp>,
    sunset_at: Option<Timestamp>,
    successor_id: Option<VersionId>,
    created_at: Timestamp,
    updated_at: Timestamp,
    revision: i64,
}

/// A reviewer's word.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DecisionView {
    decided_by: UserId,
    decided_at: Timestamp,
    comments: String,
    rejection_reasons: Vec<String>,
}

/// A version that moved.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ReviewedView {
    id: ApiId,
    version_id: VersionId,
    name: Name,
    version: String,
    status: VersionStatus,
    approval_details: Option<DecisionView>,
    deprecated_at: Option<Timestamp>,
    sunset_at: Option<Timestamp>,
}

impl VersionView {
    pub(super) fn of(version: ApiVersion, caller: &authz::Caller) -> Self {
        let is_own = caller.acts_for(version.tenant);
        let approval_details = version.decision.map(DecisionView::from).filter(|_| is_own);
        Self {
            id: version.id,
            version: version.number.to_string(),
            status: version.status,
            specification_sha256: version.specification_sha256,
            submitted_by: is_own.then_some(version.submitted_by),
            approval_details,
            deprecated_at: version.deprecated_at,
            sunset_at: version.sunset_at,
            successor_id: version.successor,
            created_at: version.created_at,
            updated_at: version.updated_at,
            revision: version.revision,
        }
    }
}

impl From<model::Decision> for DecisionView {
    fn from(decision: model::Decision) -> Self {
        let model::Decision { by, at, comments, reasons } = decision;
        Self { decided_by: by, decided_at: at, comments, rejection_reasons: reasons }
    }
}

fn moved((api, version): (Api, ApiVersion)) -> Reply {
    let revision = version.revision;
    Reply::ok(&ReviewedView {
        id: api.id,
        version_id: version.id,
        name: api.name,
        version: version.number.to_string(),
        status: version.status,
        approval_details: version.decision.map(DecisionView::from),
        deprecated_at: version.deprecated_at,
        sunset_at: version.sunset_at,
    })
    .revision(revision)
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Api)?;
    let versions = call.market.list_versions(call.request(), id).await?;
    let caller = &call.request().caller;
    let items = versions.into_iter().map(|version| VersionView::of(version, caller)).collect();
    Ok(Reply::ok(&Items { items }))
}

/// A version to submit.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SubmitBody {
    /// Semantic version.
    version: semver::Version,
    specification: SpecificationBody,
}

async fn submit(call: Call, body: SubmitBody) -> Result<Reply, Problem> {
    let id: ApiId = call.id("id", Kind::Api)?;
    let draft = VersionDraft { number: body.version, source: body.specification.into_source()? };
    let registered = call.market.submit_version(call.request(), id, draft).await?;
    let revision = registered.version.revision;
    Ok(Reply::created(&RegisteredView::from(registered))
        .revision(revision)
        .location(&format!("/apis/{id}/versions")))
}

/// An approval.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ApproveBody {
    /// The only one that waits, when absent.
    version: Option<semver::Version>,
    #[serde(default)]
    comments: String,
}

async fn approve(call: Call, body: ApproveBody) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Api)?;
    let review = Review { number: body.version, comments: body.comments, reasons: Vec::new() };
    Ok(moved(call.market.approve_version(call.request(), id, review).await?))
}

/// A rejection.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RejectBody {
    /// The only one that waits, when absent.
    version: Option<semver::Version>,
    #[serde(default)]
    comments: String,
    #[serde(default)]
    rejection_reasons: Vec<String>,
}

async fn reject(call: Call, body: RejectBody) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Api)?;
    let review =
        Review { number: body.version, comments: body.comments, reasons: body.rejection_reasons };
    Ok(moved(call.market.reject_version(call.request(), id, review).await?))
}

/// The announcement of an end.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeprecateBody {
    /// The only active one, when absent.
    version: Option<semver::Version>,
    /// When it will stop answering.
    sunset_at: Option<Timestamp>,
    /// The version that replaces it.
    successor: Option<semver::Version>,
}

async fn deprecate(call: Call, body: DeprecateBody) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Api)?;
    let deprecation =
        Deprecation { number: body.version, sunset_at: body.sunset_at, successor: body.successor };
    Ok(moved(call.market.deprecate_version(call.request(), id, deprecation).await?))
}

/// The end of a version.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RetireBody {
    /// The only one that runs, when absent.
    version: Option<semver::Version>,
}

async fn retire(call: Call, body: RetireBody) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Api)?;
    Ok(moved(call.market.retire_version(call.request(), id, body.version).await?))
}
