//! The structure: everything the gateway needs to decide about a call except who may make it, which is the roster.
//!
//! It is complete in itself and changes as a whole. It holds no secret.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    ApiId, Delivery, DeploymentId, Limit, PlanId, Quota, Route, TenantId, Upstream, VersionId,
};

/// Where versions run and under which limits they are called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Structure {
    /// Number of the last event that changed it.
    pub number: u64,
    /// When it was compiled.
    pub compiled_at: Timestamp,
    /// Where versions run. Entries that did not change are shared with the structure before.
    #[serde(with = "shared")]
    pub deployments: Vec<Arc<DeploymentEntry>>,
    /// Under which limits and quotas agreements stand.
    pub plans: Vec<PlanEntry>,
    /// Tenants whose applications may not call for now.
    pub inactive_tenants: Vec<TenantId>,
}

/// A plan as the gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanEntry {
    /// Identifier.
    pub id: PlanId,
    /// Limits of each agreement.
    pub limits: Vec<Limit>,
    /// Calls in a period.
    pub quota: Option<Quota>,
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

/// Shared entries, written as plain ones.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::DeploymentEntry;

    pub(super) fn serialize<S: Serializer>(
        entries: &[Arc<DeploymentEntry>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(entries.iter().map(Arc::as_ref))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Arc<DeploymentEntry>>, D::Error> {
        let entries = Vec::<DeploymentEntry>::deserialize(deserializer)?;
        Ok(entries.into_iter().map(Arc::new).collect())
    }
}
