//! Limits and quotas, and what the headers say about them.

use std::{sync::mpsc, thread};

use http::Response;
use model::{Clock, Limit, LimitAmount, LimitScope, Slug};

use crate::support::{TestGateway, TestTarget, deployment, quota, rate, snapshot};

#[test]
fn a_rate_is_announced_counted_and_enforced() {
    let target = TestTarget::named("reached");
    let mut snapshot = snapshot(1, vec![deployment(&[target.address])]);
    snapshot.agreements[0].limits = vec![rate("basic", LimitScope::Application, 3, 3_600)];
    let gateway = TestGateway::start(snapshot);
    let mut client = gateway.client();
    for left in [2, 1, 0] {
        let answer = client.get("/lab", 1);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("ratelimit-policy"), Some("\"basic\";q=3;w=3600"));
        let standing = answer.header("ratelimit").unwrap();
        assert!(standing.starts_with(&format!("\"basic\";r={left};t=")), "{standing}");
        assert_eq!(answer.header("x-ratelimit-limit"), Some("3"));
        assert_eq!(answer.header("x-ratelimit-remaining"), Some(&*left.to_string()));
        assert!(answer.header("x-ratelimit-reset").unwrap().parse::<u32>().unwrap() <= 3_600);
    }
    for _ in 0..2 {
        let refused = client.get("/lab", 1);
        refused.assert_problem(429, "rate_limited");
        let retry: u32 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1_199..=1_200).contains(&retry), "{retry}");
        assert_eq!(refused.header("ratelimit"), Some(&*format!("\"basic\";r=0;t={retry}")));
    }
    assert_eq!(client.get("/lab", 2).header("ratelimit"), None);
    assert_eq!(target.seen().len(), 4);
}

#[test]
fn limits_count_for_whom_they_say() {
    let target = TestTarget::named("reached");
    let statuses = |scope| {
        let mut entry = deployment(&[target.address]);
        entry.limits = vec![rate("shared", scope, 2, 3_600)];
        let gateway = TestGateway::serving(entry);
        let mut client = gateway.client();
        [1, 2, 1, 3].map(|consumer| client.get("/lab", consumer).status)
    };
    assert_eq!(statuses(LimitScope::Route), [200, 200, 429, 429]);
    assert_eq!(statuses(LimitScope::Tenant), [200, 200, 429, 200]);
    assert_eq!(statuses(LimitScope::Application), [200, 200, 200, 200]);
    assert_eq!(statuses(LimitScope::Credential), [200, 200, 200, 200]);
}

#[test]
fn a_refused_call_costs_nothing_elsewhere() {
    let target = TestTarget::named("reached");
    let mut entry = deployment(&[target.address]);
    entry.limits = vec![rate("wide", LimitScope::Route, 10, 36_000)];
    let mut snapshot = snapshot(1, vec![entry]);
    snapshot.agreements[0].limits = vec![rate("narrow", LimitScope::Application, 1, 36_000)];
    let gateway = TestGateway::start(snapshot);
    let mut client = gateway.client();
    assert_eq!(client.get("/lab", 1).status, 200);
    for _ in 0..20 {
        client.get("/lab", 1).assert_problem(429, "rate_limited");
    }
    let other = client.get("/lab", 2);
    assert!(other.header("ratelimit").unwrap().starts_with("\"wide\";r=8;"), "{other:?}");
}

#[test]
fn a_quota_begins_where_others_have_counted() {
    let target = TestTarget::named("reached");
    let mut snapshot = snapshot(1, vec![deployment(&[target.address])]);
    snapshot.agreements[0].quota = quota(5);
    snapshot.agreements[0].quota_used = 3;
    let gateway = TestGateway::start(snapshot.clone());
    let mut client = gateway.client();
    let first = client.get("/lab", 1);
    assert_eq!(first.header("ratelimit-policy"), Some("\"quota\";q=5;w=2592000"));
    assert!(first.header("ratelimit").unwrap().starts_with("\"quota\";r=1;t="));
    // A newer snapshot that has not heard of the last call does not give it back.
    snapshot.number = 2;
    gateway.gateway().take(&snapshot.update()).unwrap();
    assert_eq!(client.get("/lab", 1).header("x-ratelimit-remaining"), Some("0"));
    let refused = client.get("/lab", 1);
    refused.assert_problem(429, "quota_exceeded");
    let now = Clock::system().now();
    let (_, end) = model::QuotaPeriod::Month.bounds(now);
    let left = end.as_second() - now.as_second();
    let retry: i64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((left - 2..=left + 2).contains(&retry), "{retry} {left}");
    snapshot.number = 3;
    snapshot.agreements[0].quota = quota(10);
    gateway.gateway().take(&snapshot.update()).unwrap();
    assert_eq!(client.get("/lab", 1).header("x-ratelimit-remaining"), Some("4"));
}

#[test]
fn counters_survive_a_new_snapshot_unless_the_limit_changes() {
    let target = TestTarget::named("reached");
    let with_limit = |number, requests| {
        let mut snapshot = snapshot(number, vec![deployment(&[target.address])]);
        snapshot.agreements[0].limits =
            vec![rate("basic", LimitScope::Application, requests, 3_600)];
        snapshot
    };
    let gateway = TestGateway::start(with_limit(1, 2));
    let mut client = gateway.client();
    assert_eq!([client.get("/lab", 1).status, client.get("/lab", 1).status], [200, 200]);
    gateway.gateway().take(&with_limit(2, 2).update()).unwrap();
    assert_eq!(client.get("/lab", 1).status, 429);
    gateway.gateway().take(&with_limit(3, 4).update()).unwrap();
    assert_eq!(client.get("/lab", 1).header("x-ratelimit-remaining"), Some("3"));
}

#[test]
fn calls_at_the_same_time_are_limited() {
    let (release, held) = mpsc::channel::<()>();
    let held = std::sync::Mutex::new(held);
    let (arrived, arrivals) = mpsc::channel();
    let target = TestTarget::answering(move |seen| {
        if seen.uri == "/lab/slow" {
            arrived.send(()).unwrap();
            held.lock().unwrap().recv().unwrap();
        }
        Response::new("done".into())
    });
    let mut entry = deployment(&[target.address]);
    let amount = LimitAmount::Concurrent { calls: 1 };
    let name = Slug::parse("one-at-a-time").unwrap();
    entry.limits = vec![Limit { name, per: LimitScope::Application, amount }];
    let gateway = TestGateway::serving(entry);
    let mut slow = gateway.client();
    let slow = thread::spawn(move || slow.get("/lab/slow", 1).status);
    arrivals.recv().unwrap();
    let mut client = gateway.client();
    let refused = client.get("/lab", 1);
    refused.assert_problem(429, "too_many_concurrent");
    assert_eq!(refused.header("retry-after"), Some("1"));
    release.send(()).unwrap();
    assert_eq!(slow.join().unwrap(), 200);
    assert_eq!(client.get("/lab", 1).status, 200);
}
