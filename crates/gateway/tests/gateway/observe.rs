//! What operators see of calls: metrics, the access log, timings and traces; and what nobody does.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use gateway::{
    AccessLogDestination, AccessLogSettings, AttributeValue, GatewaySettings, Span, SpanKind,
    TracingSettings,
};
use model::{AccessField, ApiKey, DeploymentId, Route, TenantId};
use serde_json::Value;

use crate::support::{
    TestGateway, TestTarget, api_key, dead_address, deployment, operation, snapshot, wait_for,
};

fn logging_to(path: impl Into<PathBuf>) -> impl FnOnce(&mut GatewaySettings) {
    let destination = AccessLogDestination::File(path.into());
    let fields = AccessField::ALL.to_vec();
    move |settings| settings.access_log = Some(AccessLogSettings { destination, fields })
}

fn tracing(sample_ratio: f64) -> Option<TracingSettings> {
    Some(TracingSettings { sample_ratio, is_parent_based: true })
}

/// The lines of the access log, once there are so many.
fn lines(path: &Path, count: usize) -> Vec<Value> {
    wait_for(|| {
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (lines.len() >= count).then_some(lines)
    })
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    let (_, value) = span.attributes.iter().find(|(key, _)| *key == name)?;
    Some(match value {
        AttributeValue::Text(text) => text.clone(),
        AttributeValue::Number(number) => number.to_string(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The value of a series that has all these labels.
fn series(metrics: &str, name: &str, labels: &[&str]) -> Option<f64> {
    metrics.lines().find_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let rest = series.strip_prefix(name)?;
        let found = rest.starts_with('{') && labels.iter().all(|label| rest.contains(label));
        found.then(|| value.parse().unwrap())
    })
}

const COUNT: &str = "caduceus_gateway_request_duration_seconds_count";

#[test]
fn durations_are_measured_by_route_and_those_of_targets_apart() {
    let target = TestTarget::named("here");
    let mut entry = deployment(&[target.address]);
    let template = "/patients/{id}";
    entry.operations =
        vec![operation("GET", template, &[], &[]), operation("PUT", template, &[], &[])];
    let gateway = TestGateway::serving(entry);
    let mut client = gateway.client();
    for path in ["/lab/patients/1", "/lab/patients/2", "/lab/elsewhere"] {
        assert_eq!(client.get(path, 1).status, 200);
    }
    // Refused before it reaches a target.
    assert_eq!(client.get("/lab/patients/3", 4).status, 403);
    let metrics = wait_for(|| {
        let metrics = gateway.metrics();
        (series(&metrics, COUNT, &["route=\"other\""]) == Some(1.0)).then_some(metrics)
    });
    let route = format!("route=\"{template}\"");
    assert_eq!(series(&metrics, COUNT, &[&route, "api=\"Lab results\""]), Some(3.0), "{metrics}");
    let upstream = "caduceus_gateway_upstream_duration_seconds_count";
    assert_eq!(series(&metrics, upstream, &["tenant=\"north\""]), Some(3.0));
}

#[test]
fn routes_beyond_the_cap_share_one_series() {
    let target = TestTarget::named("here");
    let mut entry = deployment(&[target.address]);
    entry.operations =
        ["/a", "/b", "/c"].map(|template| operation("GET", template, &[], &[])).to_vec();
    let gateway = TestGateway::with(snapshot(1, vec![entry.clone()]), |settings| {
        settings.max_route_series = 1;
    });
    let mut client = gateway.client();
    for path in ["/lab/a", "/lab/b", "/lab/c", "/lab/c", "/lab/a"] {
        assert_eq!(client.get(path, 1).status, 200);
    }
    let metrics = gateway.metrics();
    assert_eq!(series(&metrics, COUNT, &["route=\"/a\""]), Some(2.0), "{metrics}");
    assert_eq!(series(&metrics, COUNT, &["route=\"other\""]), Some(3.0));
    assert!(!metrics.contains("route=\"/b\"") && !metrics.contains("route=\"/c\""));
    assert!(metrics.contains("caduceus_gateway_crowded_routes_total 2\n"), "{metrics}");

    // Room that is given back is taken by others.
    entry.route = Route::new(None, "/other", false).unwrap();
    entry.id = DeploymentId::from_bits(2);
    entry.api_name = "Other".to_owned();
    gateway.gateway().take(&snapshot(2, vec![entry]).update()).unwrap();
    wait_for(|| (!gateway.metrics().contains("Lab results")).then_some(()));
    assert_eq!(client.get("/other/b", 1).status, 200);
    assert_eq!(series(&gateway.metrics(), COUNT, &["route=\"/b\""]), Some(1.0));
}

#[test]
fn series_of_deployments_that_are_gone_vanish_and_others_stay() {
    let (kept, gone) = (TestTarget::named("kept"), TestTarget::named("gone"));
    let mut first = deployment(&[kept.address]);
    first.operations = vec![operation("GET", "/a", &[], &[])];
    let mut second = deployment(&[gone.address]);
    second.id = DeploymentId::from_bits(2);
    second.api_name = "Gone".to_owned();
    second.route = Route::new(None, "/gone", false).unwrap();
    let gateway = TestGateway::start(snapshot(1, vec![first.clone(), second]));
    let mut client = gateway.client();
    assert_eq!(client.get("/lab/a", 1).text(), "kept");
    assert_eq!(client.get("/gone/a", 1).text(), "gone");
    assert!(gateway.metrics().contains("api=\"Gone\""));

    // The target moves, which makes a new one of the same name beside the old.
    let moved = TestTarget::named("moved");
    first.upstream = deployment(&[moved.address]).upstream;
    gateway.gateway().take(&snapshot(2, vec![first]).update()).unwrap();
    assert_eq!(client.get("/lab/a", 1).text(), "moved");
    let metrics = wait_for(|| {
        let metrics = gateway.metrics();
        (!metrics.contains("api=\"Gone\"")).then_some(metrics)
    });
    assert_eq!(series(&metrics, COUNT, &["route=\"/a\""]), Some(2.0), "{metrics}");
    assert_eq!(series(&metrics, "caduceus_gateway_requests_total", &["route=\"/a\""]), Some(2.0));
    assert_eq!(client.get("/lab/a", 1).text(), "moved");
    assert_eq!(series(&gateway.metrics(), COUNT, &["route=\"/a\""]), Some(3.0));
    let healthy = "caduceus_gateway_target_healthy";
    assert_eq!(series(&gateway.metrics(), healthy, &["api=\"Lab results\""]), Some(1.0));
}

#[test]
fn the_access_log_says_what_is_allowed_and_nothing_else() {
    let target = TestTarget::named("here");
    let mut entry = deployment(&[target.address]);
    entry.operations = vec![operation("POST", "/patients/{id}", &[], &[])];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let gateway = TestGateway::with(snapshot(1, vec![entry]), logging_to(&path));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-00");
    let headers = [("X-API-Key", &*api_key(1)), ("traceparent", &parent)];
    let answer = gateway.client().call("POST", "/lab/patients/77?name=x", &headers, b"secret");
    let line = &lines(&path, 1)[0];
    let names: Vec<_> = line.as_object().unwrap().keys().cloned().collect();
    let mut allowed: Vec<_> = AccessField::ALL
        .iter()
        .map(|field| serde_json::to_value(field).unwrap().as_str().unwrap().to_owned())
        .collect();
    allowed.sort();
    assert_eq!(names, allowed);
    for (name, value) in [
        ("requestId", answer.header("x-request-id").unwrap()),
        ("traceId", trace),
        ("client", "127.0.0.1"),
        ("protocol", "HTTP/1.1"),
        ("method", "POST"),
        ("route", "/patients/{id}"),
        ("tenant", "north"),
        ("api", "Lab results"),
        ("version", "1.0.0"),
        ("fault", "none"),
    ] {
        assert_eq!(line[name], value, "{line}");
    }
    assert_eq!((&line["status"], &line["requestBytes"]), (&200.into(), &6.into()));
    assert_eq!(line["responseBytes"], 4);
    assert!(line["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert!(line["durationMs"].as_f64().unwrap() >= line["upstreamMs"].as_f64().unwrap());
    // A trace that begins here is the one that the target is told.
    assert_eq!(gateway.get("/lab/elsewhere").status, 200);
    let line = &lines(&path, 2)[1];
    assert_eq!(line["route"], Value::Null);
    let told = target.last().header("traceparent").unwrap().to_owned();
    assert!(told.contains(line["traceId"].as_str().unwrap()), "{told} {line}");
}

#[test]
fn the_access_log_follows_rotation_and_is_whole_at_the_end() {
    let target = TestTarget::named("here");
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
    let entry = deployment(&[target.address]);
    let gateway = TestGateway::with(snapshot(1, vec![entry]), |settings| {
        logging_to(&path)(settings);
        if let Some(log) = &mut settings.access_log {
            log.fields = vec![AccessField::Status, AccessField::Method];
        }
    });
    assert_eq!(gateway.get("/lab").status, 200);
    lines(&path, 1);
    fs::rename(&path, &old).unwrap();
    wait_for(|| path.exists().then_some(()));
    let mut client = gateway.client();
    (0..100).for_each(|_| assert_eq!(client.get("/lab", 1).status, 200));
    drop(gateway);
    assert_eq!(fs::read_to_string(&old).unwrap(), "{\"method\":\"GET\",\"status\":200}\n");
    assert_eq!(lines(&path, 100).len(), 100);
}

#[test]
fn a_full_disk_stops_no_call_and_lost_lines_are_counted() {
    let target = TestTarget::named("here");
    let entry = deployment(&[target.address]);
    let gateway = TestGateway::with(snapshot(1, vec![entry]), logging_to("/dev/full"));
    let mut client = gateway.client();
    let began = Instant::now();
    (0..200).for_each(|_| assert_eq!(client.get("/lab", 1).status, 200));
    assert!(began.elapsed() < Duration::from_secs(10));
    let lost = "caduceus_gateway_access_log_lines_lost_total 200\n";
    wait_for(|| gateway.metrics().contains(lost).then_some(()));
}

#[test]
fn only_the_tenant_that_owns_an_api_sees_how_long_its_calls_take() {
    let target = TestTarget::named("here");
    let mut entry = deployment(&[target.address]);
    // Consumer 3 is of tenant 3.
    entry.tenant = TenantId::from_bits(3);
    let gateway = TestGateway::serving(entry);
    let answer = gateway.client().get("/lab", 3);
    let timing = answer.header("server-timing").unwrap();
    let (gateway_part, upstream) = timing.split_once(", ").unwrap();
    for (part, name) in [(gateway_part, "gateway;dur="), (upstream, "upstream;dur=")] {
        assert!(part.strip_prefix(name).unwrap().parse::<f64>().unwrap() > 0.0, "{timing}");
    }
    assert_eq!(gateway.client().get("/lab", 1).header("server-timing"), None);
    assert_eq!(gateway.client().get("/lab", 4).header("server-timing"), None);
}

#[test]
fn a_traced_call_has_a_span_of_its_own_and_one_for_each_attempt() {
    let target = TestTarget::named("here");
    let mut entry = deployment(&[dead_address(), target.address]);
    entry.operations = vec![operation("GET", "/patients/{id}", &[], &[])];
    let gateway = TestGateway::with(snapshot(1, vec![entry]), |settings| {
        settings.tracing = tracing(1.0);
    });
    let mut spans = gateway.gateway().take_spans().unwrap();
    assert!(gateway.gateway().take_spans().is_none());
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-00");
    let headers =
        [("X-API-Key", &*api_key(1)), ("traceparent", &parent), ("tracestate", "vendor=1")];
    let answer = gateway.client().call("GET", "/lab/patients/77?x=y", &headers, b"");
    assert_eq!(answer.status, 200);
    let mut seen: Vec<Span> = Vec::new();
    let server = wait_for(|| {
        seen.extend(std::iter::from_fn(|| spans.try_receive()));
        seen.iter().find(|span| span.kind == SpanKind::Server).cloned()
    });
    let attempts: Vec<_> = seen.iter().filter(|span| span.kind == SpanKind::Client).collect();
    assert_eq!(server.name, "GET /patients/{id}");
    assert_eq!(server.parent_id.map(|id| hex(&id)).as_deref(), Some("00f067aa0ba902b7"));
    assert!(seen.iter().all(|span| hex(&span.trace_id) == trace));
    assert!(seen.iter().all(|span| span.start_nanos <= span.end_nanos));
    assert!(attempts.iter().all(|span| span.parent_id == Some(server.span_id)));
    // The target is told of the attempt that reached it.
    let told = target.last();
    let last = attempts.last().unwrap();
    let expected = format!("00-{trace}-{}-01", hex(&last.span_id));
    assert_eq!(told.header("traceparent"), Some(&*expected));
    assert_eq!(told.header("tracestate"), Some("vendor=1"));
    assert_eq!(attribute(last, "http.response.status_code").as_deref(), Some("200"));
    if let [failed, again] = &attempts[..] {
        assert_eq!(attribute(failed, "error.type").as_deref(), Some("connect"));
        assert!(failed.is_error && !again.is_error);
        assert_eq!(attribute(again, "http.request.resend_count").as_deref(), Some("1"));
    }
    assert_eq!(attribute(&server, "caduceus.api").as_deref(), Some("Lab results"));
}

#[test]
fn a_call_that_is_not_traced_passes_on_what_its_client_said() {
    let target = TestTarget::named("here");
    let entry = deployment(&[target.address]);
    let gateway = TestGateway::with(snapshot(1, vec![entry]), |settings| {
        settings.tracing = tracing(0.0);
    });
    let mut spans = gateway.gateway().take_spans().unwrap();
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    let key = api_key(1);
    let call = |parent: &str| {
        let headers = [("X-API-Key", &*key), ("traceparent", parent)];
        assert_eq!(gateway.client().call("GET", "/lab", &headers, b"").status, 200);
    };
    call(parent);
    assert_eq!(target.last().header("traceparent"), Some(parent));
    call("nonsense");
    assert!(target.last().header("traceparent").unwrap().ends_with("-00"));
    assert_eq!(spans.try_receive(), None);
    // Unless it wants to be traced.
    call(&parent.replace("-00f0", "-00f1").replace("b7-00", "b7-01"));
    assert_eq!(wait_for(|| spans.try_receive()).kind, SpanKind::Client);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(8))]

    #[test]
    fn secrets_of_calls_are_never_written_down(
        secrets in proptest::collection::vec("[a-z0-9]{20}", 6),
        key in proptest::array::uniform32(proptest::num::u8::ANY),
    ) {
        let [path, query, name, value, body, method] = &secrets[..] else { unreachable!() };
        let target = TestTarget::named("here");
        let mut entry = deployment(&[target.address]);
        entry.operations = vec![operation("POST", "/patients/{id}", &[], &[])];
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("access.log");
        let gateway = TestGateway::with(snapshot(1, vec![entry]), |settings| {
            logging_to(&file)(settings);
            settings.tracing = tracing(1.0);
        });
        let wrong = ApiKey::from_random(&key).expose().to_owned();
        let right = api_key(1);
        for key in [&right, &wrong] {
            for method in ["POST", &method.to_uppercase()] {
                let target = format!("/lab/patients/{path}?{query}={query}");
                let headers = [
                    ("X-API-Key", key.as_str()),
                    (name.as_str(), value.as_str()),
                    ("tracestate", value.as_str()),
                    ("x-request-id", value.as_str()),
                    ("user-agent", value.as_str()),
                ];
                gateway.client().call(method, &target, &headers, body.as_bytes());
                gateway.client().call(method, &format!("/{path}"), &headers, body.as_bytes());
            }
        }
        lines(&file, 8);
        let mut spans = gateway.gateway().take_spans().unwrap();
        let spans: Vec<_> = std::iter::from_fn(|| spans.try_receive()).collect();
        assert!(spans.len() >= 8, "{spans:?}");
        let all = format!(
            "{}{spans:?}{}",
            fs::read_to_string(&file).unwrap(),
            gateway.metrics()
        ).to_lowercase();
        for secret in secrets.iter().chain([&right, &wrong]) {
            assert!(!all.contains(&secret.to_lowercase()), "{secret}");
        }
    }
}
