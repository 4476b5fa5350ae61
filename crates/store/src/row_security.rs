//! Row-level security on PostgreSQL: the second fence around a tenant's rows.
//!
//! Connections work as one of two roles, which own nothing and bypass nothing: [`INSTALLATION`] for background work and the
//! installation's administrators, whom a policy lets see everything, and [`APPLICATION`] for tenants. A transaction of a tenant begins
//! by naming it, and policies on every table (`migrations/0013_row_security.postgres.sql`) hide the rest. A statement that forgot
//! a condition finds nothing instead of too much. A new table needs policies of its own.

use crate::{Engine, StoreError, Tx};

/// What a connection for tenants begins with.
pub(crate) const APPLICATION: &str = "SET ROLE caduceus_app";
/// What a connection for the installation begins with.
pub(crate) const INSTALLATION: &str = "SET ROLE caduceus_installation";

const ROLES: [&str; 2] = ["caduceus_app", "caduceus_installation"];

/// Makes the roles where they are missing; policies name them.
pub(crate) async fn make_roles(tx: &mut Tx) -> Result<(), StoreError> {
    const IS_MEMBER: &str = "
        SELECT CAST(COUNT(*) AS BIGINT) FROM pg_roles WHERE rolname = $1 AND pg_has_role(current_user, oid, 'MEMBER')";
    const OPERATION: &str = "row_security::make_roles";
    if tx.engine() != Engine::Postgres {
        return Ok(());
    }
    for role in ROLES {
        if tx.statement(OPERATION, IS_MEMBER).bind(role).number().await? > 0 {
            continue;
        }
        // Another installation on the same server may be doing the same.
        let make = format!(
            "DO $$ BEGIN CREATE ROLE {role} NOLOGIN NOSUPERUSER NOBYPASSRLS;
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
             DO $$ BEGIN EXECUTE format('GRANT {role} TO %I', current_user); END $$"
        );
        let made = tx.run_script(OPERATION, make).await;
        made.map_err(|error| StoreError::RoleMissing { source: Box::new(error) })?;
    }
    Ok(())
}

/// Lets the roles use the tables.
pub(crate) async fn grant(tx: &mut Tx) -> Result<(), StoreError> {
    if tx.engine() != Engine::Postgres {
        return Ok(());
    }
    let grant = |what: &str| {
        let roles = ROLES.join(", ");
        format!(
            "DO $$ BEGIN EXECUTE format('GRANT {what} %I TO {roles}', current_schema()); END $$;"
        )
    };
    let script = ["USAGE ON SCHEMA", "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA"];
    tx.run_script("row_security::grant", script.map(grant).concat()).await
}
