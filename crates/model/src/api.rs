//! APIs and their versions.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{ApiId, Email, Name, Slug, TenantId, UserId, VersionId, VersionStatus};

/// A logical product that one tenant owns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Api {
    /// Identifier.
    pub id: ApiId,
    /// The tenant that owns it and approves its subscriptions.
    pub tenant: TenantId,
    /// Unique within the tenant.
    pub name: Name,
    /// What it is for, in Markdown.
    pub description: String,
    /// Who answers for it.
    pub owner: Owner,
    /// Who may see it.
    pub visibility: Visibility,
    /// What kind of data it carries.
    pub classification: Classification,
    /// Free words.
    pub tags: Vec<Slug>,
    /// Headings of the catalogue.
    pub categories: Vec<Slug>,
    /// Where its documentation lives.
    pub documentation_url: Option<Url>,
    /// Where its terms are.
    pub terms_of_service_url: Option<Url>,
    /// Its licence, such as an SPDX expression.
    pub license: Option<Name>,
    /// Who registered it.
    pub created_by: UserId,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Counts changes; the entity tag of the resource.
    pub revision: i64,
}

/// Who answers for an API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// A team or person.
    pub name: Name,
    /// Where to ask.
    pub contact_email: Email,
}

/// Who may see an API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "tenants", rename_all = "snake_case")]
pub enum Visibility {
    /// Every tenant of the installation.
    Public,
    /// The owner and the named tenants.
    Restricted(Vec<TenantId>),
    /// The owner alone.
    Private,
}

impl Visibility {
    /// Whether `viewer` may see an API of `owner`.
    pub fn admits(&self, owner: TenantId, viewer: TenantId) -> bool {
        owner == viewer
            || match self {
                Self::Public => true,
                Self::Restricted(tenants) => tenants.contains(&viewer),
                Self::Private => false,
            }
    }
}

/// What kind of data an API carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Classification {
    /// Protected health information (45 CFR 160.103).
    #[serde(default)]
    pub contains_phi: bool,
    /// Personal data (GDPR Art. 4(1)).
    #[serde(default)]
    pub contains_pii: bool,
    /// Regulations that apply, such as `hipaa` and `gdpr`.
    #[serde(default)]
    pub regulatory_scope: Vec<Slug>,
    /// How bad a leak would be.
    #[serde(default)]
    pub sensitivity_level: Sensitivity,
    /// Kinds of data, such as `demographics` and `laboratory`.
    #[serde(default)]
    pub data_categories: Vec<Slug>,
}

/// What data has to do with persons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersonalData {
    /// Nothing.
    None,
    /// It tells of persons, but not of their health.
    Personal,
    /// It tells of patients.
    Health,
}

impl PersonalData {
    /// The name in the contract: `none`, `pii` or `phi`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Personal => "pii",
            Self::Health => "phi",
        }
    }
}

impl Classification {
    /// What the data has to do with persons.
    pub const fn personal_data(&self) -> PersonalData {
        match (self.contains_phi, self.contains_pii) {
            (true, _) => PersonalData::Health,
            (false, true) => PersonalData::Personal,
            (false, false) => PersonalData::None,
        }
    }
}

impl Default for Classification {
    /// Nothing personal, internal.
    fn default() -> Self {
        Self {
            contains_phi: false,
            contains_pii: false,
            regulatory_scope: Vec::new(),
            sensitivity_level: Sensitivity::Internal,
            data_categories: Vec::new(),
        }
    }
}

/// How bad a leak would be.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Sensitivity {
    /// Anybody may know.
    Public,
    /// For people of the organisations.
    #[default]
    Internal,
    /// For those who need it.
    Confidential,
    /// The most sensitive data.
    Restricted,
}

/// One release of an API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiVersion {
    /// Identifier.
    pub id: VersionId,
    /// The API it is a release of.
    pub api: ApiId,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// Semantic version.
    pub number: semver::Version,
    /// Where it stands in its life.
    pub status: VersionStatus,
    /// Who submitted it; may not approve it.
    pub submitted_by: UserId,
    /// Who decided, when, and with what words.
    pub decision: Option<Decision>,
    /// When it was deprecated (RFC 9745).
    pub deprecated_at: Option<Timestamp>,
    /// When it will stop answering (RFC 8594).
    pub sunset_at: Option<Timestamp>,
    /// The version that replaces it.
    pub successor: Option<VersionId>,
    /// The description that came with it.
    pub format: SpecificationFormat,
    /// SHA-256 of that description, in lower-case hex.
    #[serde(default)]
    pub specification_sha256: String,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Counts changes.
    pub revision: i64,
}

/// A reviewer's word on a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// The reviewer.
    pub by: UserId,
    /// When it was decided.
    pub at: Timestamp,
    /// What the reviewer wrote.
    pub comments: String,
    /// Why it was refused; empty for an approval.
    pub reasons: Vec<String>,
}

/// How a version is described.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpecificationFormat {
    /// OpenAPI 3.0 or 3.1.
    Openapi,
}

impl SpecificationFormat {
    /// The name in the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Openapi => "openapi",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn visibility_admits_the_owner_and_whom_it_names() {
        let [owner, friend, stranger] = [1, 2, 3].map(TenantId::from_bits);
        let restricted = Visibility::Restricted(vec![friend]);
        assert!(Visibility::Private.admits(owner, owner));
        assert!(!Visibility::Private.admits(owner, friend));
        assert!(restricted.admits(owner, friend));
        assert!(restricted.admits(owner, owner));
        assert!(!restricted.admits(owner, stranger));
        assert!(Visibility::Public.admits(owner, stranger));
    }
}
