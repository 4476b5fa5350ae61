//! Deployments.

use authz::Action;
use jiff::Timestamp;
use market::{DeploymentDraft, HealthCheckDraft, Kind, TargetDraft, UpstreamDraft};
use model::{
    ApiId, Balance, CheckKind, Deployment, DeploymentId, HashOn, Protocol, Resilience, UpstreamTls,
    Validation,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Listing,
    delivery::{CorsBody, ProtocolsBody, delivery},
    limits::LimitBody,
};
use crate::{
    body,
    call::{self, Call},
    endpoint::{Endpoint, delete, get, patch, post, put},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/deployments", Action::ListDeployments, "List deployments")
            .query::<DeploymentQuery>()
            .answers::<Listing<DeploymentView>>()
            .run(list),
        post("/deployments", Action::Deploy, "Deploy a version")
            .creates::<DeploymentView>()
            .body(create),
        get("/deployments/{id}", Action::ReadDeployment, "Read a deployment")
            .answers::<DeploymentView>()
            .run(read),
        put("/deployments/{id}", Action::ReplaceDeployment, "Replace a deployment")
            .answers::<DeploymentView>()
            .body(replace),
        patch("/deployments/{id}", Action::ChangeDeployment, "Change a deployment")
            .answers::<DeploymentView>()
            .body(change),
        delete("/deployments/{id}", Action::RemoveDeployment, "Remove a deployment").run(remove),
    ]
}

/// Where a version runs.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeploymentBody {
    /// The API; never changes.
    api_id: ApiId,
    version: semver::Version,
    route: RouteBody,
    upstream: UpstreamBody,
    /// Limits for all callers, beside those of their plans.
    #[serde(default)]
    limits: Vec<LimitBody>,
    /// The largest request body, in bytes; 10 MiB when absent.
    #[serde(default = "default_max_body")]
    max_body_bytes: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cors: Option<CorsBody>,
    /// Whether answers are compressed for clients that accept it. Leave it off where answers mix secrets with what a
    /// stranger may choose.
    #[serde(default)]
    compress: bool,
    #[serde(default)]
    protocols: ProtocolsBody,
    /// Whether requests are compared with the specification: `enforce` refuses those that do not fit, `warn` lets them
    /// through, counts them and tells the caller; `off` when absent.
    #[serde(default)]
    validation: Validation,
}

/// Under which addresses it is called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteBody {
    /// Every host, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Such as `/clinic`.
    pub path_prefix: String,
    /// Whether the prefix is taken off before forwarding.
    #[serde(default)]
    pub strip_prefix: bool,
}

/// Where calls go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpstreamBody {
    targets: Vec<TargetBody>,
    #[serde(default)]
    balance: Balance,
    /// What calls that belong together have in common, when the balance is `consistent_hash`; the application when
    /// absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash_on: Option<HashOn>,
    #[serde(default)]
    protocol: Protocol,
    #[serde(default, skip_serializing_if = "is_default")]
    tls: UpstreamTls,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    health_check: Option<HealthCheckBody>,
    /// How long a whole call may take; 30 when absent.
    #[serde(default = "default_timeout")]
    timeout_seconds: f64,
    /// How many times a call may be tried again on another target, when that is safe; 1 when absent.
    #[serde(default = "default_retries")]
    retries: u8,
    #[serde(default)]
    resilience: Resilience,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TargetBody {
    /// Such as `https://10.0.0.5:8443`; the certificate is verified always.
    url: String,
    /// Its share of the calls, relative to the others; 0 takes none.
    #[serde(default = "default_weight")]
    weight: u16,
}

/// How targets are watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct HealthCheckBody {
    #[serde(default)]
    kind: CheckKind,
    /// The path that is asked, for the kind `http` only; a status below 400 is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(default = "default_interval")]
    interval_seconds: f64,
    #[serde(default = "default_check_timeout")]
    timeout_seconds: f64,
    /// Failures in a row until a target takes no more calls.
    #[serde(default = "default_unhealthy_after")]
    unhealthy_after: u8,
    /// Successes in a row until it takes calls again.
    #[serde(default = "default_healthy_after")]
    healthy_after: u8,
}

const fn default_max_body() -> u64 {
    10 * 1024 * 1024
}

const fn default_timeout() -> f64 {
    30.0
}

const fn default_retries() -> u8 {
    1
}

const fn default_weight() -> u16 {
    1
}

const fn default_interval() -> f64 {
    5.0
}

const fn default_check_timeout() -> f64 {
    2.0
}

const fn default_unhealthy_after() -> u8 {
    2
}

const fn default_healthy_after() -> u8 {
    2
}

/// A deployment.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DeploymentView {
    id: DeploymentId,
    /// `live`: the gateway serves it.
    status: &'static str,
    /// The gateway serves it from this configuration on.
    config_version: u64,
    #[serde(flatten)]
    body: DeploymentBody,
    created_at: Timestamp,
    updated_at: Timestamp,
    revision: i64,
}

impl From<DeploymentBody> for DeploymentDraft {
    fn from(body: DeploymentBody) -> Self {
        let UpstreamBody {
            targets,
            balance,
            hash_on,
            protocol,
            tls,
            health_check,
            timeout_seconds,
            retries,
            resilience,
        } = body.upstream;
        Self {
            api: body.api_id,
            number: body.version,
            host: body.route.host,
            path_prefix: body.route.path_prefix,
            strip_prefix: body.route.strip_prefix,
            upstream: UpstreamDraft {
                targets: targets
                    .into_iter()
                    .map(|target| TargetDraft { url: target.url, weight: target.weight })
                    .collect(),
                balance,
                hash_on,
                protocol,
                tls,
                health_check: health_check.map(|check| HealthCheckDraft {
                    kind: check.kind,
                    path: check.path,
                    interval_seconds: check.interval_seconds,
                    timeout_seconds: check.timeout_seconds,
                    unhealthy_after: check.unhealthy_after,
                    healthy_after: check.healthy_after,
                }),
                timeout_seconds,
                retries,
                resilience,
            },
            limits: body.limits.into_iter().map(Into::into).collect(),
            max_body_bytes: body.max_body_bytes,
            delivery: delivery(body.cors, body.compress, &body.protocols),
            validation: body.validation,
        }
    }
}

impl From<DeploymentDraft> for DeploymentBody {
    fn from(draft: DeploymentDraft) -> Self {
        let UpstreamDraft {
            targets,
            balance,
            hash_on,
            protocol,
            tls,
            health_check,
            timeout_seconds,
            retries,
            resilience,
        } = draft.upstream;
        Self {
            api_id: draft.api,
            version: draft.number,
            route: RouteBody {
                host: draft.host,
                path_prefix: draft.path_prefix,
                strip_prefix: draft.strip_prefix,
            },
            upstream: UpstreamBody {
                targets: targets
                    .into_iter()
                    .map(|target| TargetBody { url: target.url, weight: target.weight })
                    .collect(),
                balance,
                hash_on,
                protocol,
                tls,
                health_check: health_check.map(|check| HealthCheckBody {
                    kind: check.kind,
                    path: check.path,
                    interval_seconds: check.interval_seconds,
                    timeout_seconds: check.timeout_seconds,
                    unhealthy_after: check.unhealthy_after,
                    healthy_after: check.healthy_after,
                }),
                timeout_seconds,
                retries,
                resilience,
            },
            limits: draft.limits.into_iter().map(LimitBody::from).collect(),
            max_body_bytes: draft.max_body_bytes,
            cors: draft.delivery.cors.map(Into::into),
            compress: draft.delivery.compress,
            protocols: draft.delivery.protocols.into(),
            validation: draft.validation,
        }
    }
}

async fn view(call: &Call, deployment: Deployment) -> Result<DeploymentView, Problem> {
    let version = call.market.version_number(call.request(), deployment.version).await?;
    Ok(DeploymentView {
        id: deployment.id,
        status: "live",
        config_version: call.market.config_version().await?,
        created_at: deployment.created_at,
        updated_at: deployment.updated_at,
        revision: deployment.revision,
        body: DeploymentDraft::of(deployment, version).into(),
    })
}

async fn create(call: Call, body: DeploymentBody) -> Result<Reply, Problem> {
    let deployment = call.market.deploy(call.request(), body.into()).await?;
    let (id, revision) = (deployment.id, deployment.revision);
    Ok(Reply::created(&view(&call, deployment).await?)
        .revision(revision)
        .location(&format!("/deployments/{id}")))
}

async fn read(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Deployment)?;
    let deployment = call.market.read_deployment(call.request(), id).await?;
    shown(&call, deployment).await
}

async fn replace(call: Call, body: DeploymentBody) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Deployment)?;
    let action = Action::ReplaceDeployment;
    let deployment =
        call.market.replace_deployment(call.request(), action, id, body.into()).await?;
    shown(&call, deployment).await
}

async fn change(
    call: Call,
    patch: serde_json::Map<String, serde_json::Value>,
) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Deployment)?;
    let current = call.market.read_deployment(call.request(), id).await?;
    let request = call.request_for(current.revision);
    let version = call.market.version_number(call.request(), current.version).await?;
    let body = body::patched(DeploymentBody::from(DeploymentDraft::of(current, version)), patch)?;
    let action = Action::ChangeDeployment;
    let deployment = call.market.replace_deployment(&request, action, id, body.into()).await?;
    shown(&call, deployment).await
}

async fn remove(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Deployment)?;
    call.market.remove_deployment(call.request(), id).await?;
    Ok(Reply::no_content())
}

async fn shown(call: &Call, deployment: Deployment) -> Result<Reply, Problem> {
    let revision = deployment.revision;
    Ok(Reply::ok(&view(call, deployment).await?).revision(revision))
}

/// Which deployments are listed.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DeploymentQuery {
    api_id: Option<ApiId>,
    /// From 1.
    page: Option<u32>,
    /// Items in a page, 1 to 200.
    limit: Option<u32>,
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let query: DeploymentQuery = call.query()?;
    let (number, limit, page) = call::page(query.page, query.limit)?;
    let found = call.market.list_deployments(call.request(), query.api_id, page).await?;
    let mut views = Vec::with_capacity(found.items.len());
    for deployment in found.items {
        views.push(view(&call, deployment).await?);
    }
    let found = market::PageOf { items: views, total: found.total };
    Ok(Reply::ok(&Listing::of(number, limit, found, |view| view)))
}
