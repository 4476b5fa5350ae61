//! An installation in which every route has something to act on.

use std::time::Duration;

use prove::Targets;
use serde_json::{Value, json};
use testkit::{Api, AuthenticatorApp, Client, Database, Installation, Node, Tenant};

pub(crate) struct World {
    pub(crate) installation: Installation,
    pub(crate) hospital: Tenant,
    pub(crate) targets: Targets,
}

impl World {
    pub(crate) async fn create(database: Database) -> Self {
        let feed = Node::free_address();
        let changes = json!({ "feed": { "listen": feed } });
        let binary = env!("CARGO_BIN_EXE_caduceus");
        let installation = Installation::start_with(binary, database, changes).await;
        let hospital = installation.tenant("hospital").await;
        let admin = installation.admin();
        let active = hospital.publish("Scheduling", &json!({})).await;
        let pending = hospital.register("Pharmacy", &json!({})).await;
        let open = hospital.offer_plan(&active, &json!({})).await;
        let asked = json!({ "name": "Asked", "approval": "owner" });
        let asked = hospital.offer_plan(&active, &asked).await;
        let unused_plan = hospital.offer_plan(&active, &json!({ "name": "Unused" })).await;
        let application = hospital.application("Portal").await;
        let credential = hospital.key(&application).await.id;
        let active_subscription = id(&hospital.subscribe(&application, &active, &open).await);
        let other = hospital.application("Other").await;
        let pending_subscription = id(&hospital.subscribe(&other, &active, &asked).await);
        let unsubscribed = hospital.application("Unsubscribed").await;
        let target = ["http://127.0.0.1:9".to_owned()];
        let deployment = id(&hospital.deploy(&active, "/scheduling", &target, &json!({})).await);
        let body = json!({ "slug": "imaging", "name": "Imaging" });
        let category = id(&admin.post("/admin/categories", &body).await.created());
        let body = json!({ "slug": "empty", "name": "Empty" });
        let empty_tenant = id(&admin.post("/admin/tenants", &body).await.created());
        let token = admin.post("/admin/nodes/tokens", &json!({ "name": "Ward" })).await.created();
        feed::enrol(&feed.to_string(), token["token"].as_str().unwrap()).await.unwrap();
        let node = admin.get("/admin/nodes").await.items().remove(0);
        let user = hospital.auditor().get("/me").await.ok();
        let notice = Self::earn_notice(&installation).await;
        let next_secret = Self::begin_second_factor(&installation).await;
        let reviewed = hospital.publish("Reviewed", &json!({})).await;
        let review = Self::earn_review(&installation, &hospital, &open, &active, &reviewed).await;
        let targets = Targets {
            active: active.id,
            pending: pending.id,
            unused_plan,
            application,
            unsubscribed,
            credential,
            pending_subscription,
            active_subscription,
            deployment,
            category,
            tenant: empty_tenant,
            user: user["userId"].as_str().unwrap().to_owned(),
            session: user["sessionId"].as_str().unwrap().to_owned(),
            node: id(&node),
            notice,
            reviewed: reviewed.id,
            review,
            password: testkit::PASSWORD.to_owned(),
            code: AuthenticatorApp::with(&next_secret).code(0),
        };
        Self { targets, hospital, installation }
    }

    /// The administrator has a second factor, and has begun another.
    async fn begin_second_factor(installation: &Installation) -> String {
        let (admin, path) = (installation.admin(), "/me/second-factor");
        let proof = json!({ "currentPassword": testkit::PASSWORD });
        let secret = |begun: &Value| begun["secret"].as_str().unwrap().to_owned();
        let first = secret(&admin.post(path, &proof).await.ok());
        let code = json!({ "code": AuthenticatorApp::with(&first).code(0) });
        admin.post("/me/second-factor/confirm", &code).await.ok();
        secret(&admin.post(path, &proof).await.ok())
    }

    /// Somebody guesses the administrator's password, and the administrator is told.
    async fn earn_notice(installation: &Installation) -> String {
        let me = installation.admin().get("/me").await.ok();
        let email = me["email"].as_str().unwrap();
        let fields = [("grant_type", "password"), ("username", email), ("password", "a guess")];
        for _ in 0..5 {
            installation
                .anonymous()
                .ask_token(&fields)
                .await
                .assert_problem(401, "unauthenticated");
        }
        testkit::eventually("the administrator is told", Duration::from_secs(20), || async {
            installation.admin().get("/me/notices").await.items().first().map(id)
        })
        .await
    }

    /// The administrator's organisation calls two APIs, and the administrator has reviewed one of them.
    async fn earn_review(
        installation: &Installation,
        hospital: &Tenant,
        plan: &str,
        api: &Api,
        reviewed: &Api,
    ) -> String {
        let admin = installation.admin();
        let application = admin.post("/applications", &json!({ "name": "Board" })).await.created();
        let other = hospital.offer_plan(reviewed, &json!({})).await;
        for (api, plan) in [(api, plan), (reviewed, other.as_str())] {
            let body =
                json!({ "applicationId": application["id"], "apiId": api.id, "planId": plan });
            admin.post("/subscriptions", &body).await.created();
        }
        let path = format!("/apis/{}/reviews", reviewed.id);
        id(&admin.post(&path, &json!({ "stars": 3 })).await.created())
    }

    pub(crate) fn admin(&self) -> &Client {
        self.installation.admin()
    }

    /// A body that the operation takes.
    pub(crate) fn body(&self, operation: &str) -> Value {
        self.targets.body(operation).unwrap_or_else(|| {
            panic!("no body is known for {operation}; every operation with a body needs one")
        })
    }

    /// Everything that can be read, for seeing that nothing has changed.
    pub(crate) async fn state(&self) -> Vec<Value> {
        let paths = [
            "/apis?limit=200".to_owned(),
            format!("/apis/{}", self.targets.pending),
            format!("/plans?apiId={}", self.targets.active),
            "/deployments".to_owned(),
            "/applications".to_owned(),
            format!("/applications/{}/credentials", self.targets.application),
            "/subscriptions".to_owned(),
            "/categories".to_owned(),
            "/admin/tenants".to_owned(),
            "/admin/users".to_owned(),
            "/admin/settings".to_owned(),
            "/admin/sessions?scope=tenant".to_owned(),
            "/audit/events?limit=200".to_owned(),
            "/auth/jwks".to_owned(),
            "/approvals".to_owned(),
            format!("/apis/{}/reviews", self.targets.active),
            format!("/apis/{}/reviews", self.targets.reviewed),
            "/me/notices".to_owned(),
            "/me/second-factor".to_owned(),
            "/me/notice-settings".to_owned(),
        ];
        let mut state = Vec::with_capacity(paths.len());
        for path in paths {
            let mut answer = self.admin().get(&path).await.ok();
            // It counts with every event, also with those of others.
            if let Some(items) = answer["items"].as_array_mut() {
                items.iter_mut().for_each(|item| item["configVersion"] = Value::Null);
            }
            state.push(answer);
        }
        state
    }
}

fn id(made: &Value) -> String {
    made["id"].as_str().unwrap().to_owned()
}
