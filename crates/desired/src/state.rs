//! What is there, read over the control API with the rights of the caller.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use model::{
    Approval, Email, Name, Role, Roles, Slug, SubscriptionStatus, UserStatus, VersionStatus,
};
use semver::Version;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::client::{Client, ClientError};

/// What is there, as far as the caller may see it.
pub struct State {
    pub(crate) me: Me,
    pub(crate) settings: Option<Value>,
    pub(crate) categories: BTreeMap<Slug, Entry>,
    /// The tenants that the caller acts for, by their slugs.
    pub(crate) tenants: BTreeMap<Slug, Tenant>,
    /// Every API that is of interest, by its id.
    pub(crate) apis: BTreeMap<String, Api>,
    pub(crate) subscriptions: Vec<Subscription>,
    /// What the caller's roles do not let it see.
    pub(crate) hidden: Vec<&'static str>,
    slugs: HashMap<String, Slug>,
    /// Ids of APIs by tenant and name.
    names: HashMap<(String, Name), String>,
}

/// Who is signed in.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Me {
    pub(crate) user_id: String,
    pub(crate) tenant_id: String,
    pub(crate) email: Email,
    pub(crate) roles: Roles,
}

/// Something with an id; the rest as the API says it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Entry {
    pub(crate) id: String,
    pub(crate) revision: i64,
    #[serde(flatten)]
    pub(crate) body: Map<String, Value>,
}

#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) entry: Entry,
    pub(crate) name: Name,
    pub(crate) active: bool,
    pub(crate) people: BTreeMap<Email, Person>,
    pub(crate) applications: BTreeMap<Name, Entry>,
}

#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) entry: Entry,
    pub(crate) status: UserStatus,
}

#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) entry: Entry,
    pub(crate) tenant_id: String,
    pub(crate) name: Name,
    pub(crate) versions: BTreeMap<Version, ApiVersion>,
    pub(crate) plans: BTreeMap<Name, Plan>,
    pub(crate) deployments: Vec<Entry>,
}

/// A version of an API.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApiVersion {
    pub(crate) id: String,
    pub(crate) version: Version,
    pub(crate) status: VersionStatus,
    pub(crate) specification_sha256: String,
    pub(crate) submitted_by: Option<String>,
    pub(crate) sunset_at: Option<Timestamp>,
    pub(crate) successor_id: Option<String>,
    pub(crate) revision: i64,
}

#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) entry: Entry,
    pub(crate) approval: Approval,
    /// Whether whoever agrees has to sign, which is nothing for a program.
    pub(crate) is_signed: bool,
}

/// A subscription that has not ended.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Subscription {
    pub(crate) id: String,
    pub(crate) status: SubscriptionStatus,
    pub(crate) application_id: String,
    pub(crate) api_id: String,
    pub(crate) owner_tenant_id: String,
    pub(crate) version_id: String,
    pub(crate) plan_id: String,
    pub(crate) purpose_of_use: Option<Name>,
    pub(crate) data_categories: Vec<Slug>,
    pub(crate) agreement_sha256: Option<String>,
    pub(crate) expires_at: Option<Timestamp>,
    /// The first of two approvals.
    pub(crate) first_approval: Option<FirstApproval>,
    pub(crate) revision: i64,
}

/// Who was the first of two to approve.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct FirstApproval {
    pub(crate) by: String,
}

impl State {
    /// Reads what there is.
    ///
    /// # Errors
    ///
    /// When the installation does not answer, or refuses what every caller may do.
    pub async fn read(client: &Client) -> Result<Self, ClientError> {
        let me: Me = client.get("/me").await?;
        let settings = match client.get("/admin/settings").await {
            Err(ClientError::Refused(problem)) if problem.status == 403 => None,
            settings => Some(settings?),
        };
        let categories: Vec<Entry> = client.list_whole("/categories").await?;
        let categories = categories
            .into_iter()
            .map(|entry| Ok((entry.field("slug")?, entry)))
            .collect::<Result<_, ClientError>>()?;
        let mut state = Self {
            me,
            settings,
            categories,
            tenants: BTreeMap::new(),
            apis: BTreeMap::new(),
            subscriptions: Vec::new(),
            hidden: Vec::new(),
            slugs: HashMap::new(),
            names: HashMap::new(),
        };
        state.read_tenants(client).await?;
        state.read_apis(client, "/apis?sort=createdAt").await?;
        state.read_parts(client).await?;
        let others: BTreeSet<String> = state
            .subscriptions
            .iter()
            .filter(|one| !state.acts_for(&one.owner_tenant_id))
            .map(|one| one.api_id.clone())
            .collect();
        for api in others {
            state.read_plans_of(client, &api).await?;
        }
        Ok(state)
    }

    /// The slug of a tenant, when the caller may know it.
    pub(crate) fn slug(&self, tenant_id: &str) -> Option<&Slug> {
        self.slugs.get(tenant_id)
    }

    /// The tenant of a slug, when the caller may know it.
    pub(crate) fn tenant_id(&self, slug: &Slug) -> Option<&str> {
        let mut known = self.slugs.iter();
        known.find(|(_, known)| *known == slug).map(|(id, _)| id.as_str())
    }

    /// Whether the caller may act on what a tenant owns.
    pub(crate) fn acts_for(&self, tenant_id: &str) -> bool {
        self.me.tenant_id == tenant_id || self.me.roles.contains(Role::PlatformAdmin)
    }

    /// An API of a tenant, by its name.
    pub(crate) fn api(&self, tenant_id: &str, name: &Name) -> Option<&Api> {
        self.apis.get(self.names.get(&(tenant_id.to_owned(), name.clone()))?)
    }

    /// An API and its version, by the version's id.
    pub(crate) fn version(&self, api_id: &str, version_id: &str) -> Option<(&Api, &ApiVersion)> {
        let api = self.apis.get(api_id)?;
        Some((api, api.versions.values().find(|version| version.id == version_id)?))
    }

    /// Learns what an API offers to whom does not own it.
    pub(crate) async fn read_plans_of(
        &mut self,
        client: &Client,
        api_id: &str,
    ) -> Result<(), ClientError> {
        let Some(api) = self.apis.get_mut(api_id) else { return Ok(()) };
        if api.plans.is_empty() {
            let found: Option<Vec<Entry>> = client.list(&format!("/plans?apiId={api_id}")).await?;
            for entry in found.unwrap_or_default() {
                api.plans.extend([named_plan(entry)?]);
            }
        }
        Ok(())
    }

    /// Finds the tenant of a slug that is not the caller's, by what it shows.
    pub(crate) async fn read_shown_by(
        &mut self,
        client: &Client,
        slug: &Slug,
    ) -> Result<(), ClientError> {
        if self.slugs.values().any(|known| known == slug) {
            return Ok(());
        }
        let shown: Vec<Entry> =
            client.list(&format!("/apis?owner={slug}")).await?.unwrap_or_default();
        if let Some(api) = shown.first() {
            self.slugs.insert(api.field("tenantId")?, slug.clone());
        }
        Ok(())
    }

    async fn read_tenants(&mut self, client: &Client) -> Result<(), ClientError> {
        for entry in client.list::<Entry>("/admin/tenants").await?.unwrap_or_default() {
            let slug: Slug = entry.field("slug")?;
            let (name, active) = (entry.field("name")?, entry.field("active")?);
            self.slugs.insert(entry.id.clone(), slug.clone());
            let (people, applications) = (BTreeMap::new(), BTreeMap::new());
            self.tenants.insert(slug, Tenant { entry, name, active, people, applications });
        }
        match client.list::<Entry>("/admin/users").await? {
            None => self.hidden.push("people"),
            Some(people) => {
                for entry in people {
                    let (email, status) = (entry.field("email")?, entry.field("status")?);
                    if let Some(tenant) = self.tenant_of(&entry) {
                        tenant.people.insert(email, Person { entry, status });
                    }
                }
            }
        }
        match client.list::<Entry>("/applications").await? {
            None => self.hidden.push("applications"),
            Some(applications) => {
                for entry in applications {
                    let name = entry.field("name")?;
                    if let Some(tenant) = self.tenant_of(&entry) {
                        tenant.applications.insert(name, entry);
                    }
                }
            }
        }
        Ok(())
    }

    fn tenant_of(&mut self, entry: &Entry) -> Option<&mut Tenant> {
        let id = entry.body.get("tenantId")?.as_str()?;
        self.tenants.values_mut().find(|tenant| tenant.entry.id == id)
    }

    async fn read_apis(&mut self, client: &Client, path: &str) -> Result<(), ClientError> {
        for mut entry in client.list::<Entry>(path).await?.unwrap_or_default() {
            let (name, tenant_id) = (entry.field("name")?, entry.field("tenantId")?);
            let versions: Vec<ApiVersion> = entry.field("versions")?;
            entry.body.remove("versions");
            let api = Api {
                tenant_id,
                name,
                versions: versions.into_iter().map(|one| (one.version.clone(), one)).collect(),
                plans: BTreeMap::new(),
                deployments: Vec::new(),
                entry,
            };
            let id = api.entry.id.clone();
            self.names.insert((api.tenant_id.clone(), api.name.clone()), id.clone());
            self.apis.insert(id, api);
        }
        Ok(())
    }

    async fn read_parts(&mut self, client: &Client) -> Result<(), ClientError> {
        for entry in client.list::<Entry>("/plans").await?.unwrap_or_default() {
            if let Some(api) = self.api_of(&entry) {
                api.plans.extend([named_plan(entry)?]);
            }
        }
        match client.list::<Entry>("/deployments").await? {
            None => self.hidden.push("deployments"),
            Some(deployments) => {
                for entry in deployments {
                    if let Some(api) = self.api_of(&entry) {
                        api.deployments.push(entry);
                    }
                }
            }
        }
        match client.list::<Subscription>("/subscriptions").await? {
            None => self.hidden.push("subscriptions"),
            Some(mut subscriptions) => {
                subscriptions.retain(|one| one.status.is_live());
                self.subscriptions = subscriptions;
            }
        }
        Ok(())
    }

    fn api_of(&mut self, entry: &Entry) -> Option<&mut Api> {
        self.apis.get_mut(entry.body.get("apiId")?.as_str()?)
    }
}

fn named_plan(entry: Entry) -> Result<(Name, Plan), ClientError> {
    let name = entry.field("name")?;
    let approval = entry.field("approval")?;
    let is_signed = entry.field("signed")?;
    Ok((name, Plan { entry, approval, is_signed }))
}

impl Entry {
    /// A field of the body.
    pub(crate) fn field<T: DeserializeOwned>(&self, name: &str) -> Result<T, ClientError> {
        let value = self.body.get(name).cloned().unwrap_or_default();
        T::deserialize(value)
            .map_err(|source| ClientError::Unknown { what: format!("{}: {name}", self.id), source })
    }
}
