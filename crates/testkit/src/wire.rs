//! Requests written byte by byte, for what a well-behaved client does not send.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::Answer;

/// Sends bytes and reads the answer to the end of the connection.
pub async fn exchange(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    read(stream).await
}

/// Sends a head and then so many bytes of body, as many as are taken; reads the answer meanwhile. Says how many bytes
/// were sent.
pub async fn flood(address: SocketAddr, head: &str, length: usize) -> (Answer, usize) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (reader, mut writer) = stream.into_split();
    let head = head.to_owned();
    let sending = async move {
        let piece = vec![b' '; 64 * 1024];
        let mut sent = 0;
        if writer.write_all(head.as_bytes()).await.is_err() {
            return sent;
        }
        while sent < length {
            let part = piece.len().min(length - sent);
            // An end of the connection is what a refusal looks like from here.
            match writer.write(&piece[..part]).await {
                Ok(0) | Err(_) => break,
                Ok(written) => sent += written,
            }
        }
        sent
    };
    let (answer, sent) = tokio::join!(read(reader), sending);
    (answer, sent)
}

async fn read(mut stream: impl AsyncReadExt + Unpin) -> Answer {
    let mut bytes = Vec::new();
    let mut piece = vec![0; 16 * 1024];
    loop {
        if let Some(answer) = parse(&bytes) {
            return answer;
        }
        match stream.read(&mut piece).await {
            Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
            end => panic!("no whole answer ({end:?}): {}", String::from_utf8_lossy(&bytes)),
        }
    }
}

/// The answer, when it is complete; every answer of the server says how long it is.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        let name: HeaderName = name.parse().unwrap();
        headers.append(name, HeaderValue::try_from(value.trim()).unwrap());
    }
    let length = headers.get("content-length").map_or(0, |value| {
        value.to_str().ok().and_then(|text| text.parse::<usize>().ok()).unwrap()
    });
    let body = bytes.get(end + 4..end + 4 + length)?;
    Some(Answer { status, headers, body: Bytes::copy_from_slice(body) })
}
