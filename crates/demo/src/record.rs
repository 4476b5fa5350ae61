//! What a demo remembers between starts: how to sign in and call.

use model::DeploymentId;
use serde::{Deserialize, Serialize};

/// What a demo remembers between starts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DemoRecord {
    /// People in each role.
    pub accounts: Vec<Account>,
    /// Applications with their keys.
    pub applications: Vec<DemoApplication>,
    /// Deployments whose targets move with each start.
    pub deployments: Vec<DemoDeployment>,
}

/// A person.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    /// What the person may do.
    pub role: String,
    /// Slug of the tenant.
    pub tenant: String,
    /// Name to sign in with.
    pub email: String,
    /// Password.
    pub password: String,
}

/// A program.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DemoApplication {
    /// Its name.
    pub name: String,
    /// Slug of the tenant.
    pub tenant: String,
    /// Its key.
    pub api_key: String,
}

/// A deployment and the sample upstream behind it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DemoDeployment {
    /// The deployment.
    pub id: DeploymentId,
    /// Which sample upstream it calls.
    pub upstream: Sample,
}

/// A sample upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sample {
    /// The clinic's scheduling, on two replicas.
    Clinic,
    /// The drug directory, on two replicas.
    Drugs,
    /// Bed occupancy, which fails now and then.
    Beds,
}
