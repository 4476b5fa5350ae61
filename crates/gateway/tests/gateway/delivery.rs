//! How calls are carried beside plain forwarding: pages of other origins, compression, answers that go on.

use std::{
    io::{Read, Write},
    process::Command,
    sync::mpsc,
    time::Duration,
};

use http::Response;
use model::{Cors, Delivery, Protocols};

use crate::support::{
    PATIENCE, TestGateway, TestTarget, api_key, deployment, raw_target, read_head, wait_for,
};

fn cors(origins: &[&str], credentials: bool) -> Delivery {
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let cors = Cors {
        origins: list(origins),
        methods: list(&["GET", "POST"]),
        headers: list(&["x-api-key"]),
        exposed_headers: list(&["etag"]),
        credentials,
        max_age_seconds: 600,
    };
    Delivery { cors: Some(cors), ..Delivery::default() }
}

fn serving(target: std::net::SocketAddr, delivery: Delivery) -> TestGateway {
    let mut entry = deployment(&[target]);
    entry.delivery = delivery;
    TestGateway::serving(entry)
}

#[test]
fn preflight_requests_are_answered_without_a_credential() {
    let target = TestTarget::named("reached");
    let gateway = serving(target.address, cors(&["https://app.example"], true));
    let ask = |origin: &str| {
        let headers = [("Origin", origin), ("Access-Control-Request-Method", "POST")];
        gateway.client().call("OPTIONS", "/lab/x", &headers, b"")
    };
    let answer = ask("https://app.example");
    assert_eq!(answer.status, 204);
    for (name, value) in [
        ("access-control-allow-origin", "https://app.example"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-methods", "GET, POST"),
        ("access-control-allow-headers", "x-api-key"),
        ("access-control-max-age", "600"),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}");
    }
    ask("https://evil.example").assert_problem(403, "origin_refused");
    // What is no preflight request is a call like any other.
    gateway.client().call("OPTIONS", "/lab/x", &[], b"").assert_problem(401, "credential_required");
    assert!(target.seen().is_empty());
}

#[test]
fn pages_of_permitted_origins_may_read_answers_and_refusals() {
    let target = TestTarget::answering(|_seen| {
        let response = Response::builder().header("access-control-allow-origin", "*");
        response.body("hello".into()).unwrap()
    });
    let gateway = serving(target.address, cors(&["https://app.example"], false));
    let key = api_key(1);
    let call = |origin: &str, key: &str| {
        gateway.client().call("GET", "/lab", &[("Origin", origin), ("X-API-Key", key)], b"")
    };
    let answer = call("https://app.example", &key);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(answer.header("access-control-expose-headers"), Some("etag"));
    assert_eq!(answer.header("vary"), Some("Origin"));
    let refused = call("https://app.example", "wrong");
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), Some("https://app.example"));
    let foreign = call("https://evil.example", &key);
    assert_eq!((foreign.status, foreign.header("access-control-allow-origin")), (200, None));
}

#[test]
fn answers_are_compressed_for_curl() {
    let text: String = (0..2_000).map(|number| format!("{{\"number\":{number}}}\n")).collect();
    let body = text.clone();
    let target = TestTarget::answering(move |_seen| {
        let response = Response::builder().header("content-type", "application/json");
        response.body(body.clone().into()).unwrap()
    });
    let gateway = serving(target.address, Delivery { compress: true, ..Delivery::default() });
    let curl = |more: &[&str]| {
        let output = Command::new("curl")
            .args([
                "-sS",
                "--max-time",
                "10",
                "-D",
                "-",
                "-H",
                &format!("X-API-Key: {}", api_key(1)),
            ])
            .args(more)
            .arg(format!("http://{}/lab", gateway.address))
            .output()
            .expect("curl is missing: apt-get install curl");
        String::from_utf8(output.stdout).unwrap()
    };
    for coding in ["gzip", "br"] {
        let decoded = curl(&["--compressed", "-H", &format!("Accept-Encoding: {coding}")]);
        assert!(decoded.contains(&format!("content-encoding: {coding}\r\n")), "{decoded}");
        assert!(decoded.ends_with(&text), "{}", decoded.len());
    }
    let plain = curl(&[]);
    assert!(plain.ends_with(&text) && !plain.contains("content-encoding"));
    assert!(plain.contains("vary: Accept-Encoding"), "{plain}");
}

#[test]
fn coded_answers_are_decoded_for_clients_that_cannot_and_bombs_are_cut_off() {
    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }
    let (small, bomb) = (gzip(b"plain again"), gzip(&vec![0; 64 << 20]));
    let target = TestTarget::answering(move |seen| {
        let body = if seen.uri == "/lab/bomb" { bomb.clone() } else { small.clone() };
        Response::builder().header("content-encoding", "gzip").body(body.into()).unwrap()
    });
    let gateway = serving(target.address, Delivery::default());
    let call = |path: &str, accept: &str| {
        let headers = [("X-API-Key", &*api_key(1)), ("Accept-Encoding", accept)];
        gateway.client().call("GET", path, &headers, b"")
    };
    let decoded = call("/lab", "identity");
    assert_eq!((decoded.text(), decoded.header("content-encoding")), ("plain again", None));
    assert_eq!(call("/lab", "gzip").header("content-encoding"), Some("gzip"));
    let mut client = gateway.client();
    client.send(format!(
        "GET /lab/bomb HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\nAccept-Encoding: br\r\n\r\n",
        api_key(1)
    ));
    // What the client has not read when the connection is reset is gone.
    let cut = client.answer();
    assert!(cut.is_none_or(|cut| !cut.whole && cut.body.len() < 32 << 20));
    wait_for(|| gateway.metrics().contains("fault=\"broken\"} 1").then_some(()));
}

#[test]
fn events_pass_for_as_long_as_something_comes() {
    let (go, going) = mpsc::channel::<&'static str>();
    let going = std::sync::Mutex::new(going);
    let target = raw_target(move |mut stream| {
        read_head(&mut stream);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nConnection: close\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        while let Ok(event) = going.lock().unwrap().recv() {
            if stream.write_all(event.as_bytes()).is_err() {
                return;
            }
        }
    });
    let mut entry = deployment(&[target]);
    entry.upstream.timeout_ms = 200;
    entry.delivery.protocols = Protocols { events: true, idle_ms: 700, ..Protocols::default() };
    let gateway = TestGateway::serving(entry);
    let mut client = gateway.client();
    client.send(format!("GET /lab HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\n\r\n", api_key(1)));
    client.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    let mut seen = String::new();
    let mut read = |until: &str| {
        let mut stream = client.stream();
        while !seen.contains(until) {
            let mut bytes = [0; 1_024];
            match stream.read(&mut bytes) {
                Ok(read) if read > 0 => seen.push_str(std::str::from_utf8(&bytes[..read]).unwrap()),
                _ => return false,
            }
        }
        true
    };
    // Together longer than the deadline of a plain call.
    for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        go.send(event).unwrap();
        assert!(read(event.trim_end()), "{event}");
        std::thread::sleep(Duration::from_millis(150));
    }
    // Silence ends it.
    assert!(!read("more"));
    assert_eq!(gateway.usage(1)[0].status, 200);
}

#[test]
fn grpc_passes_only_where_it_is_allowed() {
    let target = TestTarget::named("reached");
    let mut entry = deployment(&[target.address]);
    let headers = [("X-API-Key", &*api_key(1)), ("Content-Type", "application/grpc+proto")];
    let closed = TestGateway::serving(entry.clone());
    let answer = closed.client().call("POST", "/lab", &headers, b"x");
    assert_eq!((answer.status, answer.header("grpc-status")), (200, Some("3")));
    assert!(target.seen().is_empty());
    entry.delivery.protocols.grpc = true;
    let open = TestGateway::serving(entry);
    assert_eq!(open.client().call("POST", "/lab", &headers, b"x").text(), "reached");
    assert_eq!(target.last().header("te"), Some("trailers"));
}

/// A target that switches to a protocol in which it says everything twice.
fn doubling() -> std::net::SocketAddr {
    raw_target(|mut stream| {
        read_head(&mut stream);
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nwelcome";
        stream.write_all(head.as_bytes()).unwrap();
        let mut bytes = [0; 4_096];
        while let Ok(read) = stream.read(&mut bytes)
            && read > 0
        {
            stream.write_all(&bytes[..read].repeat(2)).unwrap();
        }
    })
}

const HANDSHAKE: &str = "Host: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn read_until(mut stream: &std::net::TcpStream, seen: &mut String, until: &str) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    while !seen.contains(until) {
        let mut bytes = [0; 1_024];
        match stream.read(&mut bytes) {
            Ok(read) if read > 0 => seen.push_str(std::str::from_utf8(&bytes[..read]).unwrap()),
            _ => return false,
        }
    }
    true
}

#[test]
fn web_sockets_pass_both_ways_until_they_are_silent() {
    let mut entry = deployment(&[doubling()]);
    entry.upstream.timeout_ms = 200;
    entry.delivery.protocols = Protocols { web_socket: true, idle_ms: 600, ..Protocols::default() };
    let gateway = TestGateway::serving(entry);
    let mut client = gateway.client();
    // Some of it right behind the handshake.
    client.send(format!("GET /lab HTTP/1.1\r\nX-API-Key: {}\r\n{HANDSHAKE}\r\nfirst", api_key(1)));
    let mut seen = String::new();
    assert!(read_until(client.stream(), &mut seen, "welcomefirstfirst"), "{seen}");
    let head = seen.to_ascii_lowercase();
    for field in [
        "101 switching protocols\r\n",
        "upgrade: websocket\r\n",
        "connection: upgrade\r\n",
        "sec-websocket-accept: ",
    ] {
        assert!(head.contains(field), "{head}");
    }
    for word in ["second", "third"] {
        std::thread::sleep(Duration::from_millis(300));
        client.send(word);
        assert!(read_until(client.stream(), &mut seen, &word.repeat(2)), "{seen}");
    }
    assert!(!read_until(client.stream(), &mut seen, "silence"));
    let record = gateway.usage(1)[0];
    assert_eq!((record.status, record.request_bytes, record.response_bytes), (101, 16, 39));
}

#[test]
fn either_end_may_close_a_web_socket() {
    let mut entry = deployment(&[doubling()]);
    entry.delivery.protocols.web_socket = true;
    let gateway = TestGateway::serving(entry);
    let mut client = gateway.client();
    client.send(format!("GET /lab HTTP/1.1\r\nX-API-Key: {}\r\n{HANDSHAKE}\r\n", api_key(1)));
    let mut seen = String::new();
    assert!(read_until(client.stream(), &mut seen, "welcome"));
    drop(client);
    assert_eq!(gateway.usage(1)[0].status, 101);
    wait_for(|| (gateway.gateway().status().connections == 0).then_some(()));
}

#[test]
fn web_sockets_are_refused_where_they_are_not_allowed_or_malformed() {
    let mut entry = deployment(&[doubling()]);
    let ask = |gateway: &TestGateway, request: &str| {
        let mut client = gateway.client();
        client.send(request.replace("KEY", &api_key(1)));
        client.answer().expect("an answer").assert_problem(400, "upgrade_not_supported");
    };
    let proper = format!("GET /lab HTTP/1.1\r\nX-API-Key: KEY\r\n{HANDSHAKE}\r\n");
    ask(&TestGateway::serving(entry.clone()), &proper);
    entry.delivery.protocols.web_socket = true;
    let open = TestGateway::serving(entry);
    for (from, to) in [
        ("GET", "POST"),
        ("Upgrade: WebSocket", "Upgrade: h2c"),
        ("Upgrade: WebSocket", "Upgrade: websocket\r\nUpgrade: websocket"),
        ("keep-alive, Upgrade", "keep-alive"),
    ] {
        ask(&open, &proper.replacen(from, to, 1));
    }
}
