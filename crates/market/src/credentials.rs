//! Credentials of applications. A secret leaves here once, when it is made.

use authz::Action;
use jiff::{SignedDuration, Timestamp};
use model::{
    ApiKey, Application, ApplicationId, Credential, CredentialId, CredentialKind, CredentialStatus,
    EventKind, Name, Roles,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    Begun, Conflict, Kind, Market, MarketError, Request, applications, change::Change,
    secrets::random, viewer,
};

/// A credential to make.
#[derive(Debug, Clone)]
pub struct CredentialDraft {
    /// What people call it.
    pub name: Name,
    /// What kind it is.
    pub kind: CredentialKind,
    /// When it stops being accepted.
    pub expires_at: Option<Timestamp>,
}

/// A credential with its secret, which is shown once.
#[derive(Clone, Serialize, Deserialize)]
pub struct IssuedCredential {
    /// The credential.
    pub credential: Credential,
    /// The secret.
    pub secret: String,
}

/// A credential that takes over from another.
#[derive(Clone, Serialize, Deserialize)]
pub struct Rotation {
    /// The new one.
    pub issued: IssuedCredential,
    /// The old one, with the time at which it ends.
    pub replaced: Credential,
}

const OVERLAP_MAX_SECONDS: u32 = 30 * 24 * 3_600;

impl Market {
    /// Makes a credential for an application.
    pub async fn create_credential(
        &self,
        request: &Request,
        application: ApplicationId,
        draft: CredentialDraft,
    ) -> Result<IssuedCredential, MarketError> {
        let mut change = match self.begin(request, Action::CreateCredential).await? {
            Begun::Fresh(change) => change,
            Begun::Done(issued) => return Ok(issued),
        };
        let application = applications::find_own(request, &mut change, application).await?;
        if draft.expires_at.is_some_and(|end| end <= self.clock.now()) {
            return Err(MarketError::invalid("expiresAt", "must be in the future"));
        }
        if let CredentialKind::OauthClient { roles } = draft.kind {
            check_roles(request, roles)?;
        }
        let issued = self.issue(request, &mut change, &application, draft).await?;
        let credential = &issued.credential;
        change
            .audit(
                credential.tenant,
                credential.id,
                json!({ "application": application.id, "kind": credential.kind }),
            )
            .await?;
        change.announce(credential.tenant, EventKind::ApplicationChanged, &application.id);
        change.finish(issued).await
    }

    /// Makes a new secret for a credential; the old one stays accepted for the overlap.
    pub async fn rotate_credential(
        &self,
        request: &Request,
        application: ApplicationId,
        id: CredentialId,
        overlap_seconds: u32,
    ) -> Result<Rotation, MarketError> {
        if overlap_seconds > OVERLAP_MAX_SECONDS {
            return Err(MarketError::invalid(
                "overlapSeconds",
                format!("must be at most {OVERLAP_MAX_SECONDS} (30 days)"),
            ));
        }
        let mut change = match self.begin(request, Action::RotateCredential).await? {
            Begun::Fresh(change) => change,
            Begun::Done(rotation) => return Ok(rotation),
        };
        let application = applications::find_own(request, &mut change, application).await?;
        let mut old = find(request, &mut change, application.id, id).await?;
        let now = self.clock.now();
        if !old.is_accepted(now) || old.replaced_by.is_some() {
            return Err(Conflict::CredentialNotActive.into());
        }
        let draft =
            CredentialDraft { name: old.name.clone(), kind: old.kind, expires_at: old.expires_at };
        let issued = self.issue(request, &mut change, &application, draft).await?;
        let end = now + SignedDuration::from_secs(i64::from(overlap_seconds));
        old.expires_at = Some(old.expires_at.map_or(end, |earlier| earlier.min(end)));
        old.replaced_by = Some(issued.credential.id);
        old.updated_at = now;
        old.revision += 1;
        store::credential::update(change.tx(), &old).await?;
        change
            .audit(
                old.tenant,
                old.id,
                json!({ "replacedBy": issued.credential.id, "endsAt": old.expires_at }),
            )
            .await?;
        change.announce(old.tenant, EventKind::ApplicationChanged, &application.id);
        change.finish(Rotation { issued, replaced: old }).await
    }

    /// Revokes a credential, for ever.
    pub async fn revoke_credential(
        &self,
        request: &Request,
        application: ApplicationId,
        id: CredentialId,
    ) -> Result<(), MarketError> {
        let mut change = match self.begin(request, Action::RevokeCredential).await? {
            Begun::Fresh(change) => change,
            Begun::Done(()) => return Ok(()),
        };
        let application = applications::find_own(request, &mut change, application).await?;
        let mut credential = find(request, &mut change, application.id, id).await?;
        if credential.status == CredentialStatus::Active {
            credential.status = CredentialStatus::Revoked;
            credential.updated_at = self.clock.now();
            credential.revision += 1;
            store::credential::update(change.tx(), &credential).await?;
            change.audit(credential.tenant, id, json!({ "application": application.id })).await?;
            change.announce(credential.tenant, EventKind::ApplicationChanged, &application.id);
        }
        change.finish(()).await
    }

    /// Revokes a credential that was made for one purpose which has ended, and forgets it: it does not count among those
    /// that an application may have.
    pub async fn discard_credential(
        &self,
        request: &Request,
        application: ApplicationId,
        id: CredentialId,
    ) -> Result<(), MarketError> {
        self.revoke_credential(request, application, id).await?;
        let mut tx = self.db.begin(viewer(&request.caller)).await?;
        store::credential::delete_revoked(&mut tx, application, id).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Lists the credentials of an application, newest first.
    pub async fn list_credentials(
        &self,
        request: &Request,
        application: ApplicationId,
    ) -> Result<Vec<Credential>, MarketError> {
        self.require(request, Action::ListCredentials).await?;
        let application = self.read_application(request, application).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        Ok(store::credential::list_of(&mut tx, application.id).await?)
    }

    async fn issue(
        &self,
        request: &Request,
        change: &mut Change<'_>,
        application: &Application,
        draft: CredentialDraft,
    ) -> Result<IssuedCredential, MarketError> {
        let count = store::credential::list_of(change.tx(), application.id).await?.len();
        if i64::try_from(count).unwrap_or(i64::MAX) >= store::credential::MAX_PER_APPLICATION {
            return Err(Conflict::TooMany(store::credential::MAX_PER_APPLICATION).into());
        }
        let key = ApiKey::from_random(&random());
        let now = self.clock.now();
        let credential = Credential {
            id: self.ids.next(),
            application: application.id,
            tenant: application.tenant,
            name: draft.name,
            kind: draft.kind,
            prefix: key.prefix().to_owned(),
            last_four: key.last_four().to_owned(),
            status: CredentialStatus::Active,
            expires_at: draft.expires_at,
            last_used_at: None,
            replaced_by: None,
            created_by: request.caller.user(),
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        let digest = self.secrets.digest(key.expose());
        store::credential::insert(change.tx(), &credential, digest).await?;
        Ok(IssuedCredential { credential, secret: key.expose().to_owned() })
    }
}

/// A program may do no more than whoever makes its credential.
fn check_roles(request: &Request, roles: Roles) -> Result<(), MarketError> {
    if roles.is_empty() {
        return Err(MarketError::invalid("roles", "must name at least one role"));
    }
    if !roles.is_subset(request.caller.roles) {
        return Err(MarketError::invalid("roles", "must be among your own roles"));
    }
    Ok(())
}

async fn find(
    request: &Request,
    change: &mut Change<'_>,
    application: ApplicationId,
    id: CredentialId,
) -> Result<Credential, MarketError> {
    let credential = store::credential::find(change.tx(), application, id)
        .await?
        .ok_or(MarketError::NotFound(Kind::Credential))?;
    request.check_revision(credential.revision)?;
    Ok(credential)
}
