//! Applications of consumers.

use authz::Action;
use model::{Application, ApplicationId, EventKind, Name, TenantId};
use serde_json::json;
use store::{Page, PageOf};

use crate::{
    Begun, Conflict, Kind, Market, MarketError, Request, change::Change, tenants, versions, viewer,
};

/// What is said about an application.
#[derive(Debug, Clone)]
pub struct ApplicationDraft {
    /// Unique within the tenant.
    pub name: Name,
    /// What it does.
    pub description: String,
}

impl Market {
    /// Registers an application of `tenant`, or else of the caller's own.
    pub async fn create_application(
        &self,
        request: &Request,
        tenant: Option<TenantId>,
        draft: ApplicationDraft,
    ) -> Result<Application, MarketError> {
        versions::check_words("description", &draft.description)?;
        let mut change = match self.begin(request, Action::CreateApplication).await? {
            Begun::Fresh(change) => change,
            Begun::Done(application) => return Ok(application),
        };
        let tenant = tenants::acting_for(request, &mut change, tenant).await?;
        let now = self.clock.now();
        let application = Application {
            id: self.ids.next(),
            tenant,
            name: draft.name,
            description: draft.description,
            created_by: request.caller.user(),
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        store::application::insert(change.tx(), &application)
            .await
            .map_err(MarketError::duplicate_as(Conflict::Taken(Kind::Application, "name")))?;
        change
            .audit(application.tenant, application.id, json!({ "name": application.name }))
            .await?;
        change.announce(application.tenant, EventKind::ApplicationChanged, &application.id);
        change.finish(application).await
    }

    /// Replaces what is said about an application.
    pub async fn replace_application(
        &self,
        request: &Request,
        action: Action,
        id: ApplicationId,
        draft: ApplicationDraft,
    ) -> Result<Application, MarketError> {
        versions::check_words("description", &draft.description)?;
        let mut change = match self.begin(request, action).await? {
            Begun::Fresh(change) => change,
            Begun::Done(application) => return Ok(application),
        };
        let before = find_own(request, &mut change, id).await?;
        request.check_revision(before.revision)?;
        let application = Application {
            name: draft.name,
            description: draft.description,
            updated_at: self.clock.now(),
            revision: before.revision + 1,
            ..before
        };
        store::application::update(change.tx(), &application)
            .await
            .map_err(MarketError::duplicate_as(Conflict::Taken(Kind::Application, "name")))?;
        change
            .audit(application.tenant, application.id, json!({ "name": application.name }))
            .await?;
        change.announce(application.tenant, EventKind::ApplicationChanged, &application.id);
        change.finish(application).await
    }

    /// Removes an application; its credentials and subscriptions end with it.
    pub async fn remove_application(
        &self,
        request: &Request,
        id: ApplicationId,
    ) -> Result<(), MarketError> {
        let mut change = match self.begin(request, Action::RemoveApplication).await? {
            Begun::Fresh(change) => change,
            Begun::Done(()) => return Ok(()),
        };
        let application = find_own(request, &mut change, id).await?;
        request.check_revision(application.revision)?;
        store::application::delete(change.tx(), &application, self.clock.now()).await?;
        change.audit(application.tenant, id, json!({ "name": application.name })).await?;
        change.announce(application.tenant, EventKind::ApplicationChanged, &id);
        change.finish(()).await
    }

    /// Reads an application of the caller's tenant.
    pub async fn read_application(
        &self,
        request: &Request,
        id: ApplicationId,
    ) -> Result<Application, MarketError> {
        self.require(request, Action::ReadApplication).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        store::application::find(&mut tx, viewer(&request.caller), id)
            .await?
            .ok_or(MarketError::NotFound(Kind::Application))
    }

    /// Lists applications of the caller's tenant.
    pub async fn list_applications(
        &self,
        request: &Request,
        page: Page,
    ) -> Result<PageOf<Application>, MarketError> {
        self.require(request, Action::ListApplications).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        Ok(store::application::list(&mut tx, viewer(&request.caller), page).await?)
    }
}

pub(crate) async fn find_own(
    request: &Request,
    change: &mut Change<'_>,
    id: ApplicationId,
) -> Result<Application, MarketError> {
    store::application::find(change.tx(), viewer(&request.caller), id)
        .await?
        .ok_or(MarketError::NotFound(Kind::Application))
}
