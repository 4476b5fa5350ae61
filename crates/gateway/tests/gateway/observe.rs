//! What operators see of calls: metrics, the access log, timings and traces; and what nobody does.

use model::{DeploymentId, Route};

use crate::support::{TestGateway, TestTarget, deployment, operation, snapshot, wait_for};

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
    gateway.gateway().publish(snapshot(2, vec![entry])).unwrap();
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
    gateway.gateway().publish(snapshot(2, vec![first])).unwrap();
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
