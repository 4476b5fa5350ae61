//! A file of what is there: the same bytes for the same state, whoever asks and whenever.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};
use model::{Slug, SubscriptionStatus, TenantId, UserStatus, VersionStatus};
use semver::Version;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use spec::Syntax;

use crate::{
    apply::AT_ONCE,
    client::{Client, ClientError},
    document::limits,
    file::{
        ApiEntry, ApplicationEntry, CategoryEntry, DeploymentEntry, Desired, PersonEntry,
        PlanEntry, SubscriptionEntry, SubscriptionGoal, TenantEntry, TenantReference, VersionEntry,
        VersionGoal,
    },
    references::escape,
    state::{Api, ApiVersion, Entry, State, Tenant},
};

/// Where specifications go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specifications {
    /// Into the file itself.
    Inside,
    /// Into files of their own, which the file refers to.
    Beside,
}

/// What was written.
type Written = (String, BTreeMap<String, String>);

const HEADER: &str = "# An installation of Caduceus. `caduceus plan` compares it with what is there, `caduceus apply` brings it about.\n";

/// Writes what is there, and, when they go beside it, the specifications by the names of their files.
///
/// # Errors
///
/// When the installation does not answer.
pub async fn write(
    client: &Client,
    state: &State,
    specifications: Specifications,
) -> Result<Written, ClientError> {
    let documents = read_specifications(client, state).await?;
    let mut files = BTreeMap::new();
    let settings = state.settings.clone().map(|mut settings| {
        escape_all(&mut settings);
        understood("the settings", settings)
    });
    let mut desired = Desired {
        caduceus: 1,
        settings: settings.transpose()?,
        categories: Some(entries(&state.categories, |entry| {
            whole::<CategoryEntry>(entry, &["name", "description"])
        })?),
        tenants: BTreeMap::new(),
    };
    for (slug, tenant) in &state.tenants {
        let mut written = tenant_entry(state, tenant)?;
        for api in state.apis.values().filter(|api| api.tenant_id == tenant.entry.id) {
            let mut entry = api_entry(state, api)?;
            for (number, version) in &api.versions {
                let document = documents.get(&version.id).cloned().unwrap_or_default();
                let reference = match specifications {
                    Specifications::Inside => escape(&document),
                    Specifications::Beside => {
                        let name = file_name(slug, api, number, &document);
                        files.insert(name.clone(), document);
                        format!("${{file:{name}}}")
                    }
                };
                entry.versions.insert(number.clone(), version_entry(api, version, reference));
            }
            written.apis.get_or_insert_default().insert(api.name.clone(), entry);
        }
        desired.tenants.insert(slug.clone(), written);
    }
    Ok((render(&desired), files))
}

fn tenant_entry(state: &State, tenant: &Tenant) -> Result<TenantEntry, ClientError> {
    let shows = |section| !state.hidden.contains(&section);
    let people = shows("people").then(|| {
        entries(&tenant.people, |person| {
            let mut entry: PersonEntry = whole(&person.entry, &["name", "roles"])?;
            entry.active = person.status != UserStatus::Disabled;
            Ok(entry)
        })
    });
    let applications = shows("applications").then(|| {
        entries(&tenant.applications, |application| {
            let mut entry: ApplicationEntry = whole(application, &["description"])?;
            if shows("subscriptions") {
                entry.subscriptions = Some(subscriptions_of(state, application)?);
            }
            Ok(entry)
        })
    });
    let mut entry: TenantEntry = whole(&tenant.entry, &["name", "active"])?;
    entry.people = people.transpose()?;
    entry.applications = applications.transpose()?;
    entry.apis = Some(BTreeMap::new());
    Ok(entry)
}

fn entries<K: Clone + Ord, T, E>(
    there: &BTreeMap<K, T>,
    write: impl Fn(&T) -> Result<E, ClientError>,
) -> Result<BTreeMap<K, E>, ClientError> {
    there.iter().map(|(key, one)| Ok((key.clone(), write(one)?))).collect()
}

fn render(desired: &Desired) -> String {
    let json = serde_json::to_string(desired).expect("the file's types are JSON");
    let yaml = spec::convert(json.as_bytes(), &limits(), Syntax::Yaml)
        .expect("what was read within limits is written within limits");
    format!("{HEADER}{yaml}")
}

/// Doubles the dollar signs of what would be taken for references.
fn escape_all(value: &mut Value) {
    match value {
        Value::String(text) => *text = escape(text),
        Value::Array(items) => items.iter_mut().for_each(escape_all),
        Value::Object(entries) => entries.values_mut().for_each(escape_all),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The specifications of the caller's APIs, byte for byte, by the ids of their versions.
async fn read_specifications(
    client: &Client,
    state: &State,
) -> Result<BTreeMap<String, String>, ClientError> {
    let own = state.apis.values().filter(|api| state.acts_for(&api.tenant_id));
    let versions = own.flat_map(|api| api.versions.values().map(move |version| (api, version)));
    let paths: Vec<(String, String)> = versions
        .map(|(api, version)| {
            let query =
                url::form_urlencoded::byte_serialize(version.version.to_string().as_bytes())
                    .collect::<String>();
            let path = format!("/apis/{}/specification?version={query}", api.entry.id);
            (version.id.clone(), path)
        })
        .collect();
    stream::iter(paths)
        .map(|(id, path)| async move { Ok((id, client.get_text(&path).await?)) })
        .buffered(AT_ONCE)
        .try_collect()
        .await
}

const API_FIELDS: [&str; 10] = [
    "description",
    "owner",
    "contactEmail",
    "tags",
    "categories",
    "visibility",
    "documentationUrl",
    "termsOfServiceUrl",
    "license",
    "classification",
];
const PLAN_FIELDS: [&str; 6] = ["description", "limits", "quota", "approval", "signed", "open"];
const DEPLOYMENT_FIELDS: [&str; 9] = [
    "route",
    "version",
    "upstream",
    "limits",
    "maxBodyBytes",
    "cors",
    "compress",
    "protocols",
    "validation",
];

fn api_entry(state: &State, api: &Api) -> Result<ApiEntry, ClientError> {
    let mut entry: ApiEntry = whole(&api.entry, &API_FIELDS)?;
    for id in api.entry.field::<Vec<TenantId>>("visibleTo")? {
        entry.visible_to.push(match state.slug(&id.to_string()) {
            Some(slug) => TenantReference::Slug(slug.clone()),
            None => TenantReference::Id(id),
        });
    }
    entry.plans = Some(entries(&api.plans, |plan| whole::<PlanEntry>(&plan.entry, &PLAN_FIELDS))?);
    if !state.hidden.contains(&"deployments") {
        let deployments = api.deployments.iter().map(|one| whole(one, &DEPLOYMENT_FIELDS));
        let mut deployments: Vec<DeploymentEntry> = deployments.collect::<Result<_, _>>()?;
        deployments.sort_by(|one, other| {
            let route = |entry: &DeploymentEntry| {
                (entry.route.host.clone(), entry.route.path_prefix.clone())
            };
            route(one).cmp(&route(other))
        });
        entry.deployments = Some(deployments);
    }
    Ok(entry)
}

fn version_entry(api: &Api, version: &ApiVersion, specification: String) -> VersionEntry {
    let status = match version.status {
        VersionStatus::Draft | VersionStatus::Rejected | VersionStatus::PendingApproval => {
            VersionGoal::PendingApproval
        }
        VersionStatus::Active => VersionGoal::Active,
        VersionStatus::Deprecated => VersionGoal::Deprecated,
        VersionStatus::Retired => VersionGoal::Retired,
    };
    let successor = version.successor_id.as_ref().and_then(|id| {
        api.versions.values().find(|version| version.id == *id).map(|one| one.version.clone())
    });
    VersionEntry { status, sunset_at: version.sunset_at, successor, specification }
}

fn subscriptions_of(
    state: &State,
    application: &Entry,
) -> Result<Vec<SubscriptionEntry>, ClientError> {
    let mut entries = Vec::new();
    for one in state.subscriptions.iter().filter(|one| one.application_id == application.id) {
        // What the API's owner hides by now cannot be asked for anew.
        let Some((api, version)) = state.version(&one.api_id, &one.version_id) else { continue };
        let plans = api.plans.iter();
        let Some((plan, _)) = plans.into_iter().find(|(_, plan)| plan.entry.id == one.plan_id)
        else {
            continue;
        };
        let reference = match state.slug(&one.owner_tenant_id) {
            Some(slug) => Value::from(format!("{slug}/{}", api.name)),
            None => Value::from(one.api_id.as_str()),
        };
        entries.push(SubscriptionEntry {
            api: understood(&one.api_id, reference)?,
            version: version.version.clone(),
            plan: plan.clone(),
            purpose_of_use: one.purpose_of_use.clone(),
            data_categories: Some(one.data_categories.clone()),
            agreement_sha256: one.agreement_sha256.clone(),
            expires_at: one.expires_at,
            status: match one.status {
                SubscriptionStatus::Active => SubscriptionGoal::Active,
                SubscriptionStatus::Suspended => SubscriptionGoal::Suspended,
                _ => SubscriptionGoal::Pending,
            },
        });
    }
    entries.sort_by(|one, other| (&one.api, &one.version).cmp(&(&other.api, &other.version)));
    Ok(entries)
}

/// An entry of the file out of some of the fields that the control API says.
fn whole<T: DeserializeOwned>(entry: &Entry, fields: &[&str]) -> Result<T, ClientError> {
    let chosen: Map<String, Value> = fields
        .iter()
        .filter_map(|field| Some(((*field).to_owned(), entry.body.get(*field)?.clone())))
        .collect();
    let mut chosen = Value::Object(chosen);
    escape_all(&mut chosen);
    understood(&entry.id, chosen)
}

fn understood<T: DeserializeOwned>(what: &str, value: Value) -> Result<T, ClientError> {
    T::deserialize(value).map_err(|source| ClientError::Unknown { what: what.to_owned(), source })
}

/// `specifications/north-clinic/beds-1.0.0.yaml`
fn file_name(tenant: &Slug, api: &Api, version: &Version, document: &str) -> String {
    let mut word = String::new();
    for c in api.name.as_str().chars() {
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        } else if !word.ends_with('-') {
            word.push('-');
        }
    }
    let extension = match Syntax::detect(document.as_bytes()) {
        Syntax::Json => "json",
        Syntax::Yaml => "yaml",
    };
    format!("specifications/{tenant}/{}-{version}.{extension}", word.trim_matches('-'))
}
