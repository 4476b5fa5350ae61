//! Rules compiled from small documents, and compared with what another validator says of the same schemas.

mod bodies;
mod oracle;
mod parameters;

use super::{BodyCheck, Effort, Findings, Malformed, RequestRules};
use crate::Limits;

/// Rules of a document with one operation, `POST /things`, whose JSON body has the schema.
fn body_rules(version: &str, schema: &str) -> RequestRules {
    document_rules(version, schema, "{}")
}

fn document_rules(version: &str, schema: &str, components: &str) -> RequestRules {
    let document = format!(
        r#"{{"openapi":"{version}","info":{{"title":"t","version":"1"}},"paths":{{"/things":{{"post":{{
            "requestBody":{{"required":true,"content":{{"application/json":{{"schema":{schema}}}}}}},
            "responses":{{"204":{{"description":"d"}}}}}}}}}},"components":{{"schemas":{components}}}}}"#
    );
    let rules = RequestRules::compile(document.as_bytes(), &Limits::default()).unwrap();
    // Written and read again, they are what the gateway works with.
    serde_json::from_str(&serde_json::to_string(&rules).unwrap()).unwrap()
}

fn check(rules: &RequestRules, body: &[u8]) -> BodyCheck {
    let operation = rules.operation("POST", "/things").unwrap();
    rules.check_body(operation, "application/json", body, Effort::Much)
}

#[track_caller]
fn found(rules: &RequestRules, body: &str) -> Vec<String> {
    match check(rules, body.as_bytes()) {
        BodyCheck::Done(findings) => written(&findings),
        other => panic!("{other:?}"),
    }
}

fn written(findings: &Findings) -> Vec<String> {
    findings
        .as_slice()
        .iter()
        .map(|finding| format!("{} {}", finding.field, finding.message))
        .collect()
}

#[track_caller]
fn malformed(body: &[u8]) -> Malformed {
    match check(&body_rules("3.1.0", "{}"), body) {
        BodyCheck::Malformed(malformed) => malformed,
        other => panic!("{other:?}"),
    }
}
