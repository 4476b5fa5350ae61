//! Clients and servers that others wrote, on both sides of the gateway: `ws` for WebSocket and `@grpc/grpc-js` for gRPC.
//! They run on node and say in JSON what they saw.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use gateway::TlsSettings;
use model::{DeploymentEntry, Protocol, Protocols, Route};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{PATIENCE, TestGateway, api_key, deployment, snapshot};

fn node(script: &str) -> Command {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    assert!(folder.join("node_modules").is_dir(), "run `npm ci` in {}", folder.display());
    let mut command = Command::new("node");
    command.arg(folder.join(script)).stdin(Stdio::null());
    command
}

/// A server on node. It is killed when dropped.
struct Server {
    process: Child,
    said: Receiver<Value>,
    address: SocketAddr,
}

impl Server {
    fn start(script: &str) -> Self {
        let mut process = node(script)
            .stdout(Stdio::piped())
            .spawn()
            .expect("node is missing: apt-get install nodejs npm");
        let (say, said) = channel();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // The test may have heard enough.
                drop(say.send(serde_json::from_str(&line).unwrap()));
            }
        });
        let mut server =
            Self { process, said, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) };
        let port = server.next()["port"].as_u64().unwrap();
        server.address.set_port(port.try_into().unwrap());
        server
    }

    fn next(&self) -> Value {
        self.said.recv_timeout(PATIENCE).expect("the server says something")
    }

    /// The next things that it says, in an order of their own.
    fn next_sorted(&self, count: usize) -> Vec<Value> {
        let mut said: Vec<_> = (0..count).map(|_| self.next()).collect();
        said.sort_by_key(Value::to_string);
        said
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// What a client says that has done all it does.
fn run(script: &str, arguments: &[&str]) -> Value {
    let output = Command::new("timeout")
        .arg("60")
        .arg("node")
        .args(node(script).get_args())
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&said).unwrap()
}

/// A gateway with and without TLS before one server.
struct Doors {
    gateway: TestGateway,
    folder: TempDir,
}

impl Doors {
    fn before(entry: DeploymentEntry) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        fs::write(folder.path().join("a.crt"), made.cert.pem()).unwrap();
        fs::write(folder.path().join("a.key"), made.signing_key.serialize_pem()).unwrap();
        let gateway = TestGateway::with(snapshot(1, vec![entry]), |settings| {
            settings.accepts_h2c = true;
            settings.tls = Some(TlsSettings {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                certificates: folder.path().to_owned(),
                redirect_to: None,
                hsts_seconds: 0,
            });
        });
        Self { gateway, folder }
    }

    fn authority(&self) -> PathBuf {
        self.folder.path().join("a.crt")
    }

    /// Runs a client at both doors, one after the other, behind `schemes`.
    fn each(&self, script: &str, schemes: [&str; 2]) -> [Value; 2] {
        let (plain, key) = (self.gateway.address, api_key(1));
        let secure = self.gateway.gateway().tls_addr().unwrap();
        let authority = self.authority();
        [
            run(script, &[&format!("{}{plain}", schemes[0]), &key]),
            run(script, &[&format!("{}{secure}", schemes[1]), &key, authority.to_str().unwrap()]),
        ]
    }
}

#[test]
fn web_sockets_of_foreign_clients_pass() {
    let server = Server::start("web-socket-server.js");
    let mut entry = deployment(&[server.address]);
    entry.delivery.protocols = Protocols { web_socket: true, ..Protocols::default() };
    let doors = Doors::before(entry);
    let echo = |extensions: &str| {
        json!({
            "protocol": "lab.v2",
            "extensions": extensions,
            "text": { "length": 16, "isBinary": false, "isSame": true },
            "empty": { "length": 0, "isBinary": false, "isSame": true },
            "binary": { "length": 5, "isBinary": true, "isSame": true },
            "large": { "length": 1_048_576, "isBinary": true, "isSame": true },
            "parts": "in parts",
            "pong": "still there?",
            "closed": { "code": 4000, "reason": "done – fertig" },
        })
    };
    let expected = json!({
        "echo": echo("permessage-deflate"),
        "unsqueezed": echo(""),
        "pinged": {
            "ping": "are you there?",
            "answer": "pong are you there?",
            "closed": { "code": 1001, "reason": "" },
        },
        "left": { "message": "going", "closed": { "code": 4001, "reason": "nothing more to say" } },
        "dropped": { "code": 1006, "reason": "" },
        "refused": 401,
    });
    for seen in doors.each("web-socket-client.js", ["ws://", "wss://"]) {
        assert_eq!(seen, expected, "{seen:#}");
    }
    // The server saw the same ends.
    let ends = [
        ("echo", 4000, "done – fertig"),
        ("echo", 4000, "done – fertig"),
        ("ping", 1001, ""),
        ("leave", 4001, "nothing more to say"),
        ("drop", 1006, ""),
        ("vanish", 1006, ""),
    ];
    let mut expected: Vec<_> = [ends, ends]
        .concat()
        .into_iter()
        .map(|(name, code, reason)| json!({ "name": name, "code": code, "reason": reason }))
        .collect();
    expected.sort_by_key(Value::to_string);
    assert_eq!(server.next_sorted(expected.len()), expected);
    let records = doors.gateway.usage(expected.len());
    assert!(records.len() == expected.len() && records.iter().all(|record| record.status == 101));
}

#[test]
fn grpc_of_foreign_clients_passes() {
    let server = Server::start("grpc-server.js");
    let mut entry = deployment(&[server.address]);
    entry.route = Route::new(None, "/foreign.Lab", false).unwrap();
    entry.upstream.protocol = Protocol::Http2;
    entry.max_body_bytes = 10 << 20;
    entry.delivery.protocols = Protocols { grpc: true, ..Protocols::default() };
    let doors = Doors::before(entry);
    let (head, tail) = (
        json!({ "x-head": ["plain"], "x-head-bin": [[1, 0, 254]] }),
        json!({ "x-tail": ["plain"], "x-tail-bin": [[1, 0, 254]] }),
    );
    let refused = json!({ "x-reason": ["empty"], "x-detail-bin": [[0, 255, 7]] });
    let words = ["one", "two", "three"];
    let why = "50 % – Probe fehlt\nsecond line";
    let whole = json!({ "length": 3 << 20, "isSame": true });
    let expected = json!({
        "unary": { "word": "hello", "head": head, "code": 0, "details": "OK", "tail": tail },
        "list": { "words": words, "head": {}, "code": 0, "details": "OK", "tail": tail },
        "join": { "word": "three small words", "head": {}, "code": 0, "details": "OK", "tail": tail },
        "talk": {
            "words": ["FIRST", "SECOND", "THIRD"], "head": {},
            "code": 0, "details": "OK", "tail": tail,
        },
        "refused": { "word": null, "head": head, "code": 9, "details": why, "tail": refused },
        "refusedLate": { "words": words, "head": {}, "code": 9, "details": why, "tail": refused },
        "late": { "word": null, "head": head, "code": 4, "tail": {} },
        "cancelled": {
            "words": words, "head": {}, "code": 1, "details": "Cancelled on client", "tail": {},
        },
        "large": whole,
        "squeezed": whole,
        "crowd": 100,
        "stranger": { "word": null, "head": {}, "code": 16, "tail": {} },
    });
    for mut seen in doors.each("grpc-client.js", ["", ""]) {
        // These words are the library's, and the gateway's.
        let late = seen["late"].as_object_mut().unwrap().remove("details");
        assert!(late.unwrap().as_str().unwrap().starts_with("Deadline exceeded"), "{seen:#}");
        let stranger = seen["stranger"].as_object_mut().unwrap();
        assert!(!stranger.remove("details").unwrap().as_str().unwrap().is_empty());
        assert_eq!(seen, expected, "{seen:#}");
        // The server learns of both, and knew the deadlines.
        let ends = ["get", "list"].map(|name| json!({ "cancelled": name, "hasDeadline": true }));
        assert_eq!(server.next_sorted(2), ends);
    }
}
