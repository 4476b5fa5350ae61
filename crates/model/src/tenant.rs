//! Tenants and the headings of the catalogue.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{CategoryId, Name, Slug, TenantId};

/// An organisation or department that shares the installation; the unit of isolation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Identifier.
    pub id: TenantId,
    /// Unique name for machines.
    pub slug: Slug,
    /// Name for people.
    pub name: Name,
    /// Whether its people may sign in and its applications may call.
    pub is_active: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Counts changes.
    pub revision: i64,
}

/// A heading of the catalogue, the same for all tenants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Category {
    /// Identifier.
    pub id: CategoryId,
    /// Unique name for machines, used in APIs.
    pub slug: Slug,
    /// Name for people.
    pub name: Name,
    /// What belongs under it.
    pub description: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Counts changes.
    pub revision: i64,
}
