//! Targets that speak HTTP/2, well and badly.

use std::{
    future::Future,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{HeaderMap, Request, Response};
use model::{DeploymentEntry, Protocol, Seconds, TargetId};
use testkit::{Fault, FaultProxy};

use crate::support::{
    TestGateway, TestTarget, api_key, deployment, raw_target, snapshot, wait_for,
};

type Answering = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A target that speaks HTTP/2 with prior knowledge and does with each request whatever it is told.
fn http2_target<F: Future<Output = ()> + Send + 'static>(
    adjust: impl Fn(&mut h2::server::Builder) + Send + 'static,
    answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let answer: Arc<dyn Fn(Request<RecvStream>, SendResponse<Bytes>) -> Answering + Send + Sync> =
        Arc::new(move |request, respond| Box::pin(answer(request, respond)));
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let mut builder = h2::server::Builder::new();
                adjust(&mut builder);
                let answer = Arc::clone(&answer);
                connections.spawn(async move {
                    let Ok(mut connection) = builder.handshake(stream).await else { return };
                    let mut calls = tokio::task::JoinSet::new();
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        calls.spawn(answer(request, respond));
                    }
                });
            }
        });
    });
    address
}

fn say(respond: &mut SendResponse<Bytes>, text: impl Into<Bytes>) {
    // The gateway may have left.
    if let Ok(mut stream) = respond.send_response(Response::new(()), false) {
        let _ = stream.send_data(text.into(), true);
    }
}

async fn read_whole(mut body: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut whole = Vec::new();
    while let Some(Ok(data)) = body.data().await {
        body.flow_control().release_capacity(data.len()).unwrap();
        whole.extend_from_slice(&data);
    }
    (whole, body.trailers().await.unwrap_or_default())
}

fn http2(targets: &[SocketAddr]) -> DeploymentEntry {
    let mut entry = deployment(targets);
    entry.upstream.protocol = Protocol::Http2;
    entry
}

fn serving_with_one_worker(entry: DeploymentEntry) -> TestGateway {
    TestGateway::with(snapshot(1, vec![entry]), |settings| settings.workers = 1)
}

#[test]
fn a_request_arrives_as_it_was_sent() {
    let target = http2_target(
        |_builder| {},
        |request, mut respond| async move {
            let (parts, body) = request.into_parts();
            let (body, _) = read_whole(body).await;
            let said = format!(
                "{} {} {} {}",
                parts.method,
                parts.uri,
                parts.headers["content-length"].to_str().unwrap(),
                String::from_utf8(body).unwrap()
            );
            assert!(parts.headers.contains_key("x-request-id"));
            assert!(!parts.headers.contains_key("x-api-key"));
            assert_eq!(parts.headers.get_all("x-a").iter().count(), 2);
            say(&mut respond, said);
        },
    );
    let gateway = TestGateway::serving(http2(&[target]));
    let key = api_key(1);
    let fields = [("X-API-Key", key.as_str()), ("X-A", "1"), ("X-A", "2")];
    let answer = gateway.client().call("PUT", "/lab/x?y=z", &fields, b"body");
    assert_eq!(answer.text(), format!("PUT http://{target}/lab/x?y=z 4 body"));
}

#[test]
fn many_calls_share_a_connection() {
    let (busy, busiest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let target = {
        let (busy, busiest) = (Arc::clone(&busy), Arc::clone(&busiest));
        http2_target(
            |_builder| {},
            move |_request, mut respond| {
                let (busy, busiest) = (Arc::clone(&busy), Arc::clone(&busiest));
                async move {
                    let now = busy.fetch_add(1, Ordering::SeqCst) + 1;
                    busiest.fetch_max(now, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    busy.fetch_sub(1, Ordering::SeqCst);
                    say(&mut respond, "ok");
                }
            },
        )
    };
    let proxy = FaultProxy::before(target);
    let gateway = serving_with_one_worker(http2(&[proxy.address]));
    thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let mut client = gateway.client();
                (0..5).for_each(|_| assert_eq!(client.get("/lab", 1).text(), "ok"));
            });
        }
    });
    assert_eq!(proxy.accepted(), 1);
    assert!(busiest.load(Ordering::SeqCst) > 5);
}

#[test]
fn a_target_that_takes_few_streams_gets_more_connections_and_loses_no_call() {
    let target = http2_target(
        |builder| {
            builder.max_concurrent_streams(2);
        },
        |_request, mut respond| async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            say(&mut respond, "ok");
        },
    );
    let proxy = FaultProxy::before(target);
    let mut entry = http2(&[proxy.address]);
    entry.upstream.retries = 0;
    let gateway = serving_with_one_worker(entry);
    thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| {
                let mut client = gateway.client();
                (0..5).for_each(|_| assert_eq!(client.get("/lab", 1).text(), "ok"));
            });
        }
    });
    assert!((2..=8).contains(&proxy.accepted()), "{}", proxy.accepted());
}

#[test]
fn large_bodies_pass_whole_both_ways() {
    let target = http2_target(
        |_builder| {},
        |request, mut respond| async move {
            let (body, _) = read_whole(request.into_body()).await;
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from(body), true).unwrap();
            // Dropped, it would be sent no further.
            std::future::poll_fn(|context| stream.poll_reset(context)).await.ok();
        },
    );
    let mut entry = http2(&[target]);
    entry.max_body_bytes = 16 << 20;
    let gateway = TestGateway::serving(entry);
    let body: Vec<u8> = (0..8_u32 << 20).map(|at| at.to_le_bytes()[1]).collect();
    let key = api_key(1);
    for _ in 0..2 {
        let answer = gateway.client().call("POST", "/lab", &[("X-API-Key", &key)], &body);
        assert_eq!((answer.status, answer.whole, answer.body.len()), (200, true, body.len()));
        assert!(answer.body == body);
    }
}

#[test]
fn trailers_of_a_request_arrive() {
    let target = http2_target(
        |_builder| {},
        |request, mut respond| async move {
            let (body, trailers) = read_whole(request.into_body()).await;
            let trailers = trailers.unwrap();
            assert_eq!((body.as_slice(), trailers.len()), (b"abc".as_slice(), 1));
            say(&mut respond, trailers["x-sum"].as_bytes().to_vec());
        },
    );
    let gateway = TestGateway::serving(http2(&[target]));
    let mut client = gateway.client();
    let key = api_key(1);
    client.send(format!(
        "POST /lab HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Sum: 7\r\nHost: b\r\nX-Forwarded-For: c\r\n\r\n"
    ));
    assert_eq!(client.answer().unwrap().text(), "7");
}

#[test]
fn an_answer_with_trailers_ends_where_they_begin() {
    let target = http2_target(
        |_builder| {},
        |_request, mut respond| async move {
            let mut stream = respond.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"body"), false).unwrap();
            let trailers = [("grpc-status", "0")];
            let trailers = trailers.map(|(name, value)| {
                (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
            });
            stream.send_trailers(trailers.into_iter().collect()).unwrap();
        },
    );
    let gateway = TestGateway::serving(http2(&[target]));
    let mut client = gateway.client();
    for _ in 0..3 {
        let answer = client.get("/lab", 1);
        assert_eq!((answer.text(), answer.whole), ("body", true));
    }
}

#[test]
fn a_stream_refused_unseen_is_sent_again_at_no_cost() {
    let refused = Arc::new(AtomicUsize::new(0));
    let target = {
        let refused = Arc::clone(&refused);
        http2_target(
            |_builder| {},
            move |_request, mut respond| {
                let first = refused.fetch_add(1, Ordering::SeqCst).is_multiple_of(2);
                async move {
                    if first {
                        respond.send_reset(Reason::REFUSED_STREAM);
                    } else {
                        say(&mut respond, "ok");
                    }
                }
            },
        )
    };
    let mut entry = http2(&[target]);
    entry.upstream.retries = 0;
    let gateway = serving_with_one_worker(entry);
    let key = api_key(1);
    for _ in 0..5 {
        // Though it is not idempotent: the target has said that it has not looked at it.
        let answer = gateway.client().call("POST", "/lab", &[("X-API-Key", &key)], b"");
        assert_eq!(answer.text(), "ok");
    }
    assert_eq!(refused.load(Ordering::SeqCst), 10);
    assert!(!gateway.metrics().contains("fault=\"broken\""));
}

/// Reads frames until the head of a request comes, and takes note of settings; its stream, unless the gateway left.
fn next_head(stream: &mut TcpStream) -> Option<u32> {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; usize::try_from(length).unwrap()]).ok()?;
        if head[3] == 1 {
            return Some(u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A target that speaks in frames: after the greeting it does this with each head of a request.
fn framing_target(
    answer: impl Fn(usize, u32, &mut TcpStream) -> bool + Send + Sync + 'static,
) -> SocketAddr {
    let connections = AtomicUsize::new(0);
    raw_target(move |mut stream| {
        let number = connections.fetch_add(1, Ordering::SeqCst);
        stream.write_all(&frame(4, 0, 0, &[])).unwrap();
        if stream.read_exact(&mut [0; 24]).is_err() {
            return;
        }
        while let Some(id) = next_head(&mut stream) {
            if !answer(number, id, &mut stream) {
                return;
            }
        }
    })
}

/// `:status: 200` and no body.
fn empty_answer(id: u32) -> Vec<u8> {
    frame(1, 0x5, id, &[0x88])
}

#[test]
fn a_call_that_meets_a_goodbye_is_made_on_another_connection() {
    // Every connection takes two calls and says about the third that it will not look at it.
    let target = framing_target(|_connection, id, stream| {
        if id < 5 {
            return stream.write_all(&empty_answer(id)).is_ok();
        }
        let goodbye = [3_u32.to_be_bytes(), 0_u32.to_be_bytes()].concat();
        let _ = stream.write_all(&frame(7, 0, 0, &goodbye));
        let _ = stream.read(&mut [0; 100]);
        false
    });
    let mut entry = http2(&[target]);
    entry.upstream.retries = 0;
    let gateway = serving_with_one_worker(entry);
    let mut client = gateway.client();
    let key = api_key(1);
    for _ in 0..12 {
        let answer = client.call("POST", "/lab", &[("X-API-Key", &key)], b"");
        assert_eq!(answer.status, 200);
    }
    assert!(!gateway.metrics().contains("fault="), "{}", gateway.metrics());
}

/// The route with the target alone fails so, in bounded time; with a healthy replica no call fails.
#[track_caller]
fn assert_contained(target: SocketAddr, status: u16, code: &str) {
    let healthy = http2_target(|_| {}, |_, mut respond| async move { say(&mut respond, "ok") });
    let mut alone = http2(&[target]);
    alone.upstream.timeout_ms = 2_000;
    alone.upstream.resilience.per_try_timeout_seconds = Some(Seconds::from_millis(150));
    let mut both = alone.clone();
    both.id = model::DeploymentId::from_bits(2);
    both.route = model::Route::new(None, "/both", false).unwrap();
    both.upstream.targets.push(http2(&[healthy]).upstream.targets.remove(0));
    for (at, target) in (50..).zip(&mut both.upstream.targets) {
        target.id = TargetId::from_bits(at);
    }
    let gateway = TestGateway::start(snapshot(1, vec![alone, both]));
    for _ in 0..3 {
        let began = Instant::now();
        gateway.get("/lab").assert_problem(status, code);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    for _ in 0..20 {
        let answer = gateway.get("/both");
        assert_eq!((answer.status, answer.text()), (200, "ok"));
    }
}

#[test]
fn a_storm_of_resets_is_contained() {
    let target = http2_target(
        |_builder| {},
        |_request, mut respond| async move { respond.send_reset(Reason::INTERNAL_ERROR) },
    );
    assert_contained(target, 502, "upstream_failed");
}

#[test]
fn a_storm_of_refusals_is_contained() {
    let target = http2_target(
        |_builder| {},
        |_request, mut respond| async move { respond.send_reset(Reason::REFUSED_STREAM) },
    );
    assert_contained(target, 502, "upstream_failed");
}

#[test]
fn a_storm_of_goodbyes_is_contained() {
    let target = framing_target(|_connection, _id, stream| {
        let goodbye = [0_u32.to_be_bytes(), 11_u32.to_be_bytes()].concat();
        let _ = stream.write_all(&frame(7, 0, 0, &goodbye));
        false
    });
    assert_contained(target, 502, "upstream_failed");
}

#[test]
fn a_target_that_answers_nothing_is_contained() {
    let target = framing_target(|_connection, _id, _stream| true);
    assert_contained(target, 504, "upstream_timeout");
}

#[test]
fn a_connection_on_which_pings_stay_unanswered_is_given_up() {
    let silent = framing_target(|_connection, _id, _stream| true);
    let well = http2_target(
        |_builder| {},
        |_request, mut respond| async move { say(&mut respond, "well") },
    );
    let mut entry = http2(&[silent, well]);
    entry.upstream.timeout_ms = 60_000;
    let gateway = serving_with_one_worker(entry);
    let mut client = gateway.client();
    client.stream().set_read_timeout(Some(Duration::from_secs(50))).unwrap();
    // Calls go to one and the other in turn, until one meets the silent target.
    let mut took = Duration::ZERO;
    while took < Duration::from_secs(1) {
        let began = Instant::now();
        assert_eq!(client.get("/lab", 1).text(), "well");
        took = began.elapsed();
    }
    assert!((Duration::from_secs(25)..Duration::from_secs(45)).contains(&took), "{took:?}");
    assert!(gateway.metrics().contains("fault=\"broken\"}"));
}

#[test]
fn endless_fields_are_contained() {
    let target = framing_target(|_connection, id, stream| {
        // `x: x…` without indexing, again and again, in frames that never say that they are the last.
        let mut field = vec![0x00, 1, b'x', 100];
        field.extend_from_slice(&[b'x'; 100]);
        let block = field.repeat(100);
        let mut begun = frame(1, 0, id, &[&[0x88], block.as_slice()].concat());
        while stream.write_all(&begun).is_ok() {
            begun = frame(9, 0, id, &block);
        }
        false
    });
    assert_contained(target, 502, "upstream_failed");
}

#[test]
fn what_is_no_http2_is_contained() {
    let plain = TestTarget::named("HTTP/1.1");
    assert_contained(plain.address, 502, "upstream_unreachable");
}

#[test]
fn a_connection_that_is_cut_costs_no_call_that_may_be_repeated() {
    let target = http2_target(|_| {}, |_, mut respond| async move { say(&mut respond, "ok") });
    let proxy = FaultProxy::before(target);
    let gateway = serving_with_one_worker(http2(&[proxy.address, target]));
    thread::scope(|scope| {
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = gateway.client();
                    (0..300).for_each(|_| assert_eq!(client.get("/lab", 1).text(), "ok"));
                })
            })
            .collect();
        while callers.iter().any(|caller| !caller.is_finished()) {
            proxy.sever(Fault::Pass);
            thread::sleep(Duration::from_millis(5));
        }
    });
}

#[test]
fn a_client_that_does_not_read_slows_its_target_and_nobody_else() {
    let sent = Arc::new(AtomicUsize::new(0));
    let target = {
        let sent = Arc::clone(&sent);
        http2_target(
            |_builder| {},
            move |request, mut respond| {
                let sent = Arc::clone(&sent);
                async move {
                    if request.uri().path() != "/lab/endless" {
                        return say(&mut respond, "ok");
                    }
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    loop {
                        stream.reserve_capacity(16 << 10);
                        let room = std::future::poll_fn(|context| stream.poll_capacity(context));
                        let Some(Ok(room)) = room.await else { return };
                        sent.fetch_add(room, Ordering::SeqCst);
                        if stream.send_data(vec![b'x'; room].into(), false).is_err() {
                            return;
                        }
                    }
                }
            },
        )
    };
    let gateway = serving_with_one_worker(http2(&[target]));
    let mut stuck = gateway.client();
    let key = api_key(1);
    stuck.send(format!("GET /lab/endless HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n"));
    // It stops when the windows and the buffers between are full.
    let mut before = usize::MAX;
    let held = wait_for(|| {
        thread::sleep(Duration::from_millis(100));
        let now = sent.load(Ordering::SeqCst);
        (now > 0 && std::mem::replace(&mut before, now) == now).then_some(now)
    });
    assert!(held < 16 << 20, "{held}");
    let mut other = gateway.client();
    for _ in 0..20 {
        assert_eq!(other.get("/lab", 1).text(), "ok");
    }
}
