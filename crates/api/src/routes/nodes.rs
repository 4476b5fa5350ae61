//! Gateways on other machines.

use authz::Action;
use jiff::Timestamp;
use market::{Kind, Node, NodeTokenDraft};
use model::{Name, NodeId, Standing, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Listing, applications::PageQuery};
use crate::{
    call::{self, Call},
    endpoint::{Endpoint, delete, get, post},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        post(
            "/admin/nodes/tokens",
            Action::CreateNodeToken,
            "Make a one-time token for enrolling a gateway on another machine",
        )
        .creates::<NodeTokenView>()
        .body(create_token),
        get("/admin/nodes", Action::ListNodes, "List the gateways on other machines")
            .query::<PageQuery>()
            .answers::<Listing<NodeView>>()
            .run(list),
        delete(
            "/admin/nodes/{id}",
            Action::RevokeNode,
            "Cut a gateway on another machine off, for ever",
        )
        .run(revoke),
    ]
}

/// A token to make.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NodeTokenBody {
    /// What the gateway will be called.
    name: Name,
    /// How long the token is good, 60 to 3600; 900 when absent.
    expires_in_seconds: Option<u32>,
}

/// A one-time token, shown once.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NodeTokenView {
    token: String,
    expires_at: Timestamp,
}

async fn create_token(call: Call, body: NodeTokenBody) -> Result<Reply, Problem> {
    let expires_in_seconds = body.expires_in_seconds.unwrap_or(900);
    let draft = NodeTokenDraft { name: body.name, expires_in_seconds };
    let issued = call.market.create_node_token(call.request(), draft).await?;
    let view = NodeTokenView { token: issued.token, expires_at: issued.expires_at };
    Ok(Reply::created(&view))
}

/// A gateway on another machine.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct NodeView {
    id: NodeId,
    name: String,
    status: NodeStatus,
    enrolled_by: UserId,
    enrolled_at: Timestamp,
    revoked_at: Option<Timestamp>,
    /// When its certificate ends; it renews it ten days before.
    certificate_expires_at: Timestamp,
    /// When it was last heard of, to ten seconds.
    last_seen_at: Option<Timestamp>,
    /// It served everything up to this event then.
    config_number: Option<u64>,
    /// The version of its software then.
    version: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum NodeStatus {
    Active,
    Revoked,
}

impl From<Node> for NodeView {
    fn from(node: Node) -> Self {
        let standing = node.standing.as_deref().map(serde_json::from_str::<Standing>);
        let status =
            if node.revoked_at.is_some() { NodeStatus::Revoked } else { NodeStatus::Active };
        Self {
            id: node.id,
            name: node.name,
            status,
            enrolled_by: node.enrolled_by,
            enrolled_at: node.enrolled_at,
            revoked_at: node.revoked_at,
            certificate_expires_at: node.certificate_expires_at,
            last_seen_at: node.seen_at,
            // Written by another version, it may have another form.
            config_number: standing.and_then(Result::ok).map(|standing| standing.reached),
            version: node.version,
        }
    }
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let query: PageQuery = call.query()?;
    let (number, limit, page) = call::page(query.page, query.limit)?;
    let found = call.market.list_nodes(call.request(), page).await?;
    Ok(Reply::ok(&Listing::of(number, limit, found, NodeView::from)))
}

async fn revoke(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Node)?;
    call.market.revoke_node(call.request(), id).await?;
    Ok(Reply::no_content())
}
