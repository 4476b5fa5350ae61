//! Row-level security on PostgreSQL: the second fence around a tenant's rows.
//!
//! Connections of the pool work as the role `caduceus_app`, which owns nothing and bypasses nothing; each transaction begins by saying
//! through whose eyes it reads, and policies on every table (`migrations/0013_row_security.postgres.sql`) hide the rest. A
//! statement that forgot a condition finds nothing instead of too much. A new table needs policies of its own.

use crate::{Engine, StoreError, Tx};

/// What a connection of the pool begins with.
pub(crate) const TAKE_ROLE: &str = "SET ROLE caduceus_app";

/// Makes the role where there is none, and lets it use the tables.
pub(crate) async fn prepare(tx: &mut Tx) -> Result<(), StoreError> {
    const IS_MEMBER: &str = "
        SELECT CAST(COUNT(*) AS BIGINT) FROM pg_roles
        WHERE rolname = 'caduceus_app' AND pg_has_role(current_user, oid, 'MEMBER')";
    // Another installation on the same server may be doing the same.
    const MAKE: &str = "
        DO $$ BEGIN
            CREATE ROLE caduceus_app NOLOGIN NOSUPERUSER NOBYPASSRLS;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END $$;
        DO $$ BEGIN EXECUTE format('GRANT caduceus_app TO %I', current_user); END $$";
    const GRANT: &str = "
        DO $$ BEGIN EXECUTE format('GRANT USAGE ON SCHEMA %I TO caduceus_app', current_schema()); END $$;
        DO $$ BEGIN EXECUTE format(
            'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO caduceus_app', current_schema());
        END $$";
    if tx.engine() != Engine::Postgres {
        return Ok(());
    }
    let operation = "row_security::prepare";
    if tx.statement(operation, IS_MEMBER).number().await? == 0 {
        tx.run_script(operation, MAKE.to_owned())
            .await
            .map_err(|error| StoreError::RoleMissing { source: Box::new(error) })?;
    }
    tx.run_script(operation, GRANT.to_owned()).await
}
