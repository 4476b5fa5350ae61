//! What people of subscribers say about an API.

use askama::Template;
use axum::extract::{Path, Query};
use http::StatusCode;
use market::{ApiReviewDraft, MarketError, NamedReview, OwnReview, Page};
use model::{ApiId, ApiReview, Rating, Stars};

use super::{
    api::{Head, Shown, load},
    id, page,
    sign_in::told,
};
use crate::{
    failure::{Answer, sentence},
    format::Moment,
    frame::{Flash, Frame},
    visit::{Submission, Visit},
};

const IN_A_PAGE: u32 = 50;

#[derive(Template)]
#[template(path = "api_reviews.html")]
struct Reviews {
    frame: Frame,
    head: Head,
    /// Such as `4.3 of 5, by 12 people`; none without reviews.
    rating: Option<String>,
    reviews: Vec<Line>,
    total: u64,
    may_write: bool,
    own: Option<Own>,
    /// What is in the form: the stars that are chosen, and the words.
    stars: u8,
    words: String,
    problem: Option<String>,
}

/// A review in a line.
struct Line {
    id: String,
    stars: u8,
    /// Filled and empty ones, for the eye.
    drawn: String,
    words: String,
    author: String,
    tenant: String,
    at: Moment,
    may_remove: bool,
}

/// What the visitor has said already.
struct Own {
    id: String,
    revision: i64,
}

pub(crate) async fn show(
    visit: Visit,
    Path(api): Path<String>,
    Query(shown): Query<Shown>,
) -> Answer {
    show_with(&visit, &api, &shown, None, None).await
}

async fn show_with(
    visit: &Visit,
    api: &str,
    shown: &Shown,
    typed: Option<(u8, String)>,
    problem: Option<String>,
) -> Answer {
    let (listing, head, frame) = load(visit, api, shown.version(), "Reviews").await?;
    let (market, request, api) = (visit.market(), &visit.request, listing.api.id);
    let number = u32::try_from(shown.page()).unwrap_or(1);
    let (found, rating) =
        market.list_reviews(request, api, Page::numbered(number, IN_A_PAGE)).await?;
    let OwnReview { may_write, review } = market.read_own_review(request, api).await?;
    let (stars, words) = typed.unwrap_or_else(|| {
        let said = |review: &ApiReview| (review.stars.get(), review.words.clone());
        review.as_ref().map_or((0, String::new()), said)
    });
    let is_wrong = problem.is_some();
    let mut response = page(&Reviews {
        rating: rated(rating),
        total: found.total,
        reviews: found.items.into_iter().map(|one| Line::of(visit, one)).collect(),
        own: review.map(|review| Own { id: review.id.to_string(), revision: review.revision }),
        frame,
        head,
        may_write,
        stars,
        words,
        problem,
    })?;
    if is_wrong {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

pub(crate) async fn write(Path(api): Path<String>, submission: Submission) -> Answer {
    let Submission { visit, form } = &submission;
    let api_id: ApiId = id(&api)?;
    let words = form.raw("words").replace("\r\n", "\n").trim().to_owned();
    let stars: u8 = form.text("stars").parse().unwrap_or(0);
    let Ok(chosen) = Stars::try_from(stars) else {
        let problem = "Choose one to five stars.".to_owned();
        return show_with(visit, &api, &Shown::default(), Some((stars, words)), Some(problem))
            .await;
    };
    let draft = ApiReviewDraft { stars: chosen, words: words.clone() };
    let market = visit.market();
    let done = match form.filled("review") {
        None => market.create_review(&visit.request, api_id, draft).await,
        Some(review) => {
            let mut request = visit.request.clone();
            request.expected_revision = form.text("revision").parse().ok();
            market.replace_review(&request, api_id, id(review)?, draft).await
        }
    };
    let problem = match done {
        Ok(_) => return Ok(visit.done(Flash::Saved, &format!("/apis/{api_id}/reviews"))),
        Err(MarketError::Invalid(violations)) => told(&violations),
        Err(MarketError::Conflict(conflict)) => sentence(&conflict.to_string()),
        Err(MarketError::Stale) => {
            "You have changed this in another window meanwhile. Send it again to put this in its place."
                .to_owned()
        }
        Err(other) => return Err(other.into()),
    };
    show_with(visit, &api, &Shown::default(), Some((stars, words)), Some(problem)).await
}

pub(crate) async fn remove(
    Path((api, review)): Path<(String, String)>,
    submission: Submission,
) -> Answer {
    let Submission { visit, .. } = &submission;
    let (api, review) = (id(&api)?, id(&review)?);
    visit.market().remove_review(&visit.request, api, review).await?;
    Ok(visit.done(Flash::Removed, &format!("/apis/{api}/reviews")))
}

impl Line {
    fn of(visit: &Visit, named: NamedReview) -> Self {
        let NamedReview { review, author, tenant } = named;
        let caller = &visit.request.caller;
        let stars = usize::from(review.stars.get());
        let name = |name: Option<model::Name>, gone: &str| {
            name.map_or_else(|| gone.to_owned(), |name| name.to_string())
        };
        Self {
            id: review.id.to_string(),
            stars: review.stars.get(),
            drawn: "★".repeat(stars) + &"☆".repeat(5_usize.saturating_sub(stars)),
            words: review.words,
            author: name(author, "somebody who has left"),
            tenant: name(tenant, "an organisation that is gone"),
            at: visit.moment(review.updated_at),
            may_remove: review.author == caller.user() || caller.is_platform_admin(),
        }
    }
}

/// `4.3 of 5, by 12 people`
pub(super) fn rated(rating: Rating) -> Option<String> {
    let tenths = rating.tenths()?;
    let people = if rating.reviews == 1 { "person" } else { "people" };
    Some(format!("{}.{} of 5, by {} {people}", tenths / 10, tenths % 10, rating.reviews))
}
