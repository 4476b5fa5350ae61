use proptest::prelude::*;

use super::*;

fn read(bytes: &[u8], step: usize) -> Result<Vec<String>, Offence> {
    let mut reader = HeadReader::new(1_000, 10);
    let mut heads = Vec::new();
    for part in bytes.chunks(step) {
        reader.text.extend_from_slice(part);
        while let Some((head, continuation)) = reader.take()? {
            let fields: Vec<_> = head
                .fields
                .iter()
                .map(|field| {
                    format!("{}={}", field.name.escape_ascii(), field.value.escape_ascii())
                })
                .collect();
            heads.push(format!(
                "{} {} {} {:?}",
                head.method,
                head.target.path,
                fields.join(","),
                continuation.body
            ));
        }
    }
    Ok(heads)
}

fn every_split(bytes: &[u8]) -> Result<Vec<String>, Offence> {
    let whole = read(bytes, bytes.len());
    for step in 1..bytes.len() {
        assert_eq!(read(bytes, step), whole, "in steps of {step}");
    }
    whole
}

#[test]
fn well_formed_heads_are_read() {
    for (request, read) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / Host=a Length(0)"),
        (
            "\r\nGET /a?b=c HTTP/1.1\r\nHost: a.b:80\r\nX-Y:\t z \r\n\r\n",
            "GET /a?b=c Host=a.b:80,X-Y=z Length(0)",
        ),
        (
            "POST / HTTP/1.1\r\nHost:a\r\nContent-Length: 5\r\nX:\r\n\r\n",
            "POST / Host=a,Content-Length=5,X= Length(5)",
        ),
        (
            "POST http://b?x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n",
            "POST /?x Host=a,Transfer-Encoding=Chunked Chunks",
        ),
        ("GET / HTTP/1.0\r\n\r\n", "GET /  Length(0)"),
    ] {
        let twice = request.repeat(2);
        assert_eq!(every_split(twice.as_bytes()), Ok(vec![read.to_owned(); 2]), "{request:?}");
    }
    assert_eq!(every_split(b"GET / HTTP/1.1\r\nHost: a\r\n"), Ok(Vec::new()));
}

#[test]
fn connections_are_kept_when_the_client_wants_it() {
    for (rest, kept) in [
        ("HTTP/1.1\r\nHost: a\r\n", true),
        ("HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n", false),
        ("HTTP/1.0\r\n", false),
        ("HTTP/1.0\r\nConnection: Keep-Alive\r\n", true),
        ("HTTP/1.0\r\nConnection: keep-alive\r\nConnection: close\r\n", false),
    ] {
        let mut reader = HeadReader::new(1_000, 10);
        reader.text.extend_from_slice(format!("GET / {rest}\r\n").as_bytes());
        let (_, continuation) = reader.take().unwrap().expect("a whole head");
        assert_eq!(continuation.keep_alive, kept, "{rest:?}");
    }
}

#[test]
fn offences_are_found() {
    for (bytes, offence) in [
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), Offence::Line),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n".to_owned(), Offence::Line),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n".to_owned(), Offence::Line),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Offence::RequestLine),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_owned(), Offence::RequestLine),
        ("GET /é HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Offence::RequestLine),
        ("GET /\r\nHost: a\r\n\r\n".to_owned(), Offence::RequestLine),
        ("GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Offence::RequestLine),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Offence::RequestLine),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Offence::Method),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Offence::Method),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n".to_owned(), Offence::Field),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(), Offence::Field),
        ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n".to_owned(), Offence::Field),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), Offence::Host),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(), Offence::Host),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(), Offence::Host),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: more\r\n\r\n".to_owned(), Offence::Expectation),
        (lengths("Content-Length: 1\r\nContent-Length: 1"), Offence::Length),
        (lengths("Content-Length: +1"), Offence::Length),
        (lengths("Content-Length:"), Offence::Length),
        (lengths("Content-Length: 1, 1"), Offence::Length),
        (lengths("Content-Length: 1\r\nTransfer-Encoding: chunked"), Offence::Length),
        (lengths("Transfer-Encoding: chunked\r\nContent-Length: 1"), Offence::Length),
        (lengths("Transfer-Encoding: gzip, chunked"), Offence::Length),
        (lengths("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), Offence::Length),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(), Offence::Length),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(10)), Offence::HeadSize),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(1_000)), Offence::HeadSize),
        ("\r\n".repeat(1_000), Offence::HeadSize),
    ] {
        assert_eq!(every_split(bytes.as_bytes()), Err(offence), "{bytes:?}");
    }
}

fn lengths(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500), step in 1_usize..20) {
        let _ = read(&bytes, step);
    }

    #[test]
    fn arbitrary_lines_read_the_same_however_they_arrive(
        lines in proptest::collection::vec("[A-Za-z: /\r\t\u{7f}]{0,12}", 0..6),
        step in 1_usize..20,
    ) {
        let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", lines.join("\r\n"));
        prop_assert_eq!(read(text.as_bytes(), step), read(text.as_bytes(), text.len()));
    }
}
