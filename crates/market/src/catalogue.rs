//! Searching the catalogue, and keeping its index up to date.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
    sync::Arc,
};

use authz::Action;
use model::{Api, ApiId, EventKind, Rating, VersionStatus, Visibility};
use search::{CatalogueEntry, Change, Facets, HighlightedField, Label, Query, Results};
use store::{Tx, Viewer};

use crate::{ApiListing, Market, MarketError, Request, specifications, viewer};

/// What is looked for.
#[derive(Debug, Clone)]
pub struct CatalogueQuery {
    /// Words.
    pub text: String,
    /// With all of these.
    pub only: Vec<(Label, String)>,
    /// Page, from 1.
    pub page: u32,
    /// Hits in a page.
    pub limit: u32,
}

impl CatalogueQuery {
    /// The most hits in a page.
    pub const LIMIT_MAX: u32 = 100;
}

/// What was found.
#[derive(Debug, Clone)]
pub struct CatalogueResults {
    /// The hits of this page, best first.
    pub hits: Vec<CatalogueHit>,
    /// Hits on all pages.
    pub total: u64,
    /// What all hits can be narrowed by, with how many have each value.
    pub facets: Facets,
    /// Other spellings, when nothing was found.
    pub suggestions: Vec<String>,
}

/// One hit.
#[derive(Debug, Clone)]
pub struct CatalogueHit {
    /// The API with its visible versions.
    pub listing: ApiListing,
    /// How well it fits; comparable within one answer only.
    pub score: f32,
    /// How people rate it.
    pub rating: Rating,
    /// Where the words were found.
    pub highlights: Vec<Highlight>,
}

/// A piece of text in which words were found.
#[derive(Debug, Clone)]
pub struct Highlight {
    /// `name`, `description` or `operations`.
    pub field: &'static str,
    /// Plain text.
    pub fragment: String,
    /// The places of the words, in bytes.
    pub ranges: Vec<Range<usize>>,
}

impl From<search::Highlight> for Highlight {
    fn from(highlight: search::Highlight) -> Self {
        let search::Highlight { field, fragment, ranges } = highlight;
        let field = match field {
            HighlightedField::Name => "name",
            HighlightedField::Description => "description",
            HighlightedField::Operations => "operations",
        };
        Self { field, fragment, ranges }
    }
}

/// Events that are followed, and APIs that are read, in one step.
const STEP: i64 = 500;

impl Market {
    /// Searches what the caller may see.
    pub async fn search_apis(
        &self,
        request: &Request,
        query: CatalogueQuery,
    ) -> Result<CatalogueResults, MarketError> {
        self.require(request, Action::SearchApis).await?;
        let viewer = viewer(&request.caller);
        let eyes = match viewer {
            Viewer::Installation => search::Viewer::Everything,
            Viewer::Tenant(tenant) => search::Viewer::Tenant(tenant),
        };
        let wanted = Query {
            text: query.text,
            viewer: eyes,
            only: query.only,
            page: query.page.saturating_sub(1) as usize,
            limit: query.limit.clamp(1, CatalogueQuery::LIMIT_MAX) as usize,
        };
        let found = self.in_index(move |index| index.search(&wanted)).await?;
        let Results { hits, total, facets, suggestions } = found;
        // The index may lag behind: the database decides again what the caller may see.
        let mut tx = self.db.read(viewer).await?;
        let ids: Vec<_> = hits.iter().map(|hit| hit.api).collect();
        let apis = store::api::find_all_visible(&mut tx, viewer, &ids).await?;
        let mut apis: HashMap<_, _> = apis.into_iter().map(|api| (api.id, api)).collect();
        let mut versions = store::version::list_of_all(&mut tx, viewer, &ids).await?;
        let ratings = store::api_review::rate_all(&mut tx, &ids).await?;
        let shown = hits.into_iter().filter_map(|hit| {
            let api = apis.remove(&hit.api)?;
            let versions = versions.remove(&hit.api).unwrap_or_default();
            Some(CatalogueHit {
                listing: ApiListing { api, versions },
                rating: ratings.get(&hit.api).copied().unwrap_or_default(),
                score: hit.score,
                highlights: hit.highlights.into_iter().map(Highlight::from).collect(),
            })
        });
        let shown = shown.collect();
        Ok(CatalogueResults { hits: shown, total, facets, suggestions })
    }

    /// Brings the index up to the last event: by the events since, or from the start when it is new.
    pub(crate) async fn follow_catalogue(&self) -> Result<(), MarketError> {
        let position = self.index.position();
        let mut tx = self.db.read(Viewer::Installation).await?;
        let last = store::event::last_number(&mut tx).await?;
        if position == 0 || position > last {
            return self.build_catalogue(&mut tx, last).await;
        }
        let mut position = position;
        while position < last {
            let events = store::event::list_after(&mut tx, position, STEP).await?;
            let Some(newest) = events.last().map(|event| event.number) else { return Ok(()) };
            let touched: BTreeSet<ApiId> = events
                .iter()
                .filter(|event| event.kind == EventKind::ApiChanged)
                .filter_map(|event| ApiId::parse(&event.subject).ok())
                .collect();
            let mut changes = Vec::with_capacity(touched.len());
            for id in touched {
                let api = store::api::find_visible(&mut tx, Viewer::Installation, id).await?;
                changes.push(match api {
                    Some(api) => Change::put(describe(&mut tx, api).await?),
                    None => Change::Remove(id),
                });
            }
            self.in_index(move |index| index.apply(&changes, newest)).await?;
            position = newest;
        }
        Ok(())
    }

    async fn build_catalogue(&self, tx: &mut Tx, last: u64) -> Result<(), MarketError> {
        let mut after = None;
        loop {
            let apis = store::api::list_after(tx, after, STEP).await?;
            let Some(newest) = apis.last().map(|api| api.id) else { break };
            after = Some(newest);
            let mut changes = Vec::with_capacity(apis.len());
            for api in apis {
                changes.push(Change::put(describe(tx, api).await?));
            }
            self.in_index(move |index| index.apply(&changes, 0)).await?;
        }
        if last > 0 {
            self.in_index(move |index| index.apply(&[], last)).await?;
        }
        Ok(())
    }

    async fn in_index<T: Send + 'static>(
        &self,
        work: impl FnOnce(&search::CatalogueIndex) -> Result<T, search::SearchError> + Send + 'static,
    ) -> Result<T, MarketError> {
        let index = Arc::clone(&self.index);
        tokio::task::spawn_blocking(move || work(&index))
            .await
            .map_err(|error| MarketError::internal("the index failed")(error.into()))?
            .map_err(|error| MarketError::internal("the index failed")(error.into()))
    }
}

/// What the index knows about an API. Only published versions are found by others, so only those are described to them;
/// an API without one is found by its own tenant alone.
async fn describe(tx: &mut Tx, api: Api) -> Result<CatalogueEntry, MarketError> {
    let versions = store::version::list_of(tx, Viewer::Installation, api.id).await?;
    let is_published = versions.iter().any(|version| version.status.is_published());
    let described = versions
        .iter()
        .filter(|version| version.status.is_published() || !is_published)
        .max_by_key(|version| (version.status.is_open(), &version.number));
    let mut operations = String::new();
    if let Some(version) = described
        && let Some(json) = store::specification::find_summary(tx, version.id).await?
    {
        let summary = specifications::parse_summary(&json)?;
        for operation in summary.operations {
            operations.push_str(&operation.path);
            operations.push(' ');
            operations.push_str(operation.summary.as_deref().unwrap_or_default());
            operations.push('\n');
        }
        operations.push_str(&summary.schemas.join(" "));
    }
    let mut tenants = vec![api.tenant];
    let mut everyone = false;
    match &api.visibility {
        Visibility::Public => everyone = is_published,
        Visibility::Restricted(others) if is_published => tenants.extend(others),
        Visibility::Restricted(_) | Visibility::Private => {}
    }
    let visible_to = search::Visibility { everyone, tenants };
    Ok(CatalogueEntry {
        api: api.id,
        name: api.name.to_string(),
        description: api.description,
        owner: api.owner.name.to_string(),
        tags: api.tags.iter().map(ToString::to_string).collect(),
        categories: api.categories.iter().map(ToString::to_string).collect(),
        personal_data: api.classification.personal_data().as_str(),
        status: described.map_or(VersionStatus::Draft, |version| version.status).as_str(),
        operations,
        visible_to,
        updated: api.updated_at.as_millisecond(),
    })
}
