//! Headings of the catalogue.

use model::{Category, CategoryId, Slug};
use sqlx::any::AnyRow;

use crate::{StoreError, Tx, row::Columns};

/// The most headings that an installation has.
pub const MAX: i64 = 500;

/// Adds a heading. Fails as duplicate when the slug is taken.
pub async fn insert(tx: &mut Tx, category: &Category) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO category (id, slug, name, description, created_at, updated_at, revision)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    tx.statement("category::insert", SQL)
        .bind_text(category.id)
        .bind_text(&category.slug)
        .bind_text(&category.name)
        .bind_text(&category.description)
        .bind(category.created_at.as_microsecond())
        .bind(category.updated_at.as_microsecond())
        .bind(category.revision)
        .execute()
        .await?;
    Ok(())
}

/// Writes a changed heading over the revision before it. Its slug never changes.
pub async fn update(tx: &mut Tx, category: &Category) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE category SET name = $1, description = $2, updated_at = $3, revision = $4
        WHERE id = $5 AND revision = $4 - 1";
    tx.statement("category::update", SQL)
        .bind_text(&category.name)
        .bind_text(&category.description)
        .bind(category.updated_at.as_microsecond())
        .bind(category.revision)
        .bind_text(category.id)
        .execute_current()
        .await
}

/// Removes a heading.
pub async fn delete(tx: &mut Tx, id: CategoryId) -> Result<(), StoreError> {
    tx.statement("category::delete", "DELETE FROM category WHERE id = $1")
        .bind_text(id)
        .execute()
        .await?;
    Ok(())
}

/// Finds a heading.
pub async fn find(tx: &mut Tx, id: CategoryId) -> Result<Option<Category>, StoreError> {
    const SQL: &str = "SELECT * FROM category WHERE id = $1";
    let row = tx.statement("category::find", SQL).bind_text(id).optional().await?;
    row.as_ref().map(read).transpose()
}

/// Lists all headings by slug.
pub async fn list(tx: &mut Tx) -> Result<Vec<Category>, StoreError> {
    const SQL: &str = "SELECT * FROM category ORDER BY slug LIMIT $1";
    let rows = tx.statement("category::list", SQL).bind(MAX).all().await?;
    rows.iter().map(read).collect()
}

/// Whether an API stands under the heading.
pub async fn is_used(tx: &mut Tx, slug: &Slug) -> Result<bool, StoreError> {
    const SQL: &str = "SELECT COUNT(*) FROM api_label WHERE kind = 'category' AND label = $1";
    Ok(tx.statement("category::is_used", SQL).bind_text(slug).number().await? > 0)
}

fn read(row: &AnyRow) -> Result<Category, StoreError> {
    let columns = Columns::of("category::read", row);
    Ok(Category {
        id: columns.parsed("id")?,
        slug: columns.checked("slug")?,
        name: columns.checked("name")?,
        description: columns.text("description")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
        revision: columns.get("revision")?,
    })
}
