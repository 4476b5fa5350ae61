//! Who is calling the control API.

use model::{ApplicationId, Role, Roles, SessionId, TenantId, UserId};

use crate::{Access, Action};

/// A signed-in caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The person or program.
    pub principal: Principal,
    /// The tenant it belongs to.
    pub tenant: TenantId,
    /// What it may do.
    pub roles: Roles,
    /// The session it is signed in with.
    pub session: SessionId,
}

/// A person or program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A person.
    User(UserId),
    /// A program, and the person who made the credential that it uses.
    Application(ApplicationId, UserId),
}

/// The caller has none of the roles that the action asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the caller may not perform {}", .0.as_str())]
pub struct Forbidden(pub Action);

impl Caller {
    /// Refuses when the permission table does not let the caller perform `action`.
    pub fn require(&self, action: Action) -> Result<(), Forbidden> {
        match action.access() {
            Access::Public | Access::SignedIn => Ok(()),
            Access::AnyOf(roles) if self.roles.intersects(roles) => Ok(()),
            Access::AnyOf(_) => Err(Forbidden(action)),
        }
    }

    /// Whether the caller runs the installation and so acts in every tenant.
    pub const fn is_platform_admin(&self) -> bool {
        self.roles.contains(Role::PlatformAdmin)
    }

    /// Whether the caller may act on what `tenant` owns, as far as its roles go.
    pub fn acts_for(&self, tenant: TenantId) -> bool {
        self.tenant == tenant || self.is_platform_admin()
    }

    /// The person who answers for the call.
    pub const fn user(&self) -> UserId {
        match self.principal {
            Principal::User(user) | Principal::Application(_, user) => user,
        }
    }

    /// The identifier that stands in the audit trail.
    pub fn actor(&self) -> String {
        match self.principal {
            Principal::User(user) => user.to_string(),
            Principal::Application(application, _) => application.to_string(),
        }
    }
}
