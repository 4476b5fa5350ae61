//! What the index holds about an API.

use model::{ApiId, TenantId};

/// An API as the catalogue shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueEntry {
    /// The API.
    pub api: ApiId,
    /// Its name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// Who offers it, by name.
    pub owner: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its categories.
    pub categories: Vec<String>,
    /// What it has to do with persons, in a word.
    pub personal_data: &'static str,
    /// Where the described version is in its life.
    pub status: &'static str,
    /// Paths, summaries and schema names of its operations.
    pub operations: String,
    /// Who may see it.
    pub visible_to: Visibility,
    /// When it was last changed, in milliseconds since 1970.
    pub updated: i64,
}

/// Who may see an entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Visibility {
    /// Whoever looks.
    pub everyone: bool,
    /// These tenants in any case.
    pub tenants: Vec<TenantId>,
}

/// A change to the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds an entry or replaces the one of the same API.
    Put(Box<CatalogueEntry>),
    /// Removes the entry of an API, if there is one.
    Remove(ApiId),
}

impl Change {
    /// Adds an entry or replaces the one of the same API.
    #[must_use]
    pub fn put(entry: CatalogueEntry) -> Self {
        Self::Put(Box::new(entry))
    }
}
