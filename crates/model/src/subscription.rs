//! Subscriptions: an application's right to call a version under a plan.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    ApiId, ApplicationId, Name, PlanId, Slug, SubscriptionId, TenantId, UserId, VersionId,
};

/// An application's right to call a version under a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Identifier.
    pub id: SubscriptionId,
    /// The application that calls.
    pub application: ApplicationId,
    /// The tenant of the application.
    pub consumer: TenantId,
    /// The API.
    pub api: ApiId,
    /// The tenant that owns the API, where subscriptions are approved.
    pub owner: TenantId,
    /// The version that may be called.
    pub version: VersionId,
    /// The plan it runs under.
    pub plan: PlanId,
    /// Where it stands.
    pub status: SubscriptionStatus,
    /// Why the data is used, such as `TREAT` (HL7 v3 PurposeOfUse).
    pub purpose_of_use: Option<Name>,
    /// Kinds of data that it is about, of those that the API names.
    pub data_categories: Vec<Slug>,
    /// SHA-256 of the signed agreement, in lower-case hex.
    pub agreement_sha256: Option<String>,
    /// When the right ends.
    pub expires_at: Option<Timestamp>,
    /// Who asked for it.
    pub requested_by: UserId,
    /// The first of two people at the owner's tenant who have to approve.
    pub first_approval: Option<FirstApproval>,
    /// Who decided at the owner's tenant.
    pub decided_by: Option<UserId>,
    /// Signatures of those who approved, oldest first; they are kept whatever becomes of it.
    pub signatures: Vec<Signature>,
    /// What was said with the latest decision.
    pub comments: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Counts changes.
    pub revision: i64,
}

/// The first of two approvals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FirstApproval {
    /// Who approved.
    pub by: UserId,
    /// When.
    pub at: Timestamp,
}

/// An electronic signature: who signed what when, and what was meant by it (21 CFR 11.50).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Who signed.
    pub by: UserId,
    /// The name of that person at the time.
    pub name: Name,
    /// When.
    pub at: Timestamp,
    /// What is meant by it, such as "approved by the data protection officer".
    pub meaning: Name,
    /// SHA-256 over what was signed: parties, version, plan, purpose, document and end, in lower-case hex.
    pub sha256: String,
}

/// Where a subscription stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionStatus {
    /// Waiting for the owner's tenant.
    Pending,
    /// Calls are let through.
    Active,
    /// Refused by the owner.
    Rejected,
    /// Stopped for now by the owner; may be approved again.
    Suspended,
    /// Past its end.
    Expired,
    /// Given up by the consumer or ended for good.
    Cancelled,
}

impl SubscriptionStatus {
    /// Every status.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Active,
        Self::Rejected,
        Self::Suspended,
        Self::Expired,
        Self::Cancelled,
    ];

    /// Whether the subscription may move from this status to `next`.
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Pending | Self::Suspended, Self::Active)
                | (Self::Pending, Self::Rejected)
                | (Self::Active, Self::Suspended | Self::Expired)
                | (Self::Pending | Self::Suspended, Self::Expired)
                | (Self::Pending | Self::Active | Self::Suspended, Self::Cancelled)
        )
    }

    /// Whether it still stands in the way of another subscription to the same version.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Pending | Self::Active | Self::Suspended)
    }

    /// The name in the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Rejected => "rejected",
            Self::Suspended => "suspended",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the name in the contract.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ended_subscription_never_comes_back() {
        use SubscriptionStatus as Status;
        for ended in [Status::Rejected, Status::Expired, Status::Cancelled] {
            assert!(!ended.is_live());
            assert!(Status::ALL.into_iter().all(|next| !ended.may_become(next)));
        }
        assert!(Status::Suspended.may_become(Status::Active));
    }
}
