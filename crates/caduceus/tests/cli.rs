//! The command line, apart from the servers.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn caduceus(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_caduceus"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

const VALID: &str = "openapi: 3.1.0\ninfo: {title: Beds, version: '1'}\npaths: {}\n";
const INVALID: &str = "openapi: 3.1.0\ninfo:\n  titel: Beds\n  version: '1'\npaths: {}\n";

#[test]
fn validate_says_what_is_wrong_and_where() {
    let output = caduceus(&["validate", "-o", "json", "-"], INVALID);
    assert_eq!(output.status.code(), Some(1));
    let row: Value = serde_json::from_str(text(&output.stdout)).unwrap();
    assert_eq!(row["valid"], false);
    let issues = row["issues"].as_array().unwrap();
    let unknown = issues.iter().find(|issue| issue["rule"] == "unknown-field").unwrap();
    assert_eq!((&unknown["line"], &unknown["column"]), (&3.into(), &3.into()));
    assert!(unknown["message"].as_str().unwrap().contains("title"), "{unknown}");

    let table = caduceus(&["validate", "-"], INVALID);
    assert_eq!(table.status.code(), Some(1));
    assert!(text(&table.stderr).contains("titel: Beds"), "{}", text(&table.stderr));
}

#[test]
fn validate_tells_fine_from_unreadable() {
    assert_eq!(caduceus(&["validate", "-"], VALID).status.code(), Some(0));
    assert_eq!(caduceus(&["validate", "/nowhere/openapi.yaml"], "").status.code(), Some(2));
    assert_eq!(caduceus(&["validate"], "").status.code(), Some(2));
}

#[test]
fn keys_check_finds_typing_mistakes_without_a_server() {
    let key = model::ApiKey::from_random(&[9; 32]);
    let good = caduceus(&["keys", "check"], key.expose());
    assert!(good.status.success());
    assert!(!text(&good.stdout).contains(key.expose()), "the key is not repeated");
    let mut typo = key.expose().to_owned();
    typo.replace_range(10..11, if &typo[10..11] == "x" { "y" } else { "x" });
    let bad = caduceus(&["keys", "check"], &typo);
    assert_eq!(bad.status.code(), Some(1));
    assert!(text(&bad.stderr).contains("checksum"), "{}", text(&bad.stderr));
}

#[test]
fn signing_keys_are_listed_and_rotated_offline() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let data = data.to_str().unwrap();
    let list = || {
        let output = caduceus(&["keys", "list", "--data-dir", data], "");
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).lines().count()
    };
    assert_eq!(list(), 1);
    assert!(caduceus(&["keys", "rotate", "--data-dir", data], "").status.success());
    assert_eq!(list(), 2);
}

#[test]
fn doctor_names_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let fine = caduceus(&["doctor", "--data-dir", data.to_str().unwrap()], "");
    assert!(text(&fine.stdout).contains("the configuration is well-formed"));

    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("master.key"), "too short").unwrap();
    let wrong = caduceus(&["doctor", "--data-dir", data.to_str().unwrap()], "");
    assert_eq!(wrong.status.code(), Some(1));
    let said = text(&wrong.stdout);
    assert!(said.contains("WRONG  the master key"), "{said}");
    assert!(said.contains("can be read by others (mode 644): chmod 600"), "{said}");
    let json = caduceus(&["doctor", "-o", "json", "--data-dir", data.to_str().unwrap()], "");
    let report: Value = serde_json::from_str(text(&json.stdout)).unwrap();
    assert_eq!((&report["fine"], &report["findings"][0]["verdict"]), (&false.into(), &"ok".into()));
    let yaml = caduceus(&["doctor", "-o", "yaml", "--data-dir", data.to_str().unwrap()], "");
    assert!(text(&yaml.stdout).starts_with("fine: false\nfindings:\n"), "{}", text(&yaml.stdout));
}

#[test]
fn results_come_as_yaml_and_shells_learn_the_commands() {
    let output = caduceus(&["validate", "-o", "yaml", "-"], VALID);
    assert!(text(&output.stdout).starts_with("---\nfile: \"-\"\n"), "{}", text(&output.stdout));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = caduceus(&["completions", shell], "");
        assert!(text(&output.stdout).contains("dump"), "{shell}");
    }
}

#[test]
fn an_unknown_setting_stops_the_start_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("caduceus.yaml");
    std::fs::write(&path, "gateway:\n  lisen: 0.0.0.0:80\n").unwrap();
    let output = caduceus(&["serve", "--config", path.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(error.contains("lisen") && error.contains("line 2"), "{error}");
}
