//! What can be asked and what is answered.

use model::{ApiId, TenantId};

use crate::highlight::Highlight;

/// A search.
#[derive(Debug, Clone)]
pub struct Query {
    /// Words to look for; without any, everything is found, newest first.
    pub text: String,
    /// Who looks.
    pub viewer: Viewer,
    /// Only entries of one of these categories, if there are any.
    pub categories: Vec<String>,
    /// Only entries with all of these tags.
    pub tags: Vec<String>,
    /// Page of the hits, from 0.
    pub page: usize,
    /// Hits per page, at most 100.
    pub limit: usize,
}

/// Who looks, which decides what there is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// Somebody unknown.
    Anonymous,
    /// A member of a tenant.
    Tenant(TenantId),
    /// Somebody who may see every entry.
    Everything,
}

/// What a search found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Results {
    /// The hits of the page, best first.
    pub hits: Vec<Hit>,
    /// Hits on all pages.
    pub total: u64,
    /// Values among all hits.
    pub facets: Facets,
    /// Other spellings of the text that find something, when it found nothing.
    pub suggestions: Vec<String>,
}

/// An API that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// The API.
    pub api: ApiId,
    /// How well it fits; only comparable within one search.
    pub score: f32,
    /// Where the words of the search are.
    pub highlights: Vec<Highlight>,
}

/// How often values occur among the hits, the most frequent first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facets {
    /// Categories.
    pub categories: Vec<(String, u64)>,
    /// Tags.
    pub tags: Vec<(String, u64)>,
}
