//! PostgreSQL's row-level security alone: raw statements under the role that the program takes.

use testkit::{Database, Sql};

use crate::world::World;

/// Rows for tables that the world leaves empty.
const MORE: &str = "
    INSERT INTO usage_rollup SELECT 'hour', 0, v.id, a.id, 's', 0, v.api_id, v.tenant_id, a.tenant_id, 1, 0, 1, 1, '{}', ''
        FROM api_version v, application a LIMIT 1;
    INSERT INTO failed_call SELECT 'f', v.api_id, v.tenant_id, v.id, 0, a.id, a.tenant_id, 'r', 500, 'f', 1, 1
        FROM api_version v, application a LIMIT 1;
    INSERT INTO portal_session SELECT id, 'digest', 0 FROM session LIMIT 1;
    INSERT INTO letter SELECT 'l', id, 'waiting', 0, 0, 0, NULL, NULL FROM account LIMIT 1;
    INSERT INTO notice_settings SELECT id, '{}', 0, 1 FROM account LIMIT 1;
    INSERT INTO alarm SELECT id, 0 FROM api LIMIT 1;
    INSERT INTO lease SELECT 'x', 'y', 0 ON CONFLICT DO NOTHING;
    INSERT INTO usage_position SELECT 'x', 0, 0 ON CONFLICT DO NOTHING;
    INSERT INTO api_audience SELECT a.id, t.id FROM api a, tenant t WHERE t.slug = 'hospital' LIMIT 1;
    INSERT INTO idempotency SELECT id, 'key', tenant_id, 'f', NULL, 0 FROM account LIMIT 1;
    UPDATE api SET visibility = 'private';";
const TABLES: &str =
    "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename";

async fn view_as(sql: &mut Sql, viewer: &str) {
    sql.run(&format!("SET caduceus.viewer = '{viewer}'")).await.unwrap();
}

#[tokio::test]
async fn hides_every_table_from_whoever_is_no_party() {
    let world = World::create(Database::postgres().await).await;
    let mut sql = world.installation.connect().await;
    sql.run(MORE).await.unwrap();
    let tables = sql.texts(TABLES).await;
    assert!(tables.len() >= 35, "{tables:?}");
    for table in &tables {
        assert!(sql.number(&format!("SELECT COUNT(*) FROM {table}")).await > 0, "{table} is empty");
        let is_forced = format!(
            "SELECT COUNT(*) FROM pg_class WHERE relname = '{table}' AND relrowsecurity AND relforcerowsecurity"
        );
        assert_eq!(sql.number(&is_forced).await, 1, "{table}");
    }
    let might =
        "SELECT COUNT(*) FROM pg_roles WHERE rolname IN ('caduceus_app', 'caduceus_installation')
                 AND NOT (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolcanlogin)
                 AND (rolname = 'caduceus_installation'
                      OR NOT pg_has_role('caduceus_app', 'caduceus_installation', 'MEMBER'))";
    assert_eq!(sql.number(might).await, 2);
    let audit =
        format!("SELECT COUNT(*) FROM audit_event WHERE tenant_id = '{}'", world.targets.tenant);
    let own_audit = sql.number(&audit).await;

    sql.run("SET ROLE caduceus_app").await.unwrap();
    for table in &tables {
        // Not even with a setting that says nothing, or nonsense.
        for viewer in ["", "nobody", "%", "*"] {
            view_as(&mut sql, viewer).await;
            let seen = sql.number(&format!("SELECT COUNT(*) FROM {table}")).await;
            let is_shared = table == "category" && !viewer.is_empty();
            assert!(seen == 0 || is_shared, "{table}: {seen} rows for {viewer:?}");
        }
        sql.run("RESET caduceus.viewer").await.unwrap();
        assert_eq!(sql.number(&format!("SELECT COUNT(*) FROM {table}")).await, 0, "{table}");

        view_as(&mut sql, &world.targets.tenant).await;
        let seen = sql.number(&format!("SELECT COUNT(*) FROM {table}")).await;
        match table.as_str() {
            "tenant" => assert_eq!(seen, 1, "its own"),
            "audit_event" => assert_eq!(seen, own_audit, "its own"),
            "category" => assert!(seen > 0, "headings are for everybody"),
            table => assert_eq!(seen, 0, "{table}"),
        }
        if table != "tenant" {
            let removed = sql.run(&format!("DELETE FROM {table}")).await.unwrap();
            assert_eq!(removed, 0, "{table}");
        }
        let disabled = sql.run(&format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")).await;
        assert!(disabled.unwrap_err().contains("must be owner"), "{table}");
        let bypassed = sql.run(&format!("SET row_security = off; SELECT * FROM {table}")).await;
        assert!(bypassed.unwrap_err().contains("row-level security"), "{table}");
        sql.run("RESET row_security").await.unwrap();
    }
}

#[tokio::test]
async fn lets_nobody_write_in_the_name_of_another() {
    let world = World::create(Database::postgres().await).await;
    let mut sql = world.installation.connect().await;
    let hospital = sql.texts("SELECT id FROM tenant WHERE slug = 'hospital'").await.remove(0);
    let stranger = &world.targets.tenant;
    sql.run("SET ROLE caduceus_app").await.unwrap();
    let application = |tenant: &str| {
        format!("INSERT INTO application VALUES ('app_x', '{tenant}', 'X', '', 'u', 0, 0, 1)")
    };
    let entry = |tenant: &str, actor: &str| {
        format!(
            "INSERT INTO audit_event VALUES ('a', '{tenant}', 0, 'u', '{actor}', 'x', 't', 'success', 'r', '{{}}')"
        )
    };
    view_as(&mut sql, stranger).await;
    for refused in [
        application(&hospital),
        entry(&hospital, &hospital),
        format!("UPDATE tenant SET id = '{hospital}x'"),
        "INSERT INTO setting VALUES ('x', 'y', 0, 1)".to_owned(),
        "INSERT INTO event VALUES (1000000, 'x', 'y', 'z', 0)".to_owned(),
    ] {
        let error = sql.run(&refused).await.unwrap_err();
        assert!(error.contains("row-level security policy"), "{refused}: {error}");
    }
    assert_eq!(sql.run("UPDATE api SET name = 'Mine'").await, Ok(0));
    assert_eq!(sql.run("UPDATE application SET tenant_id = 'x'").await, Ok(0));
    // What it may do.
    assert_eq!(sql.run(&application(stranger)).await, Ok(1));
    assert_eq!(
        sql.run(&entry(&hospital, stranger)).await,
        Ok(1),
        "in the trail of whom it concerns"
    );
    let moved = format!("UPDATE application SET tenant_id = '{hospital}'");
    let error = sql.run(&moved).await.unwrap_err();
    assert!(error.contains("row-level security policy"), "{error}");
}
