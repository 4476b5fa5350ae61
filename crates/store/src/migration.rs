//! Bringing a database up to date. Steps are numbered, run once each, and never change after a release.

use std::collections::BTreeSet;

use crate::{
    Engine, StoreError, Tx, Viewer, database, roster, row::Columns, row_security, version,
};

const STEPS: &[(i64, &str)] = &[
    (1, include_str!("../migrations/0001_spine.sql")),
    (2, include_str!("../migrations/0002_delivery.sql")),
    (3, include_str!("../migrations/0003_validation.sql")),
    (FEED, include_str!("../migrations/0004_feed.sql")),
    (5, include_str!("../migrations/0005_portal.sql")),
    (6, include_str!("../migrations/0006_notices.sql")),
    (DIGESTS, include_str!("../migrations/0008_specification_digest.sql")),
    (9, include_str!("../migrations/0009_failed_call.sql")),
    (10, include_str!("../migrations/0010_api_review.sql")),
    (11, include_str!("../migrations/0011_second_factor.sql")),
    (12, include_str!("../migrations/0012_two_person.sql")),
    (ROW_SECURITY, include_str!("../migrations/0013_row_security.postgres.sql")),
    (14, include_str!("../migrations/0014_agreement.sql")),
];

/// The step that brought the roster, which is then filled.
const FEED: i64 = 4;

/// The step that brought the digests of specifications, which are then worked out.
const DIGESTS: i64 = 8;

/// The step that brought row-level security, which SQLite knows nothing of.
const ROW_SECURITY: i64 = 13;

/// Runs the steps that the database has not seen, all in one transaction, as the user of the URL.
pub(crate) async fn run(engine: Engine, url: &str) -> Result<(), StoreError> {
    const LEDGER: &str = "CREATE TABLE IF NOT EXISTS schema_step (number BIGINT PRIMARY KEY)";
    let connection = database::pool(engine, 1, &[]).connect(url).await;
    let connection = connection.map_err(StoreError::sql("migration::connect"))?;
    let tx = connection.begin_with(engine.begin_write(Viewer::Installation)).await;
    let mut tx = Tx::new(tx.map_err(StoreError::sql("migration::begin"))?, engine);
    if let Some(lock) = tx.engine().lock_migrations() {
        tx.statement("migration::lock", lock).all().await?;
    }
    row_security::make_roles(&mut tx).await?;
    tx.statement("migration::prepare", LEDGER).execute().await?;
    let found = tx
        .statement(
            "migration::found",
            "SELECT CAST(COALESCE(MAX(number), 0) AS BIGINT) FROM schema_step",
        )
        .number()
        .await?;
    let known = STEPS.last().map_or(0, |(number, _)| *number);
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    let rows = tx.statement("migration::noted", "SELECT number FROM schema_step").all().await?;
    let noted = rows
        .iter()
        .map(|row| Columns::of("migration::noted", row).get("number"))
        .collect::<Result<BTreeSet<i64>, _>>()?;
    for (number, script) in STEPS.iter().filter(|(number, _)| !noted.contains(number)) {
        if *number != ROW_SECURITY || engine == Engine::Postgres {
            let script = script.replace("{blob}", engine.blob());
            tx.run_script("migration::step", script).await?;
        }
        if *number == FEED {
            roster::backfill(&mut tx).await?;
        }
        if *number == DIGESTS {
            version::backfill_digests(&mut tx).await?;
        }
        tx.statement("migration::note", "INSERT INTO schema_step (number) VALUES ($1)")
            .bind(*number)
            .execute()
            .await?;
    }
    row_security::grant(&mut tx).await?;
    tx.commit().await?;
    connection.close().await;
    Ok(())
}
