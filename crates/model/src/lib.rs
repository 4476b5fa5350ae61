//! The domain of Caduceus: what tenants, APIs, versions, plans, agreements and deployments are, and the rules
//! about them as pure functions.
//!
//! No I/O lives here. Time, randomness and identifiers come in from outside, so that each rule can be tested
//! without waiting. Values are parsed at the edge; a value of one of these types is already well-formed.

mod access;
mod address;
mod api;
mod application;
mod audit;
mod clock;
mod credential;
mod delivery;
mod deployment;
mod event;
mod feed;
mod id;
mod lifecycle;
mod limit;
mod notice;
mod plan;
mod resilience;
mod review;
mod role;
mod roster;
mod sketch;
mod structure;
mod subscription;
mod tenant;
mod text;
mod usage;
mod user;

pub use access::AccessField;
pub use address::{AddressPolicy, Network, NetworkParseError};
pub use api::{
    Api, ApiVersion, Classification, Decision, Owner, PersonalData, Sensitivity,
    SpecificationFormat, Visibility,
};
pub use application::Application;
pub use audit::{AuditEntry, AuditOutcome};
pub use clock::Clock;
pub use credential::{
    ApiKey, ApiKeyError, Credential, CredentialDigest, CredentialKind, CredentialStatus,
};
pub use delivery::{Cors, Delivery, InvalidCors, Protocols};
pub use deployment::{
    Balance, CheckKind, Deployment, HashOn, HealthCheck, InvalidDeployment, Protocol, Route,
    Target, UnknownValidation, Upstream, UpstreamTls, UpstreamUrl, UpstreamUrlError, Validation,
};
pub use event::{Event, EventKind};
pub use feed::{FeedError, QuotaUse, RosterPage, Standing, Update};
pub use id::{
    ApiId, ApiReviewId, ApplicationId, AuditId, CategoryId, CredentialId, DeploymentId,
    FailedCallId, IdParseError, Ids, LetterId, NodeId, NoticeId, PlanId, SessionId, SubscriptionId,
    TargetId, TenantId, UserId, VersionId,
};
pub use lifecycle::{Transition, TransitionError, VersionStatus};
pub use limit::{Limit, LimitAmount, LimitScope};
pub use notice::{Letter, Mailing, News, Notice, NoticeKind, NoticeSettings, Release, Traffic};
pub use plan::{Approval, Plan, Quota, QuotaPeriod};
pub use resilience::{Breaker, Ejection, InvalidSeconds, Resilience, RetryBudget, Seconds};
pub use review::{ApiReview, InvalidStars, Rating, Stars};
pub use role::{Role, Roles};
pub use roster::{AgreementEntry, CredentialEntry, RosterDigest, RosterEntry};
pub use sketch::LatencySketch;
pub use structure::{
    ApiLifecycle, Audience, DeploymentEntry, OperationEntry, PlanEntry, Structure, ValidationEntry,
};
pub use subscription::{FirstApproval, Signature, Subscription, SubscriptionStatus};
pub use tenant::{Category, Tenant};
pub use text::{Email, InvalidText, Name, Slug};
pub use usage::{FailedCall, Fault, UsageBytes, UsageRecord};
pub use user::{User, UserStatus};
