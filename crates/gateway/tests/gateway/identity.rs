//! Who may call what, and what others learn.

use std::time::Duration;

use jiff::ToSpan;
use model::{ApiLifecycle, Audience, Clock, TenantId};

use crate::support::{Answer, TestGateway, TestTarget, api_key, deployment, operation, snapshot};

#[test]
fn a_good_key_is_needed() {
    let target = TestTarget::named("reached");
    let gateway = TestGateway::serving(deployment(&[target.address]));
    let mut client = gateway.client();
    let missing = client.call("GET", "/lab", &[], b"");
    missing.assert_problem(401, "credential_required");
    assert_eq!(missing.header("www-authenticate"), Some("Bearer realm=\"caduceus\""));
    assert_eq!(missing.json()["instance"], "/lab");
    let unknown = api_key(9);
    let mistyped = api_key(1).replace("cad_0", "cad_1").to_lowercase();
    for key in [unknown.as_str(), &mistyped, "x", ""] {
        client
            .call("GET", "/lab?secret=1", &[("X-API-Key", key)], b"")
            .assert_problem(401, "invalid_credential");
    }
    let query = format!("/lab?api_key={}&X-API-Key={}", api_key(1), api_key(1));
    let refused = client.call("GET", &query, &[], b"");
    refused.assert_problem(401, "credential_required");
    assert!(!refused.text().contains("cad_"));
    assert!(target.seen().is_empty());
}

#[test]
fn several_credentials_are_ambiguous() {
    let target = TestTarget::named("reached");
    let gateway = TestGateway::serving(deployment(&[target.address]));
    let (one, two) = (api_key(1), api_key(2));
    let (bearer_one, bearer_two) = (format!("Bearer {one}"), format!("Bearer {two}"));
    for headers in [
        [("X-API-Key", &one), ("X-API-Key", &two)],
        [("X-API-Key", &one), ("X-API-Key", &one)],
        [("Authorization", &bearer_one), ("Authorization", &bearer_one)],
        [("X-API-Key", &one), ("Authorization", &bearer_two)],
        [("X-API-Key", &one), ("Authorization", &"Basic eDp5".to_owned())],
    ] {
        let headers = headers.map(|(name, value)| (name, value.as_str()));
        let answer = gateway.client().call("GET", "/lab", &headers, b"");
        answer.assert_problem(400, "ambiguous_credentials");
    }
    let same = [("X-API-Key", one.as_str()), ("Authorization", &bearer_one)];
    assert_eq!(gateway.client().call("GET", "/lab", &same, b"").status, 200);
}

#[test]
fn an_expired_key_is_a_bad_key() {
    let target = TestTarget::named("reached");
    let mut snapshot = snapshot(1, vec![deployment(&[target.address])]);
    let now = Clock::system().now();
    snapshot.credentials[0].expires_at = Some(now);
    snapshot.credentials[1].expires_at = Some(now + 1.hour());
    let gateway = TestGateway::start(snapshot);
    gateway.client().get("/lab", 1).assert_problem(401, "invalid_credential");
    assert_eq!(gateway.client().get("/lab", 2).status, 200);
}

#[test]
fn guessing_is_slowed_down_and_good_keys_still_pass() {
    let target = TestTarget::named("reached");
    let gateway = TestGateway::with(snapshot(1, vec![deployment(&[target.address])]), |settings| {
        settings.failed_credentials_per_minute = 3;
    });
    let mut client = gateway.client();
    for _ in 0..3 {
        client.get("/lab", 9).assert_problem(401, "invalid_credential");
    }
    let slowed = client.get("/lab", 9);
    slowed.assert_problem(429, "too_many_failures");
    assert_eq!(slowed.header("retry-after"), Some("20"));
    assert_eq!(client.get("/lab", 1).status, 200);
}

#[test]
fn an_agreement_is_needed() {
    let target = TestTarget::named("reached");
    let mut snapshot = snapshot(1, vec![deployment(&[target.address])]);
    snapshot.agreements[1].expires_at = Some(Clock::system().now());
    let gateway = TestGateway::start(snapshot);
    let mut client = gateway.client();
    client.get("/lab", 4).assert_problem(403, "subscription_required");
    client.get("/lab", 2).assert_problem(403, "subscription_expired");
    assert_eq!(client.get("/lab", 1).status, 200);
    let usage = gateway.usage(3);
    let mut seen: Vec<_> =
        usage.iter().map(|record| (record.status, record.subscription.is_some())).collect();
    seen.sort_unstable();
    assert_eq!(seen, [(200, true), (403, false), (403, false)]);
}

/// Everything of an answer but what is made anew for each call.
fn without_call(answer: &Answer) -> (u16, Vec<(String, String)>, serde_json::Value) {
    let passing = ["x-request-id", "date"];
    let mut headers = answer.headers.clone();
    headers.retain(|(name, _)| !passing.contains(&name.as_str()));
    let mut problem = answer.json();
    let fields = problem.as_object_mut().unwrap();
    fields.remove("requestId");
    fields.remove("timestamp");
    fields.remove("instance");
    (answer.status, headers, problem)
}

#[test]
fn what_a_caller_may_not_see_is_absent_to_the_last_byte() {
    let target = TestTarget::named("hidden");
    let mut entry = deployment(&[target.address]);
    entry.audience = Audience::Tenants(vec![TenantId::from_bits(2)]);
    entry.lifecycle = ApiLifecycle::Deprecated {
        since: Clock::system().now(),
        sunset: None,
        successor: Some("https://example.org/v2".to_owned()),
    };
    entry.limits = vec![crate::support::rate("all", model::LimitScope::Route, 100, 60)];
    let gateway = TestGateway::serving(entry);
    let mut client = gateway.client();
    let two_keys = [("X-API-Key", &*api_key(1)), ("X-API-Key", &*api_key(2))];
    let upgrade = [("X-API-Key", &*api_key(3)), ("Connection", "upgrade"), ("Upgrade", "x")];
    let absent = without_call(&client.get("/bal", 3));
    assert_eq!(absent.0, 404);
    for answer in [
        client.get("/lab", 3),
        client.call("GET", "/lab", &[], b""),
        client.get("/lab", 9),
        client.call("GET", "/lab", &[("Authorization", "Basic eDp5")], b""),
        client.call("GET", "/lab", &two_keys, b""),
        client.call("GET", "/lab", &upgrade, b""),
        client.call("POST", "/lab", &[("X-API-Key", &api_key(3))], &[0; 200]),
    ] {
        assert_eq!(without_call(&answer), absent);
    }
    assert_eq!(client.get("/lab", 1).status, 200);
    assert_eq!(gateway.usage(1).len(), 1);
}

#[test]
fn a_deprecated_version_says_so_on_every_answer() {
    let target = TestTarget::named("old");
    let mut entry = deployment(&[target.address]);
    let lifecycle = ApiLifecycle::Deprecated {
        since: "2026-01-02T03:04:05Z".parse().unwrap(),
        sunset: Some("2027-01-02T03:04:05Z".parse().unwrap()),
        successor: Some("https://example.org/v2".to_owned()),
    };
    entry.lifecycle = lifecycle;
    let gateway = TestGateway::serving(entry);
    let mut client = gateway.client();
    for answer in [client.get("/lab", 1), client.get("/lab", 4)] {
        assert_eq!(answer.header("deprecation"), Some("@1767323045"));
        assert_eq!(answer.header("sunset"), Some("Sat, 02 Jan 2027 03:04:05 GMT"));
        let link = "<https://example.org/v2>; rel=\"successor-version\"";
        assert_eq!(answer.header("link"), Some(link));
    }
}

#[test]
fn a_retired_version_is_gone() {
    let target = TestTarget::named("gone");
    let mut entry = deployment(&[target.address]);
    entry.lifecycle =
        ApiLifecycle::Retired { successor: Some("https://example.org/v2".to_owned()) };
    let gateway = TestGateway::serving(entry);
    let answer = gateway.get("/lab");
    answer.assert_problem(410, "version_retired");
    assert_eq!(answer.header("link"), Some("<https://example.org/v2>; rel=\"successor-version\""));
    assert!(target.seen().is_empty());
}

#[test]
fn bodies_are_limited_announced_or_not() {
    let target = TestTarget::named("reached");
    let mut entry = deployment(&[target.address]);
    entry.max_body_bytes = 1_000;
    let gateway = TestGateway::serving(entry);
    let key = api_key(1);
    let headers = [("X-API-Key", key.as_str())];
    assert_eq!(gateway.client().call("POST", "/lab", &headers, &[b'x'; 1_000]).status, 200);
    let head = format!("POST /lab HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n");
    let mut announced = gateway.client();
    announced.send(format!("{head}Content-Length: 1001\r\n\r\n"));
    announced.answer().expect("an answer before the body").assert_problem(413, "body_too_large");
    let mut chunked = gateway.client();
    chunked.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
    for _ in 0..5 {
        chunked.send(format!("fa\r\n{}\r\n", "x".repeat(250)));
    }
    chunked.answer().expect("an answer").assert_problem(413, "body_too_large");
    let sizes: Vec<_> =
        target.seen().iter().map(|seen| seen.body.len()).filter(|size| *size > 1_000).collect();
    assert!(sizes.is_empty());
}

#[test]
fn media_types_are_those_of_the_operation() {
    let target = TestTarget::named("reached");
    let mut entry = deployment(&[target.address]);
    entry.operations = vec![
        operation("POST", "/slots", &["application/json"], &["application/json"]),
        operation("GET", "/slots/{id}", &[], &["application/json"]),
    ];
    let gateway = TestGateway::serving(entry);
    let mut client = gateway.client();
    let key = api_key(1);
    let mut call = |method, path, kind, accept, body: &[u8]| {
        let headers = [("X-API-Key", key.as_str()), ("Content-Type", kind), ("Accept", accept)];
        client.call(method, path, &headers, body)
    };
    let json = "application/json; charset=utf-8";
    assert_eq!(call("POST", "/lab/slots", json, "*/*", b"{}").status, 200);
    call("POST", "/lab/slots", "text/plain", "*/*", b"{}")
        .assert_problem(415, "unsupported_media_type");
    call("GET", "/lab/slots/7", "text/plain", "text/html", b"")
        .assert_problem(406, "not_acceptable");
    assert_eq!(call("GET", "/lab/slots/7", "", "text/html, application/*", b"").status, 200);
    assert_eq!(call("PUT", "/lab/other", "text/plain", "text/html", b"x").status, 200);
    let operations: Vec<_> = gateway.usage(5).iter().map(|record| record.operation).collect();
    assert_eq!(operations.iter().flatten().count(), 4);
    assert!(
        gateway.metrics().contains("route=\"/slots/{id}\",method=\"GET\",status_class=\"4xx\"} 1")
    );
    assert!(gateway.metrics().contains("route=\"other\",method=\"PUT\",status_class=\"2xx\"} 1"));
}

#[test]
fn without_a_snapshot_nothing_is_served() {
    let state = tempfile::tempdir().unwrap();
    let gateway = gateway::Gateway::start(
        crate::support::settings(&state),
        &crate::support::keys(),
        Clock::system(),
    )
    .unwrap();
    assert_eq!(gateway.status().config_number, None);
    let answer = crate::support::Client::connect(gateway.local_addr()).get("/lab", 1);
    answer.assert_problem(503, "no_configuration");
    gateway.shut_down(Duration::from_millis(100));
}
