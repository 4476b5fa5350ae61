//! Tenants with people in each role, and what they do in the course of a test.

use serde_json::{Value, json};

use crate::{Client, Installation, openapi_json};

/// The password of everybody.
pub const PASSWORD: &str = "correct horse battery staple";

/// A tenant with a person in each role.
#[derive(Debug)]
pub struct Tenant {
    /// Its identifier.
    pub id: String,
    /// Its name for machines.
    pub slug: String,
    people: Vec<(&'static str, Client)>,
}

/// An API with one version.
#[derive(Clone, Debug)]
pub struct Api {
    /// Its identifier.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The number of the version.
    pub version: String,
}

/// An API key.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// Identifier of the credential.
    pub id: String,
    /// The key itself.
    pub secret: String,
}

const ROLES: [&str; 5] = ["tenant-admin", "provider", "reviewer", "consumer", "auditor"];

impl Tenant {
    pub(crate) async fn create(installation: &Installation, slug: &str) -> Self {
        let body = json!({ "slug": slug, "name": format!("Tenant {slug}") });
        let made = installation.admin().post("/admin/tenants", &body).await.created();
        let id = text(&made, "id");
        let people = installation.invite(&id, slug, &ROLES).await;
        Self { id, slug: slug.to_owned(), people }
    }

    /// The person who has just this role.
    pub fn person(&self, role: &str) -> &Client {
        let found = self.people.iter().find(|(known, _)| *known == role);
        &found.unwrap_or_else(|| panic!("nobody is {role}")).1
    }

    /// Its administrator.
    pub fn admin(&self) -> &Client {
        self.person("tenant-admin")
    }

    /// Who publishes APIs.
    pub fn provider(&self) -> &Client {
        self.person("provider")
    }

    /// Who reviews versions.
    pub fn reviewer(&self) -> &Client {
        self.person("reviewer")
    }

    /// Who registers applications.
    pub fn consumer(&self) -> &Client {
        self.person("consumer")
    }

    /// Who reads the audit trail.
    pub fn auditor(&self) -> &Client {
        self.person("auditor")
    }

    /// What registering an API takes, with some fields changed.
    pub fn api_draft(name: &str, changes: &Value) -> Value {
        let mut draft = json!({
            "name": name, "description": "Appointments of a clinic.", "version": "1.0.0",
            "owner": "Integration team", "contactEmail": "team@clinic.example", "tags": ["clinic"],
            "visibility": "public",
            "specification": { "format": "openapi", "content": openapi_json(name) },
        });
        set(&mut draft, changes);
        draft
    }

    /// Registers an API, which then waits for a reviewer.
    pub async fn register(&self, name: &str, changes: &Value) -> Api {
        let draft = Self::api_draft(name, changes);
        let made = self.provider().post("/apis", &draft).await.created();
        assert_eq!(made["status"], "pending_approval");
        Api { id: text(&made, "id"), name: text(&made, "name"), version: text(&made, "version") }
    }

    /// Approves the waiting version of an API.
    pub async fn approve(&self, api: &Api) {
        let path = format!("/apis/{}/approve", api.id);
        let body = json!({ "version": api.version, "comments": "fine" });
        let answer = self.reviewer().post(&path, &body).await.ok();
        assert_eq!(answer["status"], "active");
    }

    /// Registers an API and approves it.
    pub async fn publish(&self, name: &str, changes: &Value) -> Api {
        let api = self.register(name, changes).await;
        self.approve(&api).await;
        api
    }

    /// Offers a plan that approves by itself and has no limits, with some fields changed.
    pub async fn offer_plan(&self, api: &Api, changes: &Value) -> String {
        let mut plan = json!({ "apiId": api.id, "name": "Open", "approval": "automatic" });
        set(&mut plan, changes);
        text(&self.provider().post("/plans", &plan).await.created(), "id")
    }

    /// What deploying an API takes.
    pub fn deployment_draft(api: &Api, prefix: &str, targets: &[String], changes: &Value) -> Value {
        let targets: Vec<_> = targets.iter().map(|url| json!({ "url": url })).collect();
        let mut draft = json!({
            "apiId": api.id, "version": api.version,
            "route": { "pathPrefix": prefix, "stripPrefix": true },
            "upstream": { "targets": targets, "timeoutSeconds": 5 },
        });
        set(&mut draft, changes);
        draft
    }

    /// Deploys an API below a prefix, which is taken off.
    pub async fn deploy(
        &self,
        api: &Api,
        prefix: &str,
        targets: &[String],
        changes: &Value,
    ) -> Value {
        let draft = Self::deployment_draft(api, prefix, targets, changes);
        let made = self.provider().post("/deployments", &draft).await.created();
        assert_eq!(made["status"], "live");
        made
    }

    /// Registers an application.
    pub async fn application(&self, name: &str) -> String {
        let made = self.consumer().post("/applications", &json!({ "name": name })).await;
        text(&made.created(), "id")
    }

    /// Asks for a subscription.
    pub async fn subscribe(&self, application: &str, api: &Api, plan: &str) -> Value {
        let body = json!({
            "applicationId": application, "apiId": api.id, "version": api.version, "planId": plan,
        });
        self.consumer().post("/subscriptions", &body).await.created()
    }

    /// Makes an API key.
    pub async fn key(&self, application: &str) -> ApiKey {
        let path = format!("/applications/{application}/credentials");
        let made = self.consumer().post(&path, &json!({ "type": "api_key" })).await.created();
        ApiKey { id: text(&made, "id"), secret: text(&made, "apiKey") }
    }
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

fn set(draft: &mut Value, changes: &Value) {
    for (name, value) in changes.as_object().into_iter().flatten() {
        draft[name] = value.clone();
    }
}
