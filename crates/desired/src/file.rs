//! The file's types. Names are natural: slugs, e-mail addresses, names of APIs, version numbers, routes.
//!
//! Sections that are absent are not looked after: they are neither changed nor emptied. Fields of an entry that are
//! absent have their defaults, as in the bodies of the control API.

use std::{collections::BTreeMap, fmt, str::FromStr};

use api::{CorsBody, LimitBody, ProtocolsBody, RouteBody, UpstreamBody, VisibilityName};
use jiff::Timestamp;
use model::{
    ApiId, Approval, Classification, Email, Name, Quota, Roles, Slug, TenantId, Validation,
};
use schemars::JsonSchema;
use semver::Version;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;
use url::Url;

/// What an installation should consist of.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Caduceus installation")]
pub struct Desired {
    /// The version of this format.
    #[serde(deserialize_with = "format_version")]
    #[schemars(range(min = 1, max = 1))]
    pub caduceus: u8,
    /// Settings of the installation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<SettingsEntry>,
    /// Headings of the catalogue, by their slugs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub categories: Option<BTreeMap<Slug, CategoryEntry>>,
    /// Organisations, by their slugs. One that is not named is left alone.
    #[serde(default)]
    pub tenants: BTreeMap<Slug, TenantEntry>,
}

/// Settings of the installation.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SettingsEntry {
    /// What the installation is called.
    pub name: Name,
    /// Whom its users ask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub support_email: Option<Email>,
    /// For how many days hourly usage is kept, 31 to 3,650.
    #[schemars(range(min = 31, max = 3650))]
    pub usage_retention_days: u16,
    /// For how many days the audit trail is kept, 365 to 36,500; for ever when absent.
    #[serde(default)]
    #[schemars(range(min = 365, max = 36500))]
    pub audit_retention_days: Option<u16>,
    /// While it is set, nothing is removed because of its age. It stays as it is when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legal_hold: Option<bool>,
}

/// A heading of the catalogue.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CategoryEntry {
    /// Name for people.
    pub name: Name,
    /// What belongs under it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// An organisation.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TenantEntry {
    /// Name for people.
    pub name: Name,
    /// Whether its people may sign in and its applications may call; true when absent.
    #[serde(default = "yes")]
    pub active: bool,
    /// Its people, by their e-mail addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub people: Option<BTreeMap<Email, PersonEntry>>,
    /// Its APIs, by their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apis: Option<BTreeMap<Name, ApiEntry>>,
    /// Its applications, by their names. Their credentials are secrets and stand in no file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applications: Option<BTreeMap<Name, ApplicationEntry>>,
}

/// A person's account.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PersonEntry {
    /// The person's name.
    pub name: Name,
    /// What the person may do.
    pub roles: Roles,
    /// Whether the account may sign in; true when absent.
    #[serde(default = "yes")]
    pub active: bool,
}

/// An API.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApiEntry {
    /// What it is for, in Markdown.
    #[serde(default)]
    pub description: String,
    /// The team or person who answers for it.
    pub owner: Name,
    /// Where that team or person is reached.
    pub contact_email: Email,
    /// Free words.
    #[serde(default)]
    pub tags: Vec<Slug>,
    /// Slugs of headings of the catalogue.
    #[serde(default)]
    pub categories: Vec<Slug>,
    /// Who may see it; `private` when absent.
    #[serde(default)]
    pub visibility: VisibilityName,
    /// The organisations that a restricted API is shown to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub visible_to: Vec<TenantReference>,
    /// Where its documentation lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documentation_url: Option<Url>,
    /// Where its terms are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms_of_service_url: Option<Url>,
    /// Its licence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<Name>,
    /// What kind of data it carries.
    #[serde(default)]
    pub classification: Classification,
    /// Its versions, by their numbers. One that is not named is left alone, or retired by `sync --prune`.
    #[serde(default)]
    pub versions: BTreeMap<Version, VersionEntry>,
    /// Its plans, by their names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plans: Option<BTreeMap<Name, PlanEntry>>,
    /// Where its versions run, one for each route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deployments: Option<Vec<DeploymentEntry>>,
}

/// A version of an API.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VersionEntry {
    /// How far it should be; `active` when absent.
    #[serde(default)]
    pub status: VersionGoal,
    /// When a deprecated version will stop answering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sunset_at: Option<Timestamp>,
    /// The version that replaces a deprecated one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<Version>,
    /// The OpenAPI document: a text, such as `${file:orders.yaml}`, or the document itself. It never changes once a
    /// version was approved.
    #[serde(deserialize_with = "document")]
    #[schemars(with = "Value")]
    pub specification: String,
}

/// How far a version should be.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum VersionGoal {
    /// Submitted, and then whatever reviewers say.
    PendingApproval,
    /// Approved.
    #[default]
    Active,
    /// Approved, and its end announced.
    Deprecated,
    /// No more.
    Retired,
}

/// A plan of an API.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanEntry {
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Limits of each subscriber.
    #[serde(default)]
    pub limits: Vec<LimitBody>,
    /// Calls in a calendar day or month (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// Who agrees to subscriptions; `owner` when absent.
    #[serde(default = "owner_approves")]
    pub approval: Approval,
    /// Whether whoever agrees has to sign, with the password and a stated meaning; false when absent.
    #[serde(default)]
    pub signed: bool,
    /// Whether it takes new subscribers; true when absent.
    #[serde(default = "yes")]
    pub open: bool,
}

/// Where a version runs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeploymentEntry {
    /// Under which addresses it is called; there is one deployment of each route.
    pub route: RouteBody,
    /// The version that runs there.
    pub version: Version,
    /// Where calls go.
    pub upstream: UpstreamBody,
    /// Limits for all callers, beside those of their plans.
    #[serde(default)]
    pub limits: Vec<LimitBody>,
    /// The largest request body, in bytes; 10 MiB when absent.
    #[serde(default = "ten_mebibytes")]
    pub max_body_bytes: u64,
    /// Which pages of other origins may call from a browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<CorsBody>,
    /// Whether answers are compressed for clients that accept it.
    #[serde(default)]
    pub compress: bool,
    /// What may pass beside plain calls.
    #[serde(default)]
    pub protocols: ProtocolsBody,
    /// Whether requests are compared with the specification; `off` when absent.
    #[serde(default)]
    pub validation: Validation,
}

/// A program that calls APIs.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApplicationEntry {
    /// What it does.
    #[serde(default)]
    pub description: String,
    /// What it may call; one for each version of an API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriptions: Option<Vec<SubscriptionEntry>>,
}

/// The right of an application to call a version of an API.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubscriptionEntry {
    /// The API.
    pub api: ApiReference,
    /// Its version.
    pub version: Version,
    /// The name of the plan.
    pub plan: Name,
    /// Why the data is used, such as `TREAT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purpose_of_use: Option<Name>,
    /// Kinds of data, of those that the API's classification names; all of them when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_categories: Option<Vec<Slug>>,
    /// SHA-256 of the signed agreement, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement_sha256: Option<String>,
    /// When the right ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// How far it should be; `active` when absent.
    #[serde(default)]
    pub status: SubscriptionGoal,
}

/// How far a subscription should be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionGoal {
    /// Asked for, and then whatever the owner says.
    Pending,
    /// Approved.
    #[default]
    Active,
    /// Stopped for now.
    Suspended,
}

/// An API: `organisation/name`, or its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ApiReference {
    /// By the slug of the organisation that owns it, and its name.
    Named(Slug, Name),
    /// By its id, where the organisation's slug is not known.
    Id(ApiId),
}

/// An organisation: its slug, or its id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum TenantReference {
    /// By its slug.
    Slug(Slug),
    /// By its id, where the slug is not known.
    Id(TenantId),
}

/// The JSON Schema of the file (draft 2020-12), pretty-printed.
pub fn schema() -> String {
    let schema = schemars::schema_for!(Desired);
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text.push('\n');
    text
}

impl FromStr for ApiReference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        let (tenant, name) = text
            .split_once('/')
            .ok_or("must be the organisation's slug, a slash and the API's name, or an id")?;
        let tenant = Slug::parse(tenant).map_err(|error| error.to_string())?;
        let name = Name::parse(name).map_err(|error| error.to_string())?;
        Ok(Self::Named(tenant, name))
    }
}

impl fmt::Display for ApiReference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(tenant, name) => write!(out, "{tenant}/{name}"),
            Self::Id(id) => write!(out, "{id}"),
        }
    }
}

impl TryFrom<String> for ApiReference {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ApiReference> for String {
    fn from(reference: ApiReference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for TenantReference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slug(slug) => write!(out, "{slug}"),
            Self::Id(id) => write!(out, "{id}"),
        }
    }
}

impl TryFrom<String> for TenantReference {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        Slug::parse(&text).map(Self::Slug).map_err(|error| error.to_string())
    }
}

impl From<TenantReference> for String {
    fn from(reference: TenantReference) -> Self {
        reference.to_string()
    }
}

/// Both kinds of references are texts.
macro_rules! text_schema {
    ($name:ident, $description:literal) => {
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $description })
            }
        }
    };
}

text_schema!(ApiReference, "The organisation's slug, a slash and the API's name; or the API's id.");
text_schema!(TenantReference, "The organisation's slug, or its id.");

fn format_version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
    match u8::deserialize(deserializer)? {
        1 => Ok(1),
        other => {
            Err(D::Error::custom(format_args!("format {other} is not known; this is format 1")))
        }
    }
}

/// A text, or a document that is written out in the file.
fn document<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        document @ Value::Object(_) => Ok(document.to_string()),
        _ => Err(D::Error::custom("must be a text or a document")),
    }
}

const fn yes() -> bool {
    true
}

const fn owner_approves() -> Approval {
    Approval::Owner
}

const fn ten_mebibytes() -> u64 {
    10 * 1024 * 1024
}
