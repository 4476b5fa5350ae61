//! The first steps of an installation: a one-time token, the first tenant and its administrator; and accepting
//! invitations.

use authz::Action;
use jiff::SignedDuration;
use model::{
    AuditEntry, AuditOutcome, Email, EventKind, Name, Role, Roles, Slug, Tenant, User, UserStatus,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use store::Viewer;

use crate::{Attempt, Conflict, Kind, Market, MarketError, passwords, secrets};

/// The first tenant and its administrator.
#[derive(Debug, Clone)]
pub struct SetUpDraft {
    /// Unique name of the tenant for machines.
    pub tenant_slug: Slug,
    /// Its name for people.
    pub tenant_name: Name,
    /// The administrator's e-mail address.
    pub email: Email,
    /// The administrator's name.
    pub name: Name,
    /// The administrator's password.
    pub password: String,
}

/// What was set up.
#[derive(Debug, Clone)]
pub struct SetUp {
    /// The first tenant.
    pub tenant: Tenant,
    /// Its administrator.
    pub user: User,
}

#[derive(Serialize, Deserialize)]
struct SetUpToken {
    sha256: String,
}

const TOKEN_SETTING: &str = "set_up_token";

impl Market {
    /// A new one-time set-up token while the installation is empty; none once it is set up. An earlier one is void.
    pub async fn prepare_set_up(&self) -> Result<Option<String>, MarketError> {
        let mut tx = self.db.begin(Viewer::Installation).await?;
        if store::tenant::exists_any(&mut tx).await? {
            return Ok(None);
        }
        let revision = store::setting::find::<SetUpToken>(&mut tx, TOKEN_SETTING)
            .await?
            .map_or(1, |(_, revision)| revision + 1);
        let token = secrets::one_time_token();
        let stored = SetUpToken { sha256: secrets::sha256_hex(&[token.as_bytes()]) };
        store::setting::put(&mut tx, TOKEN_SETTING, &stored, revision, self.clock.now()).await?;
        tx.commit().await?;
        Ok(Some(token))
    }

    /// Whether the installation has its first organisation and administrator.
    pub async fn is_set_up(&self) -> Result<bool, MarketError> {
        let mut tx = self.db.read(Viewer::Installation).await?;
        Ok(store::tenant::exists_any(&mut tx).await?)
    }

    /// Sets up an empty installation with the one-time token.
    pub async fn set_up(
        &self,
        token: &str,
        draft: SetUpDraft,
        address: &str,
        request_id: &str,
    ) -> Result<SetUp, MarketError> {
        passwords::check_strength("admin.password", &draft.password)?;
        let now = self.clock.now();
        if let Attempt::Refused(wait) = self.attempts.check(address, now) {
            return Err(MarketError::TooManyAttempts(wait));
        }
        let hash = self.hash_password(&draft.password).await?;
        let mut tx = self.db.begin(Viewer::Installation).await?;
        if store::tenant::exists_any(&mut tx).await? {
            return Err(Conflict::AlreadySetUp.into());
        }
        let stored = store::setting::find::<SetUpToken>(&mut tx, TOKEN_SETTING).await?;
        let given = secrets::sha256_hex(&[token.as_bytes()]);
        if stored.is_none_or(|(stored, _)| stored.sha256 != given) {
            drop(tx);
            self.attempts.fail(address, now);
            return Err(MarketError::Unauthenticated);
        }
        let tenant = Tenant {
            id: self.ids.next(),
            slug: draft.tenant_slug,
            name: draft.tenant_name,
            is_active: true,
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        let user = User {
            id: self.ids.next(),
            tenant: tenant.id,
            email: draft.email,
            name: draft.name,
            roles: Roles::of(&[Role::PlatformAdmin, Role::TenantAdmin]),
            status: UserStatus::Active,
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        store::tenant::insert(&mut tx, &tenant)
            .await
            .map_err(MarketError::duplicate_as(Conflict::AlreadySetUp))?;
        store::account::insert(&mut tx, &user).await?;
        store::account::set_password(&mut tx, user.id, &hash).await?;
        store::event::announce(
            &mut tx,
            tenant.id,
            EventKind::TenantChanged,
            &tenant.id.to_string(),
            now,
        );
        let entry = self.account_entry(&user, Action::SetUp, request_id);
        store::audit::insert(&mut tx, &entry).await?;
        tx.commit().await?;
        self.note_commit();
        Ok(SetUp { tenant, user })
    }

    /// Accepts an invitation with its one-time token and sets the password.
    pub async fn accept_invitation(
        &self,
        token: &str,
        password: &str,
        address: &str,
        request_id: &str,
    ) -> Result<User, MarketError> {
        passwords::check_strength("password", password)?;
        let now = self.clock.now();
        if let Attempt::Refused(wait) = self.attempts.check(address, now) {
            return Err(MarketError::TooManyAttempts(wait));
        }
        let hash = self.hash_password(password).await?;
        let mut tx = self.db.begin(Viewer::Installation).await?;
        let digest = secrets::sha256_hex(&[token.as_bytes()]);
        let invitation = store::account::find_invitation(&mut tx, &digest)
            .await?
            .filter(|found| now < found.expires_at && found.user.status == UserStatus::Invited);
        let Some(invitation) = invitation else {
            drop(tx);
            self.attempts.fail(address, now);
            return Err(MarketError::Unauthenticated);
        };
        let mut user = invitation.user;
        user.status = UserStatus::Active;
        user.updated_at = now;
        user.revision += 1;
        store::account::update(&mut tx, &user).await?;
        store::account::set_password(&mut tx, user.id, &hash).await?;
        // Of the invitation itself nobody has to be told any more.
        store::notice::mark_all_read(&mut tx, user.id, now).await?;
        let entry = self.account_entry(&user, Action::AcceptInvitation, request_id);
        store::audit::insert(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(user)
    }

    fn account_entry(&self, user: &User, action: Action, request_id: &str) -> AuditEntry {
        AuditEntry {
            id: self.ids.next(),
            tenant: user.tenant,
            at: self.clock.now(),
            actor: user.id.to_string(),
            actor_tenant: Some(user.tenant),
            action: action.as_str().to_owned(),
            target: user.id.to_string(),
            outcome: AuditOutcome::Success,
            request_id: request_id.to_owned(),
            details: json!({ "kind": Kind::User.as_str() }),
        }
    }

    pub(crate) fn invitation_expiry(&self) -> jiff::Timestamp {
        self.clock.now() + SignedDuration::from_hours(7 * 24)
    }
}
