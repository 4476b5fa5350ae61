//! Targets that misbehave, and clients that leave.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use model::Fault;
use socket2::SockRef;

use crate::support::{
    Client, PATIENCE, TestGateway, TestTarget, api_key, deployment, raw_target, read_head, wait_for,
};

/// A target that answers each connection with these bytes and then closes it.
fn answering(bytes: &'static [u8]) -> std::net::SocketAddr {
    raw_target(move |mut stream| {
        if read_head(&mut stream) {
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read(&mut [0; 100]);
        }
    })
}

#[test]
fn a_target_that_hangs_is_a_timeout() {
    let target = raw_target(|mut stream| {
        read_head(&mut stream);
        let _ = stream.read(&mut [0]);
    });
    let mut entry = deployment(&[target]);
    entry.upstream.timeout_ms = 200;
    let gateway = TestGateway::serving(entry);
    let began = Instant::now();
    gateway.get("/lab").assert_problem(504, "upstream_timeout");
    let took = began.elapsed();
    assert!((200..700).contains(&took.as_millis()), "{took:?}");
    let usage = gateway.usage(1);
    assert_eq!((usage[0].status, usage[0].fault), (504, Fault::Upstream));
    assert!(usage[0].upstream_micros >= 190_000);
}

#[test]
fn an_answer_before_the_question_never_looks_whole() {
    let target = raw_target(|mut stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello");
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let mut entry = deployment(&[target]);
    entry.upstream.timeout_ms = 200;
    let gateway = TestGateway::serving(entry);
    let answer = gateway.get("/lab");
    assert!((answer.status, answer.whole) == (200, false) || answer.status == 502, "{answer:?}");
}

#[test]
fn broken_answers_are_a_bad_gateway() {
    for answer in [
        b"".as_slice(),
        b"HTTP/1.1 2",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
    ] {
        let gateway = TestGateway::serving(deployment(&[answering(answer)]));
        let text = String::from_utf8_lossy(answer);
        let refused = gateway.get("/lab");
        assert_eq!(refused.status, 502, "{text:?}");
        refused.assert_problem(502, "upstream_failed");
    }
}

#[test]
fn a_reset_is_a_bad_gateway_and_no_post_is_repeated() {
    let (sent, connections) = mpsc::channel();
    let target = raw_target(move |mut stream| {
        sent.send(()).unwrap();
        read_head(&mut stream);
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let gateway = TestGateway::serving(deployment(&[target]));
    let key = api_key(1);
    gateway
        .client()
        .call("POST", "/lab", &[("X-API-Key", &key)], b"pay")
        .assert_problem(502, "upstream_failed");
    assert_eq!(connections.try_iter().count(), 1);
    gateway.get("/lab").assert_problem(502, "upstream_failed");
    assert_eq!(connections.try_iter().count(), 2);
}

#[test]
fn an_idempotent_call_with_a_small_body_is_repeated() {
    let broken = raw_target(|mut stream| {
        read_head(&mut stream);
    });
    let well = TestTarget::named("well");
    let gateway = TestGateway::serving(deployment(&[broken, well.address]));
    let mut client = gateway.client();
    let key = api_key(1);
    for _ in 0..4 {
        let answer = client.call("PUT", "/lab", &[("X-API-Key", &key)], b"the whole body");
        assert_eq!(answer.text(), "well");
        assert_eq!(&*well.last().body, b"the whole body");
    }
}

#[test]
fn an_answer_cut_short_never_looks_whole() {
    for answer in [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello".as_slice(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ] {
        let gateway = TestGateway::serving(deployment(&[answering(answer)]));
        let mut client = gateway.client();
        client.send(format!("GET /lab HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\n\r\n", api_key(1)));
        let got = client.answer();
        assert!(got.is_none_or(|got| got.status == 502 || !got.whole));
        assert!(client.is_closed());
        assert_eq!(gateway.usage(1)[0].fault, Fault::Upstream);

        // A client of HTTP/1.0 knows the end only by the connection, so it has to see a reset.
        let stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET /lab HTTP/1.0\r\nX-API-Key: {}\r\n\r\n", api_key(1));
        (&stream).write_all(request.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        let ended = (&stream).read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        let told = text.contains("content-length: 10") || text.contains("502 Bad Gateway");
        assert!(ended.is_err() || told, "{text}");
    }
}

#[test]
fn an_answer_that_ends_with_its_connection_is_passed_on() {
    let target = answering(b"HTTP/1.0 200 OK\r\nX-A: b\r\n\r\nas long as it lasts");
    let gateway = TestGateway::serving(deployment(&[target]));
    let answer = gateway.get("/lab");
    assert_eq!((answer.text(), answer.whole), ("as long as it lasts", true));
}

#[test]
fn early_hints_are_not_the_answer() {
    let target = answering(
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let gateway = TestGateway::serving(deployment(&[target]));
    assert_eq!(gateway.get("/lab").text(), "ok");
}

#[test]
fn connections_are_reused_and_stale_ones_cost_nothing() {
    let (sent, connections) = mpsc::channel();
    let target = raw_target(move |mut stream| {
        sent.send(()).unwrap();
        for _ in 0..2 {
            if !read_head(&mut stream) {
                return;
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
    });
    let mut entry = deployment(&[target]);
    entry.upstream.retries = 0;
    let gateway = TestGateway::serving(entry);
    let mut client = gateway.client();
    for _ in 0..2 {
        assert_eq!(client.get("/lab", 1).text(), "ok");
    }
    assert_eq!(connections.try_iter().count(), 1);
    // The target has closed the connection by now, or does so at about the time of the next call.
    thread::sleep(Duration::from_millis(50));
    assert_eq!(client.get("/lab", 1).text(), "ok");
    assert_eq!(connections.try_iter().count(), 1);
}

#[test]
fn large_bodies_stream_both_ways() {
    let target = raw_target(|mut stream| {
        if !read_head(&mut stream) {
            return;
        }
        let mut left = 8 << 20;
        let mut bytes = vec![0; 64 << 10];
        while left > 0 {
            left -= stream.read(&mut bytes).unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        for _ in 0..128 {
            stream.write_all(b"10000\r\n").unwrap();
            stream.write_all(&vec![b'y'; 64 << 10]).unwrap();
            stream.write_all(b"\r\n").unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    let mut entry = deployment(&[target]);
    entry.max_body_bytes = 16 << 20;
    let gateway = TestGateway::serving(entry);
    let key = api_key(1);
    let body = vec![b'x'; 8 << 20];
    let answer = gateway.client().call("POST", "/lab", &[("X-API-Key", &key)], &body);
    assert_eq!((answer.status, answer.body.len(), answer.whole), (200, 8 << 20, true));
    let usage = gateway.usage(1);
    assert_eq!((usage[0].request_bytes, usage[0].response_bytes), (8 << 20, 8 << 20));
}

#[test]
fn a_client_that_waits_for_permission_gets_it() {
    let target = TestTarget::named("got it");
    let gateway = TestGateway::serving(deployment(&[target.address]));
    let mut client = gateway.client();
    client.send(format!(
        "POST /lab HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        api_key(1)
    ));
    let mut interim = [0; 25];
    client.stream().try_clone().unwrap().read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello");
    assert_eq!(client.answer().expect("an answer").text(), "got it");
    assert_eq!((&*target.last().body, target.last().header("expect")), (b"hello".as_slice(), None));
}

#[test]
fn a_client_that_leaves_ends_the_call_to_the_target() {
    let (sent, ended) = mpsc::channel();
    let target = raw_target(move |mut stream| {
        if read_head(&mut stream) {
            sent.send("arrived").unwrap();
            let end = stream.read(&mut [0]);
            assert!(matches!(end, Ok(0) | Err(_)));
            sent.send("left").unwrap();
        }
    });
    let gateway = TestGateway::serving(deployment(&[target]));
    let mut client = gateway.client();
    client.send(format!("GET /lab HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\n\r\n", api_key(1)));
    assert_eq!(ended.recv_timeout(PATIENCE), Ok("arrived"));
    drop(client);
    assert_eq!(ended.recv_timeout(PATIENCE), Ok("left"));
    let usage = gateway.usage(1);
    assert_eq!((usage[0].status, usage[0].fault), (499, Fault::Client));
    wait_for(|| {
        gateway
            .metrics()
            .contains(
                "requests_in_flight{tenant=\"north\",api=\"Lab results\",version=\"1.0.0\"} 0",
            )
            .then_some(())
    });
}

#[test]
fn a_client_that_does_not_read_is_cut_off_at_the_deadline() {
    let (sent, ended) = mpsc::channel();
    let target = raw_target(move |mut stream| {
        if read_head(&mut stream) {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n";
            stream.write_all(head).unwrap();
            let block = vec![0; 1 << 20];
            while stream.write_all(&block).is_ok() {}
            sent.send(()).unwrap();
        }
    });
    let mut entry = deployment(&[target]);
    entry.upstream.timeout_ms = 300;
    let gateway = TestGateway::serving(entry);
    let mut client = Client::connect(gateway.address);
    client.send(format!("GET /lab HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\n\r\n", api_key(1)));
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(()));
}
