//! TLS on the control listener of the real binary, with foreign clients: curl and openssl.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;
use tempfile::TempDir;
use testkit::{Database, Installation, eventually};

const BINARY: &str = env!("CARGO_BIN_EXE_caduceus");
const SOON: Duration = Duration::from_secs(20);
const HSTS: &str = "strict-transport-security: max-age=31536000\r\n";

/// Writes a certificate for `localhost` that signs itself, as NAME.crt with NAME.key, and beside the folder for who trusts
/// it.
fn write_certificate(folder: &Path, name: &str) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    fs::write(folder.join(format!("{name}.pem")), made.cert.pem()).unwrap();
    let live = folder.join("live");
    fs::create_dir_all(&live).unwrap();
    fs::write(live.join("control.crt"), made.cert.pem()).unwrap();
    fs::write(live.join("control.key"), made.signing_key.serialize_pem()).unwrap();
}

struct Secure {
    installation: Installation,
    certificates: TempDir,
}

impl Secure {
    async fn start() -> Self {
        let certificates = tempfile::tempdir().unwrap();
        write_certificate(certificates.path(), "first");
        let tls =
            json!({ "certificates": certificates.path().join("live"), "hstsSeconds": 31_536_000 });
        let changes = json!({ "control": { "tls": tls } });
        let mut installation = Installation::prepare(BINARY, Database::sqlite(), changes);
        installation.launch_gateway().await;
        Self { installation, certificates }
    }

    fn address(&self) -> SocketAddr {
        self.installation.anonymous().address()
    }

    /// What curl prints when it asks for `path`, trusting the certificate called `name`; none when it does not get there.
    fn curl(&self, name: &str, path: &str, more: &[&str]) -> Option<String> {
        let output = Command::new("curl")
            .args(["-sS", "-i", "--max-time", "10", "--cacert"])
            .arg(self.certificates.path().join(format!("{name}.pem")))
            .args(more)
            .arg(format!("https://localhost:{}{path}", self.address().port()))
            .output()
            .expect("curl is missing: apt-get install curl");
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    async fn metric(&self, line: &str) {
        eventually(line, SOON, || async {
            self.curl("first", "/metrics", &[])?.contains(line).then_some(())
        })
        .await;
    }
}

/// A connection that stays open, by a client that speaks HTTP/1.1 through openssl.
struct Kept(Child);

impl Kept {
    fn open(address: SocketAddr) -> Self {
        let openssl = Command::new("openssl")
            .args(["s_client", "-quiet", "-connect", &address.to_string()])
            .args(["-servername", "localhost"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        Self(openssl.expect("openssl is missing: apt-get install openssl"))
    }

    fn ask(&mut self) {
        let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
        self.0.stdin.as_mut().unwrap().write_all(request).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok\n") {
            let mut byte = [0];
            self.0.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_control_listener_speaks_tls_and_nothing_else() {
    let secure = Secure::start().await;
    // The control API answers once its database is open.
    let keys = eventually("the control API answers", SOON, || async {
        let text = secure.curl("first", "/api/v1/auth/jwks", &["--http2"])?;
        text.starts_with("HTTP/1.1 200").then_some(text)
    })
    .await;
    assert!(keys.contains(HSTS), "{keys}");
    let refused = secure.curl("first", "/api/v1/apis", &["-X", "POST"]).unwrap();
    assert!(refused.starts_with("HTTP/1.1 401") && refused.contains(HSTS), "{refused}");
    for version in [["--tls-max", "1.2"], ["--tlsv1.3", "--http1.1"]] {
        let alive = secure.curl("first", "/livez", &version).unwrap();
        assert!(alive.starts_with("HTTP/1.1 200") && alive.contains(HSTS), "{alive}");
    }

    let stranger = secure.certificates.path().join("stranger");
    fs::create_dir(&stranger).unwrap();
    write_certificate(&stranger, "stranger");
    assert_eq!(secure.curl("stranger/stranger", "/livez", &[]), None, "a stranger was trusted");

    let plain = secure.installation.operations().get("/livez").await;
    assert_eq!(plain.status, 400);
    assert_eq!(plain.header("connection"), Some("close"));
    assert_eq!(plain.header("strict-transport-security"), None);
    assert_eq!(plain.text(), "TLS is spoken here: use https\n");
    // The stranger that turned away, and the client without TLS.
    secure.metric("caduceus_control_tls_failures_total 2\n").await;
    let metrics = secure.curl("first", "/metrics", &[]).unwrap();
    let expiry = "caduceus_control_certificate_expiry_timestamp_seconds{certificate=\"control\"} ";
    assert!(metrics.contains(expiry) && metrics.contains("caduceus_gateway_"), "{metrics}");
    assert!(metrics.ends_with("# EOF\n") && metrics.matches("# EOF").count() == 1, "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_are_shown_and_open_connections_stay() {
    let secure = Secure::start().await;
    let mut kept = Kept::open(secure.address());
    kept.ask();
    assert_eq!(secure.curl("second", "/livez", &[]), None);
    write_certificate(secure.certificates.path(), "second");
    eventually("the second certificate is shown", SOON, || async {
        secure.curl("second", "/livez", &[])
    })
    .await;
    assert_eq!(secure.curl("first", "/livez", &[]), None, "the first certificate is still shown");
    kept.ask();

    fs::write(secure.certificates.path().join("live/control.crt"), "torn").unwrap();
    eventually("the torn certificate is noticed", SOON, || async {
        secure.installation.log().contains("those before stay in use").then_some(())
    })
    .await;
    assert!(secure.curl("second", "/livez", &[]).is_some());
    kept.ask();
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_hang_hold_nobody_up() {
    let mut secure = Secure::start().await;
    let connect = || {
        let stream = TcpStream::connect(secure.address()).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream
    };
    let silent: Vec<_> = (0..100).map(|_| connect()).collect();
    // The beginning of a record that never ends.
    let halting: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = connect();
            stream.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
            stream
        })
        .collect();
    assert!(secure.curl("first", "/livez", &["--max-time", "3"]).is_some());
    for mut stream in silent.into_iter().chain(halting) {
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    }
    secure.metric("caduceus_control_tls_failures_total 200\n").await;

    let hanging = connect();
    assert!(secure.installation.terminate().await.success());
    assert!(!secure.installation.log().contains("did not end in time"));
    drop(hanging);
}

#[test]
fn certificates_that_cannot_be_used_are_told_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let config = folder.path().join("config.yaml");
    let settings =
        json!({ "control": { "listen": "127.0.0.1:0", "tls": { "certificates": empty } } });
    fs::write(&config, settings.to_string()).unwrap();
    for (command, says) in
        [("serve", "there is no certificate in"), ("doctor", "control.tls: there is no")]
    {
        let output = Command::new(BINARY)
            .args([command, "--config"])
            .arg(&config)
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        assert!(!output.status.success() && text.contains(says), "{command}: {text}");
    }
}
