//! Deployments: where versions run.

use std::net::IpAddr;

use authz::Action;
use model::{
    AddressPolicy, ApiId, Balance, CheckKind, Cors, Delivery, Deployment, DeploymentId, EventKind,
    HashOn, HealthCheck, Limit, Protocol, Resilience, Route, Target, Upstream, UpstreamTls,
    UpstreamUrl, Validation, VersionStatus,
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::json;
use store::{Page, PageOf, Viewer};

use crate::{
    Begun, Conflict, Kind, LimitDraft, Market, MarketError, Request, Violation, apis,
    change::Change, limits, versions, viewer,
};

/// A deployment as it is asked for.
#[derive(Debug, Clone)]
pub struct DeploymentDraft {
    /// The API; never changes.
    pub api: ApiId,
    /// The version that runs here.
    pub number: semver::Version,
    /// The host it is bound to.
    pub host: Option<String>,
    /// The prefix of its paths.
    pub path_prefix: String,
    /// Whether the prefix is taken off before forwarding.
    pub strip_prefix: bool,
    /// Where calls go.
    pub upstream: UpstreamDraft,
    /// Limits for all callers together.
    pub limits: Vec<LimitDraft>,
    /// The largest request body, in bytes.
    pub max_body_bytes: u64,
    /// How calls are carried between clients and targets.
    pub delivery: Delivery,
    /// Whether requests are compared with the specification.
    pub validation: Validation,
}

/// A pool as it is asked for.
#[derive(Debug, Clone)]
pub struct UpstreamDraft {
    /// The replicas.
    pub targets: Vec<TargetDraft>,
    /// How a target is chosen.
    pub balance: Balance,
    /// What calls that belong together have in common.
    pub hash_on: Option<HashOn>,
    /// The protocol spoken to the targets.
    pub protocol: Protocol,
    /// How targets at `https` addresses are recognised.
    pub tls: UpstreamTls,
    /// How targets are watched.
    pub health_check: Option<HealthCheckDraft>,
    /// Seconds that a whole call may take.
    pub timeout_seconds: f64,
    /// How many times a call may be tried again on another target.
    pub retries: u8,
    /// How the pool stays of use while some of its targets do not.
    pub resilience: Resilience,
}

/// A replica as it is asked for.
#[derive(Debug, Clone)]
pub struct TargetDraft {
    /// Where it answers.
    pub url: String,
    /// Its share of the calls.
    pub weight: u16,
}

/// How targets are watched, as it is asked for.
#[derive(Debug, Clone)]
pub struct HealthCheckDraft {
    /// How a target is checked.
    pub kind: CheckKind,
    /// The path that is asked, if any is.
    pub path: Option<String>,
    /// Seconds between two checks.
    pub interval_seconds: f64,
    /// Seconds until a check has failed.
    pub timeout_seconds: f64,
    /// Failures in a row until a target takes no more calls.
    pub unhealthy_after: u8,
    /// Successes in a row until it takes calls again.
    pub healthy_after: u8,
}

impl DeploymentDraft {
    /// What would have to be asked for to get a deployment as it is; `number` is that of its version.
    pub fn of(deployment: Deployment, number: semver::Version) -> Self {
        let Upstream {
            targets,
            balance,
            hash_on,
            protocol,
            tls,
            health_check,
            timeout_ms,
            retries,
            resilience,
        } = deployment.upstream;
        let seconds = |millis: u32| f64::from(millis) / 1_000.0;
        Self {
            api: deployment.api,
            number,
            host: deployment.route.host().map(str::to_owned),
            path_prefix: deployment.route.path_prefix().to_owned(),
            strip_prefix: deployment.route.strip_prefix(),
            upstream: UpstreamDraft {
                targets: targets
                    .into_iter()
                    .map(|target| TargetDraft {
                        url: target.url.to_string(),
                        weight: target.weight,
                    })
                    .collect(),
                balance,
                hash_on,
                protocol,
                tls,
                health_check: health_check.map(|check| HealthCheckDraft {
                    kind: check.kind,
                    path: Some(check.path).filter(|path| !path.is_empty()),
                    interval_seconds: seconds(check.interval_ms),
                    timeout_seconds: seconds(check.timeout_ms),
                    unhealthy_after: check.unhealthy_after,
                    healthy_after: check.healthy_after,
                }),
                timeout_seconds: seconds(timeout_ms),
                retries,
                resilience,
            },
            limits: deployment.limits.into_iter().map(LimitDraft::from).collect(),
            max_body_bytes: deployment.max_body_bytes,
            delivery: deployment.delivery,
            validation: deployment.validation,
        }
    }
}

const TARGETS_MAX: usize = 64;
const TIMEOUT_MAX: f64 = 600.0;
const INTERVAL_MAX: f64 = 3_600.0;
const RETRIES_MAX: u8 = 3;
const BODY_MAX: u64 = 1 << 30;
/// A day, in milliseconds.
const IDLE_MAX: u32 = 86_400_000;
const AUTHORITIES_MAX: usize = 64 << 10;

struct Checked {
    route: Route,
    upstream: Upstream,
    limits: Vec<Limit>,
    max_body_bytes: u64,
    delivery: Delivery,
}

impl Market {
    /// Deploys an active version; the gateway takes it up at once.
    pub async fn deploy(
        &self,
        request: &Request,
        draft: DeploymentDraft,
    ) -> Result<Deployment, MarketError> {
        self.require(request, Action::Deploy).await?;
        let checked = self.check_deployment(&draft).await?;
        let mut change = match self.begin(request, Action::Deploy).await? {
            Begun::Fresh(change) => change,
            Begun::Done(deployment) => return Ok(deployment),
        };
        let api = apis::find_own(request, &mut change, draft.api).await?;
        let visible = store::version::list_of(change.tx(), viewer(&request.caller), api.id).await?;
        let version = versions::pick(&visible, Some(&draft.number))?;
        if !version.status.is_open() {
            return Err(Conflict::VersionNotActive(version.number.clone()).into());
        }
        let now = self.clock.now();
        let deployment = Deployment {
            id: self.ids.next(),
            api: api.id,
            version: version.id,
            tenant: api.tenant,
            route: checked.route,
            upstream: checked.upstream,
            limits: checked.limits,
            max_body_bytes: checked.max_body_bytes,
            delivery: checked.delivery,
            validation: draft.validation,
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        store::deployment::insert(change.tx(), &deployment)
            .await
            .map_err(MarketError::duplicate_as(Conflict::Taken(Kind::Deployment, "route")))?;
        change.audit(api.tenant, deployment.id, details(&deployment)).await?;
        change.announce(api.tenant, EventKind::DeploymentChanged, &deployment.id);
        change.finish(deployment).await
    }

    /// Replaces a deployment; calls in flight end under the old one.
    pub async fn replace_deployment(
        &self,
        request: &Request,
        action: Action,
        id: DeploymentId,
        draft: DeploymentDraft,
    ) -> Result<Deployment, MarketError> {
        self.require(request, action).await?;
        let mut checked = self.check_deployment(&draft).await?;
        let mut change = match self.begin(request, action).await? {
            Begun::Fresh(change) => change,
            Begun::Done(deployment) => return Ok(deployment),
        };
        let before = find_own(request, &mut change, id).await?;
        if draft.api != before.api {
            return Err(MarketError::invalid("apiId", "cannot be changed"));
        }
        let visible =
            store::version::list_of(change.tx(), viewer(&request.caller), before.api).await?;
        let version = versions::pick(&visible, Some(&draft.number))?;
        let runs = matches!(version.status, VersionStatus::Active | VersionStatus::Deprecated);
        if !runs && version.id != before.version {
            return Err(Conflict::VersionNotActive(version.number.clone()).into());
        }
        // A target that stays keeps its identity, and with it its health.
        for target in &mut checked.upstream.targets {
            if let Some(known) =
                before.upstream.targets.iter().find(|known| known.url == target.url)
            {
                target.id = known.id;
            }
        }
        let deployment = Deployment {
            version: version.id,
            route: checked.route,
            upstream: checked.upstream,
            limits: checked.limits,
            max_body_bytes: checked.max_body_bytes,
            delivery: checked.delivery,
            validation: draft.validation,
            updated_at: self.clock.now(),
            revision: before.revision + 1,
            ..before
        };
        store::deployment::update(change.tx(), &deployment)
            .await
            .map_err(MarketError::duplicate_as(Conflict::Taken(Kind::Deployment, "route")))?;
        change.audit(deployment.tenant, id, details(&deployment)).await?;
        change.announce(deployment.tenant, EventKind::DeploymentChanged, &id);
        change.finish(deployment).await
    }

    /// Removes a deployment; its route answers 404 from then on.
    pub async fn remove_deployment(
        &self,
        request: &Request,
        id: DeploymentId,
    ) -> Result<(), MarketError> {
        let mut change = match self.begin(request, Action::RemoveDeployment).await? {
            Begun::Fresh(change) => change,
            Begun::Done(()) => return Ok(()),
        };
        let deployment = find_own(request, &mut change, id).await?;
        store::deployment::delete(change.tx(), &deployment).await?;
        change.audit(deployment.tenant, id, details(&deployment)).await?;
        change.announce(deployment.tenant, EventKind::DeploymentChanged, &id);
        change.finish(()).await
    }

    /// Reads a deployment of the caller's tenant, and the number of its version.
    pub async fn read_deployment(
        &self,
        request: &Request,
        id: DeploymentId,
    ) -> Result<Deployment, MarketError> {
        self.require(request, Action::ReadDeployment).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        store::deployment::find(&mut tx, viewer(&request.caller), id)
            .await?
            .ok_or(MarketError::NotFound(Kind::Deployment))
    }

    /// Lists deployments of the caller's tenant.
    pub async fn list_deployments(
        &self,
        request: &Request,
        api: Option<ApiId>,
        page: Page,
    ) -> Result<PageOf<Deployment>, MarketError> {
        self.require(request, Action::ListDeployments).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        Ok(store::deployment::list(&mut tx, viewer(&request.caller), api, page).await?)
    }

    /// The numbers of versions by their identifiers, for showing deployments and subscriptions.
    pub async fn version_number(
        &self,
        request: &Request,
        id: model::VersionId,
    ) -> Result<semver::Version, MarketError> {
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let version = store::version::find(&mut tx, viewer(&request.caller), id).await?;
        version.map(|version| version.number).ok_or(MarketError::NotFound(Kind::Version))
    }

    /// The number of the configuration that holds everything committed so far.
    pub async fn config_version(&self) -> Result<u64, MarketError> {
        let mut tx = self.db.read(Viewer::Installation).await?;
        Ok(store::event::last_number(&mut tx).await?)
    }

    async fn check_deployment(&self, draft: &DeploymentDraft) -> Result<Checked, MarketError> {
        let mut violations = Vec::new();
        let host = draft.host.as_deref();
        let route = Route::new(host, &draft.path_prefix, draft.strip_prefix)
            .map_err(|error| {
                let field = match error {
                    model::InvalidDeployment::Host => "route.host",
                    model::InvalidDeployment::PathPrefix => "route.pathPrefix",
                };
                violations.push(Violation::new(field, error.to_string()));
            })
            .ok();
        let upstream = self.check_upstream(&draft.upstream, &mut violations).await;
        let limits = limits::parse("limits", draft.limits.clone(), &mut violations);
        if !(1..=BODY_MAX).contains(&draft.max_body_bytes) {
            violations.push(Violation::new("maxBodyBytes", format!("must be 1 to {BODY_MAX}")));
        }
        if let Some(Err(error)) = draft.delivery.cors.as_ref().map(Cors::check) {
            violations.push(Violation::new("cors", error.to_string()));
        }
        if !(100..=IDLE_MAX).contains(&draft.delivery.protocols.idle_ms) {
            violations.push(Violation::new("protocols.idleSeconds", "must be 0.1 to 86400"));
        }
        match (route, violations.is_empty()) {
            (Some(route), true) => Ok(Checked {
                route,
                upstream,
                limits,
                max_body_bytes: draft.max_body_bytes,
                delivery: draft.delivery.clone(),
            }),
            _ => Err(MarketError::Invalid(violations)),
        }
    }

    async fn check_upstream(
        &self,
        draft: &UpstreamDraft,
        violations: &mut Vec<Violation>,
    ) -> Upstream {
        if draft.targets.is_empty() || draft.targets.len() > TARGETS_MAX {
            violations.push(Violation::new(
                "upstream.targets",
                format!("must have 1 to {TARGETS_MAX} entries"),
            ));
        }
        if !draft.targets.is_empty() && draft.targets.iter().all(|target| target.weight == 0) {
            violations.push(Violation::new(
                "upstream.targets",
                "must have a target with a weight above 0",
            ));
        }
        let mut targets: Vec<Target> = Vec::new();
        for (index, target) in draft.targets.iter().take(TARGETS_MAX).enumerate() {
            let field = format!("upstream.targets[{index}].url");
            match UpstreamUrl::parse(&target.url) {
                Err(error) => violations.push(Violation::new(field, error.to_string())),
                Ok(url) if targets.iter().any(|known| known.url == url) => {
                    violations.push(Violation::new(field, "is listed twice"));
                }
                Ok(url) => {
                    if let Err(message) = permitted(&self.settings.addresses, &url).await {
                        violations.push(Violation::new(field, message));
                    }
                    targets.push(Target { id: self.ids.next(), url, weight: target.weight });
                }
            }
        }
        if draft.retries > RETRIES_MAX {
            violations
                .push(Violation::new("upstream.retries", format!("must be at most {RETRIES_MAX}")));
        }
        let timeout_ms =
            millis("upstream.timeoutSeconds", draft.timeout_seconds, TIMEOUT_MAX, violations);
        let resilience = draft.resilience.violations().into_iter();
        violations.extend(resilience.map(|(field, message)| {
            Violation::new(format!("upstream.resilience.{field}"), message)
        }));
        check_hash_on(draft, violations);
        check_tls(draft, violations);
        let health_check =
            draft.health_check.as_ref().map(|check| check_health_check(check, violations));
        Upstream {
            targets,
            balance: draft.balance,
            hash_on: draft.hash_on.clone(),
            protocol: draft.protocol,
            tls: draft.tls.clone(),
            health_check,
            timeout_ms,
            retries: draft.retries,
            resilience: draft.resilience.clone(),
        }
    }
}

fn check_health_check(check: &HealthCheckDraft, violations: &mut Vec<Violation>) -> HealthCheck {
    let at = "upstream.healthCheck";
    let is_path = |path: &str| {
        path.starts_with('/')
            && path.len() <= 1_024
            && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
    };
    let wrong = match (check.kind, check.path.as_deref()) {
        (CheckKind::Http, Some(path)) if is_path(path) => None,
        (CheckKind::Http, _) => Some("must be a path such as /health"),
        (CheckKind::Tcp, None) => None,
        (CheckKind::Tcp, Some(_)) => Some("is not asked when only a connection is opened"),
    };
    violations.extend(wrong.map(|message| Violation::new(format!("{at}.path"), message)));
    if check.unhealthy_after == 0 || check.healthy_after == 0 {
        violations.push(Violation::new(at, "unhealthyAfter and healthyAfter must be at least 1"));
    }
    let interval = format!("{at}.intervalSeconds");
    let timeout = format!("{at}.timeoutSeconds");
    HealthCheck {
        kind: check.kind,
        path: check.path.clone().unwrap_or_default(),
        interval_ms: millis(&interval, check.interval_seconds, INTERVAL_MAX, violations),
        timeout_ms: millis(&timeout, check.timeout_seconds, TIMEOUT_MAX, violations),
        unhealthy_after: check.unhealthy_after,
        healthy_after: check.healthy_after,
    }
}

fn check_hash_on(draft: &UpstreamDraft, violations: &mut Vec<Violation>) {
    let at = "upstream.hashOn";
    let Some(hash_on) = &draft.hash_on else { return };
    if draft.balance != Balance::ConsistentHash {
        violations.push(Violation::new(at, "is for the balance consistent_hash only"));
    }
    if let HashOn::Header(name) = hash_on {
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if name.is_empty() || name.len() > 100 || !name.bytes().all(is_token) {
            violations.push(Violation::new(format!("{at}.header"), "must be the name of a header"));
        }
    }
}

fn check_tls(draft: &UpstreamDraft, violations: &mut Vec<Violation>) {
    let UpstreamTls { ca_certificates, server_name } = &draft.tls;
    if let Some(Err(message)) = ca_certificates.as_deref().map(check_authorities) {
        violations.push(Violation::new("upstream.tls.caCertificates", message));
    }
    if server_name.as_deref().is_some_and(|name| ServerName::try_from(name).is_err()) {
        let message = "must be a host name or an address";
        violations.push(Violation::new("upstream.tls.serverName", message));
    }
    // A name that no certificate can carry would fail with every call.
    for (index, target) in draft.targets.iter().take(TARGETS_MAX).enumerate() {
        let Ok(url) = UpstreamUrl::parse(&target.url) else { continue };
        let bare = url.host().trim_start_matches('[').trim_end_matches(']');
        if url.is_secure() && ServerName::try_from(bare).is_err() {
            let field = format!("upstream.targets[{index}].url");
            violations.push(Violation::new(field, "has a host that no certificate can name"));
        }
    }
}

/// Whether a text is one or more certificates that can be trusted.
fn check_authorities(pem: &str) -> Result<(), &'static str> {
    const WRONG: &str = "must be certificates in PEM form";
    if pem.len() > AUTHORITIES_MAX {
        return Err("must have at most 65536 characters");
    }
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let added = certificate.map(|certificate| roots.add(certificate));
        if !matches!(added, Ok(Ok(()))) {
            return Err(WRONG);
        }
    }
    if roots.is_empty() { Err(WRONG) } else { Ok(()) }
}

/// Seconds as milliseconds, at least a tenth of a second.
fn millis(field: &str, seconds: f64, most: f64, violations: &mut Vec<Violation>) -> u32 {
    if !(0.1..=most).contains(&seconds) {
        violations.push(Violation::new(field, format!("must be 0.1 to {most} seconds")));
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the bounds above"
    )]
    let millis = (seconds * 1_000.0).round() as u32;
    millis
}

/// Refuses a target at an address that may not be connected to. A name is looked up: what it points to now is checked
/// here, what it points to later is checked again at each connection.
async fn permitted(policy: &AddressPolicy, url: &UpstreamUrl) -> Result<(), &'static str> {
    const REFUSED: &str = "is at a private or special address, which the operator has not allowed";
    let bare = url.host().trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return if policy.permits(address) { Ok(()) } else { Err(REFUSED) };
    }
    let lookup = tokio::net::lookup_host((url.host(), url.port()));
    let found = tokio::time::timeout(std::time::Duration::from_secs(3), lookup).await;
    // A name that cannot be looked up now may be known later, when it is called.
    let Ok(Ok(mut addresses)) = found else { return Ok(()) };
    if addresses.any(|address| !policy.permits(address.ip())) { Err(REFUSED) } else { Ok(()) }
}

fn details(deployment: &Deployment) -> serde_json::Value {
    json!({
        "version": deployment.version,
        "host": deployment.route.host(),
        "pathPrefix": deployment.route.path_prefix(),
        "validation": deployment.validation,
        "targets": deployment.upstream.targets.iter().map(|target| target.url.to_string()).collect::<Vec<_>>(),
    })
}

async fn find_own(
    request: &Request,
    change: &mut Change<'_>,
    id: DeploymentId,
) -> Result<Deployment, MarketError> {
    let deployment = store::deployment::find(change.tx(), viewer(&request.caller), id)
        .await?
        .ok_or(MarketError::NotFound(Kind::Deployment))?;
    request.check_revision(deployment.revision)?;
    Ok(deployment)
}
