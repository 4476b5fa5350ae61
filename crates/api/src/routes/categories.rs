//! Headings of the catalogue.

use authz::Action;
use jiff::Timestamp;
use market::{CategoryChange, CategoryDraft, Kind};
use model::{Category, CategoryId, Name, Slug};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Items;
use crate::{
    body,
    call::Call,
    endpoint::{Endpoint, delete, get, patch, post, put},
    problem::Problem,
    reply::Reply,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get("/categories", Action::ListCategories, "List the headings of the catalogue")
            .answers::<Items<CategoryView>>()
            .run(list),
        post("/admin/categories", Action::CreateCategory, "Add a heading")
            .creates::<CategoryView>()
            .body(create),
        put("/admin/categories/{id}", Action::ReplaceCategory, "Replace a heading")
            .answers::<CategoryView>()
            .body(replace),
        patch("/admin/categories/{id}", Action::ChangeCategory, "Change a heading")
            .answers::<CategoryView>()
            .body(change),
        delete(
            "/admin/categories/{id}",
            Action::RemoveCategory,
            "Remove a heading that no API uses",
        )
        .run(remove),
    ]
}

/// A heading to add.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NewCategoryBody {
    /// Never changes.
    slug: Slug,
    name: Name,
    #[serde(default)]
    description: String,
}

/// What may be changed about a heading.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CategoryBody {
    name: Name,
    #[serde(default)]
    description: String,
}

/// A heading of the catalogue.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct CategoryView {
    id: CategoryId,
    slug: Slug,
    name: Name,
    description: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    revision: i64,
}

impl From<Category> for CategoryView {
    fn from(category: Category) -> Self {
        let Category { id, slug, name, description, created_at, updated_at, revision } = category;
        Self { id, slug, name, description, created_at, updated_at, revision }
    }
}

impl From<CategoryBody> for CategoryChange {
    fn from(body: CategoryBody) -> Self {
        let CategoryBody { name, description } = body;
        Self { name, description }
    }
}

async fn list(call: Call) -> Result<Reply, Problem> {
    let categories = call.market.list_categories(call.request()).await?;
    Ok(Reply::ok(&Items { items: categories.into_iter().map(CategoryView::from).collect() }))
}

async fn create(call: Call, body: NewCategoryBody) -> Result<Reply, Problem> {
    let NewCategoryBody { slug, name, description } = body;
    let draft = CategoryDraft { slug, name, description };
    let category = call.market.create_category(call.request(), draft).await?;
    let revision = category.revision;
    Ok(Reply::created(&CategoryView::from(category)).revision(revision))
}

async fn replace(call: Call, body: CategoryBody) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Category)?;
    let action = Action::ReplaceCategory;
    Ok(shown(call.market.change_category(call.request(), action, id, body.into()).await?))
}

async fn change(
    call: Call,
    patch: serde_json::Map<String, serde_json::Value>,
) -> Result<Reply, Problem> {
    let id: CategoryId = call.id("id", Kind::Category)?;
    let categories = call.market.list_categories(call.request()).await?;
    let current = categories
        .into_iter()
        .find(|category| category.id == id)
        .ok_or_else(|| Problem::not_found(Kind::Category))?;
    let request = call.request_for(current.revision);
    let body = CategoryBody { name: current.name, description: current.description };
    let body = body::patched(body, patch)?;
    let action = Action::ChangeCategory;
    Ok(shown(call.market.change_category(&request, action, id, body.into()).await?))
}

async fn remove(call: Call) -> Result<Reply, Problem> {
    let id = call.id("id", Kind::Category)?;
    call.market.remove_category(call.request(), id).await?;
    Ok(Reply::no_content())
}

fn shown(category: Category) -> Reply {
    let revision = category.revision;
    Reply::ok(&CategoryView::from(category)).revision(revision)
}
