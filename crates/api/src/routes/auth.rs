//! Signing in: tokens, keys, set-up and invitations.

use authz::Action;
use http::{HeaderValue, StatusCode, header};
use market::{SetUpDraft, TokenRequest};
use model::{Email, Name, Roles, Slug, TenantId, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    call::Call,
    endpoint::{Endpoint, get, post},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        post("/auth/token", Action::IssueToken, "Exchange credentials for a token")
            .answers::<TokenView>()
            .form(issue),
        get("/auth/jwks", Action::ReadJwks, "Read the public keys that tokens are signed with")
            .answers::<Jwks>()
            .run(jwks),
        post("/auth/setup", Action::SetUp, "Set up an empty installation with the one-time token")
            .creates::<SetUpView>()
            .body(set_up),
        post(
            "/auth/accept-invitation",
            Action::AcceptInvitation,
            "Accept an invitation and set a password",
        )
        .answers::<AcceptedView>()
        .body(accept),
    ]
}

/// A request for a token (RFC 6749, 4.3 and 4.4).
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TokenForm {
    /// `client_credentials` or `password`.
    grant_type: String,
    client_id: Option<String>,
    client_secret: Option<String>,
    username: Option<String>,
    password: Option<String>,
    /// A code of the authenticator app, or a recovery code, for accounts with a second factor. Without it such a request
    /// is answered with 401 `second_factor_required`.
    code: Option<String>,
    /// Roles, separated by spaces, to narrow the token to.
    scope: Option<String>,
}

/// A token.
#[derive(Serialize, JsonSchema)]
struct TokenView {
    access_token: String,
    token_type: &'static str,
    /// Seconds.
    expires_in: u32,
    scope: String,
}

async fn issue(call: Call, form: TokenForm) -> Result<Reply, Problem> {
    let missing = |fields: &str| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            format!("this grant needs {fields}"),
        )
    };
    let proof = match form.grant_type.as_str() {
        "password" => match (&form.username, &form.password) {
            (Some(username), Some(password)) => {
                TokenRequest::Password { username, password, code: form.code.as_deref() }
            }
            _ => return Err(missing("username and password")),
        },
        "client_credentials" => match (&form.client_id, &form.client_secret) {
            (Some(client_id), Some(client_secret)) => {
                TokenRequest::ClientCredentials { client_id, client_secret }
            }
            _ => return Err(missing("client_id and client_secret")),
        },
        _ => {
            return Err(Problem::new(
                StatusCode::BAD_REQUEST,
                "unsupported_grant_type",
                "grant_type must be client_credentials or password",
            ));
        }
    };
    let scope = match form.scope.as_deref() {
        None => None,
        Some(text) => Some(Roles::parse(text).ok_or_else(|| {
            Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid_scope",
                "scope must be roles, separated by spaces",
            )
        })?),
    };
    let address = call.address.to_string();
    let issued = call.market.issue_token(proof, scope, &address, &call.request_id).await?;
    let view = TokenView {
        access_token: issued.access_token,
        token_type: "Bearer",
        expires_in: issued.expires_in,
        scope: issued.roles.to_string(),
    };
    Ok(Reply::ok(&view).header(header::PRAGMA, HeaderValue::from_static("no-cache")))
}

/// Public keys (RFC 7517).
#[derive(Serialize, JsonSchema)]
struct Jwks {
    keys: Vec<JwkView>,
}

/// A public key.
#[derive(Serialize, JsonSchema)]
struct JwkView {
    kty: &'static str,
    crv: &'static str,
    alg: &'static str,
    #[serde(rename = "use")]
    usage: &'static str,
    kid: String,
    x: String,
    y: String,
}

async fn jwks(call: Call) -> Result<Reply, Problem> {
    let keys = call.market.jwks().await?;
    let keys = keys
        .into_iter()
        .map(|key| JwkView {
            kty: "EC",
            crv: "P-256",
            alg: "ES256",
            usage: "sig",
            kid: key.kid,
            x: key.x,
            y: key.y,
        })
        .collect();
    Ok(Reply::ok(&Jwks { keys }))
}

/// The first tenant and its administrator.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetUpBody {
    /// The token that the server printed when it first started.
    token: String,
    tenant: SetUpTenant,
    admin: SetUpAdmin,
}

/// The first tenant.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetUpTenant {
    slug: Slug,
    name: Name,
}

/// Its administrator.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SetUpAdmin {
    email: Email,
    name: Name,
    /// 12 to 256 characters.
    password: String,
}

/// What was set up.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SetUpView {
    tenant_id: TenantId,
    user_id: UserId,
    email: Email,
    roles: Roles,
}

async fn set_up(call: Call, body: SetUpBody) -> Result<Reply, Problem> {
    let draft = SetUpDraft {
        tenant_slug: body.tenant.slug,
        tenant_name: body.tenant.name,
        email: body.admin.email,
        name: body.admin.name,
        password: body.admin.password,
    };
    let address = call.address.to_string();
    let made = call.market.set_up(&body.token, draft, &address, &call.request_id).await?;
    Ok(Reply::created(&SetUpView {
        tenant_id: made.tenant.id,
        user_id: made.user.id,
        email: made.user.email,
        roles: made.user.roles,
    }))
}

/// The acceptance of an invitation.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AcceptBody {
    /// The token of the invitation.
    token: String,
    /// 12 to 256 characters.
    password: String,
}

/// Whose invitation was accepted.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct AcceptedView {
    user_id: UserId,
    email: Email,
}

async fn accept(call: Call, body: AcceptBody) -> Result<Reply, Problem> {
    let address = call.address.to_string();
    let user = call
        .market
        .accept_invitation(&body.token, &body.password, &address, &call.request_id)
        .await?;
    Ok(Reply::ok(&AcceptedView { user_id: user.id, email: user.email }))
}
