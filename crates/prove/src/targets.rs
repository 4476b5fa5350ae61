//! What the operations of the control API act on.

use serde_json::{Value, json};

/// The identifiers of something of everything, and what else a well-formed request needs.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    /// An API with an active version.
    pub active: String,
    /// An API whose version waits for a reviewer.
    pub pending: String,
    /// A plan that nobody uses.
    pub unused_plan: String,
    /// An application with a credential.
    pub application: String,
    /// An application without subscriptions.
    pub unsubscribed: String,
    /// A credential of the application.
    pub credential: String,
    /// A subscription that waits for a decision.
    pub pending_subscription: String,
    /// One that is in force.
    pub active_subscription: String,
    /// A deployment of the active version.
    pub deployment: String,
    /// A heading of the catalogue.
    pub category: String,
    /// A tenant.
    pub tenant: String,
    /// A person.
    pub user: String,
    /// A session.
    pub session: String,
    /// A gateway on another machine.
    pub node: String,
    /// A notice to somebody.
    pub notice: String,
    /// An API with a review.
    pub reviewed: String,
    /// The review.
    pub review: String,
    /// The caller's password.
    pub password: String,
    /// A code that confirms the caller's next second factor.
    pub code: String,
}

impl Targets {
    /// What stands for the parameters of the path of an operation.
    fn parameters(&self, operation: &str) -> [(&'static str, &str); 3] {
        let id = match operation {
            "version.approve" | "version.reject" | "api.remove" => &self.pending,
            "subscription.approve" | "subscription.reject" => &self.pending_subscription,
            "review.replace" | "review.remove" => &self.reviewed,
            _ => match operation.split_once('.').map_or(operation, |(kind, _)| kind) {
                "api" | "version" | "specification" | "review" => &self.active,
                "application" | "credential" => &self.application,
                "subscription" => &self.active_subscription,
                "deployment" => &self.deployment,
                "plan" => &self.unused_plan,
                "category" => &self.category,
                "tenant" => &self.tenant,
                "user" => &self.user,
                "session" => &self.session,
                "node" => &self.node,
                "notice" => &self.notice,
                _ => "nothing",
            },
        };
        [("{id}", id), ("{credentialId}", &self.credential), ("{reviewId}", &self.review)]
    }

    /// A path with the parameters of an operation in it.
    pub fn path(&self, operation: &str, template: &str) -> String {
        let parameters = self.parameters(operation);
        let put = |path: String, (name, value): (&str, &str)| path.replace(name, value);
        parameters.into_iter().fold(template.to_owned(), put)
    }

    /// A body that an operation takes; none when it is not known here.
    pub fn body(&self, operation: &str) -> Option<Value> {
        let (active, password) = (&self.active, &self.password);
        let specification =
            |title: &str| json!({ "format": "openapi", "content": specification(title) });
        Some(match operation {
            "installation.set_up" => json!({
                "token": "none", "tenant": { "slug": "again", "name": "Again" },
                "admin": { "email": "a@b.example", "name": "A", "password": password },
            }),
            "invitation.accept" => json!({ "token": "none", "password": password }),
            "me.change_password" => {
                json!({ "currentPassword": password, "newPassword": "another one, as long" })
            }
            "second_factor.confirm" => json!({ "code": self.code }),
            "second_factor.begin"
            | "second_factor.renew_recovery_codes"
            | "second_factor.remove" => json!({ "currentPassword": password }),
            "api.register" => json!({
                "name": "Laboratory", "description": "Results.", "version": "1.0.0",
                "owner": "Integration team", "contactEmail": "team@clinic.example",
                "specification": specification("Laboratory"),
            }),
            "api.replace" => json!({
                "name": "Scheduling", "description": "New.", "owner": "Team",
                "contactEmail": "team@clinic.example",
            }),
            "api.change" => json!({ "description": "New." }),
            "version.submit" => {
                json!({ "version": "2.0.0", "specification": specification("Two") })
            }
            "specification.validate" => json!({ "specification": specification("One") }),
            "version.approve"
            | "version.reject"
            | "subscription.approve"
            | "subscription.reject"
            | "subscription.suspend"
            | "subscription.cancel" => json!({ "comments": "seen" }),
            "review.create" | "review.replace" => json!({ "stars": 4, "words": "Quick." }),
            "version.deprecate" | "version.retire" => json!({ "version": "1.0.0" }),
            "deployment.create" => deployment(active, "/new"),
            "deployment.replace" => deployment(active, "/scheduling"),
            "deployment.change" => json!({ "maxBodyBytes": 1000 }),
            "notice_settings.replace" => json!({ "mailings": { "keyExpiring": "daily" } }),
            "node.create_token" => json!({ "name": "Theatre" }),
            "plan.create" => json!({ "apiId": active, "name": "Another" }),
            "plan.replace" => json!({ "apiId": active, "name": "Renamed" }),
            "plan.change" => json!({ "description": "New." }),
            "application.create" | "application.replace" => json!({ "name": "Named" }),
            "application.change" => json!({ "description": "New." }),
            "credential.create" => json!({ "type": "api_key" }),
            "credential.rotate" => json!({ "overlapSeconds": 60 }),
            "subscription.request" => json!({
                "applicationId": self.unsubscribed, "apiId": active, "planId": self.unused_plan,
            }),
            "tenant.create" => json!({ "slug": "another", "name": "Another" }),
            "tenant.replace" => json!({ "slug": "empty", "name": "Renamed", "active": true }),
            "tenant.change" | "user.change" | "category.change" => json!({ "name": "Renamed" }),
            "user.invite" => {
                json!({ "email": "new@b.example", "name": "New", "roles": ["consumer"] })
            }
            "user.replace" => json!({ "name": "Renamed", "roles": ["consumer"], "active": true }),
            "category.create" => json!({ "slug": "billing", "name": "Billing" }),
            "category.replace" => json!({ "name": "Renamed" }),
            "setting.replace" => json!({ "name": "Renamed", "usageRetentionDays": 40 }),
            "setting.change" => json!({ "usageRetentionDays": 50 }),
            _ => return None,
        })
    }

    /// Identifiers of the same form that nobody has.
    pub(crate) fn absent(&self) -> Self {
        let mut absent = self.clone();
        for id in absent.ids_mut() {
            let last = id.pop();
            id.push(if last == Some('0') { '1' } else { '0' });
        }
        absent
    }

    /// All identifiers.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.clone().ids_mut().map(std::mem::take).into()
    }

    fn ids_mut(&mut self) -> [&mut String; 17] {
        [
            &mut self.active,
            &mut self.pending,
            &mut self.unused_plan,
            &mut self.application,
            &mut self.unsubscribed,
            &mut self.credential,
            &mut self.pending_subscription,
            &mut self.active_subscription,
            &mut self.deployment,
            &mut self.category,
            &mut self.tenant,
            &mut self.user,
            &mut self.session,
            &mut self.node,
            &mut self.notice,
            &mut self.reviewed,
            &mut self.review,
        ]
    }
}

fn deployment(api: &str, prefix: &str) -> Value {
    json!({
        "apiId": api, "version": "1.0.0", "route": { "pathPrefix": prefix, "stripPrefix": true },
        "upstream": { "targets": [{ "url": "http://127.0.0.1:10" }], "timeoutSeconds": 5 },
    })
}

/// A small specification.
pub(crate) fn specification(title: &str) -> Value {
    json!({
        "openapi": "3.1.0", "info": { "title": title, "version": "1.0.0" },
        "paths": { "/records/{id}": { "get": {
            "operationId": "readRecord", "summary": format!("Read a record of {title}"),
            "parameters": [
                { "name": "id", "in": "path", "required": true, "schema": { "type": "string" } },
            ],
            "responses": { "200": { "description": "The record" } },
        } } },
    })
}
