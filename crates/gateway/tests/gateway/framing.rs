//! Limits of heads and connections, and the order of answers.

use std::{thread, time::Duration};

use crate::support::{Client, TestGateway, TestTarget, api_key, deployment, snapshot};

fn gateway() -> (TestGateway, TestTarget) {
    let target = TestTarget::named("reached");
    (TestGateway::serving(deployment(&[target.address])), target)
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let (gateway, target) = gateway();
    let key = api_key(1);
    let fields = ["X-Y: z\r\n".repeat(200), format!("X-Y: {}\r\n", "z".repeat(40_000))];
    let heads = fields
        .map(|fields| format!("POST /lab HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n{fields}\r\n"));
    // What is no HTTP/1 at all, and may be without end.
    let others = ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\n"];
    for request in heads.iter().map(String::as_str).chain(others) {
        let mut client = gateway.client();
        client.send(request);
        client.answer().expect("an answer").assert_problem(400, "malformed_request");
        assert!(client.is_closed(), "{request:?}");
    }
    assert!(target.seen().is_empty());
}

#[test]
fn a_target_in_absolute_form_is_that_of_its_host() {
    let (gateway, target) = gateway();
    let mut client = gateway.client();
    let key = api_key(1);
    client.send(format!(
        "GET http://A.example/lab?q HTTP/1.1\r\nHost: a.example:80\r\nX-API-Key: {key}\r\n\r\n"
    ));
    assert_eq!(client.answer().expect("an answer").status, 200);
    assert_eq!(target.last().uri, "/lab?q");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let (gateway, target) = gateway();
    let key = api_key(1);
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n");
    let mut client = gateway.client();
    client.send([one("/lab/1"), one("/lab/2"), "GET / HTTP/1.1\r\n\r\n".to_owned()].concat());
    assert_eq!(client.answer().expect("the first").status, 200);
    assert_eq!(client.answer().expect("the second").status, 200);
    client.answer().expect("the third").assert_problem(400, "malformed_request");
    let uris: Vec<_> = target.seen().into_iter().map(|seen| seen.uri).collect();
    assert_eq!(uris, ["/lab/1", "/lab/2"]);
}

#[test]
fn slow_heads_and_idle_connections_are_closed() {
    let target = TestTarget::named("reached");
    let gateway = TestGateway::with(snapshot(1, vec![deployment(&[target.address])]), |settings| {
        settings.header_timeout = Duration::from_millis(300);
        settings.idle_timeout = Duration::from_millis(600);
    });
    let mut slow = gateway.client();
    let mut idle = gateway.client();
    assert_eq!(idle.get("/lab", 1).status, 200);
    let trickle = slow.stream().try_clone().unwrap();
    let trickling = thread::spawn(move || {
        use std::io::Write;
        // One byte now and then does not buy more time.
        while (&trickle).write_all(b"G").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    slow.answer().expect("an answer").assert_problem(408, "request_timeout");
    assert!(slow.is_closed());
    drop(slow);
    trickling.join().unwrap();
    assert!(idle.is_closed());
}

#[test]
fn more_connections_than_allowed_are_refused() {
    let target = TestTarget::named("reached");
    let gateway = TestGateway::with(snapshot(1, vec![deployment(&[target.address])]), |settings| {
        settings.max_connections = 2;
    });
    let mut kept: Vec<Client> = (0..2).map(|_| gateway.client()).collect();
    for client in &mut kept {
        assert_eq!(client.get("/lab", 1).status, 200);
    }
    assert!(gateway.client().is_closed());
    assert_eq!(kept[0].get("/lab", 1).status, 200);
}
