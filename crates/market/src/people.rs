//! People's accounts, as their administrators see them.

use authz::Action;
use jiff::Timestamp;
use model::{Email, EventKind, Name, Role, Roles, TenantId, User, UserId, UserStatus};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{Page, PageOf, Viewer};

use crate::{
    Begun, Conflict, Kind, Market, MarketError, Request, Violation, change::Change, secrets, viewer,
};

/// A person to invite.
#[derive(Debug, Clone)]
pub struct UserDraft {
    /// The tenant; the caller's own unless a platform administrator says otherwise.
    pub tenant: Option<TenantId>,
    /// E-mail address.
    pub email: Email,
    /// Name.
    pub name: Name,
    /// What the person may do.
    pub roles: Roles,
}

/// What may be changed about an account.
#[derive(Debug, Clone)]
pub struct UserChange {
    /// Name.
    pub name: Name,
    /// What the person may do.
    pub roles: Roles,
    /// Whether the account may sign in; an invited account stays invited.
    pub is_active: bool,
}

/// An account with the one-time token of its invitation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InvitedUser {
    /// The account.
    pub user: User,
    /// The token, shown once.
    pub invitation_token: String,
    /// Until when it may be accepted.
    pub invitation_expires_at: Timestamp,
}

impl Market {
    /// Lists accounts of the caller's tenant; of all tenants for platform administrators.
    pub async fn list_users(
        &self,
        request: &Request,
        page: Page,
    ) -> Result<PageOf<User>, MarketError> {
        self.require(request, Action::ListUsers).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        Ok(store::account::list(&mut tx, viewer(&request.caller), page).await?)
    }

    /// Reads an account.
    pub async fn read_user(&self, request: &Request, id: UserId) -> Result<User, MarketError> {
        self.require(request, Action::ReadUser).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        store::account::find(&mut tx, viewer(&request.caller), id)
            .await?
            .ok_or(MarketError::NotFound(Kind::User))
    }

    /// Invites a person.
    pub async fn invite_user(
        &self,
        request: &Request,
        draft: UserDraft,
    ) -> Result<InvitedUser, MarketError> {
        let mut change = match self.begin(request, Action::InviteUser).await? {
            Begun::Fresh(change) => change,
            Begun::Done(invited) => return Ok(invited),
        };
        let tenant = draft.tenant.unwrap_or(request.caller.tenant);
        let is_known = store::tenant::find(change.tx(), tenant).await?.is_some();
        if !request.caller.acts_for(tenant) || !is_known {
            return Err(MarketError::NotFound(Kind::Tenant));
        }
        check_roles(request, draft.roles)?;
        let now = self.clock.now();
        let user = User {
            id: self.ids.next(),
            tenant,
            email: draft.email,
            name: draft.name,
            roles: draft.roles,
            status: UserStatus::Invited,
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        store::account::insert(change.tx(), &user)
            .await
            .map_err(MarketError::duplicate_as(Conflict::Taken(Kind::User, "e-mail address")))?;
        let invited = self.give_invitation(&mut change, user).await?;
        change.finish(invited).await
    }

    /// Invites a person anew, whose password, second factor or invitation is lost: with a new one-time token they choose a
    /// password. What they had is good no longer, and their sessions end.
    pub async fn reinvite_user(
        &self,
        request: &Request,
        id: UserId,
    ) -> Result<InvitedUser, MarketError> {
        let mut change = match self.begin(request, Action::ReinviteUser).await? {
            Begun::Fresh(change) => change,
            Begun::Done(invited) => return Ok(invited),
        };
        let mut user = find(request, &mut change, id).await?;
        user.status = UserStatus::Invited;
        user.updated_at = self.clock.now();
        user.revision += 1;
        store::account::update(change.tx(), &user).await?;
        store::session::end_all_of(change.tx(), user.id, None, self.clock.now()).await?;
        store::second_factor::remove(change.tx(), user.id).await?;
        require_administrator(&mut change).await?;
        let invited = self.give_invitation(&mut change, user).await?;
        change.finish(invited).await
    }

    /// Gives a person who is to be invited a one-time token, and tells them of it where letters are sent.
    async fn give_invitation(
        &self,
        change: &mut Change<'_>,
        user: User,
    ) -> Result<InvitedUser, MarketError> {
        let token = secrets::one_time_token();
        let digest = secrets::sha256_hex(&[token.as_bytes()]);
        let expires_at = self.invitation_expiry();
        store::account::set_invitation(change.tx(), user.id, &digest, expires_at).await?;
        if self.settings.mail.is_some() {
            let sealed = self.secrets.seal(token.as_bytes())?;
            store::account::keep_invitation(change.tx(), user.id, Some(sealed)).await?;
        }
        change.audit(user.tenant, user.id, json!({ "roles": user.roles })).await?;
        change.announce(user.tenant, EventKind::UserChanged, &user.id);
        change.announce(user.tenant, EventKind::UserInvited, &user.id);
        Ok(InvitedUser { user, invitation_token: token, invitation_expires_at: expires_at })
    }

    /// Changes an account. Taking roles away, or disabling it, holds for its open sessions at once.
    pub async fn change_user(
        &self,
        request: &Request,
        action: Action,
        id: UserId,
        wanted: UserChange,
    ) -> Result<User, MarketError> {
        let mut change = match self.begin(request, action).await? {
            Begun::Fresh(change) => change,
            Begun::Done(user) => return Ok(user),
        };
        let mut user = find(request, &mut change, id).await?;
        check_roles(request, wanted.roles)?;
        let before = json!({ "roles": user.roles, "status": user.status });
        user.name = wanted.name;
        user.roles = wanted.roles;
        user.status = match (user.status, wanted.is_active) {
            (UserStatus::Disabled, true) => UserStatus::Active,
            (_, false) => UserStatus::Disabled,
            (status, true) => status,
        };
        user.updated_at = self.clock.now();
        user.revision += 1;
        store::account::update(change.tx(), &user).await?;
        if user.status == UserStatus::Disabled {
            store::session::end_all_of(change.tx(), user.id, None, self.clock.now()).await?;
        }
        require_administrator(&mut change).await?;
        let after = json!({ "roles": user.roles, "status": user.status });
        change.audit(user.tenant, user.id, json!({ "before": before, "after": after })).await?;
        change.announce(user.tenant, EventKind::UserChanged, &user.id);
        change.finish(user).await
    }

    /// Removes an account and ends its sessions.
    pub async fn remove_user(&self, request: &Request, id: UserId) -> Result<(), MarketError> {
        let mut change = match self.begin(request, Action::RemoveUser).await? {
            Begun::Fresh(change) => change,
            Begun::Done(()) => return Ok(()),
        };
        let user = find(request, &mut change, id).await?;
        store::session::end_all_of(change.tx(), user.id, None, self.clock.now()).await?;
        store::account::delete(change.tx(), &user).await?;
        require_administrator(&mut change).await?;
        change.audit(user.tenant, user.id, json!({})).await?;
        change.announce(user.tenant, EventKind::UserChanged, &user.id);
        change.finish(()).await
    }
}

async fn find(request: &Request, change: &mut Change<'_>, id: UserId) -> Result<User, MarketError> {
    let user = store::account::find(change.tx(), viewer(&request.caller), id)
        .await?
        .ok_or(MarketError::NotFound(Kind::User))?;
    request.check_revision(user.revision)?;
    // An administrator of a tenant has no power over those of the platform.
    if user.roles.contains(Role::PlatformAdmin) && !request.caller.is_platform_admin() {
        return Err(MarketError::NotFound(Kind::User));
    }
    Ok(user)
}

fn check_roles(request: &Request, roles: Roles) -> Result<(), MarketError> {
    if roles.is_empty() {
        return Err(MarketError::Invalid(vec![Violation::new(
            "roles",
            "must name at least one role",
        )]));
    }
    if roles.contains(Role::PlatformAdmin) && !request.caller.is_platform_admin() {
        return Err(MarketError::Invalid(vec![Violation::new(
            "roles",
            "platform-admin can only be given by a platform administrator",
        )]));
    }
    Ok(())
}

/// Refuses a change after which nobody could administer the installation.
async fn require_administrator(change: &mut Change<'_>) -> Result<(), MarketError> {
    change.tx().view_as(Viewer::Installation).await?;
    let mut page = Page::numbered(1, Page::LIMIT_MAX);
    loop {
        let users = store::account::list(change.tx(), Viewer::Installation, page).await?;
        let is_left = users.items.iter().any(|user| {
            user.roles.contains(Role::PlatformAdmin) && user.status == UserStatus::Active
        });
        if is_left {
            return change.view_as_caller().await;
        }
        page.offset += page.limit;
        if page.offset.unsigned_abs() >= users.total {
            return Err(Conflict::LastAdministrator.into());
        }
    }
}
