//! What organisations offer: APIs with versions, plans and deployments.

use model::{Name, Role, Slug, VersionStatus};
use semver::Version;
use serde_json::{Map, Value, json};

use super::{Call, Change, Ids, Key, Phase, Planner, Target, body, fields, routes};
use crate::{
    file::{ApiEntry, DeploymentEntry, TenantEntry, VersionEntry, VersionGoal},
    state::{Api, ApiVersion, Entry, Tenant},
};

/// An API of the file, and what is there of it.
struct Offer<'o> {
    slug: &'o Slug,
    name: &'o Name,
    entry: &'o ApiEntry,
    current: Option<&'o Api>,
    target: Target,
}

impl Offer<'_> {
    fn subject(&self) -> String {
        format!("API {}/{}", self.slug, self.name)
    }

    fn part(&self, what: &str, name: impl std::fmt::Display) -> String {
        format!("{what} {name} of {}/{}", self.slug, self.name)
    }
}

impl Planner<'_> {
    pub(super) fn offers(&mut self, slug: &Slug, tenant: Option<&Tenant>, entry: &TenantEntry) {
        let Some(apis) = &entry.apis else { return };
        let state = self.state;
        for (name, entry) in apis {
            let current = tenant.and_then(|tenant| state.api(&tenant.entry.id, name));
            let target = match current {
                Some(api) => Target::Known(api.entry.id.clone()),
                None => Target::Made(Key::Api(slug.clone(), name.clone())),
            };
            self.api(&Offer { slug, name, entry, current, target });
        }
        let Some(tenant) = tenant.filter(|_| self.prunes()) else { return };
        for api in state.apis.values() {
            if api.tenant_id != tenant.entry.id || apis.contains_key(&api.name) {
                continue;
            }
            for deployment in &api.deployments {
                let subject = format!("deployment {} of {slug}/{}", route_of(deployment), api.name);
                self.remove(Phase::Undeployments, subject, routes::REMOVE_DEPLOYMENT, deployment);
            }
            let subject = format!("API {slug}/{}", api.name);
            self.remove(Phase::LeftoverApis, subject, routes::REMOVE_API, &api.entry);
        }
    }

    fn api(&mut self, offer: &Offer<'_>) {
        let mut wanted = body(offer.entry);
        for nested in ["versions", "plans", "deployments", "visibleTo"] {
            wanted.remove(nested);
        }
        wanted.insert("name".to_owned(), json!(offer.name));
        let mut ids = Vec::new();
        if !offer.entry.visible_to.is_empty() {
            let mut audience = Vec::new();
            for reference in &offer.entry.visible_to {
                match self.tenant_reference(reference) {
                    Some(target) => audience.push(target),
                    None => {
                        let reason = format!(
                            "visibleTo names {reference}, which is no organisation that you know by its slug; \
                             its id may stand there as well"
                        );
                        self.refuse(offer.subject(), reason);
                    }
                }
            }
            ids.push(("visibleTo", Ids::Many(audience)));
        }
        let mut versions = offer.entry.versions.iter();
        if let Some(current) = offer.current {
            self.replace(
                Phase::Members,
                offer.subject(),
                &current.entry,
                routes::REPLACE_API,
                wanted,
                ids,
            );
        } else {
            let Some((number, version)) = versions.next() else {
                return self.refuse(offer.subject(), "needs a version to be registered with");
            };
            wanted.insert("version".to_owned(), json!(number));
            wanted.insert("specification".to_owned(), specification(version));
            ids.extend(self.belonging(offer.slug));
            let key = Key::Api(offer.slug.clone(), offer.name.clone());
            let call = Call::new(routes::REGISTER_API, wanted).with(ids).making(key);
            self.step(Phase::Members, Change::Create, offer.subject(), call);
            self.await_review(offer, number, version);
        }
        for (number, version) in versions {
            self.version(offer, number, version);
        }
        self.plans(offer);
        self.deployments(offer);
        if let Some(current) = offer.current.filter(|_| self.prunes()) {
            for (number, version) in &current.versions {
                let runs =
                    matches!(version.status, VersionStatus::Active | VersionStatus::Deprecated);
                if runs && !offer.entry.versions.contains_key(number) {
                    self.retire(offer, number, Some(version));
                }
            }
        }
    }

    fn version(&mut self, offer: &Offer<'_>, number: &Version, entry: &VersionEntry) {
        let subject = offer.part("version", number);
        let current = offer.current.and_then(|api| api.versions.get(number));
        let Some(current) = current else {
            self.submit(offer, number, entry);
            return self.await_review(offer, number, entry);
        };
        let digest = digest(&entry.specification);
        if digest != current.specification_sha256 {
            return match current.status {
                VersionStatus::Draft | VersionStatus::Rejected => {
                    self.submit(offer, number, entry);
                    self.await_review(offer, number, entry);
                }
                VersionStatus::PendingApproval => self.refuse(
                    subject,
                    "is being reviewed; its specification can change when it was rejected",
                ),
                _ => self.refuse(
                    subject,
                    "was approved with another specification; give the change a version of its own",
                ),
            };
        }
        let waits = "waits for a reviewer other than who submitted it";
        let back =
            |status: VersionStatus| format!("is {}, which cannot be undone", status.as_str());
        match (current.status, entry.status) {
            (VersionStatus::PendingApproval, VersionGoal::PendingApproval) => {}
            (VersionStatus::PendingApproval, _) => {
                let is_own = current.submitted_by.as_deref() == Some(&self.state.me.user_id);
                if is_own || !self.has_role(Role::Reviewer) {
                    return self.wait(subject, waits);
                }
                let call = Call::new(routes::APPROVE_VERSION, fields([("version", json!(number))]));
                let call = call.on(offer.target.clone()).at(current.revision);
                self.step(Phase::Approvals, Change::Approve, subject, call);
                self.end(offer, number, entry, None);
            }
            (VersionStatus::Draft | VersionStatus::Rejected, _) => {
                self.wait(subject, "was rejected; submit it with another specification");
            }
            (VersionStatus::Active, VersionGoal::Deprecated | VersionGoal::Retired) => {
                self.end(offer, number, entry, Some(current));
            }
            (VersionStatus::Active, _) | (VersionStatus::Retired, VersionGoal::Retired) => {}
            (VersionStatus::Deprecated, VersionGoal::Retired) => {
                self.retire(offer, number, Some(current));
            }
            (VersionStatus::Deprecated, VersionGoal::Deprecated) => {
                let versions = offer.current.into_iter().flat_map(|api| api.versions.values());
                let successor = current
                    .successor_id
                    .as_ref()
                    .and_then(|id| versions.into_iter().find(|version| version.id == *id));
                let successor = successor.map(|version| &version.version);
                if successor != entry.successor.as_ref() || current.sunset_at != entry.sunset_at {
                    let reason =
                        "was announced with another sunset or successor, which cannot be changed";
                    self.refuse(subject, reason);
                }
            }
            (status @ (VersionStatus::Deprecated | VersionStatus::Retired), _) => {
                self.refuse(subject, back(status));
            }
        }
    }

    fn submit(&mut self, offer: &Offer<'_>, number: &Version, entry: &VersionEntry) {
        let wanted = fields([("version", json!(number)), ("specification", specification(entry))]);
        let call = Call::new(routes::SUBMIT_VERSION, wanted).on(offer.target.clone());
        self.step(Phase::Offers, Change::Submit, offer.part("version", number), call);
    }

    fn await_review(&mut self, offer: &Offer<'_>, number: &Version, entry: &VersionEntry) {
        if entry.status != VersionGoal::PendingApproval {
            let subject = offer.part("version", number);
            self.wait(subject, "will wait for a reviewer other than you");
        }
    }

    /// Deprecates or retires a version that is active, or will be when it was approved.
    fn end(
        &mut self,
        offer: &Offer<'_>,
        number: &Version,
        entry: &VersionEntry,
        current: Option<&ApiVersion>,
    ) {
        match entry.status {
            VersionGoal::PendingApproval | VersionGoal::Active => {}
            VersionGoal::Retired => self.retire(offer, number, current),
            VersionGoal::Deprecated => {
                let mut wanted = fields([("version", json!(number))]);
                if let Some(sunset) = &entry.sunset_at {
                    wanted.insert("sunsetAt".to_owned(), json!(sunset));
                }
                if let Some(successor) = &entry.successor {
                    wanted.insert("successor".to_owned(), json!(successor));
                }
                let mut call = Call::new(routes::DEPRECATE_VERSION, wanted);
                call = call.on(offer.target.clone());
                call.revision = current.map(|version| version.revision);
                let subject = offer.part("version", number);
                self.step(Phase::Deprecations, Change::Deprecate, subject, call);
            }
        }
    }

    fn retire(&mut self, offer: &Offer<'_>, number: &Version, current: Option<&ApiVersion>) {
        let mut call = Call::new(routes::RETIRE_VERSION, fields([("version", json!(number))]));
        call = call.on(offer.target.clone());
        call.revision = current.map(|version| version.revision);
        self.step(Phase::Retirements, Change::Retire, offer.part("version", number), call);
    }

    /// Whether a version takes deployments and subscriptions once the reviews of this run are done.
    pub(super) fn will_be_open(&self, api: Option<&Api>, number: &Version) -> bool {
        let Some(version) = api.and_then(|api| api.versions.get(number)) else { return false };
        match version.status {
            VersionStatus::Active => true,
            VersionStatus::PendingApproval => self.plan.steps.iter().any(|step| {
                let is_it = step.call.body.as_ref().and_then(|body| body.get("version"))
                    == Some(&json!(number));
                let target = match &step.call.target {
                    Some(Target::Known(id)) => api.is_some_and(|api| api.entry.id == *id),
                    _ => false,
                };
                step.phase == Phase::Approvals && is_it && target
            }),
            _ => false,
        }
    }

    fn plans(&mut self, offer: &Offer<'_>) {
        let Some(plans) = &offer.entry.plans else { return };
        for (name, entry) in plans {
            let subject = offer.part("plan", name);
            let mut wanted = body(entry);
            wanted.insert("name".to_owned(), json!(name));
            let api = vec![("apiId", Ids::One(offer.target.clone()))];
            match offer.current.and_then(|current| current.plans.get(name)) {
                Some(plan) => {
                    self.replace(
                        Phase::Offers,
                        subject,
                        &plan.entry,
                        routes::REPLACE_PLAN,
                        wanted,
                        api,
                    );
                }
                None => {
                    let key = Key::Plan(offer.slug.clone(), offer.name.clone(), name.clone());
                    let call = Call::new(routes::CREATE_PLAN, wanted).with(api).making(key);
                    self.step(Phase::Offers, Change::Create, subject, call);
                }
            }
        }
        let Some(current) = offer.current.filter(|_| self.prunes()) else { return };
        for (name, plan) in &current.plans {
            if !plans.contains_key(name) {
                let subject = offer.part("plan", name);
                self.remove(Phase::Leftovers, subject, routes::REMOVE_PLAN, &plan.entry);
            }
        }
    }

    fn deployments(&mut self, offer: &Offer<'_>) {
        let Some(deployments) = &offer.entry.deployments else { return };
        if self.state.hidden.contains(&"deployments") {
            return;
        }
        for entry in deployments {
            self.deployment(offer, entry);
        }
        let Some(current) = offer.current.filter(|_| self.prunes()) else { return };
        for deployment in &current.deployments {
            let route = route_of(deployment);
            if !deployments.iter().any(|entry| route_name(entry) == route) {
                let subject = offer.part("deployment", &route);
                self.remove(Phase::Undeployments, subject, routes::REMOVE_DEPLOYMENT, deployment);
            }
        }
    }

    fn deployment(&mut self, offer: &Offer<'_>, entry: &DeploymentEntry) {
        let route = route_name(entry);
        let subject = offer.part("deployment", &route);
        let api = vec![("apiId", Ids::One(offer.target.clone()))];
        let wanted = body(entry);
        let is_open = self.will_be_open(offer.current, &entry.version);
        let current =
            offer.current.and_then(|api| api.deployments.iter().find(|one| route_of(one) == route));
        if let Some(current) = current {
            let is_same = current.body.get("version") == wanted.get("version");
            if is_same || is_open {
                let route = routes::REPLACE_DEPLOYMENT;
                return self.replace(Phase::Deployments, subject, current, route, wanted, api);
            }
            return self.wait(subject, format!("waits for version {} to be active", entry.version));
        }
        let others = self.state.apis.values().filter(|_| !self.prunes());
        let mut deployed = others.flat_map(|api| api.deployments.iter().map(move |one| (api, one)));
        if let Some((other, _)) = deployed.find(|(_, one)| route_of(one) == route) {
            return self.refuse(subject, format!("the route belongs to the API {}", other.name));
        }
        if !is_open {
            return self.wait(subject, format!("waits for version {} to be active", entry.version));
        }
        let call = Call::new(routes::DEPLOY, wanted).with(api);
        self.step(Phase::Deployments, Change::Create, subject, call);
    }
}

fn specification(entry: &VersionEntry) -> Value {
    json!({ "format": "openapi", "content": entry.specification })
}

/// SHA-256 in lower-case hex, as versions are told apart by.
fn digest(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `host/prefix`, as routes are told apart by.
fn route_name(entry: &DeploymentEntry) -> String {
    let host = entry.route.host.as_deref().unwrap_or_default();
    format!("{}{}", host.to_ascii_lowercase(), entry.route.path_prefix)
}

pub(crate) fn route_of(deployment: &Entry) -> String {
    let empty = Map::new();
    let route = deployment.body.get("route").and_then(Value::as_object).unwrap_or(&empty);
    let part = |name| route.get(name).and_then(Value::as_str).unwrap_or_default();
    format!("{}{}", part("host"), part("pathPrefix"))
}
