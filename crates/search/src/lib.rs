//! The catalogue index: full text over the APIs of the catalogue, on disk.
//!
//! It is a cache that events can rebuild, never the truth. It knows the number of the last event
//! it has seen, and both change in one commit. Who may see an entry is part of the entry and of
//! every query, so that hits, counts, facets and suggestions only speak of what the viewer may
//! see.

mod entry;
mod fields;
mod highlight;
mod index;
mod query;
mod run;
mod suggest;
mod words;

#[cfg(test)]
mod tests;

pub use entry::{CatalogueEntry, Change, Visibility};
pub use highlight::{Highlight, HighlightedField};
pub use index::{CatalogueIndex, SearchError};
pub use query::{Facets, Hit, Label, Query, Results, Viewer};
