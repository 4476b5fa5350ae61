//! New snapshots under load, restarts, and sudden death.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use gateway::{Gateway, PublishError};
use model::{Clock, DeploymentId, RosterPage, Route, Update};

use crate::standalone::Standalone;
use crate::support::{
    Client, KEY, Snapshot, TestGateway, TestTarget, deployment, keys, read_usage, settings,
    snapshot, wait_for,
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
        gateway
            .gateway()
            .take(&snapshot(number, vec![deployment(&[target.address])]).update())
            .unwrap();
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
            .take(&Update {
                roster: None,
                ..Snapshot { compiled_at, ..snapshot(number, Vec::new()) }.update()
            })
            .unwrap();
    }
    assert_eq!(gateway.get("/lab").status, 200);
    let mut other = deployment(&[target.address]);
    other.id = DeploymentId::from_bits(2);
    let twice = snapshot(6, vec![deployment(&[target.address]), other]);
    let refused = gateway.gateway().take(&Update { reached: None, ..twice.update() });
    assert!(matches!(refused, Err(PublishError::SameRoute(..))));
    assert_eq!(gateway.gateway().status().structure_number, Some(5));
    let mut moved = deployment(&[target.address]);
    moved.route = Route::new(None, "/moved", false).unwrap();
    gateway.gateway().take(&snapshot(7, vec![moved]).update()).unwrap();
    gateway.get("/lab").assert_problem(404, "route_not_found");
    assert_eq!(gateway.get("/moved").status, 200);
}

#[test]
fn a_gateway_starts_from_its_last_snapshot() {
    let target = TestTarget::named("reached");
    let state = tempfile::tempdir().unwrap();
    let start = || Gateway::start(settings(&state), &keys(), Clock::system()).unwrap();
    let first = start();
    first.take(&snapshot(3, vec![deployment(&[target.address])]).update()).unwrap();
    first.shut_down(Duration::from_secs(1));
    let bytes = std::fs::read(state.path().join("structure")).unwrap();
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
    gateway.gateway().take(&snapshot(2, vec![deployment(&[target.address])]).update()).unwrap();
    assert_eq!(gateway.gateway().status().config_number, Some(2));
    assert_eq!(gateway.get("/lab").text(), "reached");
}

#[test]
fn a_gateway_starts_without_a_state_that_cannot_be_read() {
    let target = TestTarget::named("reached");
    let whole = snapshot(1, vec![deployment(&[target.address])]).update();
    let structure = serde_json::to_vec(whole.structure.as_ref().unwrap().as_ref()).unwrap();
    let other_form = journal::seal(&journal::Key::new(KEY), b"{\"number\":\"one\"}").unwrap();
    let other_key = journal::seal(&journal::Key::new([8; 32]), &structure).unwrap();
    let entries = vec![deployment(&[target.address]), deployment(&[target.address])];
    let contradictory = snapshot(1, entries).update().structure.unwrap();
    let contradictory = serde_json::to_vec(contradictory.as_ref()).unwrap();
    let contradictory = journal::seal(&journal::Key::new(KEY), &contradictory).unwrap();
    for bytes in [b"damaged".to_vec(), other_form, other_key, contradictory] {
        let state = kept(&whole);
        let path = state.path().join("structure");
        std::fs::write(&path, &bytes).unwrap();
        let gateway = Gateway::start(settings(&state), &keys(), Clock::system()).unwrap();
        assert_eq!(gateway.status().config_number, None);
        assert!(!path.exists());
        assert_eq!(std::fs::read(state.path().join("structure.unreadable")).unwrap(), bytes);
        let mut client = Client::connect(gateway.local_addr());
        client.get("/lab", 1).assert_problem(503, "no_configuration");
        gateway.take(&whole).unwrap();
        assert_eq!(client.get("/lab", 1).text(), "reached");
        gateway.shut_down(Duration::from_secs(1));
    }
}

/// A folder in which a gateway has kept a state.
fn kept(update: &Update) -> tempfile::TempDir {
    let state = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(settings(&state), &keys(), Clock::system()).unwrap();
    gateway.take(update).unwrap();
    gateway.shut_down(Duration::from_secs(1));
    state
}

/// The files of the roster's log, oldest first.
fn log_files(state: &tempfile::TempDir) -> Vec<PathBuf> {
    let mut logs = Vec::new();
    for generation in std::fs::read_dir(state.path().join("roster")).unwrap() {
        for file in std::fs::read_dir(generation.unwrap().path()).unwrap() {
            logs.push(file.unwrap().path());
        }
    }
    logs.sort();
    logs
}

#[test]
fn a_roster_that_cannot_be_read_is_not_served() {
    let target = TestTarget::named("reached");
    let whole = snapshot(1, vec![deployment(&[target.address])]).update();
    for damage in [&|bytes: &mut Vec<u8>| bytes[60] ^= 1, &|bytes: &mut Vec<u8>| bytes.truncate(90)]
        as [&dyn Fn(&mut Vec<u8>); 2]
    {
        let state = kept(&whole);
        let file = log_files(&state).remove(0);
        let mut bytes = std::fs::read(&file).unwrap();
        damage(&mut bytes);
        std::fs::write(&file, bytes).unwrap();
        let gateway = Gateway::start(settings(&state), &keys(), Clock::system()).unwrap();
        assert_eq!((gateway.status().config_number, gateway.standing().epoch), (None, 0));
        let mut client = Client::connect(gateway.local_addr());
        client.get("/lab", 1).assert_problem(503, "no_configuration");
        gateway.take(&whole).unwrap();
        assert_eq!(client.get("/lab", 1).text(), "reached");
        gateway.shut_down(Duration::from_secs(1));
    }
}

/// The page that takes the roster from one number to the next, in which consumer 1 is alternately gone and back.
fn turn(snapshot: &Snapshot, number: u64) -> Update {
    let credential = model::RosterEntry::Credential(snapshot.credentials[0]);
    let page = RosterPage { epoch: 1, after: number - 1, to: number, ..RosterPage::default() };
    let page = if number.is_multiple_of(2) {
        RosterPage { removed: vec![credential], ..page }
    } else {
        RosterPage { present: vec![credential], ..page }
    };
    Update { roster: Some(page), reached: Some(number), ..Update::default() }
}

#[test]
fn the_roster_follows_changes_and_any_cut_of_its_log_is_an_earlier_state() {
    let target = TestTarget::named("reached");
    let first = snapshot(1, vec![deployment(&[target.address])]);
    let state = kept(&first.update());
    let gateway = Gateway::start(settings(&state), &keys(), Clock::system()).unwrap();
    let mut client = Client::connect(gateway.local_addr());
    for number in 2..=20 {
        gateway.take(&turn(&first, number)).unwrap();
        let expected = if number.is_multiple_of(2) { 401 } else { 200 };
        assert_eq!(client.get("/lab", 1).status, expected, "{number}");
    }
    gateway.shut_down(Duration::from_secs(1));
    let last = log_files(&state).pop().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    let mut numbers = std::collections::BTreeSet::new();
    for end in (0..=bytes.len()).rev().step_by(7) {
        std::fs::write(&last, &bytes[..end]).unwrap();
        let gateway = Gateway::start(settings(&state), &keys(), Clock::system()).unwrap();
        let number = gateway.standing().roster;
        let expected = if number.is_multiple_of(2) { 401 } else { 200 };
        assert_eq!(Client::connect(gateway.local_addr()).get("/lab", 1).status, expected);
        numbers.insert(number);
        gateway.shut_down(Duration::from_secs(1));
        for made in log_files(&state).into_iter().filter(|file| *file > last) {
            std::fs::remove_file(made).unwrap();
        }
    }
    assert!(numbers.contains(&20) && numbers.contains(&1), "{numbers:?}");
}

#[test]
fn a_roster_that_differs_is_begun_anew() {
    let target = TestTarget::named("reached");
    let first = snapshot(1, vec![deployment(&[target.address])]);
    let gateway = TestGateway::start(first.clone());
    let wrong = RosterPage {
        epoch: 1,
        after: 1,
        to: 1,
        digest: Some(model::RosterDigest(5)),
        ..RosterPage::default()
    };
    gateway.gateway().take(&Update { roster: Some(wrong), ..Update::default() }).unwrap();
    assert_eq!(gateway.gateway().standing().epoch, 0, "it asks to begin anew");
    assert_eq!(gateway.get("/lab").status, 200, "and serves meanwhile");
    let mut right = first;
    right.credentials.remove(0);
    gateway.gateway().take(&right.update()).unwrap();
    assert_eq!(gateway.gateway().standing().epoch, 1);
    assert_eq!(gateway.get("/lab").status, 401);
    assert!(gateway.metrics().contains("caduceus_gateway_roster_divergences_total 1"));
}

/// How many changes are made under load.
fn changes() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "how long tests take is said by the environment")]
    match std::env::var("CADUCEUS_TEST_CHANGES") {
        Ok(text) => text.parse().unwrap(),
        Err(_) => 1_000,
    }
}

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn changes_under_load_fail_no_call_and_do_not_add_up() {
    let target = TestTarget::named("reached");
    let first = snapshot(1, vec![deployment(&[target.address])]);
    let gateway = TestGateway::start(first.clone());
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let (stop, calls, address) = (Arc::clone(&stop), Arc::clone(&calls), gateway.address);
            thread::spawn(move || {
                let mut client = Client::connect(address);
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(client.get("/lab", 2).text(), "reached");
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let count = changes();
    let mut settled = 0;
    for change in 2..=count {
        // Ten changes of the roster to one of the structure, in which another route comes and goes.
        gateway.gateway().take(&turn(&first, change)).unwrap();
        if change.is_multiple_of(10) {
            let mut other = deployment(&[target.address]);
            other.id = DeploymentId::from_bits(u128::from(change));
            other.route = Route::new(None, &format!("/other-{change}"), false).unwrap();
            let next = snapshot(change, vec![deployment(&[target.address]), other]);
            let structure = next.update().structure;
            gateway.gateway().take(&Update { structure, ..Update::default() }).unwrap();
        }
        if change == count / 2 {
            settled = resident_bytes();
        }
    }
    let grown = resident_bytes().saturating_sub(settled);
    stop.store(true, Ordering::Relaxed);
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    assert!(calls.load(Ordering::Relaxed) > 0);
    assert_eq!(gateway.gateway().standing().roster, count);
    assert!(grown < 16 << 20, "{grown} bytes more");
}

#[test]
fn a_state_without_news_is_refused_when_it_is_too_old() {
    let target = TestTarget::named("reached");
    let whole = snapshot(1, vec![deployment(&[target.address])]).update();
    let state = tempfile::tempdir().unwrap();
    let strict = gateway::GatewaySettings {
        max_age: Some(Duration::from_secs(1)),
        when_too_old: gateway::WhenTooOld::Refuse,
        ..settings(&state)
    };
    let gateway = Gateway::start(strict, &keys(), Clock::system()).unwrap();
    gateway.take(&whole).unwrap();
    let mut client = Client::connect(gateway.local_addr());
    assert_eq!(client.get("/lab", 1).status, 200);
    wait_for(|| (!gateway.status().is_serving).then_some(()));
    assert!(gateway.status().is_too_old);
    client.get("/lab", 1).assert_problem(503, "no_configuration");
    gateway.take(&Update { reached: Some(1), ..Update::default() }).unwrap();
    assert_eq!(client.get("/lab", 1).status, 200);
    gateway.shut_down(Duration::from_secs(1));
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
    gateway.take(&snapshot(1, vec![deployment(&[target.address])]).update()).unwrap();
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
    gateway.kill();
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    let answered = answered.load(Ordering::Relaxed);
    let recorded = read_usage(state.path()).len();
    // At most the calls whose answers were on their way may be recorded beyond those that arrived.
    assert!((answered..=answered + 8).contains(&recorded), "{recorded} for {answered} answers");
}
