//! The two tenants.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    client::{Client, ProveError, text},
    targets::{Targets, specification},
};

/// A word that stands in every text of the first tenant and nowhere else.
pub(crate) const WORD: &str = "quillwort";
/// Where the first tenant's API is called, and where nothing is.
pub(crate) const ROUTES: [&str; 2] = ["/quillwort-records", "/quillwort-nothing"];
const ROLES: [&str; 5] = ["tenant-admin", "provider", "reviewer", "consumer", "auditor"];
const PATIENCE: Duration = Duration::from_secs(30);
const ADMIN: &str = "root@proof.example";

/// An installation with the two tenants.
pub(crate) struct World {
    /// What the first tenant has.
    pub(crate) targets: Targets,
    pub(crate) own_people: Vec<(&'static str, Client)>,
    pub(crate) own_key: String,
    /// What the other has that the operations may need.
    pub(crate) other_api: String,
    pub(crate) other_application: String,
    pub(crate) other_key: String,
    other_people: Vec<(&'static str, Client)>,
    nobody: Client,
}

/// People of a tenant in each role.
struct Tenant {
    id: String,
    people: Vec<(&'static str, Client)>,
}

impl World {
    /// Sets the installation up, and makes the two tenants.
    pub(crate) async fn create(nobody: &Client, set_up_token: &str) -> Result<Self, ProveError> {
        let set_up = json!({
            "token": set_up_token, "tenant": { "slug": "proof", "name": "Proof" },
            "admin": { "email": ADMIN, "name": "Root", "password": crate::PASSWORD },
        });
        nobody.make("/auth/setup", &set_up).await?;
        let admin = nobody.sign_in(ADMIN).await?;
        let first = Tenant::create(nobody, &admin, WORD).await?;
        let other = Tenant::create(nobody, &admin, "other").await?;

        let other_api = other.publish("Own", &json!({ "visibility": "private" })).await?;
        let other_application =
            other.person("consumer").id_of("/applications", &json!({ "name": "Own" })).await?;
        let (_, other_key) = other.key(&other_application).await?;
        let (targets, own_key) = first.furnish(&admin).await?;
        Ok(Self {
            targets,
            own_people: first.people,
            own_key,
            other_api,
            other_application,
            other_key,
            other_people: other.people,
            nobody: nobody.clone(),
        })
    }

    /// The people of the other tenant, and somebody without a token.
    pub(crate) fn intruders(&self) -> impl Iterator<Item = (&'static str, &Client)> {
        let people = self.other_people.iter().map(|(role, person)| (*role, person));
        people.chain([("nobody", &self.nobody)])
    }
}

impl Tenant {
    async fn create(nobody: &Client, admin: &Client, slug: &str) -> Result<Self, ProveError> {
        let body = json!({ "slug": slug, "name": format!("Tenant {slug}") });
        let id = admin.id_of("/admin/tenants", &body).await?;
        let mut people = Vec::with_capacity(ROLES.len());
        for role in ROLES {
            let email = format!("{role}@{slug}.example");
            let name = format!("{role} of {slug}");
            let body = json!({ "email": email, "name": name, "roles": [role], "tenantId": id });
            let invited = admin.make("/admin/users", &body).await?;
            let body = json!({ "token": invited["invitationToken"], "password": crate::PASSWORD });
            nobody.act("/auth/accept-invitation", &body).await?;
            people.push((role, nobody.sign_in(&email).await?));
        }
        Ok(Self { id, people })
    }

    fn person(&self, role: &str) -> &Client {
        let found = self.people.iter().find(|(known, _)| *known == role);
        found.map_or(&self.people[0].1, |(_, person)| person)
    }

    /// Registers an API, whose version then waits for a reviewer.
    async fn register(&self, name: &str, changes: &Value) -> Result<String, ProveError> {
        let mut body = json!({
            "name": name, "description": format!("{name} of a clinic."), "version": "1.0.0",
            "owner": format!("Team {name}"), "contactEmail": "team@clinic.example",
            "tags": [name.to_lowercase().replace(' ', "-")],
            "specification": { "format": "openapi", "content": specification(name) },
        });
        for (member, value) in changes.as_object().into_iter().flatten() {
            body[member] = value.clone();
        }
        self.person("provider").id_of("/apis", &body).await
    }

    async fn publish(&self, name: &str, changes: &Value) -> Result<String, ProveError> {
        let api = self.register(name, changes).await?;
        let body = json!({ "version": "1.0.0", "comments": "fine" });
        self.person("reviewer").act(&format!("/apis/{api}/approve"), &body).await?;
        Ok(api)
    }

    async fn plan(&self, api: &str, name: &str, approval: &str) -> Result<String, ProveError> {
        let body = json!({ "apiId": api, "name": name, "approval": approval });
        self.person("provider").id_of("/plans", &body).await
    }

    /// A credential of an application, and its key.
    async fn key(&self, application: &str) -> Result<(String, String), ProveError> {
        let path = format!("/applications/{application}/credentials");
        let made = self.person("consumer").make(&path, &json!({ "type": "api_key" })).await?;
        Ok((text(&made["id"]), text(&made["apiKey"])))
    }

    async fn subscribe(
        &self,
        application: &str,
        api: &str,
        plan: &str,
    ) -> Result<String, ProveError> {
        let body = json!({ "applicationId": application, "apiId": api, "planId": plan });
        self.person("consumer").id_of("/subscriptions", &body).await
    }

    /// Something of everything, none of it shown to anybody but, for a review, the installation's own tenant.
    async fn furnish(&self, admin: &Client) -> Result<(Targets, String), ProveError> {
        let private = json!({ "visibility": "private" });
        let named = |what: &str| format!("Quillwort {what} {WORD}");
        let active = self.publish(&named("records"), &private).await?;
        let pending = self.register(&named("drafts"), &private).await?;
        let open = self.plan(&active, &named("open"), "automatic").await?;
        let asked = self.plan(&active, &named("asked"), "owner").await?;
        let unused_plan = self.plan(&active, &named("unused"), "owner").await?;
        let consumer = self.person("consumer");
        let application = consumer.id_of("/applications", &json!({ "name": named("app") })).await?;
        let (credential, own_key) = self.key(&application).await?;
        let active_subscription = self.subscribe(&application, &active, &open).await?;
        let second = consumer.id_of("/applications", &json!({ "name": named("second") })).await?;
        let pending_subscription = self.subscribe(&second, &active, &asked).await?;
        let unsubscribed =
            consumer.id_of("/applications", &json!({ "name": named("third") })).await?;
        let body = json!({
            "apiId": active, "version": "1.0.0",
            "route": { "pathPrefix": ROUTES[0], "stripPrefix": true },
            "upstream": { "targets": [{ "url": "http://127.0.0.1:9" }], "timeoutSeconds": 5 },
        });
        let deployment = self.person("provider").id_of("/deployments", &body).await?;
        let me = self.person("auditor").get("/me").await?;
        let (reviewed, review) = self.earn_review(admin).await?;
        let targets = Targets {
            active,
            pending,
            unused_plan,
            application,
            unsubscribed,
            credential,
            pending_subscription,
            active_subscription,
            deployment,
            category: "cat_00000000000000000000000000".to_owned(),
            tenant: self.id.clone(),
            user: text(&me["userId"]),
            session: text(&me["sessionId"]),
            node: "node_00000000000000000000000000".to_owned(),
            notice: self.earn_notice().await?,
            reviewed,
            review,
            password: crate::PASSWORD.to_owned(),
            code: "000000".to_owned(),
        };
        Ok((targets, own_key))
    }

    /// Somebody of the tenant is told of something.
    async fn earn_notice(&self) -> Result<String, ProveError> {
        let began = std::time::Instant::now();
        while began.elapsed() < PATIENCE {
            for (_, person) in &self.people {
                let notices = person.get("/me/notices").await?;
                if let Some(notice) = notices.pointer("/items/0/id") {
                    return Ok(text(notice));
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(ProveError::Missing("a notice of what was published"))
    }

    /// An API that is shown to one more tenant, which has reviewed it.
    async fn earn_review(&self, admin: &Client) -> Result<(String, String), ProveError> {
        let shown_to = text(&admin.get("/me").await?["tenantId"]);
        let shown = json!({ "visibility": "restricted", "visibleTo": [shown_to] });
        let api = self.publish(&format!("Quillwort shared {WORD}"), &shown).await?;
        let plan = self.plan(&api, "Shared", "automatic").await?;
        let application = admin.id_of("/applications", &json!({ "name": "Reader" })).await?;
        let body = json!({ "applicationId": application, "apiId": api, "planId": plan });
        admin.make("/subscriptions", &body).await?;
        let body = json!({ "stars": 3, "words": format!("Of {WORD}.") });
        let review = admin.id_of(&format!("/apis/{api}/reviews"), &body).await?;
        Ok((api, review))
    }
}
