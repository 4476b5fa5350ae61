//! Requests that could be read in two ways are refused, and nothing of them reaches a target.

use std::{thread, time::Duration};

use crate::support::{Client, TestGateway, TestTarget, api_key, deployment, snapshot};

fn gateway() -> (TestGateway, TestTarget) {
    let target = TestTarget::named("reached");
    (TestGateway::serving(deployment(&[target.address])), target)
}

#[test]
fn offences_are_answered_and_the_connection_is_closed() {
    let (gateway, target) = gateway();
    let key = api_key(1);
    let head = format!("POST /lab HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n");
    let many = "X-Y: z\r\n".repeat(200);
    let large = format!("X-Y: {}\r\n", "z".repeat(40_000));
    for rest in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
        "Content-Length: 3, 3\r\n\r\nabc",
        "Content-Length: -3\r\n\r\nabc",
        "Transfer-Encoding: identity\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Host: b\r\n\r\n",
        "X-A: b\nX-C: d\r\n\r\n",
        "X-A: b\r X-C: d\r\n\r\n",
        "X-A: b\r\n folded\r\n\r\n",
        "X-A: b\0\r\n\r\n",
        "X-A : b\r\n\r\n",
        &many,
        &large,
    ] {
        let mut client = gateway.client();
        client.send(format!("{head}{rest}"));
        let answer = client.answer().unwrap_or_else(|| panic!("no answer to {rest:?}"));
        answer.assert_problem(400, "malformed_request");
        assert_eq!(answer.header("connection"), Some("close"), "{rest:?}");
        assert!(client.is_closed(), "{rest:?}");
    }
    assert!(target.seen().is_empty());
}

#[test]
fn requests_without_a_proper_head_are_refused() {
    let (gateway, target) = gateway();
    for request in [
        "GET /lab HTTP/1.1\r\n\r\n",
        "GET /lab HTTP/3.0\r\nHost: a\r\n\r\n",
        "GET /lab\r\n\r\n",
        "TRACE /lab HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\n",
    ] {
        let mut client = gateway.client();
        client.send(request);
        client.answer().expect("an answer").assert_problem(400, "malformed_request");
        assert!(client.is_closed(), "{request:?}");
    }
    assert!(target.seen().is_empty());
}

#[test]
fn chunks_are_checked_as_they_come() {
    let (gateway, _target) = gateway();
    for chunk in ["5;a=\nb\r\nhello\r\n", "5\r\nhelloX", "5\nhello\r\n", "+5\r\nhello\r\n"] {
        let mut client = gateway.client();
        let key = api_key(1);
        client.send(format!(
            "POST /lab HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        client.send(chunk);
        let status = client.answer().map(|answer| answer.status);
        assert!(matches!(status, None | Some(400)), "{chunk:?}: {status:?}");
        assert!(client.is_closed(), "{chunk:?}");
    }
}

#[test]
fn a_smuggled_second_request_is_never_seen() {
    let (gateway, target) = gateway();
    let key = api_key(1);
    let mut client = gateway.client();
    client.send(format!(
        "POST /lab HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /lab/smuggled HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n"
    ));
    client.answer().expect("an answer").assert_problem(400, "malformed_request");
    assert!(client.is_closed());
    assert!(target.seen().is_empty());
}

#[test]
fn a_target_in_absolute_form_must_name_the_host() {
    let (gateway, target) = gateway();
    let key = api_key(1);
    let ask = |uri: &str, host: &str| {
        let mut client = gateway.client();
        client.send(format!("GET {uri} HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {key}\r\n\r\n"));
        client.answer().expect("an answer")
    };
    assert_eq!(ask("http://A.example/lab?q", "a.example:80").status, 200);
    assert_eq!(target.last().uri, "/lab?q");
    ask("http://b.example/lab", "a.example").assert_problem(400, "malformed_request");
    assert_eq!(target.seen().len(), 1);
}

#[test]
fn paths_with_two_readings_are_refused() {
    let (gateway, target) = gateway();
    for path in [
        "/lab/../secret",
        "/lab/%2e%2e/secret",
        "/lab/.%2E/secret",
        "/lab/./x",
        "/lab//x",
        "/lab/a%2fb",
        "/lab/a%5Cb",
        "/lab/a\\b",
        "/lab/%00",
        "/lab/%zz",
        "/lab/..;/x",
    ] {
        gateway.get(path).assert_problem(400, "ambiguous_path");
    }
    assert!(target.seen().is_empty());
    assert_eq!(gateway.get("/l%61b/%7Ex?%2e%2e=//").status, 200);
    assert_eq!(target.last().uri, "/lab/~x?%2e%2e=//");
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
