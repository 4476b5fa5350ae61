//! New snapshots under load, restarts, and sudden death.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use gateway::{Gateway, PublishError};
use model::{Clock, DeploymentId, Route, Snapshot};

use crate::support::{
    Client, KEY, TestGateway, TestTarget, deployment, keys, read_usage, settings, snapshot,
    wait_for,
};

#[test]
fn no_call_fails_while_snapshots_are_published() {
    let target = TestTarget::named("reached");
    let gateway = TestGateway::serving(deployment(&[target.address]));
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (stop, calls, address) = (Arc::clone(&stop), Arc::clone(&calls), gateway.address);
            thread::spawn(move || {
                let mut client = Client::connect(address);
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(client.get("/lab", 1).text(), "reached");
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for number in 2..102 {
        let seen = calls.load(Ordering::Relaxed);
        gateway.gateway().publish(snapshot(number, vec![deployment(&[target.address])])).unwrap();
        wait_for(|| (calls.load(Ordering::Relaxed) >= seen + 30).then_some(()));
    }
    stop.store(true, Ordering::Relaxed);
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    let calls = calls.load(Ordering::Relaxed);
    assert!(calls >= 3_000, "{calls}");
    assert_eq!(gateway.gateway().status().config_number, Some(101));
    assert_eq!(gateway.usage(calls).len(), calls);
}

#[test]
fn older_snapshots_are_ignored_and_contradictory_ones_refused() {
    let target = TestTarget::named("reached");
    let present = snapshot(5, vec![deployment(&[target.address])]);
    let compiled_at = present.compiled_at;
    let gateway = TestGateway::start(present);
    for number in [5, 4] {
        gateway
            .gateway()
            .publish(Snapshot { compiled_at, ..snapshot(number, Vec::new()) })
            .unwrap();
    }
    assert_eq!(gateway.get("/lab").status, 200);
    let mut other = deployment(&[target.address]);
    other.id = DeploymentId::from_bits(2);
    let twice = snapshot(6, vec![deployment(&[target.address]), other]);
    let refused = gateway.gateway().publish(twice);
    assert!(matches!(refused, Err(PublishError::SameRoute(..))));
    assert_eq!(gateway.gateway().status().config_number, Some(5));
    let mut moved = deployment(&[target.address]);
    moved.route = Route::new(None, "/moved", false).unwrap();
    gateway.gateway().publish(snapshot(7, vec![moved])).unwrap();
    gateway.get("/lab").assert_problem(404, "route_not_found");
    assert_eq!(gateway.get("/moved").status, 200);
}

#[test]
fn a_gateway_starts_from_its_last_snapshot() {
    let target = TestTarget::named("reached");
    let state = tempfile::tempdir().unwrap();
    let start = || Gateway::start(settings(&state), &keys(), Clock::system()).unwrap();
    let first = start();
    first.publish(snapshot(3, vec![deployment(&[target.address])])).unwrap();
    first.shut_down(Duration::from_secs(1));
    let bytes = std::fs::read(state.path().join("snapshot")).unwrap();
    assert!(!bytes.windows(3).any(|window| window == b"lab"));

    let second = start();
    assert_eq!(second.status().config_number, Some(3));
    assert_eq!(Client::connect(second.local_addr()).get("/lab", 1).text(), "reached");
    second.shut_down(Duration::from_secs(1));
    assert_eq!(read_usage(state.path()).len(), 1);
}

#[test]
fn a_lower_number_that_was_compiled_later_is_served() {
    let target = TestTarget::named("reached");
    let gateway = TestGateway::start(snapshot(900, Vec::new()));
    gateway.gateway().publish(snapshot(2, vec![deployment(&[target.address])])).unwrap();
    assert_eq!(gateway.gateway().status().config_number, Some(2));
    assert_eq!(gateway.get("/lab").text(), "reached");
}

#[test]
fn a_gateway_starts_without_a_snapshot_that_cannot_be_read() {
    let target = TestTarget::named("reached");
    let other_form = journal::seal(&journal::Key::new(KEY), b"{\"number\":\"one\"}").unwrap();
    let other_key = journal::seal(&journal::Key::new([8; 32]), b"{}").unwrap();
    let entries = vec![deployment(&[target.address]), deployment(&[target.address])];
    let contradictory = serde_json::to_vec(&snapshot(1, entries)).unwrap();
    let contradictory = journal::seal(&journal::Key::new(KEY), &contradictory).unwrap();
    for bytes in [b"damaged".to_vec(), other_form, other_key, contradictory] {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("snapshot");
        std::fs::write(&path, &bytes).unwrap();
        let gateway = Gateway::start(settings(&state), &keys(), Clock::system()).unwrap();
        assert_eq!(gateway.status().config_number, None);
        assert!(!path.exists());
        assert_eq!(std::fs::read(state.path().join("snapshot.unreadable")).unwrap(), bytes);
        let mut client = Client::connect(gateway.local_addr());
        client.get("/lab", 1).assert_problem(503, "no_configuration");
        gateway.publish(snapshot(1, vec![deployment(&[target.address])])).unwrap();
        assert_eq!(client.get("/lab", 1).text(), "reached");
        gateway.shut_down(Duration::from_secs(1));
    }
}

#[test]
fn an_address_that_is_taken_is_an_error() {
    let target = TestTarget::named("reached");
    let gateway = TestGateway::serving(deployment(&[target.address]));
    let state = tempfile::tempdir().unwrap();
    let taken = gateway::GatewaySettings { listen: gateway.address, ..settings(&state) };
    let refused = Gateway::start(taken, &keys(), Clock::system());
    assert!(matches!(refused, Err(gateway::StartError::Listen { .. })), "{refused:?}");
}

#[test]
fn calls_in_flight_are_finished_at_the_end() {
    let target = TestTarget::answering(|_seen| {
        thread::sleep(Duration::from_millis(300));
        http::Response::new("late but whole".into())
    });
    let state = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(settings(&state), &keys(), Clock::system()).unwrap();
    gateway.publish(snapshot(1, vec![deployment(&[target.address])])).unwrap();
    let address = gateway.local_addr();
    let mut idle = Client::connect(address);
    let calling = thread::spawn(move || Client::connect(address).get("/lab", 1));
    wait_for(|| {
        let mut metrics = String::new();
        gateway.encode_metrics(&mut metrics).unwrap();
        metrics
            .lines()
            .any(|line| {
                line.starts_with("caduceus_gateway_requests_in_flight{") && line.ends_with(" 1")
            })
            .then_some(())
    });
    gateway.shut_down(Duration::from_secs(5));
    assert_eq!(calling.join().unwrap().text(), "late but whole");
    assert!(idle.is_closed());
    assert!(std::net::TcpStream::connect(address).is_err());
}

struct Standalone {
    child: Child,
    address: std::net::SocketAddr,
}

impl Standalone {
    fn start(snapshot: &model::Snapshot, state: &tempfile::TempDir) -> Self {
        let file = state.path().join("snapshot.json");
        std::fs::write(&file, serde_json::to_vec(snapshot).unwrap()).unwrap();
        let program = program();
        assert!(program.exists(), "cargo build -p caduceus-gateway --example standalone makes it");
        let mut child = Command::new(program)
            .args([file.as_os_str(), state.path().as_os_str()])
            .args(["127.0.0.1:0", "2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().unwrap() }
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example is built together with the tests, beside their folder.
fn program() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples").join("standalone")
}

#[test]
fn every_answered_call_is_in_the_journal_after_sudden_death() {
    let target = TestTarget::named("reached");
    let state = tempfile::tempdir().unwrap();
    let entry = deployment(&[target.address]);
    let mut gateway = Standalone::start(&snapshot(1, vec![entry]), &state);
    let answered = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (answered, address) = (Arc::clone(&answered), gateway.address);
            thread::spawn(move || {
                let mut client = Client::connect(address);
                loop {
                    let key = crate::support::api_key(1);
                    client
                        .send(format!("GET /lab HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n"));
                    match client.answer() {
                        Some(answer) if answer.whole => {
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        _ => break,
                    }
                }
            })
        })
        .collect();
    wait_for(|| (answered.load(Ordering::Relaxed) > 2_000).then_some(()));
    gateway.child.kill().unwrap();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    let answered = answered.load(Ordering::Relaxed);
    let recorded = read_usage(state.path()).len();
    // At most the calls whose answers were on their way may be recorded beyond those that arrived.
    assert!((answered..=answered + 8).contains(&recorded), "{recorded} for {answered} answers");
}
