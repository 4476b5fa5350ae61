//! A gateway, targets and clients for tests. Everything listens on ports of its own.

use std::{
    collections::HashMap,
    convert::Infallible,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use gateway::{CredentialKey, Gateway, GatewayKeys, GatewaySettings};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use model::{
    AddressPolicy, AgreementEntry, ApiId, ApiKey, ApiLifecycle, ApplicationId, Audience, Balance,
    Clock, CredentialEntry, CredentialId, DeploymentEntry, DeploymentId, Limit, LimitAmount,
    LimitScope, Network, OperationEntry, PlanEntry, PlanId, Quota, QuotaUse, RosterDigest,
    RosterEntry, RosterPage, Route, Slug, Structure, SubscriptionId, Target, TargetId, TenantId,
    Update, Upstream, UpstreamUrl, UsageRecord, VersionId,
};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const KEY: [u8; 32] = [7; 32];
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn keys() -> GatewayKeys {
    GatewayKeys {
        credential_key: CredentialKey::new(KEY),
        state_key: journal::Key::new(KEY),
        usage_key: journal::Key::new(KEY),
    }
}

/// The key of consumer number `number`.
pub(crate) fn api_key(number: u8) -> String {
    ApiKey::from_random(&[number; 32]).expose().to_owned()
}

pub(crate) fn version() -> VersionId {
    VersionId::from_bits(1)
}

/// A deployment of `/lab` with the given targets and nothing special.
pub(crate) fn deployment(targets: &[SocketAddr]) -> DeploymentEntry {
    let target = |(number, address): (u128, &SocketAddr)| Target {
        id: TargetId::from_bits(number + 1),
        url: UpstreamUrl::parse(&format!("http://{address}")).unwrap(),
        weight: 1,
    };
    DeploymentEntry {
        id: DeploymentId::from_bits(1),
        api: ApiId::from_bits(1),
        api_name: "Lab results".to_owned(),
        version: version(),
        version_number: "1.0.0".to_owned(),
        tenant: TenantId::from_bits(1),
        tenant_slug: "north".to_owned(),
        audience: Audience::Everyone,
        lifecycle: ApiLifecycle::Active,
        route: Route::new(None, "/lab", false).unwrap(),
        upstream: Upstream {
            targets: (0..).zip(targets).map(target).collect(),
            balance: Balance::RoundRobin,
            hash_on: None,
            protocol: model::Protocol::Auto,
            tls: model::UpstreamTls::default(),
            health_check: None,
            timeout_ms: 5_000,
            retries: 1,
            resilience: model::Resilience::default(),
        },
        limits: Vec::new(),
        max_body_bytes: 100_000,
        delivery: model::Delivery::default(),
        operations: Vec::new(),
        validation: None,
    }
}

pub(crate) fn operation(
    method: &str,
    template: &str,
    takes: &[&str],
    gives: &[&str],
) -> OperationEntry {
    let owned = |types: &[&str]| types.iter().map(|text| (*text).to_owned()).collect();
    OperationEntry {
        method: method.to_owned(),
        template: template.to_owned(),
        request_media_types: owned(takes),
        response_media_types: owned(gives),
    }
}

/// A whole state: a structure and the roster beside it.
#[derive(Clone)]
pub(crate) struct Snapshot {
    pub(crate) number: u64,
    pub(crate) compiled_at: Timestamp,
    pub(crate) deployments: Vec<DeploymentEntry>,
    pub(crate) agreements: Vec<Agreement>,
    pub(crate) credentials: Vec<CredentialEntry>,
}

/// An agreement under a plan of its own.
#[derive(Clone)]
pub(crate) struct Agreement {
    pub(crate) id: SubscriptionId,
    pub(crate) application: ApplicationId,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) limits: Vec<Limit>,
    pub(crate) quota: Option<Quota>,
    pub(crate) quota_used: u64,
}

impl Snapshot {
    /// What a gateway is told to serve this state, whatever it served before.
    pub(crate) fn update(&self) -> Update {
        let plan = |agreement: &Agreement| PlanId::from_bits(agreement.id.bits());
        let structure = Structure {
            number: self.number,
            compiled_at: self.compiled_at,
            deployments: self.deployments.iter().cloned().map(Arc::new).collect(),
            plans: self
                .agreements
                .iter()
                .map(|agreement| PlanEntry {
                    id: plan(agreement),
                    limits: agreement.limits.clone(),
                    quota: agreement.quota,
                })
                .collect(),
            inactive_tenants: Vec::new(),
        };
        let agreements = self.agreements.iter().map(|agreement| {
            RosterEntry::Agreement(AgreementEntry {
                id: agreement.id,
                application: agreement.application,
                version: version(),
                plan: plan(agreement),
                expires_at: agreement.expires_at,
            })
        });
        let credentials = self.credentials.iter().copied().map(RosterEntry::Credential);
        let present: Vec<_> = agreements.chain(credentials).collect();
        let used = self.agreements.iter().filter_map(|agreement| {
            Some((agreement.id, agreement.quota?.period, agreement.quota_used))
        });
        Update {
            structure: Some(Arc::new(structure)),
            roster: Some(RosterPage {
                epoch: 1,
                renews: true,
                digest: Some(
                    present
                        .iter()
                        .fold(RosterDigest::default(), |digest, entry| digest.with(entry)),
                ),
                present,
                to: self.number,
                ..RosterPage::default()
            }),
            quota: Some(QuotaUse { at: self.compiled_at, used: used.collect() }),
            reached: Some(self.number),
        }
    }
}

/// A snapshot in which consumers 1 to 3 may call the deployment; consumer 3 is of tenant 3, the others of tenant 2.
/// Consumer 4 has a key and no agreement.
pub(crate) fn snapshot(number: u64, deployments: Vec<DeploymentEntry>) -> Snapshot {
    let application = |number: u8| ApplicationId::from_bits(number.into());
    let agreement = |number: u8| Agreement {
        id: SubscriptionId::from_bits(number.into()),
        application: application(number),
        expires_at: None,
        limits: Vec::new(),
        quota: None,
        quota_used: 0,
    };
    let credential = |number: u8| CredentialEntry {
        id: CredentialId::from_bits(number.into()),
        digest: keys().credential_key.digest(&api_key(number)),
        application: application(number),
        tenant: TenantId::from_bits(if number == 3 { 3 } else { 2 }),
        expires_at: None,
    };
    Snapshot {
        number,
        compiled_at: Clock::system().now(),
        deployments,
        agreements: (1..=3).map(agreement).collect(),
        credentials: (1..=4).map(credential).collect(),
    }
}

pub(crate) fn rate(name: &str, per: LimitScope, requests: u32, window_seconds: u32) -> Limit {
    let amount = LimitAmount::Rate { requests, window_seconds, burst: requests };
    Limit { name: Slug::parse(name).unwrap(), per, amount }
}

pub(crate) fn quota(requests: u64) -> Option<Quota> {
    Some(Quota { requests, period: model::QuotaPeriod::Month })
}

/// A gateway with a state folder of its own.
pub(crate) struct TestGateway {
    gateway: Option<Gateway>,
    pub(crate) state: TempDir,
    pub(crate) address: SocketAddr,
}

pub(crate) fn settings(state: &TempDir) -> GatewaySettings {
    GatewaySettings {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        workers: 2,
        state_dir: state.path().to_owned(),
        address_policy: AddressPolicy::allowing(vec![Network::parse("127.0.0.0/8").unwrap()]),
        connect_timeout: Duration::from_secs(1),
        ..GatewaySettings::default()
    }
}

impl TestGateway {
    pub(crate) fn start(snapshot: Snapshot) -> Self {
        Self::with(snapshot, |_settings| {})
    }

    pub(crate) fn serving(deployment: DeploymentEntry) -> Self {
        Self::start(snapshot(1, vec![deployment]))
    }

    #[expect(clippy::needless_pass_by_value, reason = "most tests make one just for this")]
    pub(crate) fn with(snapshot: Snapshot, adjust: impl FnOnce(&mut GatewaySettings)) -> Self {
        let state = tempfile::tempdir().unwrap();
        let mut settings = settings(&state);
        adjust(&mut settings);
        let gateway = Gateway::start(settings, &keys(), Clock::system()).unwrap();
        gateway.take(&snapshot.update()).unwrap();
        let address = gateway.local_addr();
        Self { gateway: Some(gateway), state, address }
    }

    pub(crate) fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().unwrap()
    }

    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        self.gateway().encode_metrics(&mut text).unwrap();
        text
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// One call with the key of consumer 1 on a connection of its own.
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.client().get(path, 1)
    }

    /// The usage records, once there are `count` of them.
    pub(crate) fn usage(&self, count: usize) -> Vec<UsageRecord> {
        wait_for(|| {
            let records = read_usage(self.state.path());
            (records.len() >= count).then_some(records)
        })
    }
}

impl Drop for TestGateway {
    fn drop(&mut self) {
        if let Some(gateway) = self.gateway.take() {
            gateway.shut_down(Duration::from_millis(200));
        }
    }
}

/// All usage records under a state folder.
pub(crate) fn read_usage(state: &std::path::Path) -> Vec<UsageRecord> {
    let mut records = Vec::new();
    for worker in std::fs::read_dir(state.join("usage")).unwrap() {
        let start = journal::Position::default();
        let dir = worker.unwrap().path();
        let batch = journal::read(&dir, &journal::Key::new(KEY), start, usize::MAX).unwrap();
        records.extend(batch.records().map(|bytes| UsageRecord::from_bytes(bytes).unwrap()));
    }
    records
}

/// Asks until there is an answer.
pub(crate) fn wait_for<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < end, "what was waited for did not come");
        thread::sleep(Duration::from_millis(2));
    }
}

/// An answer, read whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether the body was as long as announced.
    pub(crate) whole: bool,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    #[track_caller]
    pub(crate) fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status, self.header("content-type")),
            (status, Some("application/problem+json")),
            "{self:?}"
        );
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["type"], format!("urn:caduceus:problem:{code}"));
        assert_eq!(problem["status"], status);
        assert_eq!(problem["requestId"].as_str(), self.header("x-request-id"));
        assert!(problem["timestamp"].as_str().unwrap().parse::<Timestamp>().is_ok());
    }
}

/// A client on one connection.
pub(crate) struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { reader: BufReader::new(stream) }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // A gateway that refuses may have closed its side already.
        let _ = self.reader.get_mut().write_all(bytes.as_ref());
    }

    /// A call with the key of consumer `number`.
    pub(crate) fn get(&mut self, path: &str, number: u8) -> Answer {
        self.call("GET", path, &[("X-API-Key", &api_key(number))], b"")
    }

    pub(crate) fn call(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: api.example.org\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.send(&bytes);
        self.answer_to(method).expect("an answer")
    }

    /// Reads an answer; none when the connection is closed before one begins.
    pub(crate) fn answer(&mut self) -> Option<Answer> {
        self.answer_to("GET")
    }

    pub(crate) fn answer_to(&mut self, method: &str) -> Option<Answer> {
        let status_line = self.line()?;
        let status: u16 = status_line.split(' ').nth(1)?.parse().unwrap();
        let mut answer = Answer { status, whole: true, ..Answer::default() };
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap();
            answer.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if status < 200 {
            return self.answer_to(method);
        }
        if method == "HEAD" || status == 204 || status == 304 {
            return Some(answer);
        }
        if answer.header("transfer-encoding") == Some("chunked") {
            self.read_chunks(&mut answer);
        } else if let Some(length) = answer.header("content-length") {
            let length: usize = length.parse().unwrap();
            let taken = self.reader.by_ref().take(length as u64).read_to_end(&mut answer.body);
            answer.whole = taken.is_ok() && answer.body.len() == length;
        } else {
            answer.whole = self.reader.read_to_end(&mut answer.body).is_ok();
        }
        Some(answer)
    }

    fn read_chunks(&mut self, answer: &mut Answer) {
        loop {
            let Some(size) = self.line() else {
                answer.whole = false;
                return;
            };
            let size = u64::from_str_radix(&size, 16).unwrap();
            if size == 0 {
                return self.read_trailers(answer);
            }
            let taken = self.reader.by_ref().take(size).read_to_end(&mut answer.body);
            if taken.ok().map(|taken| taken as u64) != Some(size) || self.line().is_none() {
                answer.whole = false;
                return;
            }
        }
    }

    /// Trailers join the headers.
    fn read_trailers(&mut self, answer: &mut Answer) {
        loop {
            match self.line() {
                None => return answer.whole = false,
                Some(line) if line.is_empty() => return,
                Some(line) => {
                    let (name, value) = line.split_once(": ").unwrap();
                    answer.headers.push((name.to_owned(), value.to_owned()));
                }
            }
        }
    }

    fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line) {
            Ok(read) if read > 0 => Some(line.trim_end_matches(['\r', '\n']).to_owned()),
            _ => None,
        }
    }

    /// Whether the gateway has closed the connection.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(self.reader.read(&mut byte), Ok(0) | Err(_))
    }
}

/// A request as a target saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) uri: String,
    pub(crate) headers: HashMap<String, Vec<String>>,
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|values| values.first()).map(String::as_str)
    }
}

/// A well-behaved target. It ends with the last that holds it.
#[derive(Clone)]
pub(crate) struct TestTarget {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _running: Arc<DropGuard>,
}

impl TestTarget {
    /// A target that answers with its own name.
    pub(crate) fn named(name: &'static str) -> Self {
        Self::answering(move |_seen| Response::new(name.into()))
    }

    pub(crate) fn answering(
        answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        Self::answering_at((Ipv4Addr::LOCALHOST, 0), answer)
    }

    pub(crate) fn answering_at(
        address: (Ipv4Addr, u16),
        answer: impl Fn(&Seen) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = CancellationToken::new();
        let running = Arc::new(stop.clone().drop_guard());
        let target = Self { address, seen: Arc::clone(&seen), _running: running };
        let answer = Arc::new(answer);
        thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                let mut connections = tokio::task::JoinSet::new();
                while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await
                {
                    let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                    connections.spawn(async move {
                        let service = service_fn(move |request| {
                            let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                            async move {
                                let request = see(request).await;
                                let response = answer(&request);
                                seen.lock().unwrap().push(request);
                                Ok::<_, Infallible>(response)
                            }
                        });
                        let _ = hyper::server::conn::http1::Builder::new()
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                    });
                }
            });
        });
        target
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn last(&self) -> Seen {
        self.seen().pop().expect("a request")
    }
}

async fn see(request: Request<Incoming>) -> Seen {
    let (parts, body) = request.into_parts();
    let mut headers: HashMap<String, Vec<String>> = HashMap::new();
    for (name, value) in &parts.headers {
        let value = value.to_str().unwrap().to_owned();
        headers.entry(name.as_str().to_owned()).or_default().push(value);
    }
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Seen { uri: parts.uri.to_string(), headers, body }
}

/// A target that does with each connection whatever it is told, on a thread of its own.
pub(crate) fn raw_target(behave: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let behave = Arc::new(behave);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let behave = Arc::clone(&behave);
            thread::spawn(move || behave(stream));
        }
    });
    address
}

/// Reads one request head from a raw connection; false when it was closed.
pub(crate) fn read_head(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// An address where nobody listens.
pub(crate) fn dead_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}
