//! APIs of the catalogue.

use authz::Action;
use http::StatusCode;
use jiff::Timestamp;
use market::{
    ApiDraft, ApiFilter, ApiListing, ApiSort, CatalogueQuery, Kind, Label, VisibilityDraft,
};
use model::{
    Api, ApiId, ApiVersion, Classification, Email, Name, Owner, Slug, TenantId, VersionId,
    VersionStatus, Visibility,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use super::{
    Items, Listing, Pagination,
    reviews::RatingView,
    specifications::{SpecificationBody, ValidationResults},
    versions::VersionView,
};
use crate::{
    body,
    call::{self, Call},
    endpoint::{Endpoint, delete, get, patch, post, put},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/apis", Action::ListApis, "List APIs")
            .query::<ApiQuery>()
            .answers::<Listing<ApiView>>()
            .run(list),
        get("/apis/search", Action::SearchApis, "Search the catalogue")
            .query::<SearchQuery>()
            .answers::<SearchView>()
            .run(search),
        post("/apis", Action::RegisterApi, "Register an API with its first version")
            .with_specification()
            .creates::<RegisteredView>()
            .body(register),
        get("/apis/{id}", Action::ReadApi, "Read an API").answers::<ApiView>().run(read),
        put("/apis/{id}", Action::ReplaceApi, "Replace what is said about an API")
            .answers::<ApiView>()
            .body(replace),
        patch("/apis/{id}", Action::ChangeApi, "Change what is said about an API")
            .answers::<ApiView>()
            .body(change),
        delete("/apis/{id}", Action::RemoveApi, "Remove an API that nobody uses").run(remove),
        get("/tags", Action::ListTags, "List the tags in use")
            .answers::<Items<TagView>>()
            .run(tags),
    ]
}

/// What is said about an API.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ApiBody {
    name: Name,
    /// What it is for, in Markdown.
    description: String,
    /// The team or person who answers for it.
    owner: Name,
    contact_email: Email,
    #[serde(default)]
    tags: Vec<Slug>,
    /// Slugs of headings of the catalogue.
    #[serde(default)]
    categories: Vec<Slug>,
    #[serde(default)]
    visibility: VisibilityName,
    /// The tenants that a restricted API is shown to.
    #[serde(default)]
    visible_to: Vec<TenantId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    documentation_url: Option<Url>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    terms_of_service_url: Option<Url>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    license: Option<Name>,
    #[serde(default)]
    classification: Classification,
}

/// An API with its first version.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RegisterBody {
    name: Name,
    /// What it is for, in Markdown.
    #[serde(default)]
    description: String,
    /// Semantic version of the first version.
    version: semver::Version,
    /// The team or person who answers for it.
    owner: Name,
    contact_email: Email,
    #[serde(default)]
    tags: Vec<Slug>,
    /// Slugs of headings of the catalogue.
    #[serde(default)]
    categories: Vec<Slug>,
    #[serde(default)]
    visibility: VisibilityName,
    /// The tenants that a restricted API is shown to.
    #[serde(default)]
    visible_to: Vec<TenantId>,
    documentation_url: Option<Url>,
    terms_of_service_url: Option<Url>,
    license: Option<Name>,
    #[serde(default)]
    classification: Classification,
    specification: SpecificationBody,
    /// The tenant that owns it; one's own, when absent.
    tenant_id: Option<TenantId>,
}

/// Who may see an API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VisibilityName {
    /// Every tenant.
    Public,
    /// The tenants in `visibleTo`.
    Restricted,
    /// The own tenant.
    #[default]
    Private,
}

/// An API.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ApiView {
    id: ApiId,
    tenant_id: TenantId,
    #[serde(flatten)]
    body: ApiBody,
    /// The newest version that may be called, or else the newest.
    version: Option<String>,
    /// The state of that version.
    status: Option<VersionStatus>,
    /// All versions that the caller may see.
    versions: Vec<VersionView>,
    created_at: Timestamp,
    updated_at: Timestamp,
    revision: i64,
}

/// What was registered.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct RegisteredView {
    id: ApiId,
    version_id: VersionId,
    name: Name,
    version: String,
    status: VersionStatus,
    created_at: Timestamp,
    validation_results: ValidationResults,
}

impl From<market::RegisteredVersion> for RegisteredView {
    fn from(registered: market::RegisteredVersion) -> Self {
        let market::RegisteredVersion { api, version, findings } = registered;
        Self {
            id: api.id,
            version_id: version.id,
            name: api.name,
            version: version.number.to_string(),
            status: version.status,
            created_at: version.created_at,
            validation_results: ValidationResults::from(findings),
        }
    }
}

fn visibility(name: VisibilityName, tenants: Vec<TenantId>) -> Result<VisibilityDraft, Problem> {
    match name {
        VisibilityName::Restricted => Ok(VisibilityDraft::Restricted(tenants)),
        _ if !tenants.is_empty() => {
            Err(Problem::invalid("visibleTo", "may only be set when visibility is restricted"))
        }
        VisibilityName::Public => Ok(VisibilityDraft::Public),
        VisibilityName::Private => Ok(VisibilityDraft::Private),
    }
}

impl TryFrom<ApiBody> for ApiDraft {
    type Error = Problem;

    fn try_from(body: ApiBody) -> Result<Self, Problem> {
        Ok(Self {
            visibility: visibility(body.visibility, body.visible_to)?,
            name: body.name,
            description: body.description,
            owner: Owner { name: body.owner, contact_email: body.contact_email },
            classification: body.classification,
            tags: body.tags,
            categories: body.categories,
            documentation_url: body.documentation_url,
            terms_of_service_url: body.terms_of_service_url,
            license: body.license,
        })
    }
}

impl From<Api> for ApiBody {
    fn from(api: Api) -> Self {
        let (visibility, visible_to) = match api.visibility {
            Visibility::Public => (VisibilityName::Public, Vec::new()),
            Visibility::Restricted(tenants) => (VisibilityName::Restricted, tenants),
            Visibility::Private => (VisibilityName::Private, Vec::new()),
        };
        Self {
            name: api.name,
            description: api.description,
            owner: api.owner.name,
            contact_email: api.owner.contact_email,
            tags: api.tags,
            categories: api.categories,
            visibility,
            visible_to,
            documentation_url: api.documentation_url,
            terms_of_service_url: api.terms_of_service_url,
            license: api.license,
            classification: api.classification,
        }
    }
}

impl ApiView {
    pub(super) fn of(listing: ApiListing, caller: &authz::Caller) -> Self {
        let ApiListing { api, versions } = listing;
        let shown = versions.iter().max_by_key(|version: &&ApiVersion| {
            (
                version.status == VersionStatus::Active,
                version.status.is_published(),
                &version.number,
            )
        });
        let mut view = Self {
            id: api.id,
            tenant_id: api.tenant,
            version: shown.map(|version| version.number.to_string()),
            status: shown.map(|version| version.status),
            created_at: api.created_at,
            updated_at: api.updated_at,
            revision: api.revision,
            versions: Vec::new(),
            body: api.into(),
        };
        view.versions =
            versions.into_iter().map(|version| VersionView::of(version, caller)).collect();
        // To whom else an API is shown is nobody's business but the owner's.
        if !caller.acts_for(view.tenant_id) {
            view.body.visible_to.clear();
        }
        view
    }
}

async fn register(call: Call, body: RegisterBody) -> Result<Reply, Problem> {
    let draft = ApiDraft {
        visibility: visibility(body.visibility, body.visible_to)?,
        name: body.name,
        description: body.description,
        owner: Owner { name: body.owner, contact_email: body.contact_email },
        classification: body.classification,
        tags: body.tags,
        categories: body.categories,
        documentation_url: body.documentation_url,
        terms_of_service_url: body.terms_of_service_url,
        license: body.license,
    };
    let source = body.specification.into_source()?;
    let registered = call
        .market
        .register_api(call.request(), body.tenant_id, draft, body.version, source)
        .await?;
    let (id, revision) = (registered.api.id, registered.api.revision);
    Ok(Reply::created(&RegisteredView::from(registered))
        .revision(revision)
        .location(&format!("/apis/{id}")))
}

async fn read(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Api)?;
    let listing = call.market.read_api(call.request(), id).await?;
    let revision = listing.api.revision;
    Ok(Reply::ok(&ApiView::of(listing, &call.request().caller)).revision(revision))
}

async fn replace(call: Call, body: ApiBody) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Api)?;
    let draft = ApiDraft::try_from(body)?;
    store(&call, call.request(), Action::ReplaceApi, id, draft).await
}

async fn change(
    call: Call,
    patch: serde_json::Map<String, serde_json::Value>,
) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Api)?;
    let current = call.market.read_api(call.request(), id).await?.api;
    let request = call.request_for(current.revision);
    let draft = ApiDraft::try_from(body::patched(ApiBody::from(current), patch)?)?;
    store(&call, &request, Action::ChangeApi, id, draft).await
}

async fn store(
    call: &Call,
    request: &market::Request,
    action: Action,
    id: ApiId,
    draft: ApiDraft,
) -> Result<Reply, Problem> {
    let api = call.market.replace_api(request, action, id, draft).await?;
    let versions = call.market.list_versions(call.request(), id).await?;
    let revision = api.revision;
    let view = ApiView::of(ApiListing { api, versions }, &request.caller);
    Ok(Reply::ok(&view).revision(revision))
}

async fn remove(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Api)?;
    call.market.remove_api(call.request(), id).await?;
    Ok(Reply::no_content())
}

/// Which APIs are listed.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ApiQuery {
    /// Words to look for.
    query: Option<String>,
    category: Option<String>,
    tag: Option<String>,
    status: Option<VersionStatus>,
    /// Id or slug of the owning tenant.
    owner: Option<String>,
    /// Format of the specification. There is one so far, so that the filter leaves out nothing.
    #[serde(rename = "type")]
    _kind: Option<SpecificationType>,
    contains_phi: Option<bool>,
    regulatory_scope: Option<String>,
    page: Option<u32>,
    limit: Option<u32>,
    /// `name`, `-name`, `createdAt`, `-createdAt` or `-updatedAt`.
    sort: Option<SortName>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum SpecificationType {
    Openapi,
}

#[derive(Deserialize, JsonSchema)]
enum SortName {
    #[serde(rename = "name")]
    Name,
    #[serde(rename = "-name")]
    NameDescending,
    #[serde(rename = "createdAt")]
    Oldest,
    #[serde(rename = "-createdAt")]
    Newest,
    #[serde(rename = "-updatedAt")]
    LastChanged,
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let query: ApiQuery = call.query()?;
    let (number, limit, page) = call::page(query.page, query.limit)?;
    let ids = match query.query.filter(|text| !text.trim().is_empty()) {
        None => None,
        Some(text) => {
            let wanted = CatalogueQuery {
                text,
                only: Vec::new(),
                page: 1,
                limit: CatalogueQuery::LIMIT_MAX,
            };
            let found = call.market.search_apis(call.request(), wanted).await?;
            Some(found.hits.iter().map(|hit| hit.listing.api.id).collect())
        }
    };
    let filter = ApiFilter {
        category: query.category,
        tag: query.tag,
        status: query.status,
        owner: query.owner,
        contains_phi: query.contains_phi,
        regulatory_scope: query.regulatory_scope,
        ids,
        sort: match query.sort {
            None | Some(SortName::Name) => ApiSort::Name,
            Some(SortName::NameDescending) => ApiSort::NameDescending,
            Some(SortName::Newest) => ApiSort::Newest,
            Some(SortName::Oldest) => ApiSort::Oldest,
            Some(SortName::LastChanged) => ApiSort::LastChanged,
        },
    };
    let found = call.market.list_apis(call.request(), &filter, page).await?;
    let caller = &call.request().caller;
    Ok(Reply::ok(&Listing::of(number, limit, found, |listing| ApiView::of(listing, caller))))
}

/// What is looked for.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct SearchQuery {
    /// Words to look for.
    query: String,
    category: Option<String>,
    tag: Option<String>,
    /// The name of who offers it.
    owner: Option<String>,
    /// `phi`, `pii` or `none`.
    personal_data: Option<String>,
    /// Of the version that is shown, such as `active`.
    status: Option<String>,
    page: Option<u32>,
    limit: Option<u32>,
}

/// What was found.
#[derive(Serialize, JsonSchema)]
struct SearchView {
    items: Vec<HitView>,
    pagination: Pagination,
    facets: FacetsView,
    /// Other spellings, when nothing was found.
    suggestions: Vec<String>,
}

/// One hit.
#[derive(Serialize, JsonSchema)]
struct HitView {
    api: ApiView,
    /// How well it fits; comparable within one answer only.
    score: f32,
    rating: RatingView,
    highlights: Vec<HighlightView>,
}

/// Where words were found.
#[derive(Serialize, JsonSchema)]
struct HighlightView {
    /// `name`, `description` or `operations`.
    field: &'static str,
    /// Plain text.
    fragment: String,
    /// Start and end of each found word in the fragment, in bytes of UTF-8.
    ranges: Vec<[usize; 2]>,
}

/// How many hits have what.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct FacetsView {
    categories: Vec<FacetView>,
    tags: Vec<FacetView>,
    owners: Vec<FacetView>,
    /// `phi`, `pii` and `none`.
    personal_data: Vec<FacetView>,
    statuses: Vec<FacetView>,
}

/// How many hits have a label.
#[derive(Serialize, JsonSchema)]
struct FacetView {
    value: String,
    count: u64,
}

async fn search(call: Call) -> Result<Reply, Problem> {
    let query: SearchQuery = call.query()?;
    let (page, limit, _) = call::page(query.page, query.limit)?;
    let limit = limit.min(CatalogueQuery::LIMIT_MAX);
    if query.query.len() > 500 {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "invalid_query",
            "query must have at most 500 bytes",
        ));
    }
    let only = [
        (Label::Category, query.category),
        (Label::Tag, query.tag),
        (Label::Owner, query.owner),
        (Label::PersonalData, query.personal_data),
        (Label::Status, query.status),
    ];
    let only = only.into_iter().filter_map(|(label, value)| Some((label, value?))).collect();
    let wanted = CatalogueQuery { text: query.query, only, page, limit };
    let mut found = call.market.search_apis(call.request(), wanted).await?;
    let mut facets = |label| -> Vec<FacetView> {
        let values = found.facets.remove(&label).unwrap_or_default();
        values.into_iter().map(|(value, count)| FacetView { value, count }).collect()
    };
    let facets = FacetsView {
        categories: facets(Label::Category),
        tags: facets(Label::Tag),
        owners: facets(Label::Owner),
        personal_data: facets(Label::PersonalData),
        statuses: facets(Label::Status),
    };
    let caller = &call.request().caller;
    let items = found
        .hits
        .into_iter()
        .map(|hit| HitView {
            api: ApiView::of(hit.listing, caller),
            score: hit.score,
            rating: hit.rating.into(),
            highlights: hit
                .highlights
                .into_iter()
                .map(|highlight| HighlightView {
                    field: highlight.field,
                    fragment: highlight.fragment,
                    ranges: highlight.ranges.iter().map(|range| [range.start, range.end]).collect(),
                })
                .collect(),
        })
        .collect();
    let pagination = Pagination {
        page,
        limit,
        total_items: found.total,
        total_pages: found.total.div_ceil(u64::from(limit)),
    };
    Ok(Reply::ok(&SearchView { items, pagination, facets, suggestions: found.suggestions }))
}

/// A tag.
#[derive(Serialize, JsonSchema)]
struct TagView {
    name: String,
    /// Visible APIs that have it.
    count: u64,
}

async fn tags(call: Call) -> Result<Reply, Problem> {
    let tags = call.market.list_tags(call.request()).await?;
    let items = tags.into_iter().map(|(name, count)| TagView { name, count }).collect();
    Ok(Reply::ok(&Items { items }))
}
