//! Through whose eyes a list or row is read.

use model::TenantId;

/// Through whose eyes a list or row is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// A tenant: sees its own and what others show it.
    Tenant(TenantId),
    /// The installation: sees everything. For the platform's administrators and for background work.
    Installation,
}

impl Viewer {
    /// The argument of a statement that hides what the viewer may not see; `*` sees everything.
    pub(crate) fn argument(self) -> String {
        match self {
            Self::Tenant(tenant) => tenant.to_string(),
            Self::Installation => "*".to_owned(),
        }
    }
}
