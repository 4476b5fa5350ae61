//! Targets that die, hang, lie and dribble. Each time the caller is told within bounded time what went wrong, a healthy
//! route beside it does not notice, and with a second, healthy replica calls that may be repeated do not fail at all.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use model::{DeploymentEntry, DeploymentId, Resilience, Route, Seconds, TargetId};
use testkit::{Fault, FaultProxy};

use crate::support::{
    Answer, TestGateway, TestTarget, api_key, deployment, raw_target, read_head, snapshot,
};

/// The same, quick to lose patience, behind another prefix.
fn quick(number: u128, prefix: &str, targets: &[SocketAddr]) -> DeploymentEntry {
    let mut entry = deployment(targets);
    entry.id = DeploymentId::from_bits(number);
    for (at, target) in (0..).zip(&mut entry.upstream.targets) {
        target.id = TargetId::from_bits(number * 100 + at);
    }
    entry.route = Route::new(None, prefix, false).unwrap();
    entry.upstream.timeout_ms = 2_000;
    entry.upstream.resilience.per_try_timeout_seconds = Some(Seconds::from_millis(150));
    entry
}

/// A gateway with a faulty route, a route that has a healthy replica besides, and one that is only healthy.
struct Scene {
    gateway: TestGateway,
    _healthy: TestTarget,
}

impl Scene {
    fn with(faulty: SocketAddr) -> Self {
        let healthy = TestTarget::named("healthy");
        let mut alone = quick(1, "/alone", &[faulty]);
        alone.upstream.resilience.breaker.failure_percent = 0;
        let both = quick(2, "/both", &[faulty, healthy.address]);
        let beside = quick(3, "/beside", &[healthy.address]);
        let gateway = TestGateway::start(snapshot(1, vec![alone, both, beside]));
        Self { gateway, _healthy: healthy }
    }

    fn get(&self, path: &str) -> (Answer, Duration) {
        let began = Instant::now();
        let answer = self.gateway.get(path);
        (answer, began.elapsed())
    }

    /// Calls the faulty route, which answers so, and sees to it that nobody else is harmed.
    #[track_caller]
    fn assert_contained(&self, status: u16, code: &str, fault: &str) {
        for _ in 0..3 {
            let (answer, took) = self.get("/alone");
            answer.assert_problem(status, code);
            assert!(took < Duration::from_secs(1), "{took:?}");
            let (answer, took) = self.get("/beside");
            assert_eq!(answer.status, 200);
            assert!(took < Duration::from_secs(1), "{took:?}");
        }
        for _ in 0..20 {
            let (answer, took) = self.get("/both");
            assert_eq!((answer.status, answer.text()), (200, "healthy"));
            assert!(took < Duration::from_secs(1), "{took:?}");
        }
        let metrics = self.gateway.metrics();
        assert!(metrics.contains(&format!("fault=\"{fault}\"}}")), "{metrics}");
    }
}

fn proxied(fault: Fault) -> (Scene, FaultProxy, TestTarget) {
    let target = TestTarget::named("healthy");
    let proxy = FaultProxy::before(target.address);
    let scene = Scene::with(proxy.address);
    assert_eq!(scene.get("/alone").0.text(), "healthy");
    proxy.set(fault);
    (scene, proxy, target)
}

#[test]
fn a_target_that_refuses() {
    let (scene, proxy, _target) = proxied(Fault::Pass);
    proxy.sever(Fault::Refuse);
    scene.assert_contained(502, "upstream_unreachable", "connect");
    proxy.set(Fault::Pass);
    // It is ejected, and as the only one of its route tried all the same.
    assert_eq!(scene.get("/alone").0.status, 200);
}

#[test]
fn a_target_that_accepts_and_hangs() {
    let (scene, _proxy, _target) = proxied(Fault::Hang);
    scene.assert_contained(504, "upstream_timeout", "timeout");
}

#[test]
fn a_target_that_resets() {
    let (scene, _proxy, _target) = proxied(Fault::Reset);
    scene.assert_contained(502, "upstream_failed", "broken");
}

#[test]
fn a_target_that_closes_its_side_unanswered() {
    let (scene, _proxy, _target) = proxied(Fault::HalfClose);
    scene.assert_contained(502, "upstream_failed", "broken");
}

#[test]
fn a_target_that_resets_within_the_head() {
    let (scene, _proxy, _target) = proxied(Fault::ResetAfter(10));
    scene.assert_contained(502, "upstream_failed", "broken");
}

#[test]
fn a_target_that_ends_within_the_head() {
    let (scene, _proxy, _target) = proxied(Fault::Truncate(10));
    scene.assert_contained(502, "upstream_failed", "broken");
}

#[test]
fn a_target_whose_answers_are_garbled() {
    let (scene, _proxy, _target) = proxied(Fault::Corrupt);
    scene.assert_contained(502, "upstream_failed", "broken");
}

#[test]
fn a_target_that_dribbles_its_head() {
    let slow = Fault::Slow { bytes: 1, tick: Duration::from_millis(20) };
    let (scene, _proxy, _target) = proxied(slow);
    scene.assert_contained(504, "upstream_timeout", "timeout");
}

#[test]
fn a_target_that_is_late() {
    let (scene, _proxy, _target) = proxied(Fault::Delay(Duration::from_millis(400)));
    scene.assert_contained(504, "upstream_timeout", "timeout");
}

#[test]
fn a_target_with_endless_fields() {
    let target = raw_target(|mut stream| {
        if read_head(&mut stream) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n");
            while stream.write_all(b"X: 1\r\n").is_ok() {}
        }
    });
    Scene::with(target).assert_contained(502, "upstream_failed", "broken");
}

#[test]
fn a_target_that_resets_within_the_body_is_seen_to_have_failed() {
    let target = TestTarget::answering(|_seen| http::Response::new(vec![b'x'; 100_000].into()));
    let proxy = FaultProxy::before(target.address);
    let scene = Scene::with(proxy.address);
    assert_eq!(scene.get("/alone").0.body.len(), 100_000);
    for fault in [Fault::ResetAfter(50_000), Fault::Truncate(50_000)] {
        proxy.sever(fault);
        let began = Instant::now();
        let mut client = scene.gateway.client();
        let key = api_key(1);
        client.send(format!("GET /alone HTTP/1.1\r\nHost: a\r\nX-API-Key: {key}\r\n\r\n"));
        // Cut off, before or after its head has left; a reset may also overtake the head.
        let seen = client.answer();
        assert!(seen.is_none_or(|answer| !answer.whole || answer.status == 502), "{fault:?}");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(scene.get("/beside").0.status, 200);
    }
    let metrics = scene.gateway.metrics();
    assert!(metrics.contains("fault=\"broken\"}"), "{metrics}");
}

#[test]
fn an_answer_that_is_longer_than_it_says_does_not_spill_over() {
    let target = raw_target(|mut stream| {
        while read_head(&mut stream) {
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 500 No\r\n\r\n";
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    });
    let scene = Scene::with(target);
    for _ in 0..10 {
        let (answer, _) = scene.get("/alone");
        assert_eq!((answer.status, answer.text()), (200, "ok"));
    }
}

/// A target in a process of its own, which can be stopped and killed.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn start() -> Self {
        const PROGRAM: &str = "
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '7')
        self.end_headers()
        self.wfile.write(b'healthy')
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
server = Server(('127.0.0.1', 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
";
        let mut child = Command::new("python3")
            .args(["-c", PROGRAM])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], line.trim().parse().unwrap()));
        Self { child, address }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It is gone already when the test has killed it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Calls of several clients go on while `disturb` runs; all of them go well.
fn all_well_while(scene: &Scene, disturb: impl FnOnce()) {
    let address = scene.gateway.address;
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let stopped = std::sync::Arc::new(std::sync::Mutex::new(stopped));
    thread::scope(|scope| {
        for _ in 0..4 {
            let stopped = std::sync::Arc::clone(&stopped);
            scope.spawn(move || {
                let mut client = crate::support::Client::connect(address);
                while let Err(std::sync::mpsc::TryRecvError::Empty) =
                    stopped.lock().unwrap().try_recv()
                {
                    assert_eq!(client.get("/both", 1).status, 200);
                    assert_eq!(client.get("/beside", 1).status, 200);
                }
            });
        }
        thread::sleep(Duration::from_millis(100));
        disturb();
        thread::sleep(Duration::from_millis(600));
        drop(stop);
    });
}

#[test]
fn a_replica_that_is_killed_costs_no_call() {
    let process = Process::start();
    let scene = Scene::with(process.address);
    assert_eq!(scene.get("/alone").0.text(), "healthy");
    all_well_while(&scene, || process.signal("-KILL"));
    scene.assert_contained(502, "upstream_unreachable", "connect");
}

#[test]
fn a_replica_that_is_stopped_costs_no_call() {
    let process = Process::start();
    let scene = Scene::with(process.address);
    assert_eq!(scene.get("/alone").0.text(), "healthy");
    all_well_while(&scene, || process.signal("-STOP"));
    scene.assert_contained(504, "upstream_timeout", "timeout");
    process.signal("-CONT");
    assert_eq!(scene.get("/alone").0.status, 200);
}

#[test]
fn a_call_that_may_not_be_repeated_is_not() {
    let target = TestTarget::named("healthy");
    let proxy = FaultProxy::before(target.address);
    let mut entry = quick(1, "/lab", &[proxy.address, target.address]);
    entry.upstream.resilience = Resilience::default();
    let gateway = TestGateway::serving(entry);
    proxy.set(Fault::ResetAfter(1));
    let mut statuses: Vec<_> = (0..4)
        .map(|_| {
            let key = api_key(1);
            gateway.client().call("POST", "/lab", &[("X-API-Key", &key)], b"once").status
        })
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 502, 502]);
    // Each arrived once, whether or not the answer came through.
    assert_eq!(target.seen().len(), 4);
}

#[test]
fn a_client_is_not_kept_waiting_by_a_target_that_never_ends() {
    let target = raw_target(|mut stream| {
        if read_head(&mut stream) {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            while stream.write_all(b"1\r\nx\r\n").is_ok() {
                thread::sleep(Duration::from_millis(10));
            }
        }
    });
    let mut entry = quick(1, "/lab", &[target]);
    entry.upstream.timeout_ms = 400;
    let gateway = TestGateway::serving(entry);
    let began = Instant::now();
    let stream = TcpStream::connect(gateway.address).unwrap();
    let request = format!("GET /lab HTTP/1.1\r\nHost: a\r\nX-API-Key: {}\r\n\r\n", api_key(1));
    (&stream).write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    // That it was cut off shows as a reset or as a body without its end.
    let _ = (&stream).read_to_end(&mut bytes);
    assert!(!bytes.ends_with(b"0\r\n\r\n"));
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}
