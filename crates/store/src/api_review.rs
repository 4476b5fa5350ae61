//! What people say about APIs. Whether the API itself may be seen is asked first, in `api`.

use std::collections::HashMap;

use model::{ApiId, ApiReview, ApiReviewId, Rating, Stars, TenantId, UserId};
use sqlx::any::AnyRow;

use crate::{
    Page, PageOf, StoreError, Tx,
    row::{Columns, joined},
};

/// Adds a review. Fails as duplicate when the author has reviewed the API already.
pub async fn insert(tx: &mut Tx, review: &ApiReview) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO api_review (id, api_id, author_id, tenant_id, stars, words, created_at, updated_at, revision)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    tx.statement("api_review::insert", SQL)
        .bind_text(review.id)
        .bind_text(review.api)
        .bind_text(review.author)
        .bind_text(review.tenant)
        .bind(i64::from(review.stars.get()))
        .bind_text(&review.words)
        .bind(review.created_at.as_microsecond())
        .bind(review.updated_at.as_microsecond())
        .bind(review.revision)
        .execute()
        .await?;
    Ok(())
}

/// Writes a changed review over the revision before it.
pub async fn update(tx: &mut Tx, review: &ApiReview) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE api_review SET stars = $1, words = $2, updated_at = $3, revision = $4
        WHERE id = $5 AND author_id = $6 AND revision = $4 - 1";
    tx.statement("api_review::update", SQL)
        .bind(i64::from(review.stars.get()))
        .bind_text(&review.words)
        .bind(review.updated_at.as_microsecond())
        .bind(review.revision)
        .bind_text(review.id)
        .bind_text(review.author)
        .execute_current()
        .await
}

/// Removes a review.
pub async fn delete(tx: &mut Tx, review: &ApiReview) -> Result<(), StoreError> {
    tx.statement("api_review::delete", "DELETE FROM api_review WHERE id = $1 AND api_id = $2")
        .bind_text(review.id)
        .bind_text(review.api)
        .execute()
        .await?;
    Ok(())
}

/// Finds a review of an API.
pub async fn find(
    tx: &mut Tx,
    api: ApiId,
    id: ApiReviewId,
) -> Result<Option<ApiReview>, StoreError> {
    const SQL: &str = "SELECT * FROM api_review WHERE id = $1 AND api_id = $2";
    let row = tx.statement("api_review::find", SQL).bind_text(id).bind_text(api).optional().await?;
    row.as_ref().map(read).transpose()
}

/// Finds what a person says about an API.
pub async fn find_by(
    tx: &mut Tx,
    api: ApiId,
    author: UserId,
) -> Result<Option<ApiReview>, StoreError> {
    const SQL: &str = "SELECT * FROM api_review WHERE api_id = $1 AND author_id = $2";
    let row = tx
        .statement("api_review::find_by", SQL)
        .bind_text(api)
        .bind_text(author)
        .optional()
        .await?;
    row.as_ref().map(read).transpose()
}

/// Lists the reviews of an API, newest first.
pub async fn list(tx: &mut Tx, api: ApiId, page: Page) -> Result<PageOf<ApiReview>, StoreError> {
    const SQL: &str = "SELECT * FROM api_review WHERE api_id = $1 ORDER BY updated_at DESC, id LIMIT $2 OFFSET $3";
    let rows = tx
        .statement("api_review::list", SQL)
        .bind_text(api)
        .bind(page.limit)
        .bind(page.offset)
        .all()
        .await?;
    let total = rate(tx, api).await?.reviews;
    Ok(PageOf { items: rows.iter().map(read).collect::<Result<_, _>>()?, total })
}

/// How an API is rated.
pub async fn rate(tx: &mut Tx, api: ApiId) -> Result<Rating, StoreError> {
    const SQL: &str = "
        SELECT COUNT(*) AS reviews, CAST(COALESCE(SUM(stars), 0) AS BIGINT) AS stars
        FROM api_review WHERE api_id = $1";
    let row = tx.statement("api_review::rate", SQL).bind_text(api).optional().await?;
    let Some(row) = row else { return Ok(Rating::default()) };
    let columns = Columns::of("api_review::rate", &row);
    Ok(Rating { reviews: columns.count("reviews")?, stars: columns.count("stars")? })
}

/// How several APIs are rated; those without reviews are left out.
pub async fn rate_all(tx: &mut Tx, apis: &[ApiId]) -> Result<HashMap<ApiId, Rating>, StoreError> {
    let is_wanted = tx.engine().is_one_of("api_id", "$1");
    let sql = format!(
        "SELECT api_id, COUNT(*) AS reviews, CAST(SUM(stars) AS BIGINT) AS stars
         FROM api_review WHERE {is_wanted} GROUP BY api_id"
    );
    let rows = tx
        .statement("api_review::rate_all", sqlx::AssertSqlSafe(sql))
        .bind(joined(apis))
        .all()
        .await?;
    let rated = rows.iter().map(|row| {
        let columns = Columns::of("api_review::rate_all", row);
        let rating = Rating { reviews: columns.count("reviews")?, stars: columns.count("stars")? };
        Ok((columns.parsed("api_id")?, rating))
    });
    rated.collect()
}

/// Whether an application of a tenant calls the API under an agreement, or did.
pub async fn is_subscriber(tx: &mut Tx, api: ApiId, tenant: TenantId) -> Result<bool, StoreError> {
    const SQL: &str = "
        SELECT COUNT(*) FROM subscription
        WHERE api_id = $1 AND consumer_id = $2 AND status IN ('active', 'suspended', 'expired')";
    let found = tx
        .statement("api_review::is_subscriber", SQL)
        .bind_text(api)
        .bind_text(tenant)
        .number()
        .await?;
    Ok(found > 0)
}

fn read(row: &AnyRow) -> Result<ApiReview, StoreError> {
    let columns = Columns::of("api_review::read", row);
    let stars = u8::try_from(columns.count("stars")?).ok();
    let stars = stars.and_then(|stars| Stars::try_from(stars).ok());
    Ok(ApiReview {
        id: columns.parsed("id")?,
        api: columns.parsed("api_id")?,
        author: columns.parsed("author_id")?,
        tenant: columns.parsed("tenant_id")?,
        stars: stars.ok_or_else(|| columns.corrupt("stars", "not 1 to 5"))?,
        words: columns.text("words")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
        revision: columns.get("revision")?,
    })
}
