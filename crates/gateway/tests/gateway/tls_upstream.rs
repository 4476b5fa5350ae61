//! Targets behind TLS: whom the gateway believes, and whom it does not.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use model::{DeploymentEntry, Protocol, UpstreamTls, UpstreamUrl};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{ServerConfig, crypto::aws_lc_rs, server::NoServerSessionStorage};
use rustls_pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use crate::support::{TestGateway, TestTarget, deployment, snapshot};

/// An authority of a test.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// The settings of a server with a certificate for `names`, adjusted.
    pub(crate) fn server(
        &self,
        names: &[&str],
        adjust: impl FnOnce(&mut CertificateParams),
    ) -> ServerConfig {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        adjust(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap()
    }
}

/// A target behind TLS that says how it was spoken to.
pub(crate) fn secure_target(config: ServerConfig) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            listener.set_nonblocking(true).unwrap();
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let session = stream.get_ref().1;
                    let said = format!(
                        "{:?} {:?}",
                        session.protocol_version().unwrap(),
                        session.handshake_kind().unwrap()
                    );
                    let service = service_fn(move |request: http::Request<_>| {
                        let said = format!("{:?} {said}", request.version());
                        async move {
                            let _: hyper::body::Incoming = request.into_body();
                            let body = Full::new(Bytes::from(said));
                            Ok::<_, std::convert::Infallible>(Response::new(body))
                        }
                    });
                    let _ = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
    });
    address
}

/// A deployment of `/lab` at `https://HOST:PORT` that trusts `authority`.
pub(crate) fn secure(host: &str, address: SocketAddr, authority: Option<&str>) -> DeploymentEntry {
    let mut entry = deployment(&[address]);
    let url = format!("https://{host}:{}", address.port());
    entry.upstream.targets[0].url = UpstreamUrl::parse(&url).unwrap();
    entry.upstream.tls.ca_certificates = authority.map(str::to_owned);
    entry
}

fn alpn(mut config: ServerConfig, protocols: &[&str]) -> ServerConfig {
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

#[test]
fn a_trusted_target_is_called() {
    let authority = Authority::new();
    let target = secure_target(authority.server(&["127.0.0.1", "localhost"], |_params| {}));
    for host in ["127.0.0.1", "localhost"] {
        let gateway = TestGateway::serving(secure(host, target, Some(&authority.pem())));
        let answer = gateway.get("/lab");
        assert_eq!((answer.status, answer.text()), (200, "HTTP/1.1 TLSv1_3 Full"), "{host}");
    }
}

#[test]
fn the_last_version_but_one_will_do() {
    let authority = Authority::new();
    let config = authority.server(&["127.0.0.1"], |_params| {});
    let key = config.cert_resolver;
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(key);
    let target = secure_target(config);
    let gateway = TestGateway::serving(secure("127.0.0.1", target, Some(&authority.pem())));
    assert_eq!(gateway.get("/lab").text(), "HTTP/1.1 TLSv1_2 Full");
}

#[test]
fn sessions_are_resumed() {
    let authority = Authority::new();
    let target = secure_target(authority.server(&["127.0.0.1"], |_params| {}));
    let snapshot = snapshot(1, vec![secure("127.0.0.1", target, Some(&authority.pem()))]);
    let gateway = TestGateway::with(snapshot, |settings| {
        settings.max_idle_upstream = 0;
        settings.workers = 1;
    });
    assert_eq!(gateway.get("/lab").text(), "HTTP/1.1 TLSv1_3 Full");
    // The ticket came with the first answer.
    assert_eq!(gateway.get("/lab").text(), "HTTP/1.1 TLSv1_3 Resumed");
}

#[test]
fn connections_are_kept() {
    let authority = Authority::new();
    let mut config = authority.server(&["127.0.0.1"], |_params| {});
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    let target = secure_target(config);
    let proxy = testkit::FaultProxy::before(target);
    let gateway = TestGateway::with(
        snapshot(1, vec![secure("127.0.0.1", proxy.address, Some(&authority.pem()))]),
        |settings| settings.workers = 1,
    );
    for _ in 0..5 {
        assert_eq!(gateway.get("/lab").status, 200);
    }
    assert_eq!(proxy.accepted(), 1);
}

#[track_caller]
fn assert_not_believed(config: ServerConfig, host: &str, authority: Option<&str>) {
    let target = secure_target(config);
    let healthy = TestTarget::named("healthy");
    let mut entry = secure(host, target, authority);
    entry.upstream.retries = 0;
    let gateway = TestGateway::serving(entry.clone());
    gateway.get("/lab").assert_problem(502, "upstream_certificate");
    let metrics = gateway.metrics();
    assert!(metrics.contains("fault=\"certificate\"} 1"), "{metrics}");
    // A replica that can prove who it is takes the calls.
    entry.upstream.retries = 1;
    entry.upstream.targets.push(deployment(&[healthy.address]).upstream.targets.remove(0));
    entry.upstream.targets[1].id = model::TargetId::from_bits(77);
    let gateway = TestGateway::serving(entry);
    for _ in 0..6 {
        assert_eq!(gateway.get("/lab").text(), "healthy");
    }
}

#[test]
fn an_expired_certificate_is_not_believed() {
    let authority = Authority::new();
    let config = authority.server(&["127.0.0.1"], |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    });
    assert_not_believed(config, "127.0.0.1", Some(&authority.pem()));
}

#[test]
fn a_certificate_that_is_not_valid_yet_is_not_believed() {
    let authority = Authority::new();
    let config = authority.server(&["127.0.0.1"], |params| {
        params.not_before = date_time_ymd(2090, 1, 1);
        params.not_after = date_time_ymd(2091, 1, 1);
    });
    assert_not_believed(config, "127.0.0.1", Some(&authority.pem()));
}

#[test]
fn a_certificate_of_another_host_is_not_believed() {
    let authority = Authority::new();
    for host in ["127.0.0.1", "localhost"] {
        let config = authority.server(&["other.example", "127.0.0.2"], |_params| {});
        assert_not_believed(config, host, Some(&authority.pem()));
    }
}

#[test]
fn a_certificate_of_a_stranger_is_not_believed() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    for trusted in [None, Some(authority.pem())] {
        let config = stranger.server(&["127.0.0.1"], |_params| {});
        assert_not_believed(config, "127.0.0.1", trusted.as_deref());
    }
}

#[test]
fn another_name_can_be_asked_for() {
    let authority = Authority::new();
    let target = secure_target(authority.server(&["lab.example"], |_params| {}));
    let mut entry = secure("127.0.0.1", target, Some(&authority.pem()));
    entry.upstream.tls.server_name = Some("lab.example".to_owned());
    assert_eq!(TestGateway::serving(entry).get("/lab").status, 200);
}

#[test]
fn a_route_that_trusts_less_never_uses_the_connections_of_one_that_trusts_more() {
    let authority = Authority::new();
    let target = secure_target(authority.server(&["127.0.0.1"], |_params| {}));
    let trusting = secure("127.0.0.1", target, Some(&authority.pem()));
    let mut strict = secure("127.0.0.1", target, None);
    strict.id = model::DeploymentId::from_bits(2);
    strict.upstream.targets[0].id = model::TargetId::from_bits(2);
    strict.route = model::Route::new(None, "/strict", false).unwrap();
    strict.upstream.tls = UpstreamTls::default();
    let snapshot = snapshot(1, vec![trusting, strict]);
    let gateway = TestGateway::with(snapshot, |settings| settings.workers = 1);
    assert_eq!(gateway.get("/lab").status, 200);
    gateway.get("/strict").assert_problem(502, "upstream_certificate");
    assert_eq!(gateway.get("/lab").status, 200);
}

#[test]
fn a_target_that_speaks_no_tls_is_unreachable() {
    let plain = TestTarget::named("plain");
    let gateway = TestGateway::serving(secure("127.0.0.1", plain.address, None));
    gateway.get("/lab").assert_problem(502, "upstream_unreachable");
}

#[test]
fn a_handshake_that_never_ends_is_given_up() {
    let target = TestTarget::named("x");
    let proxy = testkit::FaultProxy::before(target.address);
    proxy.set(testkit::Fault::Hang);
    let mut entry = secure("127.0.0.1", proxy.address, None);
    entry.upstream.retries = 0;
    let snapshot = snapshot(1, vec![entry]);
    let gateway = TestGateway::with(snapshot, |settings| {
        settings.connect_timeout = Duration::from_millis(200);
    });
    let began = std::time::Instant::now();
    gateway.get("/lab").assert_problem(502, "upstream_unreachable");
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[test]
fn the_target_decides_on_the_protocol_unless_it_is_set() {
    let authority = Authority::new();
    let spoken = |offered: &[&str], wanted: Protocol| {
        let config = authority.server(&["127.0.0.1"], |_params| {});
        let target = secure_target(alpn(config, offered));
        let mut entry = secure("127.0.0.1", target, Some(&authority.pem()));
        entry.upstream.protocol = wanted;
        let answer = TestGateway::serving(entry).get("/lab");
        answer.text().split(' ').next().unwrap().to_owned()
    };
    let both: &[&str] = &["h2", "http/1.1"];
    assert_eq!(spoken(both, Protocol::Auto), "HTTP/2.0");
    assert_eq!(spoken(both, Protocol::Http1), "HTTP/1.1");
    assert_eq!(spoken(both, Protocol::Http2), "HTTP/2.0");
    assert_eq!(spoken(&["http/1.1"], Protocol::Auto), "HTTP/1.1");
    assert_eq!(spoken(&[], Protocol::Auto), "HTTP/1.1");
}

#[test]
fn bodies_pass_whole_both_ways() {
    let authority = Authority::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::new(authority.server(&["127.0.0.1"], |_params| {}));
    thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in listener.incoming().flatten() {
            let session = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = rustls::StreamOwned::new(session, stream);
            let mut seen = Vec::new();
            let mut part = [0; 16 << 10];
            while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
                let read = stream.read(&mut part).unwrap();
                seen.extend_from_slice(&part[..read]);
            }
            let head = seen.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
            while seen.len() < head + (4 << 20) {
                let read = stream.read(&mut part).unwrap();
                seen.extend_from_slice(&part[..read]);
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 4 << 20);
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&seen[seen.len() - (4 << 20)..]).unwrap();
            stream.flush().unwrap();
        }
    });
    let mut entry = secure("127.0.0.1", address, Some(&authority.pem()));
    entry.max_body_bytes = 8 << 20;
    let gateway = TestGateway::serving(entry);
    let body: Vec<u8> = (0..4_u32 << 20).map(|at| at.to_le_bytes()[1]).collect();
    let key = crate::support::api_key(1);
    let answer = gateway.client().call("POST", "/lab", &[("X-API-Key", &key)], &body);
    assert_eq!((answer.status, answer.whole), (200, true));
    assert!(answer.body == body);
}
