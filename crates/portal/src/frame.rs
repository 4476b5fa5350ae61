//! What surrounds every page: navigation, who is signed in, and what has just been done.

use authz::Action;
use market::Page;
use model::{Role, User};

use crate::{failure::Failure, visit::Visit};

/// The part of the portal that a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Home,
    Inbox,
    Catalogue,
    Applications,
    Approvals,
    Publish,
    Traffic,
    Audit,
    Administration,
    Guides,
    Account,
}

/// What has just been done. The cookie that carries it holds its code, never a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flash {
    SignedOut,
    ApplicationCreated,
    ApplicationSaved,
    ApplicationRemoved,
    KeyRevoked,
    AccessRequested,
    AccessGranted,
    ApprovedByOne,
    AccessRejected,
    AgreementEnded,
    VersionApproved,
    VersionRejected,
    PasswordChanged,
    SecondFactorRemoved,
    SessionEnded,
    ApiRegistered,
    VersionSubmitted,
    VersionDeprecated,
    VersionRetired,
    PlanCreated,
    Deployed,
    Undeployed,
    Saved,
    Removed,
}

/// A line of the navigation.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) label: &'static str,
    pub(crate) path: &'static str,
    pub(crate) is_current: bool,
    pub(crate) count: u64,
}

/// What surrounds a page.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) title: String,
    pub(crate) style: String,
    pub(crate) script: String,
    pub(crate) icon: String,
    pub(crate) links: Vec<Link>,
    pub(crate) person: User,
    pub(crate) tenant: String,
    pub(crate) csrf: String,
    /// Makes a form that is sent twice count once.
    pub(crate) once: String,
    pub(crate) flash: Option<&'static str>,
    /// What was searched for.
    pub(crate) query: String,
}

impl Frame {
    pub(crate) async fn load(
        visit: &Visit,
        section: Section,
        title: String,
    ) -> Result<Self, Failure> {
        let market = visit.market();
        let (person, tenant) = market.read_me_at_home(&visit.request).await?;
        let inbox = market.list_notices(&visit.request, None, true, 1).await?;
        let mut waiting = 0;
        if visit.may(Action::ListApprovals) {
            let all = market.list_approvals(&visit.request, Page::numbered(1, 1)).await?;
            waiting = all.versions.total + all.subscriptions.total;
        }
        let assets = &visit.portal.assets;
        let link = |wanted: Section, label, path, count| Link {
            label,
            path,
            is_current: wanted == section,
            count,
        };
        let all = [
            Some(link(Section::Home, "Home", "/", 0)),
            Some(link(Section::Inbox, "Inbox", "/inbox", inbox.unread)),
            Some(link(Section::Catalogue, "Catalogue", "/catalogue", 0)),
            visit
                .may(Action::ListApplications)
                .then(|| link(Section::Applications, "My applications", "/applications", 0)),
            visit
                .may(Action::ListApprovals)
                .then(|| link(Section::Approvals, "Approvals", "/approvals", waiting)),
            visit
                .may(Action::RegisterApi)
                .then(|| link(Section::Publish, "APIs we publish", "/publish", 0)),
            visit
                .may(Action::ReadConsumers)
                .then(|| link(Section::Traffic, "Traffic", "/traffic", 0)),
            visit.may(Action::ListAuditEvents).then(|| link(Section::Audit, "Audit", "/audit", 0)),
            visit
                .may(Action::ListUsers)
                .then(|| link(Section::Administration, "Administration", "/admin/people", 0)),
            Some(link(Section::Guides, "Guides", "/guides", 0)),
        ];
        let random: [u8; 16] = market::random();
        Ok(Self {
            title,
            style: assets.style.path.clone(),
            script: assets.script.path.clone(),
            icon: assets.icon.path.clone(),
            links: all.into_iter().flatten().collect(),
            person,
            tenant: tenant.name.to_string(),
            csrf: visit.csrf.clone(),
            once: random.iter().map(|byte| format!("{byte:02x}")).collect(),
            flash: visit.flash.map(Flash::text),
            query: String::new(),
        })
    }

    pub(crate) fn roles(&self) -> String {
        let names: Vec<_> = self.person.roles.iter().map(role_name).collect();
        names.join(", ")
    }
}

/// A role in plain words.
pub(crate) const fn role_name(role: Role) -> &'static str {
    match role {
        Role::PlatformAdmin => "platform administrator",
        Role::TenantAdmin => "administrator",
        Role::Provider => "provider",
        Role::Reviewer => "reviewer",
        Role::Consumer => "consumer",
        Role::Auditor => "auditor",
    }
}

impl Flash {
    const ALL: [Self; 24] = [
        Self::SignedOut,
        Self::ApplicationCreated,
        Self::ApplicationSaved,
        Self::ApplicationRemoved,
        Self::KeyRevoked,
        Self::AccessRequested,
        Self::AccessGranted,
        Self::ApprovedByOne,
        Self::AccessRejected,
        Self::AgreementEnded,
        Self::VersionApproved,
        Self::VersionRejected,
        Self::PasswordChanged,
        Self::SecondFactorRemoved,
        Self::SessionEnded,
        Self::ApiRegistered,
        Self::VersionSubmitted,
        Self::VersionDeprecated,
        Self::VersionRetired,
        Self::PlanCreated,
        Self::Deployed,
        Self::Undeployed,
        Self::Saved,
        Self::Removed,
    ];

    pub(crate) const fn code(self) -> &'static str {
        match self {
            Self::SignedOut => "signed-out",
            Self::ApplicationCreated => "application-created",
            Self::ApplicationSaved => "application-saved",
            Self::ApplicationRemoved => "application-removed",
            Self::KeyRevoked => "key-revoked",
            Self::AccessRequested => "access-requested",
            Self::ApprovedByOne => "approved-by-one",
            Self::AccessGranted => "access-granted",
            Self::AccessRejected => "access-rejected",
            Self::AgreementEnded => "agreement-ended",
            Self::VersionApproved => "version-approved",
            Self::VersionRejected => "version-rejected",
            Self::PasswordChanged => "password-changed",
            Self::SecondFactorRemoved => "second-factor-removed",
            Self::SessionEnded => "session-ended",
            Self::ApiRegistered => "api-registered",
            Self::VersionSubmitted => "version-submitted",
            Self::VersionDeprecated => "version-deprecated",
            Self::VersionRetired => "version-retired",
            Self::PlanCreated => "plan-created",
            Self::Deployed => "deployed",
            Self::Undeployed => "undeployed",
            Self::Saved => "saved",
            Self::Removed => "removed",
        }
    }

    pub(crate) fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flash| flash.code() == code)
    }

    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::SignedOut => "You are signed out.",
            Self::ApplicationCreated => "The application is registered. Give it a key next.",
            Self::ApplicationSaved => "Saved.",
            Self::ApplicationRemoved => "The application is gone, and its keys no longer work.",
            Self::KeyRevoked => "The key is revoked. Calls with it are refused from now on.",
            Self::AccessRequested => {
                "Your request is with the owner of the API. It shows here when they have decided."
            }
            Self::ApprovedByOne => "Your approval is noted. Another person has to approve as well.",
            Self::AccessGranted => "Access is granted. Calls work from now on.",
            Self::AccessRejected => "The request is rejected, and the requester sees why.",
            Self::AgreementEnded => {
                "The agreement has ended. Calls under it are refused from now on."
            }
            Self::VersionApproved => "The version is approved and can be found in the catalogue.",
            Self::VersionRejected => "The version is rejected, and its provider sees why.",
            Self::PasswordChanged => {
                "Your password is changed. All your other sessions have ended."
            }
            Self::SecondFactorRemoved => "The second factor is off.",
            Self::SessionEnded => "The session has ended.",
            Self::ApiRegistered => {
                "The API is registered. Its version waits for a reviewer; meanwhile offer a plan and say where it runs."
            }
            Self::VersionSubmitted => "The version is submitted and waits for a reviewer.",
            Self::VersionDeprecated => {
                "The version is deprecated. Those who call it are told with each answer."
            }
            Self::VersionRetired => "The version is retired. Calls to it are refused from now on.",
            Self::PlanCreated => "The plan is offered from now on.",
            Self::Deployed => "It can be called from now on.",
            Self::Undeployed => "It cannot be called any more.",
            Self::Saved => "Saved.",
            Self::Removed => "Removed.",
        }
    }
}
