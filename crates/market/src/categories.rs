//! Headings of the catalogue.

use authz::Action;
use model::{Category, CategoryId, EventKind, Name, Slug};
use serde_json::json;

use crate::{
    Begun, Conflict, Kind, Market, MarketError, Request, change::Change, versions, viewer,
};

/// A heading to add.
#[derive(Debug, Clone)]
pub struct CategoryDraft {
    /// Unique name for machines; never changes.
    pub slug: Slug,
    /// Name for people.
    pub name: Name,
    /// What belongs under it.
    pub description: String,
}

/// What may be changed about a heading.
#[derive(Debug, Clone)]
pub struct CategoryChange {
    /// Name for people.
    pub name: Name,
    /// What belongs under it.
    pub description: String,
}

impl Market {
    /// Lists all headings.
    pub async fn list_categories(&self, request: &Request) -> Result<Vec<Category>, MarketError> {
        self.require(request, Action::ListCategories).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        Ok(store::category::list(&mut tx).await?)
    }

    /// Adds a heading.
    pub async fn create_category(
        &self,
        request: &Request,
        draft: CategoryDraft,
    ) -> Result<Category, MarketError> {
        versions::check_words("description", &draft.description)?;
        let mut change = match self.begin(request, Action::CreateCategory).await? {
            Begun::Fresh(change) => change,
            Begun::Done(category) => return Ok(category),
        };
        let count = store::category::list(change.tx()).await?.len();
        if i64::try_from(count).unwrap_or(i64::MAX) >= store::category::MAX {
            return Err(Conflict::TooMany(store::category::MAX).into());
        }
        let now = self.clock.now();
        let category = Category {
            id: self.ids.next(),
            slug: draft.slug,
            name: draft.name,
            description: draft.description,
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        store::category::insert(change.tx(), &category)
            .await
            .map_err(MarketError::duplicate_as(Conflict::Taken(Kind::Category, "slug")))?;
        let tenant = request.caller.tenant;
        change.audit(tenant, category.id, json!({ "slug": category.slug })).await?;
        change.announce(tenant, EventKind::CategoryChanged, &category.id);
        change.finish(category).await
    }

    /// Changes a heading.
    pub async fn change_category(
        &self,
        request: &Request,
        action: Action,
        id: CategoryId,
        wanted: CategoryChange,
    ) -> Result<Category, MarketError> {
        versions::check_words("description", &wanted.description)?;
        let mut change = match self.begin(request, action).await? {
            Begun::Fresh(change) => change,
            Begun::Done(category) => return Ok(category),
        };
        let before = find(request, &mut change, id).await?;
        let category = Category {
            name: wanted.name,
            description: wanted.description,
            updated_at: self.clock.now(),
            revision: before.revision + 1,
            ..before
        };
        store::category::update(change.tx(), &category).await?;
        let tenant = request.caller.tenant;
        change.audit(tenant, id, json!({ "slug": category.slug, "name": category.name })).await?;
        change.announce(tenant, EventKind::CategoryChanged, &id);
        change.finish(category).await
    }

    /// Removes a heading that no API uses.
    pub async fn remove_category(
        &self,
        request: &Request,
        id: CategoryId,
    ) -> Result<(), MarketError> {
        let mut change = match self.begin(request, Action::RemoveCategory).await? {
            Begun::Fresh(change) => change,
            Begun::Done(()) => return Ok(()),
        };
        let category = find(request, &mut change, id).await?;
        if store::category::is_used(change.tx(), &category.slug).await? {
            return Err(Conflict::InUse(Kind::Category, "there are APIs under it").into());
        }
        store::category::delete(change.tx(), id).await?;
        let tenant = request.caller.tenant;
        change.audit(tenant, id, json!({ "slug": category.slug })).await?;
        change.announce(tenant, EventKind::CategoryChanged, &id);
        change.finish(()).await
    }
}

async fn find(
    request: &Request,
    change: &mut Change<'_>,
    id: CategoryId,
) -> Result<Category, MarketError> {
    let category = store::category::find(change.tx(), id)
        .await?
        .ok_or(MarketError::NotFound(Kind::Category))?;
    request.check_revision(category.revision)?;
    Ok(category)
}
