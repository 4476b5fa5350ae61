//! Subscriptions. The consumer's and the owner's tenant see them, nobody else.

use jiff::Timestamp;
use model::{
    AgreementEntry, ApiId, ApplicationId, Classification, FirstApproval, Name, RosterEntry,
    Subscription, SubscriptionId, SubscriptionStatus, VersionId,
};
use sqlx::any::AnyRow;

use crate::{
    Page, PageOf, StoreError, Tx, Viewer, roster,
    row::{Columns, to_json},
};

/// Which subscriptions are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// In this state.
    pub status: Option<SubscriptionStatus>,
    /// Of this API.
    pub api: Option<ApiId>,
    /// Of this application.
    pub application: Option<ApplicationId>,
    /// Only those that the viewer's tenant, as the API's owner, decides about.
    pub as_owner: bool,
}

/// Adds a subscription. Fails as duplicate when the application has a live one to the version.
pub async fn insert(tx: &mut Tx, subscription: &Subscription) -> Result<(), StoreError> {
    const SQL: &str = "
        INSERT INTO subscription (id, application_id, consumer_id, api_id, owner_id, version_id, plan_id, status,
                                  purpose_of_use, agreement_sha256, expires_at, requested_by, decided_by, comments,
                                  created_at, updated_at, revision, data_categories)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
    tx.statement("subscription::insert", SQL)
        .bind_text(subscription.id)
        .bind_text(subscription.application)
        .bind_text(subscription.consumer)
        .bind_text(subscription.api)
        .bind_text(subscription.owner)
        .bind_text(subscription.version)
        .bind_text(subscription.plan)
        .bind_text(subscription.status.as_str())
        .bind_text_opt(subscription.purpose_of_use.as_ref())
        .bind(subscription.agreement_sha256.clone())
        .bind(subscription.expires_at.map(Timestamp::as_microsecond))
        .bind_text(subscription.requested_by)
        .bind_text_opt(subscription.decided_by)
        .bind_text(&subscription.comments)
        .bind(subscription.created_at.as_microsecond())
        .bind(subscription.updated_at.as_microsecond())
        .bind(subscription.revision)
        .bind(to_json("subscription::insert", &subscription.data_categories)?)
        .execute()
        .await?;
    enter(tx, subscription);
    Ok(())
}

/// Writes a subscription that moved over the revision before it.
pub async fn update(tx: &mut Tx, subscription: &Subscription) -> Result<(), StoreError> {
    const SQL: &str = "
        UPDATE subscription SET status = $1, decided_by = $2, comments = $3, updated_at = $4, revision = $5,
                                first_approved_by = $7, first_approved_at = $8, signatures = $9
        WHERE id = $6 AND revision = $5 - 1";
    tx.statement("subscription::update", SQL)
        .bind_text(subscription.status.as_str())
        .bind_text_opt(subscription.decided_by)
        .bind_text(&subscription.comments)
        .bind(subscription.updated_at.as_microsecond())
        .bind(subscription.revision)
        .bind_text(subscription.id)
        .bind_text_opt(subscription.first_approval.map(|first| first.by))
        .bind(subscription.first_approval.map(|first| first.at.as_microsecond()))
        .bind(to_json("subscription::update", &subscription.signatures)?)
        .execute_current()
        .await?;
    enter(tx, subscription);
    Ok(())
}

/// Enters an agreement on the roster as the gateway is to know it.
fn enter(tx: &mut Tx, subscription: &Subscription) {
    let is_live = subscription.status == SubscriptionStatus::Active;
    roster::set(tx, agreement(subscription), is_live, subscription.updated_at);
}

fn agreement(subscription: &Subscription) -> RosterEntry {
    RosterEntry::Agreement(AgreementEntry {
        id: subscription.id,
        application: subscription.application,
        version: subscription.version,
        plan: subscription.plan,
        expires_at: subscription.expires_at,
    })
}

/// Finds a subscription of the viewer, on either side.
pub async fn find(
    tx: &mut Tx,
    viewer: Viewer,
    id: SubscriptionId,
) -> Result<Option<Subscription>, StoreError> {
    const SQL: &str = "
        SELECT * FROM subscription WHERE id = $1 AND ($2 = '*' OR consumer_id = $2 OR owner_id = $2)";
    let row = tx
        .statement("subscription::find", SQL)
        .bind_text(id)
        .bind(viewer.argument())
        .optional()
        .await?;
    row.as_ref().map(read).transpose()
}

/// Lists subscriptions of the viewer, newest first.
pub async fn list(
    tx: &mut Tx,
    viewer: Viewer,
    filter: &Filter,
    page: Page,
) -> Result<PageOf<Subscription>, StoreError> {
    const WANTED: &str = "
        ($1 = '*' OR owner_id = $1 OR (consumer_id = $1 AND $2 = ''))
        AND ($3 = '' OR status = $3) AND ($4 = '' OR api_id = $4) AND ($5 = '' OR application_id = $5)";
    let select =
        format!("SELECT * FROM subscription WHERE {WANTED} ORDER BY id DESC LIMIT $6 OFFSET $7");
    let count = format!("SELECT COUNT(*) FROM subscription WHERE {WANTED}");
    let arguments = [
        viewer.argument(),
        if filter.as_owner { "owner".to_owned() } else { String::new() },
        filter.status.map_or("", SubscriptionStatus::as_str).to_owned(),
        filter.api.map_or_else(String::new, |id| id.to_string()),
        filter.application.map_or_else(String::new, |id| id.to_string()),
    ];
    let mut selecting = tx.statement("subscription::list", sqlx::AssertSqlSafe(select));
    for argument in arguments.clone() {
        selecting = selecting.bind(argument);
    }
    let rows = selecting.bind(page.limit).bind(page.offset).all().await?;
    let mut counting = tx.statement("subscription::list", sqlx::AssertSqlSafe(count));
    for argument in arguments {
        counting = counting.bind(argument);
    }
    let total = counting.number().await?;
    Ok(PageOf {
        items: rows.iter().map(read).collect::<Result<_, _>>()?,
        total: total.unsigned_abs(),
    })
}

/// An agreement that is or was in force, with the names of what it is about.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The agreement.
    pub subscription: Subscription,
    /// The API.
    pub api: Option<Name>,
    /// What data the API carries, as its owner says today.
    pub classification: Option<Classification>,
    /// The number of the version.
    pub version: Option<String>,
    /// The plan.
    pub plan: Option<Name>,
    /// The application.
    pub application: Option<Name>,
    /// The tenant that offers the API.
    pub owner: Option<Name>,
    /// The tenant that uses it.
    pub consumer: Option<Name>,
}

/// Lists agreements of the viewer that are or were in force, on either side, newest first; `before` one of them.
pub async fn register(
    tx: &mut Tx,
    viewer: Viewer,
    before: Option<SubscriptionId>,
    limit: i64,
) -> Result<Vec<Registered>, StoreError> {
    const SQL: &str = "
        SELECT subscription.*, api.name AS api_name, api.classification AS classification,
               api_version.number AS version_number, plan.name AS plan_name, application.name AS application_name,
               owner.name AS owner_name, consumer.name AS consumer_name
        FROM subscription
        LEFT JOIN api ON api.id = subscription.api_id
        LEFT JOIN api_version ON api_version.id = subscription.version_id
        LEFT JOIN plan ON plan.id = subscription.plan_id
        LEFT JOIN application ON application.id = subscription.application_id
        LEFT JOIN tenant AS owner ON owner.id = subscription.owner_id
        LEFT JOIN tenant AS consumer ON consumer.id = subscription.consumer_id
        WHERE ($1 = '*' OR subscription.owner_id = $1 OR subscription.consumer_id = $1)
          AND subscription.status IN ('active', 'suspended', 'expired', 'cancelled')
          AND ($2 = '' OR subscription.id < $2)
        ORDER BY subscription.id DESC LIMIT $3";
    let rows = tx
        .statement("subscription::register", SQL)
        .bind(viewer.argument())
        .bind(before.map_or_else(String::new, |id| id.to_string()))
        .bind(limit)
        .all()
        .await?;
    rows.iter()
        .map(|row| {
            let columns = Columns::of("subscription::register", row);
            Ok(Registered {
                subscription: read(row)?,
                api: columns.checked_opt("api_name")?,
                classification: columns.json_opt("classification")?,
                version: columns.get("version_number")?,
                plan: columns.checked_opt("plan_name")?,
                application: columns.checked_opt("application_name")?,
                owner: columns.checked_opt("owner_name")?,
                consumer: columns.checked_opt("consumer_name")?,
            })
        })
        .collect()
}

/// Lists active subscriptions after an identifier, as the gateway is to know them.
pub(crate) async fn list_agreements(
    tx: &mut Tx,
    after: &str,
    limit: i64,
) -> Result<Vec<RosterEntry>, StoreError> {
    const SQL: &str =
        "SELECT * FROM subscription WHERE status = 'active' AND id > $1 ORDER BY id LIMIT $2";
    let rows = tx
        .statement("subscription::list_agreements", SQL)
        .bind(after.to_owned())
        .bind(limit)
        .all()
        .await?;
    rows.iter().map(|row| Ok(agreement(&read(row)?))).collect()
}

/// Lists live subscriptions whose end has come.
pub async fn list_ended(
    tx: &mut Tx,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<Subscription>, StoreError> {
    const SQL: &str = "
        SELECT * FROM subscription
        WHERE status IN ('pending', 'active', 'suspended') AND expires_at <= $1 ORDER BY id LIMIT $2";
    let rows = tx
        .statement("subscription::list_ended", SQL)
        .bind(now.as_microsecond())
        .bind(limit)
        .all()
        .await?;
    rows.iter().map(read).collect()
}

/// How many live subscriptions a version has.
pub async fn count_live(tx: &mut Tx, version: VersionId) -> Result<u64, StoreError> {
    const SQL: &str = "
        SELECT COUNT(*) FROM subscription
        WHERE version_id = $1 AND status IN ('pending', 'active', 'suspended')";
    let number = tx.statement("subscription::count_live", SQL).bind_text(version).number().await?;
    Ok(number.unsigned_abs())
}

fn read(row: &AnyRow) -> Result<Subscription, StoreError> {
    let columns = Columns::of("subscription::read", row);
    Ok(Subscription {
        id: columns.parsed("id")?,
        application: columns.parsed("application_id")?,
        consumer: columns.parsed("consumer_id")?,
        api: columns.parsed("api_id")?,
        owner: columns.parsed("owner_id")?,
        version: columns.parsed("version_id")?,
        plan: columns.parsed("plan_id")?,
        status: columns.named("status", SubscriptionStatus::parse)?,
        purpose_of_use: columns.checked_opt("purpose_of_use")?,
        data_categories: columns.json("data_categories")?,
        agreement_sha256: columns.get("agreement_sha256")?,
        expires_at: columns.time_opt("expires_at")?,
        requested_by: columns.parsed("requested_by")?,
        first_approval: columns
            .parsed_opt("first_approved_by")?
            .zip(columns.time_opt("first_approved_at")?)
            .map(|(by, at)| FirstApproval { by, at }),
        decided_by: columns.parsed_opt("decided_by")?,
        signatures: columns.json("signatures")?,
        comments: columns.text("comments")?,
        created_at: columns.time("created_at")?,
        updated_at: columns.time("updated_at")?,
        revision: columns.get("revision")?,
    })
}
