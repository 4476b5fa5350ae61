//! Settings, headings, organisations and their people.

use std::collections::BTreeMap;

use model::{Email, Slug, UserStatus};
use serde_json::{Value, json};

use super::{Call, Change, Ids, Key, Phase, Planner, Target, body, fields, routes};
use crate::{
    file::{PersonEntry, TenantEntry},
    state::{Entry, Tenant},
};

impl Planner<'_> {
    /// What belongs to no organisation.
    pub(super) fn ground(&mut self) {
        let (desired, state) = (self.desired, self.state);
        if let Some(settings) = &desired.settings {
            let subject = "settings".to_owned();
            match &state.settings {
                None => self.refuse(subject, "only platform administrators see and change them"),
                Some(current) => {
                    let mut current = current.clone();
                    if let (None, Some(current)) = (settings.legal_hold, current.as_object_mut()) {
                        current.remove("legalHold");
                    }
                    let differences = super::differences(
                        &super::normal(current),
                        &super::normal(json!(settings)),
                    );
                    if !differences.is_empty() {
                        let call = Call::new(routes::REPLACE_SETTINGS, body(settings));
                        self.step(Phase::Ground, Change::Change, subject, call);
                        if let Some(step) = self.plan.steps.last_mut() {
                            step.differences = differences;
                        }
                    }
                }
            }
        }
        let Some(categories) = &desired.categories else { return };
        for (slug, entry) in categories {
            let subject = format!("category {slug}");
            match state.categories.get(slug) {
                Some(current) => {
                    let route = routes::REPLACE_CATEGORY;
                    self.replace(Phase::Ground, subject, current, route, body(entry), Vec::new());
                }
                None => {
                    let mut wanted = body(entry);
                    wanted.insert("slug".to_owned(), json!(slug));
                    let call = Call::new(routes::CREATE_CATEGORY, wanted);
                    self.step(Phase::Ground, Change::Create, subject, call);
                }
            }
        }
        if self.prunes() {
            for (slug, entry) in &state.categories {
                if !categories.contains_key(slug) {
                    let subject = format!("category {slug}");
                    self.remove(Phase::LeftoverGround, subject, routes::REMOVE_CATEGORY, entry);
                }
            }
        }
    }

    pub(super) fn tenant(&mut self, slug: &Slug, entry: &TenantEntry) {
        let state = self.state;
        let subject = format!("organisation {slug}");
        let current = state.tenants.get(slug);
        let wanted = fields([
            ("slug", json!(slug)),
            ("name", json!(entry.name)),
            ("active", Value::Bool(entry.active)),
        ]);
        match current {
            Some(tenant) => {
                if tenant.name != entry.name || tenant.active != entry.active {
                    let route = routes::REPLACE_TENANT;
                    self.replace(Phase::Tenants, subject, &tenant.entry, route, wanted, Vec::new());
                }
            }
            None if !self.has_role(model::Role::PlatformAdmin) => {
                return self.refuse(subject, "is not there, or not yours");
            }
            None => {
                let new = fields([("slug", json!(slug)), ("name", json!(entry.name))]);
                let key = Key::Tenant(slug.clone());
                let call = Call::new(routes::CREATE_TENANT, new).making(key.clone());
                self.step(Phase::Tenants, Change::Create, subject.clone(), call);
                if !entry.active {
                    let call = Call::new(routes::REPLACE_TENANT, wanted);
                    let call = call.on(Target::Made(key));
                    self.step(Phase::LeftoverGround, Change::Change, subject, call);
                }
            }
        }
        if let Some(people) = &entry.people
            && !state.hidden.contains(&"people")
        {
            self.people(slug, current, people);
        }
        self.offers(slug, current, entry);
        self.access(slug, current, entry);
    }

    fn people(
        &mut self,
        slug: &Slug,
        tenant: Option<&Tenant>,
        people: &BTreeMap<Email, PersonEntry>,
    ) {
        for (email, person) in people {
            self.person(slug, tenant, email, person);
        }
        let prunes = self.prunes();
        let known = tenant.iter().flat_map(|tenant| &tenant.people);
        for (email, person) in known.filter(|_| prunes) {
            // Nobody saws off the branch they sit on.
            if !people.contains_key(email) && *email != self.state.me.email {
                let subject = format!("account {email} of {slug}");
                self.remove(Phase::LeftoverGround, subject, routes::REMOVE_USER, &person.entry);
            }
        }
    }

    fn person(&mut self, slug: &Slug, tenant: Option<&Tenant>, email: &Email, entry: &PersonEntry) {
        let subject = format!("account {email} of {slug}");
        match tenant.and_then(|tenant| tenant.people.get(email)) {
            Some(person) => {
                // An invitation that was not accepted yet is as good as an account that may sign in.
                let is_active = person.status != UserStatus::Disabled;
                let mut current: Entry = person.entry.clone();
                current.body.insert("active".to_owned(), Value::Bool(is_active));
                let route = routes::REPLACE_USER;
                self.replace(Phase::Members, subject, &current, route, body(entry), Vec::new());
            }
            None if entry.active => {
                let wanted = fields([
                    ("email", json!(email)),
                    ("name", json!(entry.name)),
                    ("roles", json!(entry.roles)),
                ]);
                let tenant = self.tenant_target(slug).map(Ids::One);
                let call = Call::new(routes::INVITE_USER, wanted)
                    .with(tenant.map(|tenant| ("tenantId", tenant)).into_iter().collect());
                self.step(Phase::Members, Change::Invite, subject, call);
            }
            // Nobody is invited who then may not sign in.
            None => {}
        }
    }
}
