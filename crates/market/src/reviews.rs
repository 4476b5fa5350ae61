//! What people of subscribers say about APIs.

use authz::Action;
use model::{Api, ApiId, ApiReview, ApiReviewId, EventKind, Name, Rating, Stars};
use serde_json::json;
use store::{Page, PageOf, Tx, Viewer};

use crate::{
    Begun, Conflict, Kind, Market, MarketError, Request, apis, change::Change, versions, viewer,
};

/// What somebody wants to say about an API.
#[derive(Debug, Clone)]
pub struct ApiReviewDraft {
    /// From one to five.
    pub stars: Stars,
    /// Plain text; may be empty.
    pub words: String,
}

/// A review with the names of who wrote it.
#[derive(Debug, Clone)]
pub struct NamedReview {
    /// The review.
    pub review: ApiReview,
    /// The author's name; absent when the account was removed.
    pub author: Option<Name>,
    /// The name of the author's organisation.
    pub tenant: Option<Name>,
}

/// What the caller may say about an API.
#[derive(Debug, Clone)]
pub struct OwnReview {
    /// Whether the caller may review it: an application of the own organisation calls it, or did.
    pub may_write: bool,
    /// What the caller has said.
    pub review: Option<ApiReview>,
}

impl Market {
    /// Lists the reviews of an API that the caller may see, newest first, and how they rate it.
    pub async fn list_reviews(
        &self,
        request: &Request,
        api: ApiId,
        page: Page,
    ) -> Result<(PageOf<NamedReview>, Rating), MarketError> {
        self.require(request, Action::ListReviews).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        apis::find_visible(&mut tx, request, api).await?;
        let found = store::api_review::list(&mut tx, api, page).await?;
        let rating = store::api_review::rate(&mut tx, api).await?;
        // Whoever sees a review sees by whom it is.
        tx.view_as(Viewer::Installation).await?;
        let mut items = Vec::with_capacity(found.items.len());
        for review in found.items {
            let author = store::account::find(&mut tx, Viewer::Installation, review.author).await?;
            let tenant = store::tenant::find(&mut tx, review.tenant).await?;
            let (author, tenant) = (author.map(|user| user.name), tenant.map(|tenant| tenant.name));
            items.push(NamedReview { review, author, tenant });
        }
        Ok((PageOf { items, total: found.total }, rating))
    }

    /// What the caller has said about an API, and whether it may say something.
    pub async fn read_own_review(
        &self,
        request: &Request,
        api: ApiId,
    ) -> Result<OwnReview, MarketError> {
        self.require(request, Action::ListReviews).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let api = apis::find_visible(&mut tx, request, api).await?;
        let author = request.caller.user();
        let review = store::api_review::find_by(&mut tx, api.id, author).await?;
        let may_write = request.caller.require(Action::CreateReview).is_ok()
            && is_subscriber(&mut tx, request, &api).await?;
        Ok(OwnReview { may_write, review })
    }

    /// Says something about an API that the caller's organisation calls. Each person once.
    pub async fn create_review(
        &self,
        request: &Request,
        api: ApiId,
        draft: ApiReviewDraft,
    ) -> Result<ApiReview, MarketError> {
        versions::check_words("words", &draft.words)?;
        let mut change = match self.begin(request, Action::CreateReview).await? {
            Begun::Fresh(change) => change,
            Begun::Done(review) => return Ok(review),
        };
        let api = apis::find_visible(change.tx(), request, api).await?;
        if !is_subscriber(change.tx(), request, &api).await? {
            return Err(Conflict::NotSubscribed.into());
        }
        let now = self.clock.now();
        let review = ApiReview {
            id: self.ids.next(),
            api: api.id,
            author: request.caller.user(),
            tenant: request.caller.tenant,
            stars: draft.stars,
            words: draft.words,
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        store::api_review::insert(change.tx(), &review)
            .await
            .map_err(MarketError::duplicate_as(Conflict::Taken(Kind::Review, "author")))?;
        finish(change, &api, review).await
    }

    /// Changes what the caller has said.
    pub async fn replace_review(
        &self,
        request: &Request,
        api: ApiId,
        id: ApiReviewId,
        draft: ApiReviewDraft,
    ) -> Result<ApiReview, MarketError> {
        versions::check_words("words", &draft.words)?;
        let mut change = match self.begin(request, Action::ReplaceReview).await? {
            Begun::Fresh(change) => change,
            Begun::Done(review) => return Ok(review),
        };
        let (api, before) = find(request, &mut change, api, id).await?;
        if before.author != request.caller.user() {
            return Err(change.forbidden());
        }
        let review = ApiReview {
            stars: draft.stars,
            words: draft.words,
            updated_at: self.clock.now(),
            revision: before.revision + 1,
            ..before
        };
        store::api_review::update(change.tx(), &review).await?;
        finish(change, &api, review).await
    }

    /// Takes back what the caller has said; a platform administrator may take away what anybody has.
    pub async fn remove_review(
        &self,
        request: &Request,
        api: ApiId,
        id: ApiReviewId,
    ) -> Result<(), MarketError> {
        let mut change = match self.begin(request, Action::RemoveReview).await? {
            Begun::Fresh(change) => change,
            Begun::Done(()) => return Ok(()),
        };
        let (api, review) = find(request, &mut change, api, id).await?;
        if review.author != request.caller.user() && !request.caller.is_platform_admin() {
            return Err(change.forbidden());
        }
        store::api_review::delete(change.tx(), &review).await?;
        change.audit(review.tenant, review.id, json!({ "api": api.id })).await?;
        change.announce(api.tenant, EventKind::ReviewChanged, &review.id);
        change.finish(()).await
    }
}

/// Whether the caller's organisation calls the API under an agreement, or did. Its owner does not judge itself.
async fn is_subscriber(tx: &mut Tx, request: &Request, api: &Api) -> Result<bool, MarketError> {
    let tenant = request.caller.tenant;
    Ok(tenant != api.tenant && store::api_review::is_subscriber(tx, api.id, tenant).await?)
}

async fn find(
    request: &Request,
    change: &mut Change<'_>,
    api: ApiId,
    id: ApiReviewId,
) -> Result<(Api, ApiReview), MarketError> {
    let api = apis::find_visible(change.tx(), request, api).await?;
    let review = store::api_review::find(change.tx(), api.id, id).await?;
    let review = review.ok_or(MarketError::NotFound(Kind::Review))?;
    request.check_revision(review.revision)?;
    Ok((api, review))
}

async fn finish(
    mut change: Change<'_>,
    api: &Api,
    review: ApiReview,
) -> Result<ApiReview, MarketError> {
    let details = json!({ "api": api.id, "stars": review.stars });
    change.audit(review.tenant, review.id, details).await?;
    change.announce(api.tenant, EventKind::ReviewChanged, &review.id);
    change.finish(review).await
}
