//! One's own account, and signed-in sessions.

use authz::{Action, Principal};
use jiff::Timestamp;
use market::{Kind, SecondFactorStatus, Session, SessionListing};
use model::{ApplicationId, Email, Name, Roles, SessionId, TenantId, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Listing;
use crate::{
    call::{self, Call},
    endpoint::{Endpoint, delete, get, post, put},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/me", Action::ReadMe, "Read one's own account").answers::<MeView>().run(me),
        put("/me/password", Action::ChangePassword, "Change one's own password")
            .body(change_password),
        get(
            "/me/second-factor",
            Action::ReadSecondFactor,
            "See whether one's own account has a second factor",
        )
        .answers::<SecondFactorView>()
        .run(second_factor),
        post(
            "/me/second-factor",
            Action::BeginSecondFactor,
            "Begin a second factor; the secret is shown once",
        )
        .answers::<SecretView>()
        .body(begin_second_factor),
        post(
            "/me/second-factor/confirm",
            Action::ConfirmSecondFactor,
            "Confirm the second factor with its first code; recovery codes are shown once",
        )
        .answers::<RecoveryCodesView>()
        .body(confirm_second_factor),
        post(
            "/me/second-factor/recovery-codes",
            Action::RenewRecoveryCodes,
            "Replace the recovery codes; the new ones are shown once",
        )
        .answers::<RecoveryCodesView>()
        .body(renew_recovery_codes),
        post(
            "/me/second-factor/remove",
            Action::RemoveSecondFactor,
            "Remove the second factor of one's own account",
        )
        .body(remove_second_factor),
        get("/admin/sessions", Action::ListSessions, "List open sessions")
            .query::<SessionQuery>()
            .answers::<Listing<SessionView>>()
            .run(list),
        delete("/admin/sessions/{id}", Action::EndSession, "End a session").run(end),
    ]
}

/// One's own account.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct MeView {
    user_id: UserId,
    tenant_id: TenantId,
    email: Email,
    name: Name,
    /// The roles of this session.
    roles: Roles,
    session_id: SessionId,
    /// The program that is signed in, when it is one.
    application_id: Option<ApplicationId>,
    /// What the installation is called.
    installation: Name,
    /// Whom to ask for help.
    support_email: Option<Email>,
    /// Where APIs are called.
    gateway_url: String,
}

async fn me(call: Call) -> Result<Reply, Problem> {
    let user = call.market.read_me(call.request()).await?;
    let installation = call.market.installation().await?;
    let caller = &call.request().caller;
    Ok(Reply::ok(&MeView {
        user_id: user.id,
        tenant_id: user.tenant,
        email: user.email,
        name: user.name,
        roles: caller.roles,
        session_id: caller.session,
        application_id: match caller.principal {
            Principal::Application(application, _) => Some(application),
            Principal::User(_) => None,
        },
        installation: installation.name,
        support_email: installation.support_email,
        gateway_url: call.market.gateway_url().to_owned(),
    }))
}

/// A new password.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PasswordBody {
    current_password: String,
    /// 12 to 256 characters.
    new_password: String,
}

async fn change_password(call: Call, body: PasswordBody) -> Result<Reply, Problem> {
    call.market.change_password(call.request(), &body.current_password, &body.new_password).await?;
    Ok(Reply::no_content())
}

/// Whether an account has a second factor.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SecondFactorView {
    active: bool,
    since: Option<Timestamp>,
    recovery_codes_left: u64,
}

/// What an authenticator app needs (RFC 6238: HMAC-SHA-1, six digits, thirty seconds).
#[derive(Serialize, JsonSchema)]
struct SecretView {
    /// In base32.
    secret: String,
    /// `otpauth://totp/…`, for a QR code.
    uri: String,
}

/// Codes for when the authenticator app is lost, each good once.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct RecoveryCodesView {
    recovery_codes: Vec<String>,
}

/// Proof that it is not somebody else at an open session.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ProofBody {
    current_password: String,
}

/// The first code of a second factor.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CodeBody {
    code: String,
}

async fn second_factor(call: Call) -> Result<Reply, Problem> {
    let found = call.market.read_second_factor(call.request()).await?;
    let SecondFactorStatus { since, recovery_codes_left } = found;
    Ok(Reply::ok(&SecondFactorView { active: since.is_some(), since, recovery_codes_left }))
}

async fn begin_second_factor(call: Call, body: ProofBody) -> Result<Reply, Problem> {
    let made = call.market.begin_second_factor(call.request(), &body.current_password).await?;
    Ok(Reply::ok(&SecretView { secret: made.secret, uri: made.uri }))
}

async fn confirm_second_factor(call: Call, body: CodeBody) -> Result<Reply, Problem> {
    let recovery_codes = call.market.confirm_second_factor(call.request(), &body.code).await?;
    Ok(Reply::ok(&RecoveryCodesView { recovery_codes }))
}

async fn renew_recovery_codes(call: Call, body: ProofBody) -> Result<Reply, Problem> {
    let market = &call.market;
    let recovery_codes =
        market.renew_recovery_codes(call.request(), &body.current_password).await?;
    Ok(Reply::ok(&RecoveryCodesView { recovery_codes }))
}

async fn remove_second_factor(call: Call, body: ProofBody) -> Result<Reply, Problem> {
    call.market.remove_second_factor(call.request(), &body.current_password).await?;
    Ok(Reply::no_content())
}

/// Whose sessions are listed.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SessionQuery {
    /// `own`, or `tenant` for administrators.
    scope: Option<SessionScope>,
    page: Option<u32>,
    limit: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum SessionScope {
    Own,
    Tenant,
}

/// An open session.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SessionView {
    id: SessionId,
    user_id: UserId,
    application_id: Option<ApplicationId>,
    roles: Roles,
    created_at: jiff::Timestamp,
    expires_at: jiff::Timestamp,
    /// Whether it is the session that asks.
    is_current: bool,
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let query: SessionQuery = call.query()?;
    let (number, limit, page) = call::page(query.page, query.limit)?;
    let listing = match query.scope {
        Some(SessionScope::Tenant) => SessionListing::Tenant,
        Some(SessionScope::Own) | None => SessionListing::Own,
    };
    let found = call.market.list_sessions(call.request(), listing, page).await?;
    let current = call.request().caller.session;
    Ok(Reply::ok(&Listing::of(number, limit, found, |session: Session| SessionView {
        id: session.id,
        user_id: session.user,
        application_id: session.application.map(|(application, _)| application),
        roles: session.roles,
        created_at: session.created_at,
        expires_at: session.expires_at,
        is_current: session.id == current,
    })))
}

async fn end(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Session)?;
    call.market.end_session(call.request(), id).await?;
    Ok(Reply::no_content())
}
