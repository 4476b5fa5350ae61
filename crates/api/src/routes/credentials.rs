//! Credentials of applications.

use authz::Action;
use jiff::Timestamp;
use market::{CredentialDraft, IssuedCredential, Kind};
use model::{
    ApplicationId, Credential, CredentialId, CredentialKind, CredentialStatus, Name, Role, Roles,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Items;
use crate::{
    call::Call,
    endpoint::{Endpoint, delete, get, post},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    const ALL: &str = "/applications/{id}/credentials";
    const ONE: &str = "/applications/{id}/credentials/{credentialId}";
    const ROTATE: &str = "/applications/{id}/credentials/{credentialId}/rotate";
    vec![
        get(ALL, Action::ListCredentials, "List the credentials of an application")
            .answers::<Items<CredentialView>>()
            .run(list),
        post(ALL, Action::CreateCredential, "Create a credential; its secret is shown once")
            .creates::<IssuedView>()
            .body(create),
        post(ROTATE, Action::RotateCredential, "Replace a credential, with an overlap")
            .with_revision()
            .creates::<IssuedView>()
            .body(rotate),
        delete(ONE, Action::RevokeCredential, "Revoke a credential, for ever").run(revoke),
    ]
}

/// A credential to create.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CredentialBody {
    #[serde(rename = "type")]
    kind: CredentialType,
    /// What people call it.
    name: Option<Name>,
    expires_at: Option<Timestamp>,
    /// What an OAuth client may do in the control API; `consumer` when absent.
    roles: Option<Roles>,
}

/// What kind of secret it is.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum CredentialType {
    /// A key for calls through the gateway.
    ApiKey,
    /// A client id and secret for the token endpoint.
    OauthClient,
}

/// A credential. The secret itself is not kept.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct CredentialView {
    id: CredentialId,
    application_id: ApplicationId,
    #[serde(rename = "type")]
    kind: CredentialType,
    name: Name,
    /// The first characters of the secret.
    prefix: String,
    last_four: String,
    status: CredentialStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    roles: Option<Roles>,
    expires_at: Option<Timestamp>,
    /// When it was last seen; some seconds behind.
    last_used_at: Option<Timestamp>,
    replaced_by: Option<CredentialId>,
    created_at: Timestamp,
    revision: i64,
}

/// A credential with its secret, which is shown once.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct IssuedView {
    #[serde(flatten)]
    credential: CredentialView,
    /// The key, of an API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    api_key: Option<String>,
    /// The client id, of an OAuth client.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<String>,
    /// The client secret, of an OAuth client.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    /// When the credential that this one replaces ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_ends_at: Option<Timestamp>,
}

impl From<Credential> for CredentialView {
    fn from(credential: Credential) -> Self {
        let (kind, roles) = match credential.kind {
            CredentialKind::ApiKey => (CredentialType::ApiKey, None),
            CredentialKind::OauthClient { roles } => (CredentialType::OauthClient, Some(roles)),
        };
        Self {
            id: credential.id,
            application_id: credential.application,
            kind,
            name: credential.name,
            prefix: credential.prefix,
            last_four: credential.last_four,
            status: credential.status,
            roles,
            expires_at: credential.expires_at,
            last_used_at: credential.last_used_at,
            replaced_by: credential.replaced_by,
            created_at: credential.created_at,
            revision: credential.revision,
        }
    }
}

fn issued(issued: IssuedCredential, previous_ends_at: Option<Timestamp>) -> Reply {
    let IssuedCredential { credential, secret } = issued;
    let revision = credential.revision;
    let credential = CredentialView::from(credential);
    let mut view = IssuedView {
        api_key: None,
        client_id: None,
        client_secret: None,
        previous_ends_at,
        credential,
    };
    match view.credential.kind {
        CredentialType::ApiKey => view.api_key = Some(secret),
        CredentialType::OauthClient => {
            view.client_id = Some(view.credential.id.to_string());
            view.client_secret = Some(secret);
        }
    }
    Reply::created(&view).revision(revision)
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let application = call.id("id", Kind::Application)?;
    let credentials = call.market.list_credentials(call.request(), application).await?;
    Ok(Reply::ok(&Items { items: credentials.into_iter().map(CredentialView::from).collect() }))
}

async fn create(call: Call, body: CredentialBody) -> Result<Reply, Problem> {
    let application = call.id("id", Kind::Application)?;
    let kind = match (body.kind, body.roles) {
        (CredentialType::ApiKey, None) => CredentialKind::ApiKey,
        (CredentialType::ApiKey, Some(_)) => {
            return Err(Problem::invalid("roles", "belong to credentials of type oauth_client"));
        }
        (CredentialType::OauthClient, roles) => CredentialKind::OauthClient {
            roles: roles.unwrap_or_else(|| Roles::of(&[Role::Consumer])),
        },
    };
    let name = match body.name {
        Some(name) => name,
        None => default_name(body.kind)?,
    };
    let draft = CredentialDraft { name, kind, expires_at: body.expires_at };
    let made = call.market.create_credential(call.request(), application, draft).await?;
    Ok(issued(made, None))
}

fn default_name(kind: CredentialType) -> Result<Name, Problem> {
    let name = match kind {
        CredentialType::ApiKey => "API key",
        CredentialType::OauthClient => "OAuth client",
    };
    Name::parse(name).map_err(|error| Problem::invalid("name", error.to_string()))
}

/// How a credential is replaced.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RotateBody {
    /// How long the old secret stays accepted, at most 30 days.
    #[serde(default)]
    overlap_seconds: u32,
}

async fn rotate(call: Call, body: RotateBody) -> Result<Reply, Problem> {
    let application = call.id("id", Kind::Application)?;
    let credential = call.id("credentialId", Kind::Credential)?;
    let rotation = call
        .market
        .rotate_credential(call.request(), application, credential, body.overlap_seconds)
        .await?;
    Ok(issued(rotation.issued, rotation.replaced.expires_at))
}

async fn revoke(call: Call) -> Result<Reply, Problem> {
    let application = call.id("id", Kind::Application)?;
    let credential = call.id("credentialId", Kind::Credential)?;
    call.market.revoke_credential(call.request(), application, credential).await?;
    Ok(Reply::no_content())
}
