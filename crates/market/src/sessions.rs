//! One's own account, and signed-in sessions.

use authz::{Action, Principal};
use model::{SessionId, Tenant, User};
use serde_json::json;
use store::{Page, PageOf, Viewer, session::Session};

use crate::{Attempt, Begun, Kind, Market, MarketError, Request, passwords, viewer};

/// Whose sessions are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionListing {
    /// The caller's own.
    Own,
    /// Of everybody in the caller's tenant; for administrators.
    Tenant,
}

impl Market {
    /// The caller's own account.
    pub async fn read_me(&self, request: &Request) -> Result<User, MarketError> {
        self.require(request, Action::ReadMe).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let own = Viewer::Tenant(request.caller.tenant);
        store::account::find(&mut tx, own, request.caller.user())
            .await?
            .ok_or(MarketError::NotFound(Kind::User))
    }

    /// The caller's own account and tenant.
    pub async fn read_me_at_home(&self, request: &Request) -> Result<(User, Tenant), MarketError> {
        let user = self.read_me(request).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let tenant = store::tenant::find(&mut tx, user.tenant).await?;
        Ok((user, tenant.ok_or(MarketError::NotFound(Kind::Tenant))?))
    }

    /// Changes the caller's own password and ends all its other sessions.
    pub async fn change_password(
        &self,
        request: &Request,
        current: &str,
        new: &str,
    ) -> Result<(), MarketError> {
        passwords::check_strength("newPassword", new)?;
        let Principal::User(user) = request.caller.principal else {
            return Err(MarketError::NotFound(Kind::User));
        };
        // Whoever found an open session must not be able to guess the password.
        let guesses = format!("password of {user}");
        if let Attempt::Refused(wait) = self.attempts.check(&guesses, self.clock.now()) {
            return Err(MarketError::TooManyAttempts(wait));
        }
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let account = store::account::find_sign_in_by_id(&mut tx, user).await?;
        drop(tx);
        let stored = account.and_then(|account| account.password_hash);
        if !self.password_matches(current, stored).await? {
            // Done before under the same idempotency key, the change has made it wrong itself.
            return match self.begin(request, Action::ChangePassword).await? {
                Begun::Done(()) => Ok(()),
                Begun::Fresh(_) => {
                    self.attempts.fail(&guesses, self.clock.now());
                    Err(MarketError::invalid("currentPassword", "is wrong"))
                }
            };
        }
        let hash = self.hash_password(new).await?;
        let mut change = match self.begin(request, Action::ChangePassword).await? {
            Begun::Fresh(change) => change,
            Begun::Done(()) => return Ok(()),
        };
        store::account::set_password(change.tx(), user, &hash).await?;
        let keep = Some(request.caller.session);
        store::session::end_all_of(change.tx(), user, keep, self.clock.now()).await?;
        change.audit(request.caller.tenant, user, json!({})).await?;
        change.finish(()).await
    }

    /// Lists open sessions.
    pub async fn list_sessions(
        &self,
        request: &Request,
        listing: SessionListing,
        page: Page,
    ) -> Result<PageOf<Session>, MarketError> {
        self.require(request, Action::ListSessions).await?;
        let caller = &request.caller;
        let (viewer, user) = match listing {
            SessionListing::Tenant if caller.require(Action::ListUsers).is_ok() => {
                (viewer(caller), None)
            }
            _ => (Viewer::Tenant(caller.tenant), Some(caller.user())),
        };
        let mut tx = self.db.read(viewer).await?;
        Ok(store::session::list_open(&mut tx, viewer, user, self.clock.now(), page).await?)
    }

    /// Ends a session: one's own, or any of the tenant as its administrator.
    pub async fn end_session(&self, request: &Request, id: SessionId) -> Result<(), MarketError> {
        let mut change = match self.begin(request, Action::EndSession).await? {
            Begun::Fresh(change) => change,
            Begun::Done(()) => return Ok(()),
        };
        let caller = &request.caller;
        let session = store::session::find(change.tx(), viewer(caller), id)
            .await?
            .filter(|session| {
                session.user == caller.user() || caller.require(Action::ChangeUser).is_ok()
            })
            .ok_or(MarketError::NotFound(Kind::Session))?;
        store::session::end(change.tx(), &session, self.clock.now()).await?;
        change.audit(session.tenant, session.id, json!({ "user": session.user })).await?;
        change.finish(()).await
    }
}
