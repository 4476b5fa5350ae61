//! What would have to be done: the file compared with what is there.

mod access;
mod offers;
mod people;
mod routes;

use std::{collections::BTreeMap, fmt, sync::Mutex};

use authz::Access;
use futures_util::{StreamExt, stream};
use model::{Name, Role, Roles, Slug};
use semver::Version;
use serde::Serialize;
use serde_json::{Map, Value};

use self::routes::Route;
use crate::{
    apply::{AT_ONCE, resolved},
    client::{Client, ClientError},
    compare::{Difference, differences},
    file::{ApiReference, Desired, TenantReference},
    state::{Entry, State},
};

/// The steps that lead from what is there to what the file asks for.
#[derive(Debug, Serialize)]
pub struct Plan {
    /// In the order in which they are taken.
    pub steps: Vec<Step>,
    /// What somebody else has to do first; the next run goes on from there.
    pub waiting: Vec<Obstacle>,
    /// What cannot be done at all. Nothing is applied while there is one.
    pub impossible: Vec<Obstacle>,
    /// What the caller's roles do not let it see; it is neither compared nor changed.
    pub hidden: Vec<&'static str>,
}

/// A step.
#[derive(Debug, Serialize)]
pub struct Step {
    /// What is done.
    pub change: Change,
    /// To what.
    pub subject: String,
    /// What differs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<Difference>,
    /// What is there now, when it is to change.
    #[serde(skip)]
    current: Option<Map<String, Value>>,
    #[serde(skip)]
    pub(crate) phase: Phase,
    #[serde(skip)]
    pub(crate) call: Call,
}

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Makes something that is not there.
    Create,
    /// Invites a person.
    Invite,
    /// Changes something.
    Change,
    /// Hands a version in for review.
    Submit,
    /// Approves a version or subscription.
    Approve,
    /// Announces the end of a version.
    Deprecate,
    /// Asks for a subscription.
    Request,
    /// Stops a subscription for now.
    Suspend,
    /// Ends a version.
    Retire,
    /// Ends a subscription.
    Cancel,
    /// Takes something away.
    Remove,
}

/// Why something is not done.
#[derive(Debug, Serialize)]
pub struct Obstacle {
    /// What is not done.
    pub subject: String,
    /// Why.
    pub reason: String,
}

/// What becomes of things that the file does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// They stay.
    Keep,
    /// They are taken away, within the sections that the file has.
    Prune,
}

/// Steps of a phase do not need each other; every phase needs those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Ground,
    Tenants,
    Members,
    Offers,
    Approvals,
    Cancellations,
    Undeployments,
    Deployments,
    Requests,
    Agreements,
    Suspensions,
    Deprecations,
    Retirements,
    Leftovers,
    LeftoverApis,
    LeftoverGround,
}

/// A request to the control API, with ids that may be known only when earlier steps were taken.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) route: Route,
    pub(crate) target: Option<Target>,
    pub(crate) body: Option<Map<String, Value>>,
    /// Fields of the body that are ids.
    pub(crate) ids: Vec<(&'static str, Ids)>,
    pub(crate) revision: Option<i64>,
    /// What the answer's id belongs to.
    pub(crate) yields: Option<Key>,
}

/// One id or several.
#[derive(Debug, Clone)]
pub(crate) enum Ids {
    One(Target),
    Many(Vec<Target>),
}

/// Something with an id.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// It is there.
    Known(String),
    /// An earlier step makes it.
    Made(Key),
}

/// Something by its natural name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Tenant(Slug),
    Api(Slug, Name),
    Plan(Slug, Name, Name),
    Application(Slug, Name),
    Subscription(Slug, Name, ApiReference, Version),
}

impl Plan {
    /// Compares a file with what is there. `state` learns what it has to know about APIs of others.
    ///
    /// # Errors
    ///
    /// When the installation does not answer.
    pub async fn of(
        client: &Client,
        state: &mut State,
        desired: &Desired,
        removal: Removal,
    ) -> Result<Self, ClientError> {
        learn(client, state, desired).await?;
        let mut planner = Planner {
            state,
            desired,
            removal,
            plan: Self {
                steps: Vec::new(),
                waiting: Vec::new(),
                impossible: Vec::new(),
                hidden: state.hidden.clone(),
            },
        };
        planner.ground();
        for (slug, entry) in &desired.tenants {
            planner.tenant(slug, entry);
        }
        let mut plan = planner.plan;
        plan.leave_to_others(state.me.roles);
        plan.confirm(client).await?;
        // Stable, so that what was found in order stays in order.
        plan.steps.sort_by_key(|step| step.phase);
        Ok(plan)
    }

    /// Takes out what the caller's roles do not allow, and what needs it: somebody else has to do that.
    fn leave_to_others(&mut self, roles: Roles) {
        let mut left = Vec::new();
        for step in std::mem::take(&mut self.steps) {
            let reason = match step.call.route.action.access() {
                Access::AnyOf(able) if !roles.intersects(able) => {
                    let able: Vec<String> = able.iter().map(|role| role.to_string()).collect();
                    Some(format!(
                        "your roles do not allow it; those that do are {}",
                        able.join(", ")
                    ))
                }
                _ => {
                    let key = step.call.needs().find(|key| left.contains(*key));
                    key.map(|key| format!("waits for {key}"))
                }
            };
            let Some(reason) = reason else {
                self.steps.push(step);
                continue;
            };
            self.waiting.push(Obstacle { subject: step.subject, reason });
            left.extend(step.call.yields);
        }
    }

    /// Asks the installation what each change would come to. One that comes to nothing, because the same is said in other
    /// words, is left out; one that is refused cannot be done.
    async fn confirm(&mut self, client: &Client) -> Result<(), ClientError> {
        let steps = std::mem::take(&mut self.steps);
        let asked = stream::iter(steps).map(|step| async {
            let answer = match &step.current {
                Some(_) => rehearse(client, &step).await,
                None => Ok(Rehearsal::Unknown),
            };
            (step, answer)
        });
        let mut asked = asked.buffered(AT_ONCE);
        while let Some((mut step, answer)) = asked.next().await {
            match answer? {
                Rehearsal::Unknown => self.steps.push(step),
                Rehearsal::Refused(reason) => {
                    self.impossible.push(Obstacle { subject: step.subject, reason });
                }
                Rehearsal::Differs(differences) if differences.is_empty() => {}
                Rehearsal::Differs(differences) => {
                    step.differences = differences;
                    self.steps.push(step);
                }
            }
        }
        Ok(())
    }

    /// Whether there is nothing to do and nothing to wait for.
    pub fn is_settled(&self) -> bool {
        self.steps.is_empty() && self.waiting.is_empty() && self.impossible.is_empty()
    }

    /// How many people would be invited.
    pub fn invitations(&self) -> usize {
        self.steps.iter().filter(|step| step.change == Change::Invite).count()
    }

    /// How many things would be taken away or ended that the file does not name.
    pub fn removals(&self) -> usize {
        let takes_away =
            |step: &&Step| matches!(step.change, Change::Remove | Change::Cancel | Change::Retire);
        self.steps.iter().filter(takes_away).count()
    }
}

/// What a change would come to.
enum Rehearsal {
    /// It needs something that is not there yet.
    Unknown,
    Refused(String),
    Differs(Vec<Difference>),
}

/// Has the installation check a change without making it.
async fn rehearse(client: &Client, step: &Step) -> Result<Rehearsal, ClientError> {
    let Ok((path, body)) = resolved(&step.call, &Mutex::default()) else {
        return Ok(Rehearsal::Unknown);
    };
    let path = format!("{path}?dryRun=true");
    let method = step.call.route.method.clone();
    match client.write(method, &path, body.as_ref(), step.call.revision).await {
        Ok(answer) => {
            let before = step.current.clone().unwrap_or_default();
            let after = match normal(answer) {
                Value::Object(mut after) => {
                    after.retain(|field, _| {
                        !is_kept_by_the_server(field) || before.contains_key(field)
                    });
                    after
                }
                _ => Map::new(),
            };
            Ok(Rehearsal::Differs(differences(&Value::Object(before), &Value::Object(after))))
        }
        Err(ClientError::Refused(problem)) => Ok(Rehearsal::Refused(problem.to_string())),
        Err(error) => Err(error),
    }
}

/// Reads what subscriptions to APIs of others need to know.
async fn learn(client: &Client, state: &mut State, desired: &Desired) -> Result<(), ClientError> {
    let applications = desired.tenants.values().flat_map(|tenant| tenant.applications.iter());
    let subscriptions = applications
        .flat_map(BTreeMap::values)
        .flat_map(|application| application.subscriptions.iter().flatten());
    let mut references: Vec<&ApiReference> =
        subscriptions.map(|subscription| &subscription.api).collect();
    references.sort_unstable();
    references.dedup();
    for reference in references {
        let id = match reference {
            ApiReference::Id(id) => Some(id.to_string()),
            ApiReference::Named(slug, name) => {
                state.read_shown_by(client, slug).await?;
                let tenant = state.tenant_id(slug).map(str::to_owned);
                tenant.and_then(|tenant| state.api(&tenant, name)).map(|api| api.entry.id.clone())
            }
        };
        if let Some(id) = id {
            state.read_plans_of(client, &id).await?;
        }
    }
    Ok(())
}

impl fmt::Display for Key {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(slug) => write!(out, "organisation {slug}"),
            Self::Api(slug, name) => write!(out, "API {slug}/{name}"),
            Self::Plan(slug, api, name) => write!(out, "plan {name} of {slug}/{api}"),
            Self::Application(slug, name) => write!(out, "application {slug}/{name}"),
            Self::Subscription(slug, name, api, version) => {
                write!(out, "subscription of {slug}/{name} to {api} {version}")
            }
        }
    }
}

/// Compares section by section.
struct Planner<'p> {
    state: &'p State,
    desired: &'p Desired,
    removal: Removal,
    plan: Plan,
}

impl Planner<'_> {
    fn step(&mut self, phase: Phase, change: Change, subject: String, call: Call) {
        let (differences, current) = (Vec::new(), None);
        self.plan.steps.push(Step { change, subject, differences, current, phase, call });
    }

    fn wait(&mut self, subject: String, reason: impl Into<String>) {
        self.plan.waiting.push(Obstacle { subject, reason: reason.into() });
    }

    fn refuse(&mut self, subject: String, reason: impl Into<String>) {
        self.plan.impossible.push(Obstacle { subject, reason: reason.into() });
    }

    const fn prunes(&self) -> bool {
        matches!(self.removal, Removal::Prune)
    }

    fn has_role(&self, role: Role) -> bool {
        self.state.me.roles.contains(role) || self.state.me.roles.contains(Role::PlatformAdmin)
    }

    /// Changes what is there when it differs from what should be.
    fn replace(
        &mut self,
        phase: Phase,
        subject: String,
        current: &Entry,
        route: Route,
        wanted: Map<String, Value>,
        ids: Vec<(&'static str, Ids)>,
    ) {
        let mut after = wanted.clone();
        for (field, targets) in &ids {
            after.insert((*field).to_owned(), shown(targets));
        }
        with_bursts(&mut after);
        let mut before = current.body.clone();
        before.retain(|field, _| !is_kept_by_the_server(field) || after.contains_key(field));
        let before = normal(Value::Object(before));
        let differences = differences(&before, &normal(Value::Object(after)));
        if differences.is_empty() {
            return;
        }
        let call = Call {
            route,
            target: Some(Target::Known(current.id.clone())),
            body: Some(wanted),
            ids,
            revision: Some(current.revision),
            yields: None,
        };
        let change = Change::Change;
        let current = before.as_object().cloned();
        self.plan.steps.push(Step { change, subject, differences, current, phase, call });
    }

    fn remove(&mut self, phase: Phase, subject: String, route: Route, entry: &Entry) {
        let call = Call::plain(route, Target::Known(entry.id.clone()));
        self.step(phase, Change::Remove, subject, call.at(entry.revision));
    }

    /// The tenant of a slug, there already or made by an earlier step.
    fn tenant_target(&self, slug: &Slug) -> Option<Target> {
        match self.state.tenant_id(slug) {
            Some(id) => Some(Target::Known(id.to_owned())),
            None => self
                .desired
                .tenants
                .contains_key(slug)
                .then(|| Target::Made(Key::Tenant(slug.clone()))),
        }
    }

    fn tenant_reference(&self, reference: &TenantReference) -> Option<Target> {
        match reference {
            TenantReference::Slug(slug) => self.tenant_target(slug),
            TenantReference::Id(id) => Some(Target::Known(id.to_string())),
        }
    }

    /// The owning tenant of something new, when it is not the caller's own.
    fn belonging(&self, slug: &Slug) -> Vec<(&'static str, Ids)> {
        match self.tenant_target(slug) {
            Some(Target::Known(id)) if id == self.state.me.tenant_id => Vec::new(),
            Some(target) => vec![("tenantId", Ids::One(target))],
            None => Vec::new(),
        }
    }
}

impl Call {
    fn new(route: Route, body: Map<String, Value>) -> Self {
        Self {
            route,
            target: None,
            body: Some(body),
            ids: Vec::new(),
            revision: None,
            yields: None,
        }
    }

    fn plain(route: Route, target: Target) -> Self {
        Self {
            route,
            target: Some(target),
            body: None,
            ids: Vec::new(),
            revision: None,
            yields: None,
        }
    }

    /// What earlier steps have to make first.
    fn needs(&self) -> impl Iterator<Item = &Key> {
        let ids = self.ids.iter().flat_map(|(_, ids)| match ids {
            Ids::One(target) => std::slice::from_ref(target),
            Ids::Many(targets) => targets.as_slice(),
        });
        self.target.iter().chain(ids).filter_map(|target| match target {
            Target::Made(key) => Some(key),
            Target::Known(_) => None,
        })
    }

    fn on(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    fn at(mut self, revision: i64) -> Self {
        self.revision = Some(revision);
        self
    }

    fn with(mut self, ids: Vec<(&'static str, Ids)>) -> Self {
        self.ids.extend(ids);
        self
    }

    fn making(mut self, key: Key) -> Self {
        self.yields = Some(key);
        self
    }
}

/// The fields of an entry of the file, as the control API takes them.
fn body(entry: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(entry) {
        Ok(Value::Object(body)) => body,
        _ => Map::new(),
    }
}

/// A body of a few fields.
fn fields<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What every answer says beside what was asked for.
fn is_kept_by_the_server(field: &str) -> bool {
    matches!(
        field,
        "id" | "slug"
            | "tenantId"
            | "apiId"
            | "version"
            | "status"
            | "configVersion"
            | "createdBy"
            | "createdAt"
            | "updatedAt"
            | "revision"
            | "email"
            | "active"
            | "rating"
            | "reviews"
    )
}

/// A limit without a burst allows all of its window at once, and the installation says so.
fn with_bursts(body: &mut Map<String, Value>) {
    let limits = body.get_mut("limits").and_then(Value::as_array_mut);
    for limit in limits.into_iter().flatten().filter_map(Value::as_object_mut) {
        if let (Some(requests), None) = (limit.get("requests").cloned(), limit.get("burst")) {
            limit.insert("burst".to_owned(), requests);
        }
    }
}

/// Without what says nothing: nulls, and empty texts and lists.
fn normal(value: Value) -> Value {
    match value {
        Value::Object(entries) => Value::Object(
            entries
                .into_iter()
                .map(|(key, value)| (key, normal(value)))
                .filter(|(_, value)| match value {
                    Value::Null => false,
                    Value::String(text) => !text.is_empty(),
                    Value::Array(items) => !items.is_empty(),
                    Value::Object(entries) => !entries.is_empty(),
                    Value::Bool(_) | Value::Number(_) => true,
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(normal).collect()),
        value => value,
    }
}

fn shown(ids: &Ids) -> Value {
    let one = |target: &Target| match target {
        Target::Known(id) => Value::String(id.clone()),
        Target::Made(_) => Value::String("(made by an earlier step)".to_owned()),
    };
    match ids {
        Ids::One(target) => one(target),
        Ids::Many(targets) => Value::Array(targets.iter().map(one).collect()),
    }
}
