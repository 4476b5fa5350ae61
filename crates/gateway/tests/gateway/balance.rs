//! Spreading calls over targets, and what happens when some are not well.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{Response, StatusCode};
use model::HealthCheck;

use crate::support::{TestGateway, TestTarget, dead_address, deployment, snapshot, wait_for};

#[test]
fn calls_are_spread_by_weight() {
    let targets = [TestTarget::named("a"), TestTarget::named("b")];
    let mut entry = deployment(&[targets[0].address, targets[1].address]);
    entry.upstream.targets[0].weight = 200;
    entry.upstream.targets[1].weight = 100;
    let gateway = TestGateway::serving(entry);
    let mut counts = BTreeMap::new();
    let mut client = gateway.client();
    for _ in 0..30 {
        *counts.entry(client.get("/lab", 1).text().to_owned()).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([("a".to_owned(), 20), ("b".to_owned(), 10)]));
}

#[test]
fn a_dead_target_costs_no_call() {
    let alive = TestTarget::named("alive");
    let gateway = TestGateway::serving(deployment(&[dead_address(), alive.address]));
    let mut client = gateway.client();
    for _ in 0..20 {
        assert_eq!(client.get("/lab", 1).text(), "alive");
    }
    let body = b"not idempotent, and yet nothing was sent";
    let key = crate::support::api_key(1);
    for _ in 0..4 {
        assert_eq!(client.call("POST", "/lab", &[("X-API-Key", &key)], body).text(), "alive");
    }
}

#[test]
fn without_retries_the_first_failure_counts() {
    let mut entry = deployment(&[dead_address()]);
    entry.upstream.retries = 0;
    let gateway = TestGateway::serving(entry);
    gateway.get("/lab").assert_problem(502, "upstream_unreachable");
    let usage = gateway.usage(1);
    assert_eq!((usage[0].status, usage[0].fault), (502, model::Fault::Upstream));
    assert!(gateway.metrics().contains("fault=\"connect\"} 1"), "{}", gateway.metrics());
}

#[test]
fn failing_targets_are_spared() {
    let alive = TestTarget::named("alive");
    let gateway = TestGateway::serving(deployment(&[dead_address(), alive.address]));
    let mut client = gateway.client();
    for _ in 0..40 {
        assert_eq!(client.get("/lab", 1).status, 200);
    }
    // Every other call tried the dead one until it was spared.
    assert!(gateway.metrics().contains("fault=\"connect\"} 5"), "{}", gateway.metrics());
}

#[test]
fn health_checks_take_targets_out_and_back_in() {
    let well = Arc::new(AtomicBool::new(true));
    let target = TestTarget::answering({
        let well = Arc::clone(&well);
        move |seen| {
            let mut response = Response::new("fine".into());
            if seen.uri == "/health" && !well.load(Ordering::Relaxed) {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        }
    });
    let mut entry = deployment(&[target.address]);
    entry.upstream.health_check = Some(HealthCheck {
        kind: model::CheckKind::Http,
        path: "/health".to_owned(),
        interval_ms: 20,
        timeout_ms: 1_000,
        unhealthy_after: 2,
        healthy_after: 2,
    });
    let gateway = TestGateway::serving(entry);
    assert_eq!(gateway.get("/lab").status, 200);
    well.store(false, Ordering::Relaxed);
    let refused = wait_for(|| Some(gateway.get("/lab")).filter(|answer| answer.status != 200));
    refused.assert_problem(503, "no_healthy_target");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(gateway.metrics().lines().any(|line| {
        line.starts_with("caduceus_gateway_target_healthy{") && line.ends_with(" 0")
    }));
    well.store(true, Ordering::Relaxed);
    wait_for(|| (gateway.get("/lab").status == 200).then_some(()));
}

#[test]
fn addresses_that_are_not_permitted_are_never_connected_to() {
    let target = TestTarget::named("internal");
    let gateway = TestGateway::with(snapshot(1, vec![deployment(&[target.address])]), |settings| {
        settings.address_policy = model::AddressPolicy::default();
    });
    gateway.get("/lab").assert_problem(502, "upstream_unreachable");
    assert!(target.seen().is_empty());
}

#[test]
fn names_are_resolved() {
    let target = TestTarget::named("local");
    let mut entry = deployment(&[target.address]);
    let url = format!("http://localhost:{}/base", target.address.port());
    entry.upstream.targets[0].url = model::UpstreamUrl::parse(&url).unwrap();
    let gateway = TestGateway::with(snapshot(1, vec![entry]), |settings| {
        let networks = ["127.0.0.0/8", "::1/128"].map(|text| model::Network::parse(text).unwrap());
        settings.address_policy = model::AddressPolicy::allowing(networks.to_vec());
    });
    assert_eq!(gateway.get("/lab?x=1").text(), "local");
    assert_eq!(target.last().uri, "/base/lab?x=1");
}
