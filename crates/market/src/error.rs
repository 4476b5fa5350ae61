//! Why an operation was refused.

use std::time::Duration;

use authz::Forbidden;
use store::StoreError;

/// Why an operation was refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum MarketError {
    /// The permission table says no.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// It does not exist, or the caller may not see it; the two are not told apart.
    #[error("there is no such {0}")]
    NotFound(Kind),
    /// It cannot be done in the present state of things.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// What was asked for is not well-formed.
    #[error("the request has invalid fields")]
    Invalid(Vec<Violation>),
    /// The specification has errors.
    #[error("the specification has errors")]
    Specification(Box<spec::Report>),
    /// The specification could not be fetched from its address.
    #[error("the specification could not be fetched: {0}")]
    Fetch(String),
    /// The caller has an older revision than the one that is stored.
    #[error("it was changed by somebody else since it was read")]
    Stale,
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// Name, password, secret or token are wrong.
    #[error("the credentials are wrong, expired or disabled")]
    Unauthenticated,
    /// The password is right, and a code is asked for as well.
    #[error(
        "the account has a second factor: give a code of the authenticator app, or a recovery code"
    )]
    SecondFactorRequired,
    /// Too many wrong credentials.
    #[error("too many failed attempts; try again in {} seconds", .0.as_secs().max(1))]
    TooManyAttempts(Duration),
    /// The database failed.
    #[error("the database could not do it")]
    Store(#[source] StoreError),
    /// Something failed that the caller can do nothing about.
    #[error("{0}")]
    Internal(&'static str, #[source] Option<Box<dyn std::error::Error + Send + Sync>>),
}

/// A kind of thing, for saying that there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A tenant.
    Tenant,
    /// A person's account.
    User,
    /// A session.
    Session,
    /// An API.
    Api,
    /// A version of an API.
    Version,
    /// A plan.
    Plan,
    /// An application.
    Application,
    /// A credential.
    Credential,
    /// A subscription.
    Subscription,
    /// A deployment.
    Deployment,
    /// A heading of the catalogue.
    Category,
    /// A gateway on another machine.
    Node,
    /// A notice in somebody's inbox.
    Notice,
    /// What somebody says about an API.
    Review,
}

impl Kind {
    /// The name in error codes.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::User => "user",
            Self::Session => "session",
            Self::Api => "api",
            Self::Version => "version",
            Self::Plan => "plan",
            Self::Application => "application",
            Self::Credential => "credential",
            Self::Subscription => "subscription",
            Self::Deployment => "deployment",
            Self::Category => "category",
            Self::Node => "node",
            Self::Notice => "notice",
            Self::Review => "review",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.as_str())
    }
}

/// Why something cannot be done in the present state of things.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// Another one has that name, address or number.
    #[error("another {0} has this {1}")]
    Taken(Kind, &'static str),
    /// The version is in the wrong state.
    #[error(transparent)]
    Lifecycle(#[from] model::TransitionError),
    /// The reviewer submitted the version.
    #[error("a version cannot be reviewed by the person who submitted it")]
    OwnSubmission,
    /// Two people have to approve, and this is the same one.
    #[error("you have approved this already; another person has to approve it as well")]
    OwnApproval,
    /// The API has no version for which this is possible, or several.
    #[error("name the version: {0}")]
    WhichVersion(&'static str),
    /// Something still depends on it.
    #[error("the {0} is still in use: {1}")]
    InUse(Kind, &'static str),
    /// The version takes no new subscriptions or deployments.
    #[error("version {0} is not active")]
    VersionNotActive(semver::Version),
    /// Nobody of the caller's organisation calls the API.
    #[error("only organisations that call the API say something about it, and its owner does not")]
    NotSubscribed,
    /// The plan takes no new subscribers, or belongs to another API.
    #[error("the plan takes no new subscribers")]
    PlanClosed,
    /// The subscription is in the wrong state.
    #[error("a subscription that is {0} cannot become {1}")]
    SubscriptionState(&'static str, &'static str),
    /// The credential is not active.
    #[error("the credential is revoked or expired")]
    CredentialNotActive,
    /// A bound of the installation is reached.
    #[error("the most that there may be is {0}")]
    TooMany(i64),
    /// The installation is set up already.
    #[error("the installation is set up already")]
    AlreadySetUp,
    /// There is no second factor that waits for its first code.
    #[error("no second factor was begun")]
    NoSecondFactorBegun,
    /// There is no second factor.
    #[error("the account has no second factor")]
    NoSecondFactor,
    /// Nobody would be left who could administer the installation.
    #[error("the last platform administrator cannot be removed, disabled or demoted")]
    LastAdministrator,
}

impl Conflict {
    /// The stable error code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Taken(..) => "already_exists",
            Self::Lifecycle(_) => "invalid_transition",
            Self::OwnSubmission => "own_submission",
            Self::OwnApproval => "own_approval",
            Self::WhichVersion(_) => "version_required",
            Self::InUse(..) => "in_use",
            Self::VersionNotActive(_) => "version_not_active",
            Self::PlanClosed => "plan_closed",
            Self::NotSubscribed => "not_subscribed",
            Self::SubscriptionState(..) => "invalid_transition",
            Self::CredentialNotActive => "credential_not_active",
            Self::TooMany(_) => "too_many",
            Self::AlreadySetUp => "already_set_up",
            Self::NoSecondFactorBegun => "no_second_factor_begun",
            Self::NoSecondFactor => "no_second_factor",
            Self::LastAdministrator => "last_administrator",
        }
    }
}

/// One field that is not well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, such as `upstream.targets[0].url`.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

impl Violation {
    /// A violation of one field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl From<StoreError> for MarketError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Stale { .. } => Self::Stale,
            error => Self::Store(error),
        }
    }
}

impl MarketError {
    pub(crate) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid(vec![Violation::new(field, message)])
    }

    pub(crate) fn internal(
        what: &'static str,
    ) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Self {
        move |source| Self::Internal(what, Some(source))
    }

    /// Reads a duplicate as `conflict`, and leaves other errors as they are.
    pub(crate) fn duplicate_as(conflict: Conflict) -> impl FnOnce(StoreError) -> Self {
        move |error| match error {
            StoreError::Duplicate { .. } => Self::Conflict(conflict),
            error => error.into(),
        }
    }

    /// Reads a broken reference as `conflict`, and leaves other errors as they are.
    pub(crate) fn referenced_as(conflict: Conflict) -> impl FnOnce(StoreError) -> Self {
        move |error| match error {
            StoreError::Referenced { .. } => Self::Conflict(conflict),
            error => error.into(),
        }
    }
}
