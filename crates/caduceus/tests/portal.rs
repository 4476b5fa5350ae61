//! The portal in a browser: journeys of people in each role, and every page that they find (`tests/browser`).
//!
//! Screenshots are left in `portal-screenshots` of the target folder.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use serde_json::Value;

/// A server, which ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn people_reach_what_they_need_and_every_page_is_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_caduceus"));
    command.args(["demo", "--json", "--control-port", "0", "--gateway-port", "0", "--data-dir"]);
    let demo = command.arg(folder.path().join("demo")).stdout(Stdio::piped()).spawn().unwrap();
    let mut demo = Server(demo);
    let mut announced = String::new();
    BufReader::new(demo.0.stdout.take().unwrap()).read_line(&mut announced).unwrap();
    let demo_file = folder.path().join("demo.json");
    std::fs::write(&demo_file, announced).unwrap();

    let told = browse("journeys.mjs", &[demo_file.to_str().unwrap()]);

    let journeys = told["journeys"].as_array().unwrap();
    let failed: Vec<_> = journeys.iter().filter(|journey| !journey["problem"].is_null()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(journeys.len() >= 18, "all journeys were made");
    assert_eq!(told["faults"], Value::Array(Vec::new()), "violations, errors, foreign requests");
    let number = |name: &str| told.pointer(name).unwrap().as_u64().unwrap();
    assert!(number("/clicks") <= 8, "clicks to a call: {}", number("/clicks"));
    assert!(number("/pages") >= 30, "pages that were looked at: {}", number("/pages"));
    assert!(number("/heaviest/bytes") <= 100 * 1024, "{}", told["heaviest"]);
}

#[test]
fn an_empty_installation_is_set_up_in_the_browser() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("caduceus.yaml");
    let listen =
        "control: {listen: '127.0.0.1:0'}\ngateway: {listen: '127.0.0.1:0'}\nlog: {level: error}\n";
    std::fs::write(&config, listen).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_caduceus"));
    command
        .args(["serve", "--config"])
        .arg(config)
        .arg("--data-dir")
        .arg(folder.path().join("data"));
    let mut server = Server(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let after = |line: &str, words: &str| {
        let (_, rest) = line.split_once(words).unwrap();
        rest.split([' ', '/', ',']).next().unwrap().to_owned()
    };
    let announced = lines.find(|line| line.contains("one-time token")).unwrap();
    let token = after(&announced, "one-time token ");
    let origin = format!("http://{}", after(&lines.next().unwrap(), "in a browser at http://"));
    let told = browse("set-up.mjs", &[&origin, &token]);
    assert_eq!(told["problem"], Value::Null);
    assert_eq!(told["faults"], Value::Array(Vec::new()), "violations, errors, foreign requests");
}

/// Runs a script of `tests/browser`; gives what its last line says.
fn browse(script: &str, arguments: &[&str]) -> Value {
    let browser = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    let missing =
        "run npm ci in crates/caduceus/tests/browser, and apt-get install chromium nodejs";
    assert!(browser.join("node_modules/playwright-core").exists(), "{missing}");
    assert!(Path::new("/usr/bin/chromium").exists(), "{missing}");
    let screenshots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../portal-screenshots");
    let output = Command::new("node")
        .arg(browser.join(script))
        .args(arguments)
        .arg(screenshots)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(printed.lines().last().unwrap()).unwrap()
}
