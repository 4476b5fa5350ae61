//! What can be asked and what is answered.

use std::collections::BTreeMap;

use model::{ApiId, TenantId};

use crate::highlight::Highlight;

/// A search.
#[derive(Debug, Clone)]
pub struct Query {
    /// Words to look for; without any, everything is found, newest first.
    pub text: String,
    /// Who looks.
    pub viewer: Viewer,
    /// Only entries that have all of these.
    pub only: Vec<(Label, String)>,
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

/// What hits can be narrowed by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// A category.
    Category,
    /// A tag.
    Tag,
    /// Who offers it.
    Owner,
    /// What it has to do with persons.
    PersonalData,
    /// Where the described version is in its life.
    Status,
}

/// How often each value of a label occurs among the hits, the most frequent first.
pub type Facets = BTreeMap<Label, Vec<(String, u64)>>;
