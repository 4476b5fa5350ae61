//! `caduceus tenant prove`: that it proves something, on each kind of database, and notices leaks.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::process::Command;

use serde_json::Value;
use testkit::Database;

/// Leaks that can be planted; the last one is outside of what a database can know.
const PLANTED: [u8; 5] = [1, 2, 3, 4, 5];
const AT_GATEWAY: u8 = 5;

/// Runs the proof; gives the exit code, the report and what was said beside it.
fn prove(database: &Database, more: &[&str]) -> (i32, Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_caduceus"));
    command.args(["tenant", "prove", "--output", "json"]).args(more);
    if let Some(url) = database.url() {
        command.args(["--database-url", &url]);
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
