//! People with local accounts.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Email, Name, Roles, TenantId, UserId};

/// A person with an account in one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Identifier.
    pub id: UserId,
    /// The tenant the account belongs to.
    pub tenant: TenantId,
    /// Unique in the installation; the name to sign in with.
    pub email: Email,
    /// The person's name.
    pub name: Name,
    /// What the person may do.
    pub roles: Roles,
    /// Whether the account may sign in.
    pub status: UserStatus,
    /// When the account was made.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// Counts changes.
    pub revision: i64,
}

/// Whether an account may sign in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UserStatus {
    /// Invited; sets a password with the one-time token.
    Invited,
    /// May sign in.
    Active,
    /// May not sign in.
    Disabled,
}

impl UserStatus {
    /// Every status.
    pub const ALL: [Self; 3] = [Self::Invited, Self::Active, Self::Disabled];

    /// The name in the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Active => "active",
            Self::Disabled => "disabled",
        }
    }

    /// Reads the name in the contract.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}
