//! How answers of targets are framed, and what that means for the connection they came over.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::support::{TestGateway, api_key, deployment, raw_target, read_head, wait_for};

/// A target that answers every request with these bytes, and says when a connection begins.
fn repeating(answer: &'static [u8]) -> (SocketAddr, mpsc::Receiver<()>) {
    let (sent, connections) = mpsc::channel();
    let target = raw_target(move |mut stream| {
        sent.send(()).unwrap();
        while read_head(&mut stream) {
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    });
    (target, connections)
}

#[test]
fn connections_are_kept_exactly_when_the_answer_allows_it() {
    const BOTH: usize = 1;
    const EACH: usize = 2;
    for (answer, body, connections) in [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".as_slice(), "ok", BOTH),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ncontent-length: 2\r\n\r\nok", "ok", BOTH),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", BOTH),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "", BOTH),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: \"a\"\r\n\r\n", "", BOTH),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n1\r\no\r\n1;x=y\r\nk\r\n0\r\nT: 1\r\n\r\n",
            "ok",
            BOTH,
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", BOTH),
        (
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            "ok",
            BOTH,
        ),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "ok", EACH),
        (
            b"HTTP/1.1 200 OK\r\nConnection: x-a, Close\r\nContent-Length: 2\r\n\r\nok",
            "ok",
            EACH,
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more", "ok", EACH),
    ] {
        let (target, began) = repeating(answer);
        let gateway = TestGateway::serving(deployment(&[target]));
        let mut client = gateway.client();
        let text = String::from_utf8_lossy(answer);
        for _ in 0..2 {
            let got = client.get("/lab", 1);
            assert_eq!((got.text(), got.whole), (body, true), "{text}");
            assert_eq!(got.header("transfer-encoding").is_some(), text.contains("Chunked"));
        }
        assert_eq!(began.try_iter().count(), connections, "{text}");
    }
}

#[test]
fn an_answer_to_head_has_no_body_whatever_it_says() {
    let (target, began) = repeating(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    let gateway = TestGateway::serving(deployment(&[target]));
    let mut client = gateway.client();
    for _ in 0..2 {
        let answer = client.call("HEAD", "/lab", &[("X-API-Key", &api_key(1))], b"");
        assert_eq!((answer.status, answer.header("content-length")), (200, Some("1000")));
    }
    assert_eq!(began.try_iter().count(), 1);
}

#[test]
fn answers_framed_in_two_ways_are_a_bad_gateway() {
    for answer in [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".as_slice(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 2\r\n\r\nab",
    ] {
        let (target, _began) = repeating(answer);
        let mut entry = deployment(&[target]);
        entry.upstream.retries = 0;
        let gateway = TestGateway::serving(entry);
        let refused = gateway.get("/lab");
        assert_eq!(refused.status, 502, "{:?}", String::from_utf8_lossy(answer));
    }
}

#[test]
fn an_endless_head_is_a_bad_gateway() {
    let target = raw_target(|mut stream| {
        if read_head(&mut stream) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nX: ");
            while stream.write_all(&[b'x'; 4_096]).is_ok() {}
        }
    });
    let mut entry = deployment(&[target]);
    entry.upstream.retries = 0;
    let gateway = TestGateway::serving(entry);
    gateway.get("/lab").assert_problem(502, "upstream_failed");
}

#[test]
fn bodies_arrive_as_they_were_sent() {
    let (sent, requests) = mpsc::channel();
    let target = raw_target(move |mut stream| {
        let mut bytes = Vec::new();
        let mut part = [0; 1_024];
        while !bytes.ends_with(b"end") && !bytes.ends_with(b"x-trailer: 1\r\n\r\n") {
            match stream.read(&mut part) {
                Ok(read) if read > 0 => bytes.extend_from_slice(&part[..read]),
                _ => return,
            }
        }
        sent.send(String::from_utf8(bytes).unwrap()).unwrap();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let gateway = TestGateway::serving(deployment(&[target]));
    let head = |method, more| {
        format!("{method} /lab?a=b HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\n{more}\r\n", api_key(1))
    };
    for method in ["POST", "PUT"] {
        let mut client = gateway.client();
        client.send(head(method, "Content-Length: 7\r\n") + "the end");
        assert_eq!(client.answer().expect("an answer").status, 200);
        let seen = requests.recv().unwrap();
        assert!(seen.starts_with(&format!("{method} /lab?a=b HTTP/1.1\r\nhost: 127.0.0.1:")));
        assert_eq!(seen.matches("content-length: 7\r\n").count(), 1, "{seen}");
        assert!(seen.ends_with("\r\n\r\nthe end") && !seen.contains("transfer-encoding"), "{seen}");
    }
    let mut client = gateway.client();
    client.send(head("POST", "Transfer-Encoding: chunked\r\n"));
    for chunk in ["4\r\nthe \r\n", "4;x=y\r\nlast\r\n", "0\r\nX-Trailer: 1\r\nHost: b\r\n\r\n"] {
        client.send(chunk);
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(client.answer().expect("an answer").status, 200);
    let seen = requests.recv().unwrap();
    let (head, body) = seen.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\ntransfer-encoding: chunked") && !head.contains("content-length"));
    // What may not stand after a body is dropped.
    assert_eq!(body, "4\r\nthe \r\n4\r\nlast\r\n0\r\nx-trailer: 1\r\n\r\n");
}

#[test]
fn a_target_may_answer_before_it_has_read_everything() {
    let answer = b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 4\r\n\r\nmuch";
    for leaves in [false, true] {
        let (sent, left) = mpsc::channel();
        let target = raw_target(move |mut stream: TcpStream| {
            if !read_head(&mut stream) {
                return;
            }
            stream.write_all(answer).unwrap();
            if leaves {
                stream.shutdown(Shutdown::Write).unwrap();
            }
            let _ = stream.read_to_end(&mut Vec::new());
            sent.send(()).unwrap();
        });
        let mut entry = deployment(&[target]);
        entry.max_body_bytes = 1 << 30;
        let gateway = TestGateway::serving(entry);
        let mut client = gateway.client();
        client.send(format!(
            "POST /lab HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\nContent-Length: 1000000\r\n\r\nbegin",
            api_key(1)
        ));
        let got = client.answer().expect("an answer");
        assert_eq!((got.status, got.text()), (413, "much"));
        // A connection with half a request on it carries no other.
        wait_for(|| left.try_recv().ok());
        assert_eq!(gateway.usage(1)[0].status, 413);
    }
}

#[test]
fn a_request_body_that_breaks_off_reaches_no_target_whole() {
    let (sent, requests) = mpsc::channel();
    let target = raw_target(move |mut stream| {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        sent.send(String::from_utf8(bytes).unwrap()).unwrap();
    });
    let gateway = TestGateway::serving(deployment(&[target]));
    let mut client = gateway.client();
    client.send(format!(
        "POST /lab HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        api_key(1)
    ));
    thread::sleep(Duration::from_millis(50));
    drop(client);
    let seen = requests.recv().unwrap();
    assert!(seen.ends_with("\r\n\r\n4\r\nhalf"), "{seen}");
}
