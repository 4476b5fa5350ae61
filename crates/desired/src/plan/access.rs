//! What organisations call: applications and their subscriptions.

use std::collections::BTreeSet;

use model::{Approval, Name, Role, Slug, SubscriptionStatus};
use semver::Version;
use serde_json::{Map, json};

use super::{Call, Change, Ids, Key, Phase, Planner, Target, body, fields, routes};
use crate::{
    file::{
        ApiReference, ApplicationEntry, PlanEntry, SubscriptionEntry, SubscriptionGoal, TenantEntry,
    },
    state::{Api, Entry, Subscription, Tenant},
};

/// An application of the file, and what is there of it.
struct Consumer<'c> {
    slug: &'c Slug,
    name: &'c Name,
    current: Option<&'c Entry>,
}

/// What a subscription is to.
struct Offered<'o> {
    /// None while it is not there.
    api: Option<&'o Api>,
    target: Target,
    plan: Target,
    approval: Approval,
    /// Whether whoever agrees has to sign, which takes a person.
    is_signed: bool,
    /// Whether the caller decides for the owner.
    decides: bool,
}

impl<'p> Planner<'p> {
    pub(super) fn access(&mut self, slug: &Slug, tenant: Option<&Tenant>, entry: &TenantEntry) {
        let Some(applications) = &entry.applications else { return };
        if self.state.hidden.contains(&"applications") {
            return;
        }
        for (name, entry) in applications {
            let current = tenant.and_then(|tenant| tenant.applications.get(name));
            self.application(&Consumer { slug, name, current }, entry);
        }
        let Some(tenant) = tenant.filter(|_| self.prunes()) else { return };
        for (name, application) in &tenant.applications {
            if !applications.contains_key(name) {
                let subject = format!("application {slug}/{name}");
                self.remove(Phase::Leftovers, subject, routes::REMOVE_APPLICATION, application);
            }
        }
    }

    fn application(&mut self, consumer: &Consumer<'_>, entry: &ApplicationEntry) {
        let Consumer { slug, name, current } = consumer;
        let subject = format!("application {slug}/{name}");
        let wanted = fields([("name", json!(name)), ("description", json!(entry.description))]);
        match current {
            Some(current) => {
                let route = routes::REPLACE_APPLICATION;
                self.replace(Phase::Members, subject, current, route, wanted, Vec::new());
            }
            None => {
                let key = Key::Application((*slug).clone(), (*name).clone());
                let call = Call::new(routes::CREATE_APPLICATION, wanted)
                    .with(self.belonging(slug))
                    .making(key);
                self.step(Phase::Members, Change::Create, subject, call);
            }
        }
        let Some(subscriptions) = &entry.subscriptions else { return };
        if self.state.hidden.contains(&"subscriptions") {
            return;
        }
        let mut named = Vec::new();
        for entry in subscriptions {
            named.extend(self.subscription(consumer, entry));
        }
        let Some(current) = current.filter(|_| self.prunes()) else { return };
        for held in &self.state.subscriptions {
            if held.application_id != current.id || named.contains(&held.id) {
                continue;
            }
            let to = match self.state.version(&held.api_id, &held.version_id) {
                Some((api, version)) => format!("{} {}", api.name, version.version),
                None => held.api_id.clone(),
            };
            let subject = format!("subscription of {slug}/{name} to {to}");
            let call = Call::new(routes::CANCEL_SUBSCRIPTION, Map::new())
                .on(Target::Known(held.id.clone()))
                .at(held.revision);
            self.step(Phase::Cancellations, Change::Cancel, subject, call);
        }
    }

    /// Plans one subscription; says which of those that are there it is.
    fn subscription(
        &mut self,
        consumer: &Consumer<'_>,
        entry: &SubscriptionEntry,
    ) -> Option<String> {
        let Consumer { slug, name, current } = consumer;
        let subject = format!("subscription of {slug}/{name} to {} {}", entry.api, entry.version);
        let offered = match self.offered(entry) {
            Ok(offered) => offered,
            Err(reason) => {
                self.refuse(subject, reason);
                return None;
            }
        };
        let held = self.state.subscriptions.iter().find(|held| {
            let version = self.state.version(&held.api_id, &held.version_id);
            current.is_some_and(|current| held.application_id == current.id)
                && offered.api.is_some_and(|api| held.api_id == api.entry.id)
                && version.is_some_and(|(_, version)| version.version == entry.version)
        });
        if let Some(held) = held {
            self.held(subject, &offered, held, entry);
            return Some(held.id.clone());
        }
        let is_known = offered.api.is_none_or(|api| {
            let is_own = self.state.acts_for(&api.tenant_id);
            is_own || api.versions.contains_key(&entry.version)
        });
        if !is_known {
            self.refuse(subject, "the API shows no such version");
            return None;
        }
        if !self.will_be_open(offered.api, &entry.version) {
            self.wait(subject, format!("waits for version {} to be active", entry.version));
            return None;
        }
        let application = match current {
            Some(current) => Target::Known(current.id.clone()),
            None => Target::Made(Key::Application((*slug).clone(), (*name).clone())),
        };
        let mut wanted = body(entry);
        for field in ["api", "plan", "status"] {
            wanted.remove(field);
        }
        let key = key(consumer, &entry.api, &entry.version);
        let call = Call::new(routes::REQUEST_SUBSCRIPTION, wanted)
            .with(vec![
                ("applicationId", Ids::One(application)),
                ("apiId", Ids::One(offered.target)),
                ("planId", Ids::One(offered.plan)),
            ])
            .making(key.clone());
        self.step(Phase::Requests, Change::Request, subject.clone(), call);
        if entry.status == SubscriptionGoal::Pending {
            return None;
        }
        let target = Target::Made(key);
        let is_active = offered.approval == Approval::Automatic;
        if !offered.decides && !is_active {
            self.wait(subject, "will wait for the owner to agree");
            return None;
        }
        if !is_active && offered.is_signed {
            self.wait(subject, "will wait for somebody to sign, in the portal");
            return None;
        }
        if !is_active {
            self.decide(subject.clone(), Change::Approve, target.clone(), None);
        }
        if !is_active && offered.approval == Approval::TwoPerson {
            self.wait(subject, "will wait for the approval of another person");
            return None;
        }
        if entry.status == SubscriptionGoal::Suspended && offered.decides {
            self.decide(subject, Change::Suspend, target, None);
        }
        None
    }

    /// A subscription that is there: its terms are fixed, its status may move.
    fn held(
        &mut self,
        subject: String,
        offered: &Offered<'_>,
        held: &Subscription,
        entry: &SubscriptionEntry,
    ) {
        let is_same_plan = matches!(&offered.plan, Target::Known(id) if *id == held.plan_id);
        let agreement = entry.agreement_sha256.as_ref().map(|hash| hash.to_ascii_lowercase());
        if !is_same_plan
            || held.purpose_of_use != entry.purpose_of_use
            || entry
                .data_categories
                .as_ref()
                .is_some_and(|asked| !is_same_set(asked, &held.data_categories))
            || held.agreement_sha256 != agreement
            || held.expires_at != entry.expires_at
        {
            let reason = "was agreed on other terms; cancel it, and the file asks for it anew";
            return self.refuse(subject, reason);
        }
        let change = match (held.status, entry.status) {
            (SubscriptionStatus::Pending, SubscriptionGoal::Pending)
            | (SubscriptionStatus::Active, SubscriptionGoal::Active | SubscriptionGoal::Pending)
            | (SubscriptionStatus::Suspended, SubscriptionGoal::Suspended) => return,
            (SubscriptionStatus::Active, SubscriptionGoal::Suspended) => Change::Suspend,
            _ => Change::Approve,
        };
        if !offered.decides {
            return self.wait(subject, "waits for the owner's decision");
        }
        if change == Change::Approve && offered.is_signed {
            return self.wait(subject, "waits for somebody to sign, in the portal");
        }
        let takes_two = change == Change::Approve && offered.approval == Approval::TwoPerson;
        let first = held.first_approval.as_ref().map(|first| &first.by);
        if takes_two && first == Some(&self.state.me.user_id) {
            return self.wait(subject, "waits for the approval of another person");
        }
        let target = Target::Known(held.id.clone());
        self.decide(subject.clone(), change, target.clone(), Some(held.revision));
        if takes_two && held.first_approval.is_none() {
            return self.wait(subject, "will wait for the approval of another person");
        }
        let is_to_stop = entry.status == SubscriptionGoal::Suspended;
        if change == Change::Approve && is_to_stop {
            self.decide(subject, Change::Suspend, target, None);
        }
    }

    fn decide(&mut self, subject: String, change: Change, target: Target, revision: Option<i64>) {
        let (phase, route) = match change {
            Change::Suspend => (Phase::Suspensions, routes::SUSPEND_SUBSCRIPTION),
            _ => (Phase::Agreements, routes::APPROVE_SUBSCRIPTION),
        };
        let mut call = Call::new(route, Map::new()).on(target);
        call.revision = revision;
        self.step(phase, change, subject, call);
    }

    /// What a subscription is to, there already or made by an earlier step.
    fn offered(&self, entry: &SubscriptionEntry) -> Result<Offered<'p>, String> {
        let unknown = || format!("there is no API {} that you may see", entry.api);
        let no_plan = || format!("the API has no plan {:?}", entry.plan.to_string());
        let (api, named) = match &entry.api {
            ApiReference::Id(id) => {
                (Some(self.state.apis.get(&id.to_string()).ok_or_else(unknown)?), None)
            }
            ApiReference::Named(slug, name) => {
                let tenant = self.state.tenant_id(slug);
                (tenant.and_then(|tenant| self.state.api(tenant, name)), Some((slug, name)))
            }
        };
        let wanted =
            named.and_then(|(slug, name)| self.desired.tenants.get(slug)?.apis.as_ref()?.get(name));
        let wanted_plan =
            wanted.and_then(|api| api.plans.as_ref()).and_then(|plans| plans.get(&entry.plan));
        let is_named = wanted.is_some_and(|api| api.versions.contains_key(&entry.version));
        if let Some(api) = api {
            if !is_named && !api.versions.contains_key(&entry.version) {
                return Err(format!("the API has no version {}", entry.version));
            }
            let decides = self.state.acts_for(&api.tenant_id)
                && [Role::TenantAdmin, Role::Provider, Role::Reviewer]
                    .into_iter()
                    .any(|role| self.has_role(role));
            let (plan, (approval, is_signed)) =
                match (api.plans.get(&entry.plan), wanted_plan, named) {
                    (Some(plan), wanted, _) => (
                        Target::Known(plan.entry.id.clone()),
                        wanted.map_or((plan.approval, plan.is_signed), agreeing),
                    ),
                    (None, Some(wanted), Some((slug, name))) => (
                        Target::Made(Key::Plan(slug.clone(), name.clone(), entry.plan.clone())),
                        agreeing(wanted),
                    ),
                    _ => return Err(no_plan()),
                };
            let target = Target::Known(api.entry.id.clone());
            return Ok(Offered { api: Some(api), target, plan, approval, is_signed, decides });
        }
        let (Some((slug, name)), Some(_)) = (named, wanted) else { return Err(unknown()) };
        let plan = wanted_plan.ok_or_else(no_plan)?;
        if !is_named {
            return Err(format!("the API has no version {}", entry.version));
        }
        Ok(Offered {
            api: None,
            target: Target::Made(Key::Api(slug.clone(), name.clone())),
            plan: Target::Made(Key::Plan(slug.clone(), name.clone(), entry.plan.clone())),
            approval: plan.approval,
            is_signed: plan.signed,
            decides: true,
        })
    }
}

fn is_same_set(one: &[Slug], other: &[Slug]) -> bool {
    let sorted = |slugs: &[Slug]| slugs.iter().cloned().collect::<BTreeSet<_>>();
    sorted(one) == sorted(other)
}

/// Who agrees under a plan, and whether it takes a signature.
const fn agreeing(plan: &PlanEntry) -> (Approval, bool) {
    (plan.approval, plan.signed)
}

fn key(consumer: &Consumer<'_>, api: &ApiReference, version: &Version) -> Key {
    Key::Subscription(consumer.slug.clone(), consumer.name.clone(), api.clone(), version.clone())
}
