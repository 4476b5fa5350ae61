//! What a person or program may be in a tenant.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A role of the public contract.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Runs the installation: tenants, settings, everything.
    PlatformAdmin,
    /// Runs one tenant: its people and its agreements.
    TenantAdmin,
    /// Publishes APIs of its tenant.
    Provider,
    /// Approves or rejects versions.
    Reviewer,
    /// Registers applications and calls APIs.
    Consumer,
    /// Reads the audit trail.
    Auditor,
}

impl Role {
    /// Every role, in the order of the contract.
    pub const ALL: [Self; 6] = [
        Self::PlatformAdmin,
        Self::TenantAdmin,
        Self::Provider,
        Self::Reviewer,
        Self::Consumer,
        Self::Auditor,
    ];

    /// The role's name in the contract.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PlatformAdmin => "platform-admin",
            Self::TenantAdmin => "tenant-admin",
            Self::Provider => "provider",
            Self::Reviewer => "reviewer",
            Self::Consumer => "consumer",
            Self::Auditor => "auditor",
        }
    }

    /// Reads a role's name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// A set of roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Role>", into = "Vec<Role>")]
pub struct Roles(u8);

impl Roles {
    /// Whether the set contains `role`.
    pub const fn contains(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }

    /// Whether the two sets have a role in common.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether every role of this set is also in `other`.
    pub const fn is_subset(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// The roles that are in both sets.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether there is no role in the set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set of the given roles, for tables.
    pub const fn of(roles: &[Role]) -> Self {
        let mut bits = 0;
        let mut index = 0;
        while index < roles.len() {
            bits |= roles[index].bit();
            index += 1;
        }
        Self(bits)
    }

    /// The roles in the order of the contract.
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.contains(*role))
    }

    /// Reads names separated by white space; `None` when one is unknown.
    pub fn parse(text: &str) -> Option<Self> {
        text.split_whitespace().map(Role::parse).collect::<Option<Vec<_>>>().map(Self::from)
    }
}

impl From<Vec<Role>> for Roles {
    fn from(roles: Vec<Role>) -> Self {
        Self::of(&roles)
    }
}

impl From<Roles> for Vec<Role> {
    fn from(roles: Roles) -> Self {
        roles.iter().collect()
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, role) in self.iter().enumerate() {
            if index > 0 {
                out.write_str(" ")?;
            }
            out.write_str(role.as_str())?;
        }
        Ok(())
    }
}

impl schemars::JsonSchema for Roles {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Roles".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Vec::<Role>::json_schema(generator)
    }
}
