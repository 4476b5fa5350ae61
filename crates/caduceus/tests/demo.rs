//! The demo, as somebody new meets it: start, paste, stop, start again.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};

use serde_json::Value;

struct Demo {
    process: Child,
    out: BufReader<ChildStdout>,
}

impl Demo {
    fn start(data: &Path, format: Option<&str>) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_caduceus"));
        command.arg("demo").args(format).arg("--data-dir").arg(data);
        command.args(["--control-port", "0", "--gateway-port", "0"]);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let out = BufReader::new(process.stdout.take().unwrap());
        Self { process, out }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    fn interrupt(&self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    }

    /// What Ctrl-C does; gives the exit code and what was printed since.
    fn stop(mut self) -> (ExitStatus, String) {
        self.interrupt();
        let status = self.process.wait().unwrap();
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).unwrap();
        (status, rest)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Pastes a line into a shell.
fn paste(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn texts<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|item| item[field].as_str().unwrap()).collect()
}

#[test]
fn the_printed_calls_work_and_the_next_start_continues() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("demo");
    let mut first = Demo::start(&data, Some("--json"));
    let before: Value = serde_json::from_str(&first.line()).unwrap();
    for field in ["controlUrl", "portalUrl", "gatewayUrl"] {
        assert!(before[field].as_str().unwrap().starts_with("http://127.0.0.1:"), "{field}");
    }
    let roles = texts(&before["accounts"], "role");
    for role in ["platform-admin", "tenant-admin", "provider", "reviewer", "consumer", "auditor"] {
        assert!(roles.contains(&role), "{role}");
    }
    let samples = texts(&before["samples"], "curl");
    assert_eq!(samples.len(), 3);
    for sample in &samples {
        assert!(paste(sample).starts_with("HTTP/1.1 200"), "{sample}");
    }
    let account = &before["accounts"][1];
    let token = paste(&format!(
        "curl -s {}/api/v1/auth/token -d grant_type=password -d username={} -d password={}",
        before["controlUrl"].as_str().unwrap(),
        account["email"].as_str().unwrap(),
        account["password"].as_str().unwrap(),
    ));
    assert!(token.contains("\"token_type\":\"Bearer\""), "{token}");
    assert!(first.stop().0.success());

    let mut second = Demo::start(&data, Some("--json"));
    let after: Value = serde_json::from_str(&second.line()).unwrap();
    assert_eq!(after["accounts"], before["accounts"]);
    assert_eq!(after["applications"], before["applications"]);
    for sample in texts(&after["samples"], "curl") {
        let answer = paste(sample);
        // The third system fails every third call on purpose; the samples of one start do not get there.
        assert!(answer.starts_with("HTTP/1.1 200"), "{sample}: {answer}");
    }
    assert!(second.stop().0.success());
}

#[test]
fn the_text_form_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(&folder.path().join("demo"), None);
    let mut text = String::new();
    while !text.contains("Ctrl-C") {
        let line = demo.line();
        assert!(!line.is_empty(), "ended after: {text}");
        text.push_str(&line);
    }
    let calls: Vec<_> =
        text.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(calls.len(), 3);
    for call in calls {
        assert!(paste(call).starts_with("HTTP/1.1 200"), "{call}");
    }
    assert!(demo.stop().0.success());
}
