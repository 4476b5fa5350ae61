//! Clients that speak HTTP/2: foreign ones, and raw frames where a client library would hide the bug.

use std::{
    io::{Read, Write},
    net::TcpStream,
    process::Command,
    sync::mpsc,
    time::Duration,
};

use crate::support::{
    PATIENCE, TestGateway, TestTarget, api_key, deployment, raw_target, read_head, snapshot,
    wait_for,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const STREAM_CLOSED: u32 = 5;
const FRAME_SIZE_ERROR: u32 = 6;
const COMPRESSION_ERROR: u32 = 9;
const ENHANCE_YOUR_CALM: u32 = 11;

fn gateway(target: &TestTarget) -> TestGateway {
    TestGateway::with(snapshot(1, vec![deployment(&[target.address])]), |settings| {
        settings.accepts_h2c = true;
        settings.header_timeout = Duration::from_secs(2);
    })
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

/// How the other side ended something: the stream, or 0 for the connection, and the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Reset(u32),
    GoAway(u32),
    Closed,
    Answered(u16),
}

/// A connection on which any frame can be sent.
struct Raw(TcpStream);

impl Raw {
    fn connect(gateway: &TestGateway) -> Self {
        let mut raw = Self::silent(gateway);
        raw.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        raw.send(SETTINGS, 0, 0, b"");
        raw
    }

    fn silent(gateway: &TestGateway) -> Self {
        let stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// What cannot be written was refused, which shows in what is read.
    fn write(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.write(&frame);
    }

    fn request(&mut self, stream: u32, flags: u8, more: &[(&str, &str)]) {
        self.send(HEADERS, flags | END_HEADERS, stream, &head("GET", "/lab", more));
    }

    fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut payload).ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads on until something ends: the stream, or the connection.
    fn end(&mut self, stream: u32) -> End {
        let mut status = None;
        while let Some(frame) = self.read() {
            let code =
                |at: usize| u32::from_be_bytes(frame.payload[at..at + 4].try_into().unwrap());
            match frame.kind {
                SETTINGS if frame.flags & ACK == 0 => self.send(SETTINGS, ACK, 0, b""),
                GOAWAY if code(4) != NO_ERROR => return End::GoAway(code(4)),
                RST_STREAM if frame.stream == stream => return End::Reset(code(0)),
                HEADERS if frame.stream == stream => {
                    status = Some(status_of(&frame.payload));
                    if frame.flags & END_STREAM != 0 {
                        return End::Answered(status.unwrap());
                    }
                }
                DATA if frame.stream == stream && frame.flags & END_STREAM != 0 => {
                    return End::Answered(status.unwrap());
                }
                _ => {}
            }
        }
        End::Closed
    }
}

/// A list of header fields without compression (RFC 7541, 6.2.2).
fn encode(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            // Lengths below 127 are one byte.
            block.push(u8::try_from(text.len()).unwrap());
            assert!(text.len() < 127);
            block.extend(text.as_bytes());
        }
    }
    block
}

fn head(method: &str, path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let key = api_key(1);
    let mut fields = vec![
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "a.example"),
    ];
    fields.push(("x-api-key", &key));
    fields.extend(more);
    encode(&fields)
}

/// The status that a block begins with: from the static table, or spelt out behind its name.
fn status_of(block: &[u8]) -> u16 {
    const INDEXED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    match block[0] {
        index @ 0x88..=0x8e => INDEXED[usize::from(index - 0x88)],
        // The value has three digits, Huffman-coded or not; each digit has five or six bits.
        _ => digits(&block[1..]),
    }
}

fn digits(text: &[u8]) -> u16 {
    let length = usize::from(text[0] & 0x7f);
    let value = &text[1..=length];
    if text[0] & 0x80 == 0 {
        return std::str::from_utf8(value).unwrap().parse().unwrap();
    }
    let bits: String = value.iter().map(|byte| format!("{byte:08b}")).collect();
    let mut rest = bits.as_str();
    let mut number = 0;
    for _ in 0..3 {
        // RFC 7541, appendix B: 0 to 2 have five bits, the others six.
        let (digit, length) = match &rest[..5] {
            "00000" => (0, 5),
            "00001" => (1, 5),
            "00010" => (2, 5),
            _ => (u16::from_str_radix(&rest[..6], 2).unwrap() - 0b01_1001 + 3, 6),
        };
        number = number * 10 + digit;
        rest = &rest[length..];
    }
    number
}

fn curl(gateway: &TestGateway, path: &str, more: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["-sS", "-i", "--http2-prior-knowledge", "--max-time", "10"])
        .args(["-H", &format!("X-API-Key: {}", api_key(1))])
        .args(more)
        .arg(format!("http://{}{path}", gateway.address))
        .output()
        .expect("curl is missing: apt-get install curl");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn curl_calls_with_and_without_bodies() {
    let target = TestTarget::answering(|seen| http::Response::new(seen.body.clone().into()));
    let gateway = gateway(&target);
    let echoed = curl(&gateway, "/lab/x?y=1", &["-X", "POST", "--data-binary", "some text"]);
    assert!(echoed.starts_with("HTTP/2 200") && echoed.ends_with("some text"), "{echoed}");
    let seen = target.last();
    assert_eq!((seen.uri.as_str(), seen.header("content-length")), ("/lab/x?y=1", Some("9")));
    assert_eq!(seen.header("x-forwarded-host"), Some(&*gateway.address.to_string()));
    let head = curl(&gateway, "/lab", &["-I"]);
    assert!(head.starts_with("HTTP/2 200"), "{head}");
    let unknown = curl(&gateway, "/nowhere", &[]);
    assert!(unknown.starts_with("HTTP/2 404") && unknown.contains("route_not_found"), "{unknown}");
    let ambiguous = curl(&gateway, "/lab/a%2fb", &["--path-as-is"]);
    assert!(
        ambiguous.starts_with("HTTP/2 400") && ambiguous.contains("ambiguous_path"),
        "{ambiguous}"
    );
    assert!(gateway.usage(2).iter().all(|record| record.status == 200));
}

#[test]
fn large_bodies_pass_both_ways_within_their_windows() {
    let target = TestTarget::answering(|seen| http::Response::new(seen.body.clone().into()));
    let gateway = TestGateway::with(
        {
            let mut entry = deployment(&[target.address]);
            entry.max_body_bytes = 20_000_000;
            snapshot(1, vec![entry])
        },
        |settings| settings.accepts_h2c = true,
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body");
    let body: String = (0..500_000).map(|number| format!("{number:08} ")).collect();
    std::fs::write(&file, &body).unwrap();
    let echoed = curl(&gateway, "/lab", &["--data-binary", &format!("@{}", file.display())]);
    assert!(echoed.starts_with("HTTP/2 200") && echoed.ends_with(&body), "{}", echoed.len());
}

#[test]
fn trailers_follow_an_answer_without_data() {
    let target = raw_target(|mut stream| {
        while read_head(&mut stream) {
            let answer =
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 7\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    let gateway = TestGateway::with(snapshot(1, vec![deployment(&[target])]), |settings| {
        settings.accepts_h2c = true;
    });
    let answer = curl(&gateway, "/lab", &[]);
    assert!(answer.starts_with("HTTP/2 200") && answer.contains("x-sum: 7"), "{answer}");
}

#[test]
fn many_streams_are_served_at_once() {
    let target = TestTarget::named("reached");
    let gateway = gateway(&target);
    let output = Command::new("h2load")
        .args(["-n", "2000", "-c", "4", "-m", "50", "-H", &format!("X-API-Key: {}", api_key(1))])
        .arg(format!("http://{}/lab", gateway.address))
        .output()
        .expect("h2load is missing: apt-get install nghttp2-client");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{text}");
    assert_eq!(gateway.usage(2_000).len(), 2_000);
}

#[test]
fn a_cancelled_stream_is_a_call_whose_client_left() {
    let (asked, asking) = mpsc::channel();
    let target = raw_target(move |mut stream| {
        read_head(&mut stream);
        asked.send(()).unwrap();
        // It never answers, and sees that it is not waited for any more.
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
        asked.send(()).unwrap();
    });
    let gateway = TestGateway::with(snapshot(1, vec![deployment(&[target])]), |settings| {
        settings.accepts_h2c = true
    });
    let mut raw = Raw::connect(&gateway);
    raw.request(1, END_STREAM, &[]);
    asking.recv_timeout(PATIENCE).unwrap();
    raw.send(RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    asking.recv_timeout(PATIENCE).unwrap();
    assert_eq!(gateway.usage(1)[0].status, 499);
    // The connection goes on.
    raw.send(HEADERS, END_HEADERS | END_STREAM, 3, &head("GET", "/nowhere", &[]));
    assert_eq!(raw.end(3), End::Answered(404));
}

#[test]
fn requests_that_http_1_would_refuse_are_refused() {
    let target = TestTarget::named("reached");
    let gateway = gateway(&target);
    let key = api_key(1);
    let base = |authority: &'static str| {
        vec![(":method", "GET"), (":scheme", "http"), (":path", "/lab"), (":authority", authority)]
    };
    let mut refused = vec![
        // Hosts that are missing, empty, doubled or odd.
        vec![(":method", "GET"), (":scheme", "http"), (":path", "/lab")],
        [base("a.example"), vec![("host", "b.example")]].concat(),
        [base("a.example"), vec![("host", "a.example"), ("host", "a.example")]].concat(),
        base("user@a.example"),
        // What ends at the next hop has no place in HTTP/2.
        [base("a.example"), vec![("connection", "close")]].concat(),
        [base("a.example"), vec![("transfer-encoding", "chunked")]].concat(),
        [base("a.example"), vec![("upgrade", "websocket")]].concat(),
        [base("a.example"), vec![("te", "gzip")]].concat(),
        [base("a.example"), vec![("X-Upper", "a")]].concat(),
        [base("a.example"), vec![("x-bad", "a\r\nb: c")]].concat(),
        [base("a.example"), vec![("x-bad", "a\0b")]].concat(),
        [base("a.example"), vec![("content-length", "5")]].concat(),
        [base("a.example"), vec![(":path", "/other")]].concat(),
        [base("a.example"), vec![("x-a", "b"), (":late", "c")]].concat(),
        vec![(":method", "TRACE"), (":scheme", "http"), (":path", "/lab"), (":authority", "a")],
        vec![(":method", "GET"), (":scheme", "http"), (":path", ""), (":authority", "a")],
        vec![(":method", "GET"), (":scheme", "http"), (":path", "lab"), (":authority", "a")],
        vec![(":method", "GET"), (":scheme", "http"), (":path", "/lab/../x"), (":authority", "a")],
    ];
    refused.push(vec![(":method", "CONNECT"), (":authority", "a.example:80")]);
    for fields in refused {
        let mut raw = Raw::connect(&gateway);
        let mut fields = fields.clone();
        fields.push(("x-api-key", &key));
        raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &encode(&fields));
        let end = raw.end(1);
        let is_refused = matches!(
            end,
            End::Reset(PROTOCOL_ERROR) | End::GoAway(PROTOCOL_ERROR) | End::Answered(400)
        );
        assert!(is_refused, "{fields:?}: {end:?}");
    }
    assert!(target.seen().is_empty());
}

#[test]
fn frames_out_of_order_end_the_connection_or_the_stream() {
    let target = TestTarget::named("reached");
    let gateway = gateway(&target);
    let closes = |name: &str, codes: &[u32], offend: &dyn Fn(&mut Raw)| {
        let mut raw = Raw::connect(&gateway);
        offend(&mut raw);
        let end = raw.end(1);
        let is_expected = match end {
            // The connection ends right behind it.
            End::GoAway(code) => codes.contains(&code) && raw.end(u32::MAX) == End::Closed,
            End::Reset(code) => codes.contains(&code),
            End::Closed => true,
            End::Answered(_) => false,
        };
        assert!(is_expected, "{name}: {end:?}");
    };
    closes("data on an idle stream", &[PROTOCOL_ERROR], &|raw| raw.send(DATA, END_STREAM, 1, b"x"));
    closes("reset of an idle stream", &[PROTOCOL_ERROR], &|raw| {
        raw.send(RST_STREAM, 0, 1, &[0; 4])
    });
    closes("window of an idle stream", &[PROTOCOL_ERROR], &|raw| {
        raw.send(WINDOW_UPDATE, 0, 1, &100_u32.to_be_bytes());
    });
    closes("a stray continuation", &[PROTOCOL_ERROR], &|raw| {
        raw.send(CONTINUATION, END_HEADERS, 1, &head("GET", "/lab", &[]));
    });
    closes("a stream number of the server", &[PROTOCOL_ERROR], &|raw| {
        raw.request(2, END_STREAM, &[])
    });
    closes("headers between headers", &[PROTOCOL_ERROR], &|raw| {
        raw.send(HEADERS, END_STREAM, 1, &head("GET", "/lab", &[]));
        raw.send(HEADERS, END_STREAM | END_HEADERS, 3, &head("GET", "/lab", &[]));
    });
    closes("a block that is no block", &[COMPRESSION_ERROR, PROTOCOL_ERROR], &|raw| {
        raw.send(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff; 12]);
    });
    closes("a frame that is too large", &[FRAME_SIZE_ERROR, PROTOCOL_ERROR], &|raw| {
        raw.send(HEADERS, END_HEADERS, 1, &vec![0; 20_000]);
    });
    closes("a window of nothing", &[PROTOCOL_ERROR], &|raw| raw.send(WINDOW_UPDATE, 0, 0, &[0; 4]));
    closes("a window beyond all bounds", &[FLOW_CONTROL_ERROR], &|raw| {
        raw.send(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes());
    });
    closes("settings of half a setting", &[FRAME_SIZE_ERROR, PROTOCOL_ERROR], &|raw| {
        raw.send(SETTINGS, 0, 0, &[0; 3])
    });
    closes("settings on a stream", &[PROTOCOL_ERROR], &|raw| raw.send(SETTINGS, 0, 1, b""));
    closes("a short ping", &[FRAME_SIZE_ERROR, PROTOCOL_ERROR], &|raw| {
        raw.send(PING, 0, 0, &[0; 6])
    });
    closes("a body longer than announced", &[PROTOCOL_ERROR], &|raw| {
        let block = head("POST", "/lab", &[("content-length", "1")]);
        raw.send(HEADERS, END_HEADERS, 1, &block);
        raw.send(DATA, END_STREAM, 1, b"xx");
    });
    assert!(curl(&gateway, "/lab", &[]).starts_with("HTTP/2 200"));
}

#[test]
fn data_behind_the_end_is_an_offence() {
    // It never answers, so that the stream is still open on this side.
    let target = raw_target(|mut stream| while read_head(&mut stream) {});
    let gateway = TestGateway::with(snapshot(1, vec![deployment(&[target])]), |settings| {
        settings.accepts_h2c = true;
    });
    let mut raw = Raw::connect(&gateway);
    raw.request(1, END_STREAM, &[]);
    raw.send(DATA, END_STREAM, 1, b"x");
    let end = raw.end(1);
    match end {
        End::Reset(code) => assert_eq!(code, STREAM_CLOSED),
        // The connection ends right behind it.
        End::GoAway(code) => {
            assert!(matches!(code, STREAM_CLOSED | PROTOCOL_ERROR), "{end:?}");
            assert_eq!(raw.end(u32::MAX), End::Closed);
        }
        End::Closed | End::Answered(_) => panic!("{end:?}"),
    }
}

#[test]
fn a_client_that_resets_what_it_asks_for_is_stopped() {
    let target = TestTarget::named("reached");
    let gateway = gateway(&target);
    let mut raw = Raw::connect(&gateway);
    for number in 0..20_000 {
        let stream = 2 * number + 1;
        raw.request(stream, END_STREAM, &[]);
        raw.send(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }
    assert!(matches!(raw.end(u32::MAX), End::GoAway(ENHANCE_YOUR_CALM) | End::Closed));
    assert!(curl(&gateway, "/lab", &[]).starts_with("HTTP/2 200"));
}

#[test]
fn endless_headers_are_cut_off() {
    let target = TestTarget::named("reached");
    let gateway = gateway(&target);
    let mut raw = Raw::connect(&gateway);
    raw.send(HEADERS, END_STREAM, 1, &head("GET", "/lab", &[]));
    for _ in 0..2_000 {
        raw.send(
            CONTINUATION,
            0,
            1,
            &encode(&[("x-more", "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"); 20]),
        );
    }
    assert!(!matches!(raw.end(1), End::Answered(200)));
    assert!(target.seen().is_empty());
}

#[test]
fn a_client_that_never_reads_is_given_up_on() {
    let target = TestTarget::answering(|_seen| http::Response::new(vec![b'x'; 3_000_000].into()));
    let gateway = TestGateway::with(
        {
            let mut entry = deployment(&[target.address]);
            entry.upstream.timeout_ms = 500;
            snapshot(1, vec![entry])
        },
        |settings| settings.accepts_h2c = true,
    );
    let mut raw = Raw::connect(&gateway);
    raw.request(1, END_STREAM, &[]);
    // The windows are never opened, so that the call cannot end by itself.
    assert!(matches!(raw.end(1), End::Reset(_) | End::GoAway(_) | End::Closed));
    wait_for(|| (gateway.gateway().status().connections <= 1).then_some(()));
}

#[test]
fn a_drained_connection_finishes_what_it_has() {
    let target = TestTarget::answering(|_seen| {
        std::thread::sleep(Duration::from_millis(200));
        http::Response::new("done".into())
    });
    let gateway = gateway(&target);
    let mut raw = Raw::connect(&gateway);
    raw.request(1, END_STREAM, &[]);
    wait_for(|| (!target.seen().is_empty()).then_some(()));
    let stopping = std::thread::scope(|scope| {
        let stopping = scope.spawn(|| gateway.gateway().shut_down(Duration::from_secs(5)));
        assert_eq!(raw.end(1), End::Answered(200));
        drop(raw);
        stopping.join().is_ok()
    });
    assert!(stopping);
}
