//! What pools do to stay of use: breaker, budget, bounds, draining, slow start, new addresses.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use http::{Response, StatusCode};
use model::{Balance, CheckKind, HashOn, HealthCheck, Seconds, TargetId};
use testkit::{Fault, FaultProxy};

use crate::support::{
    TestGateway, TestTarget, api_key, dead_address, deployment, raw_target, read_head, snapshot,
    wait_for,
};

/// A target that answers 503 while told to.
fn moody() -> (TestTarget, Arc<AtomicBool>) {
    let ill = Arc::new(AtomicBool::new(false));
    let target = TestTarget::answering({
        let ill = Arc::clone(&ill);
        move |_seen| {
            let mut response = Response::new("fine".into());
            if ill.load(Ordering::SeqCst) {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            }
            response
        }
    });
    (target, ill)
}

#[test]
fn a_breaker_opens_probes_and_closes() {
    let (target, ill) = moody();
    let mut entry = deployment(&[target.address]);
    let breaker = &mut entry.upstream.resilience.breaker;
    (breaker.minimum_calls, breaker.probes) = (10, 2);
    breaker.open_seconds = Seconds::from_millis(300);
    let gateway = TestGateway::serving(entry);
    let mut client = gateway.client();
    ill.store(true, Ordering::SeqCst);
    for _ in 0..10 {
        let answer = client.get("/lab", 1);
        assert_eq!((answer.status, answer.text()), (503, "fine"), "answers of the target pass");
    }
    let refused = client.get("/lab", 1);
    refused.assert_problem(503, "circuit_open");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(target.seen().len(), 10);
    let metrics = gateway.metrics();
    assert!(metrics.contains(
        "upstream_breaker_open{tenant=\"north\",api=\"Lab results\",version=\"1.0.0\"} 1"
    ));
    assert!(metrics.contains("reason=\"breaker\"} 1"), "{metrics}");

    // A probe goes through and fails, and it is open again.
    wait_for(|| (target.seen().len() > 10 || client.get("/lab", 1).text() == "fine").then_some(()));
    client.get("/lab", 1).assert_problem(503, "circuit_open");

    ill.store(false, Ordering::SeqCst);
    wait_for(|| (client.get("/lab", 1).status == 200).then_some(()));
    for _ in 0..5 {
        assert_eq!(client.get("/lab", 1).status, 200);
    }
    assert!(gateway.metrics().contains("version=\"1.0.0\"} 0"));
}

#[test]
fn a_breaker_that_is_turned_off_never_opens() {
    let mut entry = deployment(&[dead_address()]);
    entry.upstream.resilience.breaker.failure_percent = 0;
    let gateway = TestGateway::serving(entry);
    for _ in 0..60 {
        gateway.get("/lab").assert_problem(502, "upstream_unreachable");
    }
}

#[test]
fn targets_that_answer_unavailable_are_ejected() {
    let (sick, ill) = moody();
    ill.store(true, Ordering::SeqCst);
    let alive = TestTarget::named("alive");
    let gateway = TestGateway::serving(deployment(&[sick.address, alive.address]));
    let mut client = gateway.client();
    let failed = (0..60).filter(|_| client.get("/lab", 1).status == 503).count();
    assert_eq!(failed, 5);
    let metrics = gateway.metrics();
    assert!(metrics.contains(
        "target_ejections_total{tenant=\"north\",api=\"Lab results\",version=\"1.0.0\"} 1"
    ));
}

#[test]
fn gateway_errors_are_a_reason_to_ask_another_target_when_that_is_wished() {
    let (sick, ill) = moody();
    ill.store(true, Ordering::SeqCst);
    let alive = TestTarget::named("alive");
    let mut entry = deployment(&[sick.address, alive.address]);
    entry.upstream.resilience.retry_gateway_errors = true;
    let gateway = TestGateway::serving(entry);
    let mut client = gateway.client();
    for _ in 0..20 {
        assert_eq!(client.get("/lab", 1).text(), "alive");
    }
    assert!(gateway.metrics().contains("fault=\"status\"} 5"), "{}", gateway.metrics());
}

#[test]
fn retries_end_with_their_budget() {
    let mut entry = deployment(&[dead_address()]);
    entry.upstream.resilience.breaker.failure_percent = 0;
    let budget = &mut entry.upstream.resilience.retry_budget;
    (budget.percent, budget.min_per_second) = (0, 1);
    let gateway = TestGateway::serving(entry);
    for _ in 0..40 {
        gateway.get("/lab").assert_problem(502, "upstream_unreachable");
    }
    let count = |name: &str| {
        let metrics = gateway.metrics();
        let line = metrics.lines().find(|line| line.contains(name) && !line.starts_with('#'));
        line.unwrap().rsplit(' ').next().unwrap().parse::<u32>().unwrap()
    };
    let retries = count("upstream_retries_total");
    assert!((10..=14).contains(&retries), "{retries}");
    assert_eq!(count("upstream_retry_budget_exhausted_total"), 40 - retries);
}

#[test]
fn calls_beyond_what_a_pool_bears_are_refused_at_once() {
    let release = Arc::new(AtomicBool::new(false));
    let target = {
        let release = Arc::clone(&release);
        raw_target(move |mut stream| {
            while read_head(&mut stream) {
                wait_for(|| release.load(Ordering::SeqCst).then_some(()));
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                std::io::Write::write_all(&mut stream, answer).unwrap();
            }
        })
    };
    let mut entry = deployment(&[target]);
    entry.upstream.resilience.max_concurrent = Some(3);
    let gateway = TestGateway::serving(entry);
    thread::scope(|scope| {
        let calls: Vec<_> = (0..3).map(|_| scope.spawn(|| gateway.get("/lab"))).collect();
        let refused = wait_for(|| {
            let answer = gateway.client();
            let busy = gateway.metrics().contains("version=\"1.0.0\"} 3");
            drop(answer);
            busy.then(|| gateway.get("/lab"))
        });
        refused.assert_problem(503, "upstream_overloaded");
        assert_eq!(refused.header("retry-after"), Some("1"));
        release.store(true, Ordering::SeqCst);
        calls.into_iter().for_each(|call| assert_eq!(call.join().unwrap().status, 200));
    });
    assert_eq!(gateway.get("/lab").status, 200);
    assert!(gateway.metrics().contains("reason=\"concurrency\"}"));
}

#[test]
fn there_are_no_more_connections_to_a_target_than_there_may_be() {
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let target = {
        let (open, most) = (Arc::clone(&open), Arc::clone(&most));
        raw_target(move |mut stream| {
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            while read_head(&mut stream) {
                thread::sleep(Duration::from_millis(10));
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                std::io::Write::write_all(&mut stream, answer).unwrap();
            }
            open.fetch_sub(1, Ordering::SeqCst);
        })
    };
    let mut entry = deployment(&[target]);
    entry.upstream.resilience.max_connections = Some(2);
    entry.upstream.retries = 0;
    let gateway = TestGateway::serving(entry);
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let answer = gateway.get("/lab");
                    if answer.status != 200 {
                        answer.assert_problem(503, "upstream_overloaded");
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert!((1..80).contains(&refused.load(Ordering::SeqCst)));
    // The target may hear late of those that end, but without the bound there would be eight.
    assert!(most.load(Ordering::SeqCst) <= 4, "those that end may overlap those that begin");
    assert!(gateway.metrics().contains("reason=\"connections\"}"));
    // Idle connections of one worker do not starve another for long.
    wait_for(|| (gateway.get("/lab").status == 200).then_some(()));
}

#[test]
fn a_target_that_is_taken_out_finishes_its_calls_and_its_connections_are_closed() {
    let (leaving, staying) = (TestTarget::named("leaving"), TestTarget::named("staying"));
    let proxy = FaultProxy::before(leaving.address);
    let mut entry = deployment(&[proxy.address, staying.address]);
    entry.upstream.targets[1].weight = 0;
    let gateway = TestGateway::serving(entry.clone());
    let mut client = gateway.client();
    assert_eq!(client.get("/lab", 1).text(), "leaving");
    proxy.set(Fault::Delay(Duration::from_millis(300)));
    thread::scope(|scope| {
        let in_flight = scope.spawn(|| gateway.get("/lab"));
        wait_for(|| (leaving.seen().len() == 2).then_some(()));
        entry.upstream.targets[0].weight = 0;
        entry.upstream.targets[1].weight = 1;
        gateway.gateway().take(&snapshot(2, vec![entry]).update()).unwrap();
        for _ in 0..10 {
            assert_eq!(client.get("/lab", 1).text(), "staying");
        }
        assert_eq!(in_flight.join().unwrap().text(), "leaving");
    });
    wait_for(|| (proxy.open() == 0).then_some(()));
}

#[test]
fn checks_by_connection_need_no_answer() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = thread::spawn(move || {
        let _held: Vec<TcpStream> = listener.incoming().flatten().take(5).collect();
    });
    let mut entry = deployment(&[address]);
    entry.upstream.timeout_ms = 200;
    entry.upstream.health_check = Some(HealthCheck {
        kind: CheckKind::Tcp,
        path: String::new(),
        interval_ms: 20,
        timeout_ms: 500,
        unhealthy_after: 1,
        healthy_after: 1,
    });
    let gateway = TestGateway::serving(entry);
    assert!(gateway.metrics().contains("target_healthy{tenant=\"north\""));
    // It listens no longer after five checks.
    accepting.join().unwrap();
    let refused = wait_for(|| Some(gateway.get("/lab")).filter(|answer| answer.status == 503));
    refused.assert_problem(503, "no_healthy_target");
}

#[test]
fn callers_stay_with_their_target() {
    let targets = [TestTarget::named("a"), TestTarget::named("b"), TestTarget::named("c")];
    let addresses: Vec<SocketAddr> = targets.iter().map(|target| target.address).collect();
    for hash_on in [HashOn::Application, HashOn::Address, HashOn::Header("X-Ward".to_owned())] {
        let mut entry = deployment(&addresses);
        entry.upstream.balance = Balance::ConsistentHash;
        entry.upstream.hash_on = Some(hash_on.clone());
        let gateway = TestGateway::serving(entry);
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for ward in 0..30 {
            let mut client = gateway.client();
            let (key, ward) = (api_key(1), ward.to_string());
            let fields = [("X-API-Key", key.as_str()), ("X-Ward", ward.as_str())];
            let first = client.call("GET", "/lab", &fields, b"").text().to_owned();
            for _ in 0..3 {
                assert_eq!(client.call("GET", "/lab", &fields, b"").text(), first);
            }
            *seen.entry(first).or_default() += 1;
        }
        let by_header = matches!(hash_on, HashOn::Header(_));
        assert_eq!(seen.len(), if by_header { 3 } else { 1 }, "{hash_on:?} {seen:?}");
    }
}

#[test]
fn a_try_that_takes_too_long_is_made_elsewhere() {
    let slow = TestTarget::named("slow");
    let proxy = FaultProxy::before(slow.address);
    proxy.set(Fault::Delay(Duration::from_millis(500)));
    let quick = TestTarget::named("quick");
    let mut entry = deployment(&[proxy.address, quick.address]);
    entry.upstream.resilience.per_try_timeout_seconds = Some(Seconds::from_millis(100));
    let gateway = TestGateway::serving(entry);
    let mut client = gateway.client();
    for _ in 0..10 {
        assert_eq!(client.get("/lab", 1).text(), "quick");
    }
    assert!(gateway.metrics().contains("fault=\"timeout\"} 5"), "{}", gateway.metrics());
}

#[test]
fn an_adaptive_bound_lets_ordinary_calls_through() {
    let target = TestTarget::named("ok");
    let mut entry = deployment(&[target.address]);
    entry.upstream.resilience.adaptive_concurrency = true;
    entry.upstream.targets[0].id = TargetId::from_bits(9);
    let gateway = TestGateway::serving(entry);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = gateway.client();
                (0..200).for_each(|_| assert_eq!(client.get("/lab", 1).status, 200));
            });
        }
    });
}
