//! People's accounts.

use authz::Action;
use jiff::Timestamp;
use market::{InvitedUser, Kind, UserChange, UserDraft};
use model::{Email, Name, Roles, TenantId, User, UserId, UserStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Listing, applications::PageQuery};
use crate::{
    body,
    call::{self, Call},
    endpoint::{Endpoint, delete, get, patch, post, put},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/admin/users", Action::ListUsers, "List people")
            .query::<PageQuery>()
            .answers::<Listing<UserView>>()
            .run(list),
        post(
            "/admin/users",
            Action::InviteUser,
            "Invite a person; the one-time token is shown once",
        )
        .creates::<InvitedView>()
        .body(invite),
        get("/admin/users/{id}", Action::ReadUser, "Read a person's account")
            .answers::<UserView>()
            .run(read),
        post(
            "/admin/users/{id}/invitation",
            Action::ReinviteUser,
            "Invite a person anew; the one-time token is shown once",
        )
        .answers::<InvitedView>()
        .run(reinvite),
        put("/admin/users/{id}", Action::ReplaceUser, "Replace a person's account")
            .answers::<UserView>()
            .body(replace),
        patch("/admin/users/{id}", Action::ChangeUser, "Change a person's account")
            .answers::<UserView>()
            .body(change),
        delete("/admin/users/{id}", Action::RemoveUser, "Remove a person's account").run(remove),
    ]
}

/// A person to invite.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct InviteBody {
    email: Email,
    name: Name,
    roles: Roles,
    /// One's own, when absent.
    tenant_id: Option<TenantId>,
}

/// What may be changed about an account.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct UserBody {
    name: Name,
    roles: Roles,
    /// Whether the account may sign in.
    active: bool,
}

/// An account.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct UserView {
    id: UserId,
    tenant_id: TenantId,
    email: Email,
    name: Name,
    roles: Roles,
    status: UserStatus,
    created_at: Timestamp,
    updated_at: Timestamp,
    revision: i64,
}

/// An invitation.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct InvitedView {
    #[serde(flatten)]
    user: UserView,
    /// Hand it to the person; `POST /auth/accept-invitation` takes it.
    invitation_token: String,
    invitation_expires_at: Timestamp,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        let User { id, tenant, email, name, roles, status, created_at, updated_at, revision } =
            user;
        Self { id, tenant_id: tenant, email, name, roles, status, created_at, updated_at, revision }
    }
}

impl From<InvitedUser> for InvitedView {
    fn from(invited: InvitedUser) -> Self {
        let InvitedUser { user, invitation_token, invitation_expires_at } = invited;
        Self { user: user.into(), invitation_token, invitation_expires_at }
    }
}

impl From<UserBody> for UserChange {
    fn from(body: UserBody) -> Self {
        let UserBody { name, roles, active } = body;
        Self { name, roles, is_active: active }
    }
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let query: PageQuery = call.query()?;
    let (number, limit, page) = call::page(query.page, query.limit)?;
    let found = call.market.list_users(call.request(), page).await?;
    Ok(Reply::ok(&Listing::of(number, limit, found, UserView::from)))
}

async fn invite(call: Call, body: InviteBody) -> Result<Reply, Problem> {
    let InviteBody { email, name, roles, tenant_id } = body;
    let draft = UserDraft { tenant: tenant_id, email, name, roles };
    let invited = call.market.invite_user(call.request(), draft).await?;
    let (id, revision) = (invited.user.id, invited.user.revision);
    let view = InvitedView::from(invited);
    Ok(Reply::created(&view).revision(revision).location(&format!("/admin/users/{id}")))
}

async fn reinvite(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::User)?;
    let invited = call.market.reinvite_user(call.request(), id).await?;
    let revision = invited.user.revision;
    Ok(Reply::ok(&InvitedView::from(invited)).revision(revision))
}

async fn read(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::User)?;
    Ok(shown(call.market.read_user(call.request(), id).await?))
}

async fn replace(call: Call, body: UserBody) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::User)?;
    let action = Action::ReplaceUser;
    Ok(shown(call.market.change_user(call.request(), action, id, body.into()).await?))
}

async fn change(
    call: Call,
    patch: serde_json::Map<String, serde_json::Value>,
) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::User)?;
    let current = call.market.read_user(call.request(), id).await?;
    let request = call.request_for(current.revision);
    let active = current.status != UserStatus::Disabled;
    let body = UserBody { name: current.name, roles: current.roles, active };
    let body = body::patched(body, patch)?;
    let action = Action::ChangeUser;
    Ok(shown(call.market.change_user(&request, action, id, body.into()).await?))
}

async fn remove(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::User)?;
    call.market.remove_user(call.request(), id).await?;
    Ok(Reply::no_content())
}

fn shown(user: User) -> Reply {
    let revision = user.revision;
    Reply::ok(&UserView::from(user)).revision(revision)
}
