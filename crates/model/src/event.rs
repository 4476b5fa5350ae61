//! Events: what changed, in the order in which it was committed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::TenantId;

/// One change that others may want to know about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Position in the sequence of all events; increases by commit.
    pub number: u64,
    /// The tenant that it belongs to.
    pub tenant: TenantId,
    /// What happened.
    pub kind: EventKind,
    /// What it happened to: the identifier of an entity.
    pub subject: String,
    /// When it happened.
    pub at: Timestamp,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// An API, or one of its versions, was added, changed or removed.
    ApiChanged,
    /// A deployment was added, changed or removed.
    DeploymentChanged,
    /// A plan was added, changed or removed.
    PlanChanged,
    /// A subscription moved.
    SubscriptionChanged,
    /// An application or one of its credentials was added, changed or removed.
    ApplicationChanged,
    /// A tenant was added, changed or removed.
    TenantChanged,
    /// A person's account was added, changed or removed.
    UserChanged,
    /// A heading of the catalogue was added, changed or removed.
    CategoryChanged,
    /// A setting of the installation changed.
    SettingChanged,
    /// A review of an API was written, changed or removed.
    ReviewChanged,
    /// A version waits for a reviewer.
    VersionSubmitted,
    /// A reviewer approved a version.
    VersionPublished,
    /// A reviewer rejected a version.
    VersionRejected,
    /// The end of a version was announced.
    VersionDeprecated,
    /// A version has ended.
    VersionRetired,
    /// A subscription waits for the owner's tenant.
    SubscriptionRequested,
    /// The owner's tenant agreed to a subscription, or lifted its suspension.
    SubscriptionApproved,
    /// The owner's tenant refused a subscription.
    SubscriptionRejected,
    /// The owner's tenant stopped a subscription for now.
    SubscriptionSuspended,
    /// Either side ended a subscription.
    SubscriptionCancelled,
    /// A subscription came to its end.
    SubscriptionExpired,
    /// A key expires soon.
    KeyExpiring,
    /// An API fails well above what is usual for it.
    ApiFailing,
    /// A person was invited.
    UserInvited,
    /// An account was locked after wrong passwords.
    UserLocked,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 25] = [
        Self::ApiChanged,
        Self::DeploymentChanged,
        Self::PlanChanged,
        Self::SubscriptionChanged,
        Self::ApplicationChanged,
        Self::TenantChanged,
        Self::UserChanged,
        Self::CategoryChanged,
        Self::SettingChanged,
        Self::ReviewChanged,
        Self::VersionSubmitted,
        Self::VersionPublished,
        Self::VersionRejected,
        Self::VersionDeprecated,
        Self::VersionRetired,
        Self::SubscriptionRequested,
        Self::SubscriptionApproved,
        Self::SubscriptionRejected,
        Self::SubscriptionSuspended,
        Self::SubscriptionCancelled,
        Self::SubscriptionExpired,
        Self::KeyExpiring,
        Self::ApiFailing,
        Self::UserInvited,
        Self::UserLocked,
    ];

    /// The type as in CloudEvents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiChanged => "api.changed.v1",
            Self::DeploymentChanged => "deployment.changed.v1",
            Self::PlanChanged => "plan.changed.v1",
            Self::SubscriptionChanged => "subscription.changed.v1",
            Self::ApplicationChanged => "application.changed.v1",
            Self::TenantChanged => "tenant.changed.v1",
            Self::UserChanged => "user.changed.v1",
            Self::CategoryChanged => "category.changed.v1",
            Self::SettingChanged => "setting.changed.v1",
            Self::ReviewChanged => "api.review.changed.v1",
            Self::VersionSubmitted => "api.version.submitted.v1",
            Self::VersionPublished => "api.version.published.v1",
            Self::VersionRejected => "api.version.rejected.v1",
            Self::VersionDeprecated => "api.version.deprecated.v1",
            Self::VersionRetired => "api.version.retired.v1",
            Self::SubscriptionRequested => "subscription.requested.v1",
            Self::SubscriptionApproved => "subscription.approved.v1",
            Self::SubscriptionRejected => "subscription.rejected.v1",
            Self::SubscriptionSuspended => "subscription.suspended.v1",
            Self::SubscriptionCancelled => "subscription.cancelled.v1",
            Self::SubscriptionExpired => "subscription.expired.v1",
            Self::KeyExpiring => "key.expiring.v1",
            Self::ApiFailing => "api.failing.v1",
            Self::UserInvited => "user.invited.v1",
            Self::UserLocked => "user.locked.v1",
        }
    }

    /// Reads the type.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Whether it may change the structure that gateways decide by. Who may call is the roster's affair.
    pub const fn changes_structure(self) -> bool {
        matches!(
            self,
            Self::ApiChanged | Self::DeploymentChanged | Self::PlanChanged | Self::TenantChanged
        )
    }
}

impl Serialize for EventKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for EventKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("unknown event type"))
    }
}
