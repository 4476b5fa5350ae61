//! The audit trail: who did, or tried to do, what.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{AuditId, TenantId};

/// One entry of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Identifier.
    pub id: AuditId,
    /// The tenant in whose trail it stands.
    pub tenant: TenantId,
    /// When it happened.
    pub at: Timestamp,
    /// Who acted: a user or application id, or `system`.
    pub actor: String,
    /// The tenant of whoever acted.
    pub actor_tenant: Option<TenantId>,
    /// What was done, such as `api.register`.
    pub action: String,
    /// What it was done to: the identifier of an entity.
    pub target: String,
    /// How it ended.
    pub outcome: AuditOutcome,
    /// The request that asked for it.
    pub request_id: String,
    /// What changed, as names and values without secrets.
    pub details: serde_json::Value,
}

/// How an audited act ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditOutcome {
    /// It was done.
    Success,
    /// It was refused.
    Denied,
}

impl AuditOutcome {
    /// The name in the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Denied => "denied",
        }
    }

    /// Reads the name in the contract.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Success, Self::Denied].into_iter().find(|outcome| outcome.as_str() == text)
    }
}
