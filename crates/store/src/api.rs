//! APIs of the catalogue, and who may see them.
//!
//! A tenant sees its own APIs always, and those of others when they are shown to it and have a published version.

use model::{Api, ApiId, Name, Owner, TenantId, VersionStatus, Visibility};
use serde::de::DeserializeOwned;
use sqlx::{AssertSqlSafe, any::AnyRow};

use crate::{
    Page, PageOf, Planted, StoreError, Tx, Viewer,
    row::{Columns, joined, to_json},
};

/// Which APIs are wanted; what is absent does not narrow.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Under this heading.
    pub category: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// With a version in this state.
    pub status: Option<VersionStatus>,
    /// Of this tenant, by id or slug.
    pub owner: Option<String>,
    /// Carrying protected health information, or not.
    pub contains_phi: Option<bool>,
    /// Under this regulation.
    pub regulatory_scope: Option<String>,
    /// Only these, for results of a search.
    pub ids: Option<Vec<ApiId>>,
    /// In which order.
    pub sort: Sort,
}

/// The order of a list of APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    /// By name.
    #[default]
    Name,
    /// By name, backwards.
    NameDescending,
    /// Newest first.
    Newest,
    /// Oldest first.
    Oldest,
    /// Last changed first.
    LastChanged,
}

/// Adds an API. Fails as duplicate when the tenant has one of that name.
pub async fn insert(tx: &mut Tx, api: &Api) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO api (id, tenant_id, name, name_key, description, owner_name, contact_email, visibility, visible_to,
                         classification, contains_phi, tags, categories, documentation_url, terms_of_service_url,
                         license, created_by, created_at, updated_at, revision)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)";
    let (visibility, visible_to) = visibility_columns(&api.visibility);
    tx.statement("api::insert", SQL)
        .bind_text(api.id)
        .bind_text(api.tenant)
        .bind_text(&api.name)
        .bind(name_key(api))
        .bind_text(&api.description)
        .bind_text(&api.owner.name)
        .bind_text(&api.owner.contact_email)
        .bind_text(visibility)
        .bind(to_json("api::insert", &visible_to)?)
        .bind(to_json("api::insert", &api.classification)?)
        .bind(i64::from(api.classification.contains_phi))
        .bind(to_json("api::insert", &api.tags)?)
        .bind(to_json("api::insert", &api.categories)?)
        .bind_text_opt(api.documentation_url.as_ref())
        .bind_text_opt(api.terms_of_service_url.as_ref())
        .bind_text_opt(api.license.as_ref())
        .bind_text(api.created_by)
        .bind(api.created_at.as_microsecond())
        .bind(api.updated_at.as_microsecond())
        .bind(api.revision)
        .execute()
        .await?;
    write_lookups(tx, api).await
}

/// Writes a changed API over the revision before it.
pub async fn update(tx: &mut Tx, api: &Api) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE api
        SET name = $1, name_key = $2, description = $3, owner_name = $4, contact_email = $5, visibility = $6,
            visible_to = $7, classification = $8, contains_phi = $9, tags = $10, categories = $11,
            documentation_url = $12, terms_of_service_url = $13, license = $14, updated_at = $15, revision = $16
        WHERE id = $17 AND tenant_id = $18 AND revision = $16 - 1";
    let (visibility, visible_to) = visibility_columns(&api.visibility);
    tx.statement("api::update", SQL)
        .bind_text(&api.name)
        .bind(name_key(api))
        .bind_text(&api.description)
        .bind_text(&api.owner.name)
        .bind_text(&api.owner.contact_email)
        .bind_text(visibility)
        .bind(to_json("api::update", &visible_to)?)
        .bind(to_json("api::update", &api.classification)?)
        .bind(i64::from(api.classification.contains_phi))
        .bind(to_json("api::update", &api.tags)?)
        .bind(to_json("api::update", &api.categories)?)
        .bind_text_opt(api.documentation_url.as_ref())
        .bind_text_opt(api.terms_of_service_url.as_ref())
        .bind_text_opt(api.license.as_ref())
        .bind(api.updated_at.as_microsecond())
        .bind(api.revision)
        .bind_text(api.id)
        .bind_text(api.tenant)
        .execute_current()
        .await?;
    write_lookups(tx, api).await
}

/// Removes an API with its versions and plans. Fails as referenced while it has deployments or subscriptions.
pub async fn delete(tx: &mut Tx, tenant: TenantId, id: ApiId) -> Result<(), StoreError> {
    tx.statement("api::delete", "DELETE FROM api WHERE id = $1 AND tenant_id = $2")
        .bind_text(id)
        .bind_text(tenant)
        .execute()
        .await?;
    Ok(())
}

const VISIBLE: &str = "
    ($1 = '*' OR api.tenant_id = $1
     OR ((api.visibility = 'public'
          OR EXISTS (SELECT 1 FROM api_audience WHERE api_audience.api_id = api.id AND api_audience.tenant_id = $1))
         AND EXISTS (SELECT 1 FROM api_version WHERE api_version.api_id = api.id
                     AND api_version.status IN ('active', 'deprecated', 'retired'))))";

/// Finds an API that the viewer may see.
pub async fn find_visible(
    tx: &mut Tx,
    viewer: Viewer,
    id: ApiId,
) -> Result<Option<Api>, StoreError> {
    let sql = format!("SELECT api.* FROM api WHERE {VISIBLE} AND api.id = $2");
    let row = tx
        .statement("api::find_visible", AssertSqlSafe(sql))
        .bind(Planted::SeesAny.widen(viewer).argument())
        .bind_text(id)
        .optional()
        .await?;
    row.as_ref().map(read).transpose()
}

/// Finds those of some APIs that the viewer may see, in no order.
pub async fn find_all_visible(
    tx: &mut Tx,
    viewer: Viewer,
    ids: &[ApiId],
) -> Result<Vec<Api>, StoreError> {
    let is_wanted = tx.engine().is_one_of("api.id", "$2");
    let sql = format!("SELECT api.* FROM api WHERE {VISIBLE} AND {is_wanted}");
    let rows = tx
        .statement("api::find_all_visible", AssertSqlSafe(sql))
        .bind(viewer.argument())
        .bind(joined(ids))
        .all()
        .await?;
    rows.iter().map(read).collect()
}

/// Lists ids and names of the APIs that the viewer may see, by name.
pub async fn list_names(
    tx: &mut Tx,
    viewer: Viewer,
    page: Page,
) -> Result<Vec<(ApiId, Name)>, StoreError> {
    let sql = format!(
        "SELECT api.id, api.name FROM api WHERE {VISIBLE} ORDER BY api.name_key, api.id LIMIT $2 OFFSET $3"
    );
    let rows = tx
        .statement("api::list_names", AssertSqlSafe(sql))
        .bind(viewer.argument())
        .bind(page.limit)
        .bind(page.offset)
        .all()
        .await?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("api::list_names", row);
            Ok((columns.parsed("id")?, columns.checked("name")?))
        })
        .collect()
}

/// Lists APIs that the viewer may see.
pub async fn list_visible(
    tx: &mut Tx,
    viewer: Viewer,
    filter: &Filter,
    page: Page,
) -> Result<PageOf<Api>, StoreError> {
    let mut conditions = String::from(VISIBLE);
    let mut arguments = vec![viewer.argument()];
    let mut narrow = |condition: &str, argument: String| {
        arguments.push(argument);
        conditions.push_str(" AND ");
        conditions.push_str(&condition.replace('?', &format!("${}", arguments.len())));
    };
    let labelled = |kind: &str| {
        format!(
            "EXISTS (SELECT 1 FROM api_label WHERE api_label.api_id = api.id AND kind = '{kind}' AND label = ?)"
        )
    };
    if let Some(category) = &filter.category {
        narrow(&labelled("category"), category.clone());
    }
    if let Some(tag) = &filter.tag {
        narrow(&labelled("tag"), tag.clone());
    }
    if let Some(scope) = &filter.regulatory_scope {
        narrow(&labelled("regulatory_scope"), scope.clone());
    }
    if let Some(status) = filter.status {
        // States that only the owner sees are no way for others to find out about them.
        let whose =
            if status.is_published() { "" } else { " AND ($1 = '*' OR api.tenant_id = $1)" };
        narrow(
            &format!(
                "EXISTS (SELECT 1 FROM api_version WHERE api_version.api_id = api.id AND status = ?{whose})"
            ),
            status.as_str().to_owned(),
        );
    }
    if let Some(owner) = &filter.owner {
        narrow(
            "api.tenant_id IN (SELECT id FROM tenant WHERE tenant.id = ? OR tenant.slug = ?)",
            owner.clone(),
        );
    }
    if let Some(contains_phi) = filter.contains_phi {
        narrow(
            "api.contains_phi = CAST(? AS BIGINT)",
            if contains_phi { "1" } else { "0" }.to_owned(),
        );
    }
    if let Some(ids) = &filter.ids {
        // Identifiers hold only letters, digits and an underscore.
        let list: Vec<_> = ids.iter().map(|id| format!("'{id}'")).collect();
        conditions.push_str(&format!(
            " AND api.id IN ({})",
            if list.is_empty() { "''".to_owned() } else { list.join(", ") }
        ));
    }
    let order = match filter.sort {
        Sort::Name => "api.name_key, api.id",
        Sort::NameDescending => "api.name_key DESC, api.id DESC",
        Sort::Newest => "api.id DESC",
        Sort::Oldest => "api.id",
        Sort::LastChanged => "api.updated_at DESC, api.id DESC",
    };
    let sql = format!(
        "SELECT api.* FROM api WHERE {conditions} ORDER BY {order} LIMIT {} OFFSET {}",
        page.limit, page.offset
    );
    let count = format!("SELECT COUNT(*) FROM api WHERE {conditions}");
    let mut select = tx.statement("api::list_visible", AssertSqlSafe(sql));
    for argument in &arguments {
        select = select.bind(argument.clone());
    }
    let rows = select.all().await?;
    let mut counting = tx.statement("api::list_visible", AssertSqlSafe(count));
    for argument in arguments {
        counting = counting.bind(argument);
    }
    let total = counting.number().await?;
    Ok(PageOf {
        items: rows.iter().map(read).collect::<Result<_, _>>()?,
        total: total.unsigned_abs(),
    })
}

/// Lists APIs in the order of their identifiers, after one of them: for building the index anew.
pub async fn list_after(
    tx: &mut Tx,
    after: Option<ApiId>,
    limit: i64,
) -> Result<Vec<Api>, StoreError> {
    const SQL: &str = "SELECT api.* FROM api WHERE id > $1 ORDER BY id LIMIT $2";
    let rows = tx
        .statement("api::list_after", SQL)
        .bind(after.map_or_else(String::new, |id| id.to_string()))
        .bind(limit)
        .all()
        .await?;
    rows.iter().map(read).collect()
}

/// Lists the tags of all APIs that the viewer may see, with how many APIs have each, most used first.
pub async fn list_tags(tx: &mut Tx, viewer: Viewer) -> Result<Vec<(String, u64)>, StoreError> {
    let sql = format!(
        "SELECT api_label.label AS label, COUNT(*) AS uses
         FROM api_label JOIN api ON api.id = api_label.api_id
         WHERE api_label.kind = 'tag' AND {VISIBLE}
         GROUP BY api_label.label ORDER BY uses DESC, api_label.label LIMIT 200"
    );
    let rows =
        tx.statement("api::list_tags", AssertSqlSafe(sql)).bind(viewer.argument()).all().await?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("api::list_tags", row);
            Ok((columns.text("label")?, columns.count("uses")?))
        })
        .collect()
}

async fn write_lookups(tx: &mut Tx, api: &Api) -> Result<(), StoreError> {
    const LABEL: &str = "
        INSERT INTO api_label (api_id, kind, label) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    tx.statement("api::write_lookups", "DELETE FROM api_label WHERE api_id = $1")
        .bind_text(api.id)
        .execute()
        .await?;
    tx.statement("api::write_lookups", "DELETE FROM api_audience WHERE api_id = $1")
        .bind_text(api.id)
        .execute()
        .await?;
    let kinds = [
        ("tag", &api.tags),
        ("category", &api.categories),
        ("regulatory_scope", &api.classification.regulatory_scope),
    ];
    for (kind, labels) in kinds {
        for label in labels {
            tx.statement("api::write_lookups", LABEL)
                .bind_text(api.id)
                .bind_text(kind)
                .bind_text(label)
                .execute()
                .await?;
        }
    }
    if let Visibility::Restricted(tenants) = &api.visibility {
        const AUDIENCE: &str = "
            INSERT INTO api_audience (api_id, tenant_id) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        for tenant in tenants {
            tx.statement("api::write_lookups", AUDIENCE)
                .bind_text(api.id)
                .bind_text(tenant)
                .execute()
                .await?;
        }
    }
    Ok(())
}

fn name_key(api: &Api) -> String {
    api.name.as_str().to_lowercase()
}

fn visibility_columns(visibility: &Visibility) -> (&'static str, &[TenantId]) {
    match visibility {
        Visibility::Public => ("public", &[]),
        Visibility::Restricted(tenants) => ("restricted", tenants),
        Visibility::Private => ("private", &[]),
    }
}

fn read(row: &AnyRow) -> Result<Api, StoreError> {
    let columns = Columns::of("api::read", row);
    let visibility = match columns.text("visibility")?.as_str() {
        "public" => Visibility::Public,
        "restricted" => Visibility::Restricted(read_list(&columns, "visible_to")?),
        "private" => Visibility::Private,
        _ => return Err(columns.corrupt("visibility", "unknown name")),
    };
    Ok(Api {
        id: columns.parsed("id")?,
        tenant: columns.parsed("tenant_id")?,
        name: columns.checked("name")?,
        description: columns.text("description")?,
        owner: Owner {
            name: columns.checked("owner_name")?,
            contact_email: columns.checked("contact_email")?,
        },
        visibility,
        classification: columns.json("classification")?,
        tags: read_list(&columns, "tags")?,
        categories: read_list(&columns, "categories")?,
        documentation_url: columns.parsed_opt("documentation_url")?,
        terms_of_service_url: columns.parsed_opt("terms_of_service_url")?,
        license: columns.checked_opt("license")?,
        created_by: columns.parsed("created_by")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
        revision: columns.get("revision")?,
    })
}

fn read_list<T: DeserializeOwned>(
    columns: &Columns<'_>,
    column: &'static str,
) -> Result<Vec<T>, StoreError> {
    columns.json(column)
}
