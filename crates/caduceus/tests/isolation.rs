//! `caduceus tenant prove`: that it proves something, on each kind of database, and notices leaks.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::process::Command;

use serde_json::Value;
use testkit::{Database, Postgres, Sql};

/// Leaks that can be planted; the last one is outside of what a database can know.
const PLANTED: [u8; 5] = [1, 2, 3, 4, 5];
const AT_GATEWAY: u8 = 5;

/// Runs the proof; gives the exit code, the report and what was said beside it.
fn prove(database: &Database, more: &[&str]) -> (i32, Value, String) {
    prove_at(database.url().as_deref(), more)
}

fn prove_at(url: Option<&str>, more: &[&str]) -> (i32, Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caduceus"));
    command.args(["tenant", "prove", "--output", "json"]).args(more);
    if let Some(url) = url {
        command.args(["--database-url", url]);
    }
    let done = command.output().unwrap();
    let report = serde_json::from_slice(&done.stdout).unwrap_or_default();
    (done.status.code().unwrap(), report, String::from_utf8_lossy(&done.stderr).into_owned())
}

fn leaks(report: &Value) -> Vec<&Value> {
    report["leaks"].as_array().unwrap().iter().collect()
}

testkit::on_both_databases! {
    async fn nobody_learns_anything_of_another_tenant(database: Database) {
        let (code, report, said) = prove(&database, &[]);
        assert_eq!((code, said.as_str()), (0, ""), "{report}");
        assert!(leaks(&report).is_empty(), "{report:#}");
        for role in ["tenant-admin", "provider", "reviewer", "consumer", "auditor", "nobody"] {
            assert!(report["attempts"][role].as_u64() > Some(150), "{role}: {report}");
        }
        assert!(report["operations"].as_u64() > Some(90), "{report}");
    }
}

#[tokio::test]
async fn each_planted_leak_is_noticed() {
    for number in PLANTED {
        let planted = ["--plant", &number.to_string()];
        let (code, report, _) = prove(&Database::sqlite(), &planted);
        assert_eq!(code, 1, "{number}: {report}");
        assert!(!leaks(&report).is_empty(), "{number}");
    }
}

#[tokio::test]
async fn row_level_security_stops_each_planted_leak_that_is_in_a_statement() {
    for number in PLANTED {
        let database = Database::postgres().await;
        let (code, report, _) = prove(&database, &["--plant", &number.to_string()]);
        assert_eq!(code, i32::from(number == AT_GATEWAY), "{number}: {report}");
    }
}

#[tokio::test]
async fn a_database_in_use_is_left_alone() {
    let database = Database::postgres().await;
    assert_eq!(prove(&database, &[]).0, 0);
    let (code, _, said) = prove(&database, &[]);
    assert_eq!(code, 2);
    assert!(said.contains("name an empty one with --database-url"), "{said}");
}

#[tokio::test]
async fn whoever_owns_the_database_needs_no_power_over_the_server() {
    let server = Postgres::start().await;
    let database = Database::on(&server.url()).await;
    let mut sql = Sql::connect(&database).await;
    sql.run("CREATE ROLE hospital LOGIN; ALTER SCHEMA public OWNER TO hospital").await.unwrap();
    let url = database.url().unwrap().replace("postgres@", "hospital@");
    let (code, _, said) = prove_at(Some(&url), &[]);
    assert_eq!(code, 2);
    assert!(said.contains("run CREATE ROLE caduceus_app; CREATE ROLE"), "{said}");

    let roles = "CREATE ROLE caduceus_app; CREATE ROLE caduceus_installation;
                 GRANT caduceus_app, caduceus_installation TO hospital";
    sql.run(roles).await.unwrap();
    let (code, report, said) = prove_at(Some(&url), &[]);
    assert_eq!(code, 0, "{report} {said}");

    // A dump as the owner has everything in it, as docs/backup.md says.
    let mut dump = Command::new("pg_dump");
    dump.args(["--enable-row-security", "--data-only", "--table=tenant", &url]);
    let dumped = String::from_utf8(dump.output().unwrap().stdout).unwrap();
    assert!(dumped.contains("Tenant quillwort"), "{dumped}");
}
