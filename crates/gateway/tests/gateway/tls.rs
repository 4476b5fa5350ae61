//! Clients that speak TLS, with foreign clients: curl and openssl.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::{Command, Stdio},
};

use gateway::TlsSettings;
use tempfile::TempDir;

use crate::support::{Client, TestGateway, TestTarget, api_key, deployment, snapshot, wait_for};

/// Writes a certificate for `host` that signs itself, and is also the authority to trust.
fn write_certificate(folder: &Path, name: &str, host: &str) {
    let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
    fs::write(folder.join(format!("{name}.crt")), made.cert.pem()).unwrap();
    fs::write(folder.join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
}

struct Secure {
    gateway: TestGateway,
    certificates: TempDir,
    target: TestTarget,
}

fn secure(redirects: bool) -> Secure {
    let certificates = tempfile::tempdir().unwrap();
    write_certificate(certificates.path(), "a", "a.example");
    write_certificate(certificates.path(), "b", "b.example");
    let target = TestTarget::named("reached");
    let gateway = TestGateway::with(snapshot(1, vec![deployment(&[target.address])]), |settings| {
        settings.tls = Some(TlsSettings {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            certificates: certificates.path().to_owned(),
            redirect_to: redirects.then_some(8443),
            hsts_seconds: 31_536_000,
        });
    });
    Secure { gateway, certificates, target }
}

impl Secure {
    fn port(&self) -> u16 {
        self.gateway.gateway().tls_addr().expect("it listens").port()
    }

    /// What curl prints when it calls `host`, trusting the certificate called `name`.
    fn curl(&self, host: &str, name: &str, more: &[&str]) -> std::process::Output {
        let port = self.port();
        Command::new("curl")
            .args(["-sS", "-i", "--max-time", "10", "--cacert"])
            .arg(self.certificates.path().join(format!("{name}.crt")))
            .args(["--resolve", &format!("{host}:{port}:127.0.0.1")])
            .args(["-H", &format!("X-API-Key: {}", api_key(1))])
            .args(more)
            .arg(format!("https://{host}:{port}/lab"))
            .output()
            .expect("curl is missing: apt-get install curl")
    }

    /// The certificate that openssl is shown for `host`, as PEM, and what it says about the session.
    fn shown(&self, host: &str, more: &[&str]) -> (bool, String) {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &format!("127.0.0.1:{}", self.port())])
            .args(["-servername", host])
            .args(more)
            .stdin(Stdio::null())
            .output()
            .expect("openssl is missing: apt-get install openssl");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

#[test]
fn the_server_name_picks_the_certificate_and_curl_the_protocol() {
    let secure = secure(false);
    for (more, status) in [(["--http1.1"], "HTTP/1.1 200"), (["--http2"], "HTTP/2 200")] {
        for (host, name) in [("a.example", "a"), ("b.example", "b")] {
            let output = secure.curl(host, name, &more);
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(
                text.starts_with(status) && text.ends_with("reached"),
                "{text} {:?}",
                output.stderr
            );
            assert!(text.contains("strict-transport-security: max-age=31536000"), "{text}");
            let seen = secure.target.last();
            assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
            assert!(seen.header("forwarded").unwrap().ends_with("proto=https"), "{seen:?}");
        }
    }
    assert!(
        !secure.curl("a.example", "b", &[]).status.success(),
        "the wrong authority was trusted"
    );
}

#[test]
fn only_modern_versions_are_spoken() {
    let secure = secure(false);
    for version in ["-tls1_2", "-tls1_3"] {
        assert!(secure.shown("a.example", &[version]).0, "{version}");
    }
    for refused in [
        ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "AES128-GCM-SHA256"],
        ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"],
    ] {
        assert!(!secure.shown("a.example", &refused).0, "{refused:?}");
    }
    wait_for(|| secure.gateway.metrics().contains("tls_failures_total 3").then_some(()));
}

#[test]
fn new_certificates_are_shown_and_open_connections_stay() {
    let secure = secure(false);
    let certificate = |text: &str| {
        let begin = text.find("-----BEGIN CERTIFICATE").unwrap();
        text[begin..text.find("-----END CERTIFICATE").unwrap()].to_owned()
    };
    let before = certificate(&secure.shown("a.example", &[]).1);
    // A connection that stays open over the change, by a client that speaks HTTP/1.1 through openssl.
    let mut open = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{}", secure.port())])
        .args(["-servername", "a.example"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is missing: apt-get install openssl");
    let request =
        format!("GET /lab HTTP/1.1\r\nHost: a.example\r\nX-API-Key: {}\r\n\r\n", api_key(1));
    let mut call = || {
        open.stdin.as_mut().unwrap().write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"reached") {
            let mut byte = [0];
            open.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
    };
    call();
    write_certificate(secure.certificates.path(), "a", "a.example");
    wait_for(|| (certificate(&secure.shown("a.example", &[]).1) != before).then_some(()));
    call();
    open.kill().unwrap();
    open.wait().unwrap();
    assert!(
        secure
            .gateway
            .metrics()
            .contains("certificate_expiry_timestamp_seconds{certificate=\"a\"}")
    );
}

#[test]
fn clients_without_tls_are_sent_to_where_it_is_spoken() {
    let secure = secure(true);
    let mut client = Client::connect(secure.gateway.address);
    for _ in 0..2 {
        let answer = client.call("POST", "/lab?a=b", &[("X-API-Key", &api_key(1))], b"body");
        assert_eq!(answer.status, 308);
        assert_eq!(answer.header("location"), Some("https://api.example.org:8443/lab?a=b"));
    }
    client.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    client.answer().expect("an answer").assert_problem(400, "malformed_request");
    assert!(secure.target.seen().is_empty());
}

#[test]
fn a_client_that_says_nothing_is_not_waited_for() {
    let certificates = tempfile::tempdir().unwrap();
    write_certificate(certificates.path(), "a", "a.example");
    let target = TestTarget::named("reached");
    let gateway = TestGateway::with(snapshot(1, vec![deployment(&[target.address])]), |settings| {
        settings.header_timeout = std::time::Duration::from_millis(200);
        settings.tls = Some(TlsSettings {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            certificates: certificates.path().to_owned(),
            redirect_to: None,
            hsts_seconds: 0,
        });
    });
    let mut silent = TcpStream::connect(gateway.gateway().tls_addr().unwrap()).unwrap();
    assert_eq!(silent.read(&mut [0; 1]).unwrap_or(0), 0);
    wait_for(|| gateway.metrics().contains("tls_failures_total 1").then_some(()));
}
