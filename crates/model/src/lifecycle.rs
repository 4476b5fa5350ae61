//! The life of an API version: `draft → pending_approval → active → deprecated → retired`, or `rejected`.

use serde::{Deserialize, Serialize};

/// Where a version stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VersionStatus {
    /// Being written; only its owner sees it.
    Draft,
    /// Waiting for a reviewer.
    PendingApproval,
    /// Offered in the catalogue.
    Active,
    /// Still callable, but on its way out.
    Deprecated,
    /// No longer callable.
    Retired,
    /// Refused by a reviewer; a corrected specification may be submitted again.
    Rejected,
}

/// A step in the life of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// Hand in for review.
    Submit,
    /// A reviewer accepts it.
    Approve,
    /// A reviewer refuses it.
    Reject,
    /// Announce its end.
    Deprecate,
    /// End it.
    Retire,
}

/// Why a step is not possible now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a version that is {from} cannot be {verb}", from = .from.as_str(), verb = .transition.participle())]
pub struct TransitionError {
    from: VersionStatus,
    transition: Transition,
}

impl VersionStatus {
    /// Every status.
    pub const ALL: [Self; 6] = [
        Self::Draft,
        Self::PendingApproval,
        Self::Active,
        Self::Deprecated,
        Self::Retired,
        Self::Rejected,
    ];

    /// The status after `transition`; fails when the step is not possible from here.
    pub const fn after(self, transition: Transition) -> Result<Self, TransitionError> {
        match (self, transition) {
            (Self::Draft | Self::Rejected, Transition::Submit) => Ok(Self::PendingApproval),
            (Self::PendingApproval, Transition::Approve) => Ok(Self::Active),
            (Self::PendingApproval, Transition::Reject) => Ok(Self::Rejected),
            (Self::Active, Transition::Deprecate) => Ok(Self::Deprecated),
            (Self::Active | Self::Deprecated, Transition::Retire) => Ok(Self::Retired),
            (from, transition) => Err(TransitionError { from, transition }),
        }
    }

    /// Whether tenants other than the owner may see a version in this state.
    pub const fn is_published(self) -> bool {
        matches!(self, Self::Active | Self::Deprecated | Self::Retired)
    }

    /// Whether new subscriptions and deployments may be made.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Active)
    }

    /// The name in the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::PendingApproval => "pending_approval",
            Self::Active => "active",
            Self::Deprecated => "deprecated",
            Self::Retired => "retired",
            Self::Rejected => "rejected",
        }
    }

    /// Reads the name in the contract.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

impl Transition {
    const fn participle(self) -> &'static str {
        match self {
            Self::Submit => "submitted",
            Self::Approve => "approved",
            Self::Reject => "rejected",
            Self::Deprecate => "deprecated",
            Self::Retire => "retired",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_lives_in_one_direction() {
        let transitions = [
            Transition::Submit,
            Transition::Approve,
            Transition::Reject,
            Transition::Deprecate,
            Transition::Retire,
        ];
        let allowed: Vec<_> = VersionStatus::ALL
            .into_iter()
            .flat_map(|from| transitions.map(|transition| (from, transition)))
            .filter_map(|(from, transition)| {
                Some((from.as_str(), from.after(transition).ok()?.as_str()))
            })
            .collect();
        assert_eq!(
            allowed,
            [
                ("draft", "pending_approval"),
                ("pending_approval", "active"),
                ("pending_approval", "rejected"),
                ("active", "deprecated"),
                ("active", "retired"),
                ("deprecated", "retired"),
                ("rejected", "pending_approval"),
            ]
        );
    }

    #[test]
    fn an_impossible_step_says_which() {
        let error = VersionStatus::Retired.after(Transition::Approve).unwrap_err();
        assert_eq!(error.to_string(), "a version that is retired cannot be approved");
    }
}
