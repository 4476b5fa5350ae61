//! The snapshot: everything the gateway needs to decide about a call, compiled by the control plane.
//!
//! It is complete in itself: whoever holds one can serve calls without a database. It holds no secret; keys are
//! recognised by their keyed hash.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    ApiId, ApplicationId, CredentialDigest, CredentialId, Delivery, DeploymentId, Limit, Quota,
    Route, SubscriptionId, TenantId, Upstream, VersionId,
};

/// Everything the gateway needs to decide about a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Number of the configuration: that of the last event compiled in. A snapshot with a higher number or a later
    /// time replaces the one that is served.
    pub number: u64,
    /// When it was compiled.
    pub compiled_at: Timestamp,
    /// Where versions run.
    pub deployments: Vec<DeploymentEntry>,
    /// Who may call what.
    pub agreements: Vec<AgreementEntry>,
    /// How callers are recognised.
    pub credentials: Vec<CredentialEntry>,
}

/// A deployment as the gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentEntry {
    /// Identifier.
    pub id: DeploymentId,
    /// The API.
    pub api: ApiId,
    /// The API's name, for metrics.
    pub api_name: String,
    /// The version.
    pub version: VersionId,
    /// The version's number, for metrics.
    pub version_number: String,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// The tenant's slug, for metrics.
    pub tenant_slug: String,
    /// Who may know that it exists.
    pub audience: Audience,
    /// Whether it may still be called.
    pub lifecycle: ApiLifecycle,
    /// Under which addresses it is called.
    pub route: Route,
    /// Where calls go.
    pub upstream: Upstream,
    /// Limits that hold for all its callers.
    pub limits: Vec<Limit>,
    /// The largest request body, in bytes.
    pub max_body_bytes: u64,
    /// How calls are carried between clients and targets.
    #[serde(default)]
    pub delivery: Delivery,
    /// The operations of its specification; [`crate::UsageRecord::operation`] is an index into it.
    pub operations: Vec<OperationEntry>,
    /// What requests are compared with; absent when they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationEntry>,
}

/// What the requests of a deployment are compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValidationEntry {
    /// Whether requests that do not fit are refused; otherwise they pass, and are counted and told so.
    pub enforced: bool,
    /// The request rules compiled out of the version's specification, as JSON. Deployments of one version share them.
    pub rules: Arc<str>,
}

/// Who may know that a deployment exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Audience {
    /// Everybody.
    Everyone,
    /// Applications of these tenants; to others it reads as absent.
    Tenants(Vec<TenantId>),
}

/// Whether a version may still be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApiLifecycle {
    /// Without reserve.
    Active,
    /// Yes, but it is on its way out.
    Deprecated {
        /// Since when (RFC 9745).
        since: Timestamp,
        /// Until when (RFC 8594).
        sunset: Option<Timestamp>,
        /// Where the version that replaces it is described or called.
        successor: Option<String>,
    },
    /// No (410).
    Retired {
        /// Where the version that replaced it is described or called.
        successor: Option<String>,
    },
}

/// One operation of a specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationEntry {
    /// Upper-case method.
    pub method: String,
    /// Path template as in the specification, such as `/slots/{id}`.
    pub template: String,
    /// Media types that a request body may have; empty when the operation declares no body.
    pub request_media_types: Vec<String>,
    /// Media types that answers may have; empty when none are declared.
    pub response_media_types: Vec<String>,
}

/// An active subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreementEntry {
    /// Identifier.
    pub id: SubscriptionId,
    /// Who may call.
    pub application: ApplicationId,
    /// What may be called.
    pub version: VersionId,
    /// When the right ends.
    pub expires_at: Option<Timestamp>,
    /// Limits of the plan.
    pub limits: Vec<Limit>,
    /// Calls in a period.
    pub quota: Option<Quota>,
    /// Calls already counted in the period that contains [`Snapshot::compiled_at`].
    pub quota_used: u64,
}

/// A credential that is accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialEntry {
    /// Identifier.
    pub id: CredentialId,
    /// Keyed hash of the secret.
    pub digest: CredentialDigest,
    /// The application it identifies.
    pub application: ApplicationId,
    /// The tenant of the application.
    pub tenant: TenantId,
    /// When it stops being accepted.
    pub expires_at: Option<Timestamp>,
}
