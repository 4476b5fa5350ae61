//! APIs of the catalogue.

use authz::Action;
use model::{
    Api, ApiId, ApiVersion, Classification, EventKind, Name, Owner, Slug, TenantId, Visibility,
};
use serde_json::json;
use store::{Page, PageOf, Tx, Viewer};
use url::Url;

use crate::{
    Begun, Conflict, Kind, Market, MarketError, RegisteredVersion, Request, SpecificationSource,
    Violation, change::Change, tenants, viewer,
};

/// What is said about an API.
#[derive(Debug, Clone)]
pub struct ApiDraft {
    /// Unique within the tenant.
    pub name: Name,
    /// What it is for, in Markdown.
    pub description: String,
    /// Who answers for it.
    pub owner: Owner,
    /// Who may see it.
    pub visibility: VisibilityDraft,
    /// What kind of data it carries.
    pub classification: Classification,
    /// Free words.
    pub tags: Vec<Slug>,
    /// Headings of the catalogue; they must exist.
    pub categories: Vec<Slug>,
    /// Where its documentation lives.
    pub documentation_url: Option<Url>,
    /// Where its terms are.
    pub terms_of_service_url: Option<Url>,
    /// Its licence.
    pub license: Option<Name>,
}

/// Who may see an API, as it is asked for.
#[derive(Debug, Clone)]
pub enum VisibilityDraft {
    /// Every tenant.
    Public,
    /// The named tenants.
    Restricted(Vec<TenantId>),
    /// The own tenant.
    Private,
}

/// An API with the versions that the viewer may see.
#[derive(Debug, Clone)]
pub struct ApiListing {
    /// The API.
    pub api: Api,
    /// Its versions, in the order in which they were submitted.
    pub versions: Vec<ApiVersion>,
}

const DESCRIPTION_MAX: usize = 20_000;
const LABELS_MAX: usize = 30;
const AUDIENCE_MAX: usize = 500;

impl Market {
    /// Registers an API with its first version, which then waits for a reviewer. It belongs to `tenant`, or else to
    /// the caller's own.
    pub async fn register_api(
        &self,
        request: &Request,
        tenant: Option<TenantId>,
        draft: ApiDraft,
        number: semver::Version,
        source: SpecificationSource,
    ) -> Result<RegisteredVersion, MarketError> {
        self.require(request, Action::RegisterApi).await?;
        let specification = self.read_specification(source).await?;
        let mut change = match self.begin(request, Action::RegisterApi).await? {
            Begun::Fresh(change) => change,
            Begun::Done(registered) => return Ok(registered),
        };
        let tenant = tenants::acting_for(request, &mut change, tenant).await?;
        check(&mut change, &draft).await?;
        let now = self.clock.now();
        let api = Api {
            id: self.ids.next(),
            tenant,
            name: draft.name,
            description: draft.description,
            owner: draft.owner,
            visibility: draft.visibility.into(),
            classification: draft.classification,
            tags: draft.tags,
            categories: draft.categories,
            documentation_url: draft.documentation_url,
            terms_of_service_url: draft.terms_of_service_url,
            license: draft.license,
            created_by: request.caller.user(),
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        store::api::insert(change.tx(), &api)
            .await
            .map_err(MarketError::duplicate_as(Conflict::Taken(Kind::Api, "name")))?;
        let version =
            self.store_version(request, &mut change, &api, number, &specification).await?;
        change.audit(api.tenant, api.id, json!({ "version": version.number })).await?;
        change.announce(api.tenant, EventKind::ApiChanged, &api.id);
        change.announce(api.tenant, EventKind::VersionSubmitted, &version.id);
        change.finish(RegisteredVersion { api, version, findings: specification.findings }).await
    }

    /// Replaces what is said about an API.
    pub async fn replace_api(
        &self,
        request: &Request,
        action: Action,
        id: ApiId,
        draft: ApiDraft,
    ) -> Result<Api, MarketError> {
        let mut change = match self.begin(request, action).await? {
            Begun::Fresh(change) => change,
            Begun::Done(api) => return Ok(api),
        };
        let before = find_own(request, &mut change, id).await?;
        request.check_revision(before.revision)?;
        check(&mut change, &draft).await?;
        let api = Api {
            name: draft.name,
            description: draft.description,
            owner: draft.owner,
            visibility: draft.visibility.into(),
            classification: draft.classification,
            tags: draft.tags,
            categories: draft.categories,
            documentation_url: draft.documentation_url,
            terms_of_service_url: draft.terms_of_service_url,
            license: draft.license,
            updated_at: self.clock.now(),
            revision: before.revision + 1,
            id: before.id,
            tenant: before.tenant,
            created_by: before.created_by,
            created_at: before.created_at,
        };
        store::api::update(change.tx(), &api)
            .await
            .map_err(MarketError::duplicate_as(Conflict::Taken(Kind::Api, "name")))?;
        let details = json!({
            "visibility": { "before": before.visibility, "after": api.visibility },
            "classification": { "before": before.classification, "after": api.classification },
        });
        change.audit(api.tenant, api.id, details).await?;
        change.announce(api.tenant, EventKind::ApiChanged, &api.id);
        change.finish(api).await
    }

    /// Removes an API with its versions and plans, when it has no deployment and never had a subscription.
    pub async fn remove_api(&self, request: &Request, id: ApiId) -> Result<(), MarketError> {
        let mut change = match self.begin(request, Action::RemoveApi).await? {
            Begun::Fresh(change) => change,
            Begun::Done(()) => return Ok(()),
        };
        let api = find_own(request, &mut change, id).await?;
        request.check_revision(api.revision)?;
        let in_use = Conflict::InUse(
            Kind::Api,
            "it has deployments or subscriptions; retire its versions instead",
        );
        store::api::delete(change.tx(), api.tenant, id)
            .await
            .map_err(MarketError::referenced_as(in_use))?;
        change.audit(api.tenant, id, json!({ "name": api.name })).await?;
        change.announce(api.tenant, EventKind::ApiChanged, &id);
        change.finish(()).await
    }

    /// Reads an API that the caller may see, with its versions.
    pub async fn read_api(&self, request: &Request, id: ApiId) -> Result<ApiListing, MarketError> {
        self.require(request, Action::ReadApi).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let api = find_visible(&mut tx, request, id).await?;
        let versions = store::version::list_of(&mut tx, viewer(&request.caller), id).await?;
        Ok(ApiListing { api, versions })
    }

    /// Lists APIs that the caller may see.
    pub async fn list_apis(
        &self,
        request: &Request,
        filter: &store::api::Filter,
        page: Page,
    ) -> Result<PageOf<ApiListing>, MarketError> {
        self.require(request, Action::ListApis).await?;
        let viewer = viewer(&request.caller);
        let mut tx = self.db.read(viewer).await?;
        let found = store::api::list_visible(&mut tx, viewer, filter, page).await?;
        let ids: Vec<_> = found.items.iter().map(|api| api.id).collect();
        let mut versions = store::version::list_of_all(&mut tx, viewer, &ids).await?;
        let listed = |api: Api| {
            let versions = versions.remove(&api.id).unwrap_or_default();
            ApiListing { api, versions }
        };
        Ok(PageOf { items: found.items.into_iter().map(listed).collect(), total: found.total })
    }

    /// Lists ids and names of the APIs that the caller may see, by name.
    pub async fn list_api_names(
        &self,
        request: &Request,
        page: Page,
    ) -> Result<Vec<(ApiId, Name)>, MarketError> {
        self.require(request, Action::ListApis).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        Ok(store::api::list_names(&mut tx, viewer(&request.caller), page).await?)
    }

    /// Lists the tags in use, with how many visible APIs have each.
    pub async fn list_tags(&self, request: &Request) -> Result<Vec<(String, u64)>, MarketError> {
        self.require(request, Action::ListTags).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        Ok(store::api::list_tags(&mut tx, viewer(&request.caller)).await?)
    }
}

impl From<VisibilityDraft> for Visibility {
    fn from(draft: VisibilityDraft) -> Self {
        match draft {
            VisibilityDraft::Public => Self::Public,
            VisibilityDraft::Restricted(tenants) => Self::Restricted(tenants),
            VisibilityDraft::Private => Self::Private,
        }
    }
}

/// Finds an API that the caller may see.
pub(crate) async fn find_visible(
    tx: &mut Tx,
    request: &Request,
    id: ApiId,
) -> Result<Api, MarketError> {
    store::api::find_visible(tx, viewer(&request.caller), id)
        .await?
        .ok_or(MarketError::NotFound(Kind::Api))
}

/// Finds an API that the caller acts for as its owner. To others it reads as absent, unless they may see it; then they
/// are refused.
pub(crate) async fn find_own(
    request: &Request,
    change: &mut Change<'_>,
    id: ApiId,
) -> Result<Api, MarketError> {
    let api = find_visible(change.tx(), request, id).await?;
    if request.caller.acts_for(api.tenant) { Ok(api) } else { Err(change.forbidden()) }
}

async fn check(change: &mut Change<'_>, draft: &ApiDraft) -> Result<(), MarketError> {
    let mut violations = Vec::new();
    if draft.description.len() > DESCRIPTION_MAX {
        violations.push(Violation::new(
            "description",
            format!("must have at most {DESCRIPTION_MAX} bytes"),
        ));
    }
    let lists = [
        ("tags", draft.tags.len(), LABELS_MAX),
        ("categories", draft.categories.len(), LABELS_MAX),
        ("classification.regulatoryScope", draft.classification.regulatory_scope.len(), LABELS_MAX),
        ("classification.dataCategories", draft.classification.data_categories.len(), LABELS_MAX),
    ];
    for (field, length, most) in lists {
        if length > most {
            violations.push(Violation::new(field, format!("must have at most {most} entries")));
        }
    }
    for (field, url) in [
        ("documentationUrl", &draft.documentation_url),
        ("termsOfServiceUrl", &draft.terms_of_service_url),
    ] {
        if url.as_ref().is_some_and(|url| !matches!(url.scheme(), "http" | "https")) {
            violations.push(Violation::new(field, "must begin with https:// or http://"));
        }
    }
    if !draft.categories.is_empty() {
        let known = store::category::list(change.tx()).await?;
        for (index, slug) in draft.categories.iter().enumerate() {
            if !known.iter().any(|category| category.slug == *slug) {
                violations.push(Violation::new(
                    format!("categories[{index}]"),
                    "is no heading of the catalogue; GET /api/v1/categories lists them",
                ));
            }
        }
    }
    if let VisibilityDraft::Restricted(tenants) = &draft.visibility {
        if tenants.is_empty() || tenants.len() > AUDIENCE_MAX {
            violations.push(Violation::new(
                "visibleTo",
                format!("must name 1 to {AUDIENCE_MAX} tenants"),
            ));
        } else {
            // Whoever is named does not have to be known to the caller otherwise.
            change.tx().view_as(Viewer::Installation).await?;
            for (index, tenant) in tenants.iter().enumerate() {
                if store::tenant::find(change.tx(), *tenant).await?.is_none() {
                    violations.push(Violation::new(format!("visibleTo[{index}]"), "is no tenant"));
                }
            }
            change.view_as_caller().await?;
        }
    }
    if violations.is_empty() { Ok(()) } else { Err(MarketError::Invalid(violations)) }
}
