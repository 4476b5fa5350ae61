//! The straight path through the marketplace: register, approve, deploy, subscribe, call, count.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod calls;
mod path;
mod rights;
mod validation;

use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Api, ApiKey, Client, Database, Installation, Tenant, Upstream};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_caduceus");
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A published API of one tenant, deployed on two replicas, and an application of another tenant that may call it.
pub(crate) struct Market {
    pub(crate) installation: Installation,
    pub(crate) hospital: Tenant,
    pub(crate) clinic: Tenant,
    pub(crate) api: Api,
    pub(crate) deployment: String,
    pub(crate) left: Upstream,
    pub(crate) right: Upstream,
    pub(crate) application: String,
    pub(crate) subscription: String,
    pub(crate) key: ApiKey,
}

impl Market {
    pub(crate) async fn open(database: Database, plan: Value) -> Self {
        let installation = Installation::start(BINARY, database).await;
        let hospital = installation.tenant("hospital").await;
        let clinic = installation.tenant("clinic").await;
        let (left, right) = (Upstream::healthy("left").await, Upstream::healthy("right").await);
        let api = hospital.publish("Scheduling", &json!({})).await;
        let plan = hospital.offer_plan(&api, &plan).await;
        let targets = [left.url(), right.url()];
        let deployment = hospital.deploy(&api, "/scheduling", &targets, &json!({})).await;
        let application = clinic.application("Portal").await;
        let subscription = clinic.subscribe(&application, &api, &plan).await;
        let key = clinic.key(&application).await;
        installation.settled().await;
        Self {
            deployment: deployment["id"].as_str().unwrap().to_owned(),
            subscription: subscription["id"].as_str().unwrap().to_owned(),
            installation,
            hospital,
            clinic,
            api,
            left,
            right,
            application,
            key,
        }
    }

    pub(crate) fn caller(&self) -> Client {
        self.installation.gateway().with_header("x-api-key", &self.key.secret)
    }

    pub(crate) async fn metrics(&self, asker: &Client) -> Value {
        asker.get(&format!("/apis/{}/metrics?period=1h", self.api.id)).await.ok()
    }
}
