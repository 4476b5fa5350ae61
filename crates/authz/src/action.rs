//! The permission table.

use model::{Role, Roles};

/// Who may perform an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody, without signing in.
    Public,
    /// Everybody who is signed in.
    SignedIn,
    /// Whoever has one of these roles.
    AnyOf(Roles),
}

const fn any_of(roles: &[Role]) -> Access {
    Access::AnyOf(Roles::of(roles))
}

macro_rules! actions {
    ($($(#[$doc:meta])* $action:ident = $name:literal, $access:expr;)*) => {
        /// Something that can be done through the control API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Action {
            $($(#[$doc])* $action,)*
        }

        impl Action {
            /// Every action.
            pub const ALL: &'static [Self] = &[$(Self::$action,)*];

            /// The name in the audit trail, and the operation id in the OpenAPI document.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$action => $name,)*
                }
            }

            /// Who may perform it.
            pub const fn access(self) -> Access {
                match self {
                    $(Self::$action => $access,)*
                }
            }
        }
    };
}

const PLATFORM: Access = any_of(&[Role::PlatformAdmin]);
const ADMINS: Access = any_of(&[Role::PlatformAdmin, Role::TenantAdmin]);
const PROVIDERS: Access = any_of(&[Role::PlatformAdmin, Role::TenantAdmin, Role::Provider]);
const REVIEWERS: Access = any_of(&[Role::PlatformAdmin, Role::Reviewer]);
const OWNERS: Access =
    any_of(&[Role::PlatformAdmin, Role::TenantAdmin, Role::Provider, Role::Reviewer]);
const CONSUMERS: Access = any_of(&[Role::PlatformAdmin, Role::TenantAdmin, Role::Consumer]);
const PARTIES: Access = any_of(&[
    Role::PlatformAdmin,
    Role::TenantAdmin,
    Role::Provider,
    Role::Reviewer,
    Role::Consumer,
]);
const AUDITORS: Access = any_of(&[Role::PlatformAdmin, Role::TenantAdmin, Role::Auditor]);

actions! {
    /// Exchange credentials for a token.
    IssueToken = "token.issue", Access::Public;
    /// Read the public keys that tokens are signed with.
    ReadJwks = "jwks.read", Access::Public;
    /// Set up an empty installation with the one-time token.
    SetUp = "installation.set_up", Access::Public;
    /// Accept an invitation with the one-time token.
    AcceptInvitation = "invitation.accept", Access::Public;
    /// Read the description of the control API.
    ReadOpenApi = "openapi.read", Access::Public;

    /// Read one's own account.
    ReadMe = "me.read", Access::SignedIn;
    /// Read everything that is stored of oneself.
    ReadOwnData = "me.export", Access::SignedIn;
    /// Change one's own password.
    ChangePassword = "me.change_password", Access::SignedIn;
    /// See whether one's own account has a second factor.
    ReadSecondFactor = "second_factor.read", Access::SignedIn;
    /// Begin a second factor of one's own account.
    BeginSecondFactor = "second_factor.begin", Access::SignedIn;
    /// Confirm it with its first code.
    ConfirmSecondFactor = "second_factor.confirm", Access::SignedIn;
    /// Make new recovery codes.
    RenewRecoveryCodes = "second_factor.renew_recovery_codes", Access::SignedIn;
    /// Remove the second factor of one's own account.
    RemoveSecondFactor = "second_factor.remove", Access::SignedIn;
    /// List one's own sessions, or those of the tenant.
    ListSessions = "session.list", Access::SignedIn;
    /// End one's own session, or one of the tenant's.
    EndSession = "session.end", Access::SignedIn;

    /// Read one's own notices.
    ListNotices = "notice.list", Access::SignedIn;
    /// Mark one of one's own notices as read.
    MarkNoticeRead = "notice.mark_read", Access::SignedIn;
    /// Mark all of one's own notices as read.
    MarkAllNoticesRead = "notice.mark_all_read", Access::SignedIn;
    /// Read what one wants to be sent.
    ReadNoticeSettings = "notice_settings.read", Access::SignedIn;
    /// Decide what one wants to be sent.
    ReplaceNoticeSettings = "notice_settings.replace", Access::SignedIn;

    /// List APIs of the catalogue.
    ListApis = "api.list", Access::SignedIn;
    /// Search the catalogue.
    SearchApis = "api.search", Access::SignedIn;
    /// Read one API.
    ReadApi = "api.read", Access::SignedIn;
    /// List the versions of an API.
    ListVersions = "version.list", Access::SignedIn;
    /// Read a specification.
    ReadSpecification = "specification.read", Access::SignedIn;
    /// Read the summary of a specification.
    ReadSpecificationSummary = "specification.summarise", Access::SignedIn;
    /// List the headings of the catalogue.
    ListCategories = "category.list", Access::SignedIn;
    /// List the tags in use.
    ListTags = "tag.list", Access::SignedIn;

    /// Register an API with its first version.
    RegisterApi = "api.register", PROVIDERS;
    /// Replace what is said about an API.
    ReplaceApi = "api.replace", PROVIDERS;
    /// Change what is said about an API.
    ChangeApi = "api.change", PROVIDERS;
    /// Remove an API that nobody uses.
    RemoveApi = "api.remove", PROVIDERS;
    /// Submit a version.
    SubmitVersion = "version.submit", PROVIDERS;
    /// Validate a specification without storing it.
    ValidateSpecification = "specification.validate", Access::SignedIn;

    /// Approve a version.
    ApproveVersion = "version.approve", REVIEWERS;
    /// Reject a version.
    RejectVersion = "version.reject", REVIEWERS;
    /// Deprecate a version.
    DeprecateVersion = "version.deprecate", PROVIDERS;
    /// Retire a version.
    RetireVersion = "version.retire", PROVIDERS;
    /// See what waits for a decision.
    ListApprovals = "approval.list", OWNERS;

    /// List deployments.
    ListDeployments = "deployment.list", OWNERS;
    /// Read a deployment.
    ReadDeployment = "deployment.read", OWNERS;
    /// Deploy a version.
    Deploy = "deployment.create", PROVIDERS;
    /// Replace a deployment.
    ReplaceDeployment = "deployment.replace", PROVIDERS;
    /// Change a deployment.
    ChangeDeployment = "deployment.change", PROVIDERS;
    /// Remove a deployment.
    RemoveDeployment = "deployment.remove", PROVIDERS;

    /// List plans.
    ListPlans = "plan.list", Access::SignedIn;
    /// Read a plan.
    ReadPlan = "plan.read", Access::SignedIn;
    /// Offer a plan.
    CreatePlan = "plan.create", PROVIDERS;
    /// Replace a plan.
    ReplacePlan = "plan.replace", PROVIDERS;
    /// Change a plan.
    ChangePlan = "plan.change", PROVIDERS;
    /// Remove a plan that nobody uses.
    RemovePlan = "plan.remove", PROVIDERS;

    /// List applications.
    ListApplications = "application.list", CONSUMERS;
    /// Read an application.
    ReadApplication = "application.read", CONSUMERS;
    /// Register an application.
    CreateApplication = "application.create", CONSUMERS;
    /// Replace an application.
    ReplaceApplication = "application.replace", CONSUMERS;
    /// Change an application.
    ChangeApplication = "application.change", CONSUMERS;
    /// Remove an application with its credentials and subscriptions.
    RemoveApplication = "application.remove", CONSUMERS;
    /// See the usage of an application.
    ReadApplicationMetrics = "application.read_metrics", CONSUMERS;

    /// List credentials.
    ListCredentials = "credential.list", CONSUMERS;
    /// Create a credential.
    CreateCredential = "credential.create", CONSUMERS;
    /// Rotate a credential.
    RotateCredential = "credential.rotate", CONSUMERS;
    /// Revoke a credential.
    RevokeCredential = "credential.revoke", CONSUMERS;

    /// List subscriptions on either side.
    ListSubscriptions = "subscription.list", PARTIES;
    /// Read a subscription on either side.
    ReadSubscription = "subscription.read", PARTIES;
    /// Ask for a subscription.
    RequestSubscription = "subscription.request", CONSUMERS;
    /// Approve a subscription at the owner's tenant.
    ApproveSubscription = "subscription.approve", OWNERS;
    /// Reject a subscription at the owner's tenant.
    RejectSubscription = "subscription.reject", OWNERS;
    /// Suspend a subscription at the owner's tenant.
    SuspendSubscription = "subscription.suspend", OWNERS;
    /// Give up a subscription on either side.
    CancelSubscription = "subscription.cancel", PARTIES;

    /// Read what subscribers say about an API.
    ListReviews = "review.list", Access::SignedIn;
    /// Say something about an API that the own organisation calls.
    CreateReview = "review.create", CONSUMERS;
    /// Change what one has said about an API.
    ReplaceReview = "review.replace", CONSUMERS;
    /// Take back what one has said about an API.
    RemoveReview = "review.remove", CONSUMERS;

    /// See the usage of an API: all of it as its owner, one's own tenant's as a consumer.
    ReadApiMetrics = "api.read_metrics", Access::SignedIn;
    /// See what share of calls an API answers and how long that takes.
    ReadApiAvailability = "api.read_availability", Access::SignedIn;
    /// See calls of an API that failed lately: all of them as its owner, one's own tenant's as a consumer.
    ListApiFailures = "api.list_failures", Access::SignedIn;
    /// See calls by an application that failed lately.
    ListApplicationFailures = "application.list_failures", CONSUMERS;
    /// See who calls the tenant's APIs most.
    ReadConsumers = "consumer.read_metrics", OWNERS;

    /// List tenants.
    ListTenants = "tenant.list", Access::SignedIn;
    /// Read a tenant.
    ReadTenant = "tenant.read", Access::SignedIn;
    /// Add a tenant.
    CreateTenant = "tenant.create", PLATFORM;
    /// Replace a tenant.
    ReplaceTenant = "tenant.replace", PLATFORM;
    /// Change a tenant.
    ChangeTenant = "tenant.change", PLATFORM;
    /// Remove an empty tenant.
    RemoveTenant = "tenant.remove", PLATFORM;

    /// List people.
    ListUsers = "user.list", ADMINS;
    /// Read a person's account.
    ReadUser = "user.read", ADMINS;
    /// Read everything that is stored of a person.
    ExportUser = "user.export", ADMINS;
    /// Invite a person.
    InviteUser = "user.invite", ADMINS;
    /// Invite a person anew, whose password or invitation is lost.
    ReinviteUser = "user.reinvite", ADMINS;
    /// Replace a person's account.
    ReplaceUser = "user.replace", ADMINS;
    /// Change a person's account.
    ChangeUser = "user.change", ADMINS;
    /// Remove a person's account.
    RemoveUser = "user.remove", ADMINS;

    /// Add a heading of the catalogue.
    CreateCategory = "category.create", PLATFORM;
    /// Replace a heading of the catalogue.
    ReplaceCategory = "category.replace", PLATFORM;
    /// Change a heading of the catalogue.
    ChangeCategory = "category.change", PLATFORM;
    /// Remove a heading of the catalogue that no API uses.
    RemoveCategory = "category.remove", PLATFORM;

    /// Read the settings of the installation.
    ReadSettings = "setting.read", PLATFORM;
    /// Replace the settings of the installation.
    ReplaceSettings = "setting.replace", PLATFORM;
    /// Change the settings of the installation.
    ChangeSettings = "setting.change", PLATFORM;
    /// Rotate the key that tokens are signed with.
    RotateSigningKey = "signing_key.rotate", PLATFORM;

    /// Make a one-time token for enrolling a gateway on another machine.
    CreateNodeToken = "node.create_token", PLATFORM;
    /// List the gateways on other machines.
    ListNodes = "node.list", PLATFORM;
    /// Cut a gateway on another machine off.
    RevokeNode = "node.revoke", PLATFORM;

    /// Read the register of agreements.
    ListAgreements = "agreement.list", AUDITORS;
    /// Read the audit trail.
    ListAuditEvents = "audit.list", AUDITORS;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The role × action matrix, checked in, so that a change of permissions is seen in review.
    #[test]
    fn the_matrix_is_the_checked_in_one() {
        let mut matrix = String::from("action");
        for role in Role::ALL {
            matrix.push('\t');
            matrix.push_str(role.as_str());
        }
        matrix.push_str("\tnobody\n");
        for action in Action::ALL {
            matrix.push_str(action.as_str());
            for role in Role::ALL {
                let may = match action.access() {
                    Access::Public | Access::SignedIn => true,
                    Access::AnyOf(roles) => roles.contains(role),
                };
                matrix.push_str(if may { "\tyes" } else { "\t-" });
            }
            let public = action.access() == Access::Public;
            matrix.push_str(if public { "\tyes\n" } else { "\t-\n" });
        }
        let expected = include_str!("../permissions.tsv");
        assert!(
            matrix == expected,
            "crates/authz/permissions.tsv is out of date; it should read:\n{matrix}"
        );
    }

    #[test]
    fn action_names_are_unique() {
        let mut names: Vec<_> = Action::ALL.iter().map(|action| action.as_str()).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
