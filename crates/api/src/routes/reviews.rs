//! What people of subscribers say about APIs.

use authz::Action;
use jiff::Timestamp;
use market::{ApiReviewDraft, Kind, NamedReview};
use model::{ApiId, ApiReview, ApiReviewId, Name, Rating, Stars, TenantId, UserId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Pagination, applications::PageQuery};
use crate::{
    call::{self, Call},
    endpoint::{Endpoint, delete, get, post, put},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/apis/{id}/reviews", Action::ListReviews, "Read what subscribers say about an API")
            .query::<PageQuery>()
            .answers::<ReviewsView>()
            .run(list),
        post(
            "/apis/{id}/reviews",
            Action::CreateReview,
            "Say something about an API that one's organisation calls",
        )
        .creates::<ReviewView>()
        .body(create),
        put("/apis/{id}/reviews/{reviewId}", Action::ReplaceReview, "Change what one has said")
            .answers::<ReviewView>()
            .body(replace),
        delete(
            "/apis/{id}/reviews/{reviewId}",
            Action::RemoveReview,
            "Take back what one has said",
        )
        .run(remove),
    ]
}

/// What somebody says about an API.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReviewBody {
    stars: Stars,
    /// Plain text, at most 4,000 bytes.
    #[serde(default)]
    words: String,
}

/// What subscribers say about an API, newest first.
#[derive(Serialize, JsonSchema)]
struct ReviewsView {
    rating: RatingView,
    items: Vec<ReviewView>,
    pagination: Pagination,
}

/// How an API is rated.
#[derive(Serialize, JsonSchema)]
pub(super) struct RatingView {
    /// Mean of the stars, with one decimal; absent without reviews.
    average: Option<f64>,
    count: u64,
}

/// A review.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ReviewView {
    id: ApiReviewId,
    api_id: ApiId,
    stars: Stars,
    words: String,
    author_id: UserId,
    /// Absent when the account was removed.
    author_name: Option<Name>,
    tenant_id: TenantId,
    tenant_name: Option<Name>,
    created_at: Timestamp,
    updated_at: Timestamp,
    revision: i64,
}

impl From<ReviewBody> for ApiReviewDraft {
    fn from(body: ReviewBody) -> Self {
        let ReviewBody { stars, words } = body;
        Self { stars, words }
    }
}

impl From<Rating> for RatingView {
    fn from(rating: Rating) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "at most fifty tenths")]
        let average = rating.tenths().map(|tenths| tenths as f64 / 10.0);
        Self { average, count: rating.reviews }
    }
}

impl From<NamedReview> for ReviewView {
    fn from(named: NamedReview) -> Self {
        let NamedReview { review, author, tenant } = named;
        Self {
            id: review.id,
            api_id: review.api,
            stars: review.stars,
            words: review.words,
            author_id: review.author,
            author_name: author,
            tenant_id: review.tenant,
            tenant_name: tenant,
            created_at: review.created_at,
            updated_at: review.updated_at,
            revision: review.revision,
        }
    }
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let id: ApiId = call.id("id", Kind::Api)?;
    let query: PageQuery = call.query()?;
    let (number, limit, page) = call::page(query.page, query.limit)?;
    let (found, rating) = call.market.list_reviews(call.request(), id, page).await?;
    Ok(Reply::ok(&ReviewsView {
        rating: rating.into(),
        pagination: Pagination {
            page: number,
            limit,
            total_items: found.total,
            total_pages: found.total.div_ceil(u64::from(limit)),
        },
        items: found.items.into_iter().map(ReviewView::from).collect(),
    }))
}

async fn create(call: Call, body: ReviewBody) -> Result<Reply, Problem> {
    let id: ApiId = call.id("id", Kind::Api)?;
    let review = call.market.create_review(call.request(), id, body.into()).await?;
    let (revision, place) = (review.revision, format!("/apis/{id}/reviews/{}", review.id));
    Ok(Reply::created(&view(review)).revision(revision).location(&place))
}

async fn replace(call: Call, body: ReviewBody) -> Result<Reply, Problem> {
    let (id, review) = (call.id("id", Kind::Api)?, call.id("reviewId", Kind::Review)?);
    let review = call.market.replace_review(call.request(), id, review, body.into()).await?;
    let revision = review.revision;
    Ok(Reply::ok(&view(review)).revision(revision))
}

async fn remove(call: Call) -> Result<Reply, Problem> {
    let (id, review) = (call.id("id", Kind::Api)?, call.id("reviewId", Kind::Review)?);
    call.market.remove_review(call.request(), id, review).await?;
    Ok(Reply::no_content())
}

/// One's own review: who wrote it is known to whoever reads the answer.
fn view(review: ApiReview) -> ReviewView {
    NamedReview { review, author: None, tenant: None }.into()
}
