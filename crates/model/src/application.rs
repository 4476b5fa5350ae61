//! Applications: the programs that call APIs.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ApplicationId, Name, TenantId, UserId};

/// A consumer program registered by a tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Application {
    /// Identifier.
    pub id: ApplicationId,
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// Unique within the tenant.
    pub name: Name,
    /// What it does.
    pub description: String,
    /// Who registered it.
    pub created_by: UserId,
    /// When it was registered.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Counts changes.
    pub revision: i64,
}
