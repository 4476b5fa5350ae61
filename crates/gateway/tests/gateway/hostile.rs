//! Requests that try to be read in two ways. Each has one outcome, and the target, which writes down every byte it gets, sees
//! either nothing of it or exactly one request that can be read in one way only.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
};

use crate::support::{TestGateway, api_key, deployment, raw_target, wait_for};

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
enum Outcome {
    /// It is answered with this status and code, the connection is closed, and the target sees nothing.
    Refused(u16, &'static str),
    /// The same, but the connection is kept, because where the request ends is beyond doubt.
    Declined(u16, &'static str),
    /// Its head was fine, and its body turns out not to be: what the target has begun to see never ends.
    BrokenOff,
    /// The target sees it once, with this first line and this body.
    Forwarded(&'static str, &'static str),
}

use Outcome::{BrokenOff, Declined, Forwarded, Refused};

const MALFORMED: Outcome = Refused(400, "malformed_request");
const AMBIGUOUS: Outcome = Declined(400, "ambiguous_path");

/// A name, a request and its outcome. `@` stands for what every request needs: a host, a key, and its number.
#[rustfmt::skip]
const REQUESTS: &[(&str, &str, Outcome)] = &[
    // Lengths.
    ("length and chunks", "POST /lab HTTP/1.1\r\n@Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunks and length", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", MALFORMED),
    ("length twice, the same", "POST /lab HTTP/1.1\r\n@Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", MALFORMED),
    ("length twice, different", "POST /lab HTTP/1.1\r\n@Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", MALFORMED),
    ("list of lengths", "POST /lab HTTP/1.1\r\n@Content-Length: 3, 3\r\n\r\nabc", MALFORMED),
    ("negative length", "POST /lab HTTP/1.1\r\n@Content-Length: -3\r\n\r\nabc", MALFORMED),
    ("length with a sign", "POST /lab HTTP/1.1\r\n@Content-Length: +3\r\n\r\nabc", MALFORMED),
    ("hexadecimal length", "POST /lab HTTP/1.1\r\n@Content-Length: 0x3\r\n\r\nabc", MALFORMED),
    ("empty length", "POST /lab HTTP/1.1\r\n@Content-Length: \r\n\r\nabc", MALFORMED),
    ("length with a gap", "POST /lab HTTP/1.1\r\n@Content-Length: 1 0\r\n\r\nabc", MALFORMED),
    ("length beyond all numbers", "POST /lab HTTP/1.1\r\n@Content-Length: 99999999999999999999999\r\n\r\nabc", MALFORMED),
    ("length behind a tab", "POST /lab HTTP/1.1\r\n@Content-Length:\t3\t\r\n\r\nabc", Forwarded("POST /lab HTTP/1.1", "abc")),
    ("length named by Connection", "POST /lab HTTP/1.1\r\n@Connection: Content-Length\r\nContent-Length: 3\r\n\r\nabc", Forwarded("POST /lab HTTP/1.1", "abc")),
    ("length with an underscore beside", "POST /lab HTTP/1.1\r\n@Content_Length: 99\r\nContent-Length: 3\r\n\r\nabc", Forwarded("POST /lab HTTP/1.1", "abc")),
    // Transfer codings.
    ("identity", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: identity\r\n\r\n", MALFORMED),
    ("chunked, then identity", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", MALFORMED),
    ("gzip, then chunked", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked twice", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("chunked twice in a list", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("a coding that only ends like it", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("quoted coding", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", MALFORMED),
    ("vertical tab before the coding", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("empty coding", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: \r\n\r\n0\r\n\r\n", MALFORMED),
    ("coding in capitals", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: CHUNKED\r\n\r\n3\r\nabc\r\n0\r\n\r\n", Forwarded("POST /lab HTTP/1.1", "abc")),
    ("chunks in HTTP/1.0", "POST /lab HTTP/1.0\r\n@Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("coding on a folded line", "POST /lab HTTP/1.1\r\n@Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("space before the colon", "POST /lab HTTP/1.1\r\n@Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("tab before the colon", "POST /lab HTTP/1.1\r\n@Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", MALFORMED),
    ("a request hidden behind chunks", "POST /lab HTTP/1.1\r\n@Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /lab/smuggled HTTP/1.1\r\n@\r\n", MALFORMED),
    ("a request hidden behind a length", "POST /lab HTTP/1.1\r\n@Content-Length: 0\r\nContent-Length: 60\r\n\r\nGET /lab/smuggled HTTP/1.1\r\n@\r\n", MALFORMED),
    // Chunks.
    ("bare LF in a chunk's extension", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5;a=\nb\r\nhello\r\n0\r\n\r\n", BrokenOff),
    ("bare CR in a chunk's extension", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5;a=\rb\r\nhello\r\n0\r\n\r\n", BrokenOff),
    ("chunk longer than it says", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n", BrokenOff),
    ("chunk size with LF alone", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", BrokenOff),
    ("chunk data with LF alone", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n", BrokenOff),
    ("chunk size with a sign", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n", BrokenOff),
    ("negative chunk size", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", BrokenOff),
    ("chunk size with 0x", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", BrokenOff),
    ("chunk size behind a space", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n 5\r\nhello\r\n0\r\n\r\n", BrokenOff),
    ("chunk size with an underscore", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n0_5\r\nhello\r\n0\r\n\r\n", BrokenOff),
    ("no chunk size", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n", BrokenOff),
    ("chunk size beyond all numbers", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff5\r\nhello\r\n0\r\n\r\n", BrokenOff),
    ("trailer with NUL", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: a\0b\r\n\r\n", BrokenOff),
    ("folded trailer", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: a\r\n b\r\n\r\n", BrokenOff),
    ("trailer that sets a length", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nContent-Length: 50\r\n\r\n", Forwarded("POST /lab HTTP/1.1", "hello")),
    ("trailer that sets a coding", "POST /lab HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nTransfer-Encoding: chunked\r\nHost: b\r\n\r\n", Forwarded("POST /lab HTTP/1.1", "hello")),
    // Lines.
    ("bare LF between fields", "GET /lab HTTP/1.1\r\n@X-A: b\nX-C: d\r\n\r\n", MALFORMED),
    ("bare CR between fields", "GET /lab HTTP/1.1\r\n@X-A: b\rX-C: d\r\n\r\n", MALFORMED),
    ("LF alone everywhere", "GET /lab HTTP/1.1\nHost: a\n\n", MALFORMED),
    ("bare LF after the first line", "GET /lab HTTP/1.1\n@\r\n", MALFORMED),
    ("NUL in a value", "GET /lab HTTP/1.1\r\n@X-A: b\0\r\n\r\n", MALFORMED),
    ("NUL in a name", "GET /lab HTTP/1.1\r\n@X\0A: b\r\n\r\n", MALFORMED),
    ("control character in a value", "GET /lab HTTP/1.1\r\n@X-A: b\x01\r\n\r\n", MALFORMED),
    ("delete in a value", "GET /lab HTTP/1.1\r\n@X-A: b\x7f\r\n\r\n", MALFORMED),
    ("folded line", "GET /lab HTTP/1.1\r\n@X-A: b\r\n folded\r\n\r\n", MALFORMED),
    ("space before the first field", "GET /lab HTTP/1.1\r\n Host: a\r\n@\r\n", MALFORMED),
    ("no colon", "GET /lab HTTP/1.1\r\n@X-A\r\n\r\n", MALFORMED),
    ("no name", "GET /lab HTTP/1.1\r\n@: b\r\n\r\n", MALFORMED),
    ("parenthesis in a name", "GET /lab HTTP/1.1\r\n@X(A): b\r\n\r\n", MALFORMED),
    ("letters beyond ASCII in a name", "GET /lab HTTP/1.1\r\n@X-\u{e9}: b\r\n\r\n", MALFORMED),
    // Hosts.
    ("no host", "GET /lab HTTP/1.1\r\nX-A: b\r\n\r\n", MALFORMED),
    ("host twice", "GET /lab HTTP/1.1\r\n@Host: b\r\n\r\n", MALFORMED),
    ("host with a space", "GET /lab HTTP/1.1\r\nHost: a b\r\n\r\n", MALFORMED),
    ("host with a path", "GET /lab HTTP/1.1\r\nHost: a/b\r\n\r\n", MALFORMED),
    ("host with a user", "GET /lab HTTP/1.1\r\nHost: u@a\r\n\r\n", MALFORMED),
    ("host with a comma", "GET /lab HTTP/1.1\r\nHost: a, b\r\n\r\n", MALFORMED),
    ("absolute form, another host", "GET http://b/lab HTTP/1.1\r\n@\r\n", MALFORMED),
    ("absolute form, the same host", "GET http://a/lab HTTP/1.1\r\n@\r\n", Forwarded("GET /lab HTTP/1.1", "")),
    // First lines.
    ("authority form", "GET a:80 HTTP/1.1\r\n@\r\n", MALFORMED),
    ("asterisk form", "GET * HTTP/1.1\r\n@\r\n", AMBIGUOUS),
    ("TRACE", "TRACE /lab HTTP/1.1\r\n@\r\n", MALFORMED),
    ("CONNECT", "CONNECT a:80 HTTP/1.1\r\n@\r\n", MALFORMED),
    ("HTTP/0.9", "GET /lab\r\n\r\n", MALFORMED),
    ("HTTP/1.2", "GET /lab HTTP/1.2\r\n@\r\n", MALFORMED),
    ("HTTP/2.0", "GET /lab HTTP/2.0\r\n@\r\n", MALFORMED),
    ("version in small letters", "GET /lab http/1.1\r\n@\r\n", MALFORMED),
    ("two spaces", "GET  /lab HTTP/1.1\r\n@\r\n", MALFORMED),
    ("tab for a space", "GET\t/lab HTTP/1.1\r\n@\r\n", MALFORMED),
    ("space before the method", " GET /lab HTTP/1.1\r\n@\r\n", MALFORMED),
    ("parenthesis in the method", "G(T /lab HTTP/1.1\r\n@\r\n", MALFORMED),
    ("space in the path", "GET /lab/a b HTTP/1.1\r\n@\r\n", MALFORMED),
    ("fragment", "GET /lab#x HTTP/1.1\r\n@\r\n", MALFORMED),
    ("control character in the path", "GET /lab/\x01 HTTP/1.1\r\n@\r\n", MALFORMED),
    // Paths.
    ("dots", "GET /lab/../secret HTTP/1.1\r\n@\r\n", AMBIGUOUS),
    ("encoded dots", "GET /lab/%2e%2e/secret HTTP/1.1\r\n@\r\n", AMBIGUOUS),
    ("half-encoded dots", "GET /lab/.%2E/secret HTTP/1.1\r\n@\r\n", AMBIGUOUS),
    ("one dot", "GET /lab/./x HTTP/1.1\r\n@\r\n", AMBIGUOUS),
    ("two slashes", "GET /lab//x HTTP/1.1\r\n@\r\n", AMBIGUOUS),
    ("encoded slash", "GET /lab/a%2fb HTTP/1.1\r\n@\r\n", AMBIGUOUS),
    ("encoded backslash", "GET /lab/a%5Cb HTTP/1.1\r\n@\r\n", AMBIGUOUS),
    ("backslash", "GET /lab/a\\b HTTP/1.1\r\n@\r\n", AMBIGUOUS),
    ("encoded NUL", "GET /lab/%00 HTTP/1.1\r\n@\r\n", AMBIGUOUS),
    ("no hexadecimal digits", "GET /lab/%zz HTTP/1.1\r\n@\r\n", AMBIGUOUS),
    ("dots before a parameter", "GET /lab/..;/x HTTP/1.1\r\n@\r\n", AMBIGUOUS),
    ("dots before an encoded parameter", "GET /lab/..%3b/x HTTP/1.1\r\n@\r\n", AMBIGUOUS),
    ("encoded letters", "GET /l%61b/%7Ex?%2e%2e=// HTTP/1.1\r\n@\r\n", Forwarded("GET /lab/~x?%2e%2e=// HTTP/1.1", "")),
    ("dots in another encoding", "GET /lab/%c0%ae%c0%ae/x HTTP/1.1\r\n@\r\n", AMBIGUOUS),
    // What is not for a target.
    ("change to HTTP/2", "GET /lab HTTP/1.1\r\n@Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n", Declined(400, "upgrade_not_supported")),
    ("key twice", "GET /lab HTTP/1.1\r\n@X-API-Key: other\r\n\r\n", Declined(400, "ambiguous_credentials")),
];

/// A request as the target read it, strictly.
#[derive(Debug, Clone)]
struct Got {
    line: String,
    fields: Vec<(String, String)>,
    /// None while it has not ended.
    body: Option<String>,
}

impl Got {
    fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(known, _)| known == name);
        named.map(|(_, value)| value.as_str()).collect()
    }
}

/// What the target read, or the bytes that it could not.
type Seen = Arc<Mutex<Vec<Result<Got, String>>>>;

/// A target that reads strictly and writes down all it reads; what it cannot read is written down as it is.
fn recording() -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let written = Arc::clone(&seen);
    let address = raw_target(move |stream| {
        let mut reader = BufReader::new(stream);
        loop {
            let head = match read_lines(&mut reader) {
                Ok(lines) if lines.is_empty() => return,
                Ok(lines) => lines,
                Err(bytes) => return written.lock().unwrap().push(Err(bytes)),
            };
            let mut got = Got { line: head[0].clone(), fields: Vec::new(), body: None };
            for line in &head[1..] {
                let (name, value) = line.split_once(": ").unwrap();
                got.fields.push((name.to_ascii_lowercase(), value.to_owned()));
            }
            got.body = read_body(&mut reader, &got);
            let has_ended = got.body.is_some();
            written.lock().unwrap().push(Ok(got));
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            if !has_ended || reader.get_mut().write_all(answer).is_err() {
                return;
            }
        }
    });
    (address, seen)
}

/// Lines up to an empty one, each ended by CR LF; nothing at the end of the connection.
fn read_lines(reader: &mut BufReader<TcpStream>) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    loop {
        let mut bytes = Vec::new();
        if reader.read_until(b'\n', &mut bytes).unwrap_or(0) == 0 {
            return Ok(Vec::new());
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let line = text.strip_suffix("\r\n").ok_or(format!("{text:?}"))?.to_owned();
        if line.contains(['\r', '\n', '\0']) {
            return Err(format!("{line:?}"));
        }
        if line.is_empty() {
            return Ok(lines);
        }
        lines.push(line);
    }
}

fn read_body(reader: &mut BufReader<TcpStream>, got: &Got) -> Option<String> {
    let mut body = Vec::new();
    if got.all("transfer-encoding").is_empty() {
        let length = got.all("content-length").first().map_or(0, |length| length.parse().unwrap());
        body.resize(length, 0);
        reader.read_exact(&mut body).ok()?;
    } else {
        loop {
            let mut size = String::new();
            reader.read_line(&mut size).ok()?;
            let size = usize::from_str_radix(size.strip_suffix("\r\n")?, 16).ok()?;
            if size == 0 {
                read_lines(reader).ok()?;
                break;
            }
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            body.extend_from_slice(chunk.strip_suffix(b"\r\n")?);
        }
    }
    String::from_utf8(body).ok()
}

#[test]
fn hostile_requests_have_one_outcome_and_none_is_forwarded_ambiguously() {
    let (address, seen) = recording();
    let gateway = TestGateway::serving(deployment(&[address]));
    for (number, (name, request, outcome)) in REQUESTS.iter().enumerate() {
        let own = format!("Host: a\r\nX-API-Key: {}\r\nX-Number: {number}\r\n", api_key(1));
        let mut client = gateway.client();
        client.send(request.replace('@', &own));
        let answer = client.answer().unwrap_or_else(|| panic!("{name}: no answer"));
        match outcome {
            Refused(status, code) => {
                answer.assert_problem(*status, code);
                assert_eq!(answer.header("connection"), Some("close"), "{name}");
                assert!(client.is_closed(), "{name}");
            }
            Declined(status, code) => answer.assert_problem(*status, code),
            BrokenOff => {
                assert_eq!(answer.status, 400, "{name}");
                assert!(client.is_closed(), "{name}");
            }
            Forwarded(..) => assert_eq!((answer.status, answer.text()), (200, "ok"), "{name}"),
        }
    }
    // What was broken off is written down only when its connection has ended.
    let forwarded = |outcome: &Outcome| matches!(outcome, Forwarded(..));
    let whole = REQUESTS.iter().filter(|(_, _, outcome)| forwarded(outcome)).count();
    wait_for(|| {
        let seen = seen.lock().unwrap();
        let ended = seen.iter().flatten().filter(|got| got.body.is_some()).count();
        (ended >= whole).then_some(())
    });
    let mut by_number: HashMap<usize, Vec<Got>> = HashMap::new();
    for got in seen.lock().unwrap().iter() {
        let got = got.as_ref().unwrap_or_else(|bytes| panic!("not to be read: {bytes}"));
        let number = got.all("x-number")[0].parse().unwrap();
        by_number.entry(number).or_default().push(got.clone());
    }
    let mut ambiguous = Vec::new();
    for (number, (name, _, outcome)) in REQUESTS.iter().enumerate() {
        let got = by_number.remove(&number).unwrap_or_default();
        let framings =
            |got: &Got| got.all("content-length").len() + got.all("transfer-encoding").len();
        let is_right = match outcome {
            Refused(..) | Declined(..) => got.is_empty(),
            BrokenOff => got.iter().all(|got| got.body.is_none()) && got.len() <= 1,
            Forwarded(line, body) => {
                got.len() == 1
                    && got[0].line == *line
                    && got[0].body.as_deref() == Some(*body)
                    && framings(&got[0]) == usize::from(!body.is_empty())
                    && got[0].all("host").len() == 1
            }
        };
        if !is_right {
            ambiguous.push((name, got));
        }
    }
    assert!(ambiguous.is_empty(), "{ambiguous:#?}");
    assert!(REQUESTS.len() >= 60, "{}", REQUESTS.len());
}
