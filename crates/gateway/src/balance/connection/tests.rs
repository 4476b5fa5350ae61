//! What no client can ask for yet is tested here: switching protocols, and what comes after a body.

use std::{
    future::poll_fn,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use model::{AddressPolicy, Network, Protocol, TargetId, UpstreamTls, UpstreamUrl};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::{
    balance::{Endpoints, Need, Target, pool::connect_once},
    metrics::Metrics,
};

/// Connects to a target that reads a head, answers with these bytes and then echoes; what it read comes first.
async fn connected(answer: &'static [u8]) -> (Box<UpstreamConnection>, HeaderValue) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        assert_eq!(
            head.matches("connection: upgrade\r\nupgrade: websocket\r\n").count(),
            usize::from(answer.starts_with(b"HTTP/1.1 101")),
            "{head}"
        );
        stream.write_all(answer).unwrap();
        let mut bytes = [0; 100];
        while let Ok(read) = stream.read(&mut bytes) {
            if read == 0 || stream.write_all(&bytes[..read]).is_err() {
                return;
            }
        }
    });
    let url = UpstreamUrl::parse(&format!("http://{address}")).unwrap();
    let endpoint = Endpoints::default().at(&url, Protocol::Auto, &UpstreamTls::default());
    let metrics = Metrics::new(1, 100).upstream_for_tests(model::DeploymentId::from_bits(1));
    let entry = model::Target { id: TargetId::from_bits(1), url, weight: 1 };
    let target = Arc::new(Target::new(&entry, &metrics, endpoint).unwrap());
    let policy = AddressPolicy::allowing(vec![Network::parse("127.0.0.0/8").unwrap()]);
    let patience = Duration::from_secs(5);
    let need = Need { policy: &policy, patience, most: 1, only_http1: true, now: 0 };
    let connection = connect_once(&target, need).await.map_err(|_error| "no connection").unwrap();
    (connection, target.authority.clone())
}

async fn ask(
    connection: &mut UpstreamConnection,
    host: &HeaderValue,
    upgrade: Option<&'static str>,
) -> Result<AnswerHead, NoAnswer> {
    let upgrade = upgrade.map(HeaderValue::from_static);
    let path = PathAndQuery::from_static("/socket");
    let fields = b"x: y\r\n";
    let method = &Method::GET;
    let head = RequestHead { method, path: &path, host, fields, upgrade: upgrade.as_ref() };
    connection.begin(&head, RequestBody::Empty);
    let mut scratch = vec![0; 4_096];
    poll_fn(|context| connection.poll_answer(context, &mut scratch)).await
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(test);
}

const SWITCHED: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nX: 1\r\n\r\nfirst";

#[test]
fn a_protocol_is_switched_when_that_was_asked_for() {
    run(async {
        let (mut connection, host) = connected(SWITCHED).await;
        let head = ask(&mut connection, &host, Some("websocket")).await;
        let head = head.map_err(|_none| "no answer").unwrap();
        assert_eq!(
            (head.status, head.fields.first(&http::HeaderName::from_static("x")).unwrap()),
            (StatusCode::SWITCHING_PROTOCOLS, b"1".as_slice())
        );
        assert!(connection.has_ended() && !connection.is_reusable());
        let (mut stream, read) = connection.into_upgraded().unwrap();
        assert_eq!(&*read, b"first");
        stream.write_all(b"echo").await.unwrap();
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"echo");
    });
}

#[test]
fn a_protocol_is_not_switched_unasked() {
    run(async {
        const UNASKED: &[u8] = b"HTTP/1.1  101 Switching Protocols\r\n\r\n";
        const BARE: &[u8] = b"HTTP/1.0 101 Switching Protocols\r\n\r\n";
        for answer in [UNASKED, BARE] {
            let (mut connection, host) = connected(answer).await;
            assert_eq!(ask(&mut connection, &host, None).await.err(), Some(NoAnswer::Broken));
        }
    });
}

#[test]
fn trailers_of_an_answer_can_be_taken_once_it_has_ended() {
    run(async {
        let (mut connection, host) = connected(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\nAge: 1\r\n\r\n",
        )
        .await;
        assert!(ask(&mut connection, &host, None).await.is_ok());
        let mut scratch = vec![0; 4_096];
        let data = poll_fn(|context| connection.poll_data(context, &mut scratch)).await;
        assert_eq!(data, Some(Ok(Bytes::from_static(b"ok"))));
        while !connection.has_ended() {
            assert_eq!(poll_fn(|context| connection.poll_data(context, &mut scratch)).await, None);
        }
        let trailers = connection.take_trailers().unwrap();
        assert_eq!((trailers.len(), trailers["x-sum"].as_bytes()), (1, b"7".as_slice()));
        assert!(connection.take_trailers().is_none() && connection.is_reusable());
    });
}
