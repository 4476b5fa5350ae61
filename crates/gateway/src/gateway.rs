//! A running gateway, as its owner sees it.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use jiff::Timestamp;
use journal::{JournalError, SealedError};
use model::{Clock, Snapshot};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    access_log::{self, AccessLog},
    connection::Entrance,
    limits::{Counters, Failures},
    metrics::Metrics,
    settings::{GatewayKeys, GatewaySettings},
    supervisor,
    table::{PublishError, Table},
    tls::{CertificateError, Certificates},
    trace::{Spans, Tracer},
    usage::UsageLog,
    worker::{self, Epoch, Listener, Shared, Worker},
};

/// How long the last lines of the access log have at least.
const LAST_LINES: Duration = Duration::from_secs(1);

/// A running gateway.
pub struct Gateway {
    addresses: Addresses,
    shared: Arc<Shared>,
    /// Held while a snapshot is compiled, so that they are taken one after the other.
    publishing: Mutex<()>,
    /// The newest snapshot, to be written to disk.
    newest: watch::Sender<Option<Arc<Snapshot>>>,
    worker_count: usize,
    /// Empty once it was shut down.
    threads: Mutex<Threads>,
    /// Empty once they were taken, and when no calls are traced.
    spans: Mutex<Option<Spans>>,
}

/// Where a gateway listens.
#[derive(Debug, Clone, Copy)]
struct Addresses {
    plain: SocketAddr,
    tls: Option<SocketAddr>,
}

/// The threads of a running gateway.
#[derive(Default)]
struct Threads {
    workers: Vec<JoinHandle<()>>,
    supervisor: Option<JoinHandle<()>>,
    access_log: Option<JoinHandle<()>>,
}

/// How a gateway is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayStatus {
    /// Number of the configuration it serves; none before the first.
    pub config_number: Option<u64>,
    /// When that was compiled.
    pub config_compiled_at: Option<Timestamp>,
    /// How old it is.
    pub config_age: Option<Duration>,
    /// Client connections.
    pub connections: usize,
    /// Threads that carry calls.
    pub workers: usize,
}

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The certificates cannot be used.
    #[error("cannot use the certificates")]
    Certificates(#[source] CertificateError),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The access log cannot be opened.
    #[error("cannot open the access log")]
    AccessLog(#[source] io::Error),
    /// The usage journal cannot be opened.
    #[error("cannot open the usage journal")]
    Usage(#[source] JournalError),
    /// The operating system does not let the snapshot on disk be read.
    #[error("cannot read the last snapshot")]
    Snapshot(#[source] SealedError),
}

/// Why the snapshot on disk cannot be served.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("it cannot be opened")]
    Sealed(#[source] SealedError),
    #[error("it has another form")]
    Form(#[source] serde_json::Error),
    #[error("it cannot be used")]
    Content(#[source] PublishError),
}

impl Gateway {
    /// Starts a gateway. It serves from the last good snapshot at once, if it has one. A snapshot on disk that is
    /// damaged, of another form or sealed under another key is set aside, and the gateway waits for the next one.
    ///
    /// Fails when the address cannot be listened on or the state folder cannot be used.
    pub fn start(
        settings: GatewaySettings,
        keys: &GatewayKeys,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let epoch = Epoch::new(Instant::now());
        let metrics = Arc::new(Metrics::new(settings.max_route_series));
        let traced = settings.tracing.as_ref().map(|tracing| {
            let (exported, lost) = (metrics.spans_exported.clone(), metrics.spans_lost.clone());
            Tracer::new(tracing, exported, lost)
        });
        let (tracer, spans) = traced.unzip();
        let hsts = settings.tls.as_ref().map_or(0, |tls| tls.hsts_seconds);
        let shared = Arc::new(Shared {
            hsts: (hsts > 0)
                .then(|| HeaderValue::from_str(&format!("max-age={hsts}")).ok())
                .flatten(),
            clock,
            epoch,
            table: Arc::new(ArcSwapOption::empty()),
            counters: Counters::new(),
            failures: Failures::new(settings.failed_credentials_per_minute),
            metrics,
            hasher: keys.credential_key.hasher(),
            tracer,
            connections: AtomicUsize::new(0),
            validations: Semaphore::new(settings.workers.max(1)),
            stopping: CancellationToken::new(),
            cutting: CancellationToken::new(),
            settings,
        });
        install_last(&shared, &keys.state_key)?;
        let certificates = match &shared.settings.tls {
            Some(tls) => {
                let loaded = Certificates::load(&tls.certificates);
                Some(Arc::new(loaded.map_err(StartError::Certificates)?))
            }
            None => None,
        };
        let (access_log, access_writer) = open_access_log(&shared)?.unzip();
        let (addresses, workers) =
            start_workers(&shared, keys, certificates.as_ref(), access_log.as_ref())?;
        // The thread ends with the last of the workers.
        drop(access_log);
        let access_log = match access_writer {
            Some(writer) => {
                let thread = thread::Builder::new().name("gateway-access".to_owned());
                Some(thread.spawn(move || writer.run()).map_err(StartError::Thread)?)
            }
            None => None,
        };
        let (newest, follow) = watch::channel(None);
        let state_key = keys.state_key.clone();
        let supervisor = thread::Builder::new()
            .name("gateway-super".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || supervisor::run(&shared, &state_key, follow, certificates.as_deref())
            })
            .map_err(StartError::Thread)?;
        Ok(Self {
            addresses,
            shared,
            publishing: Mutex::new(()),
            newest,
            worker_count: workers.len(),
            threads: Mutex::new(Threads { workers, supervisor: Some(supervisor), access_log }),
            spans: Mutex::new(spans),
        })
    }

    /// Where calls without TLS are accepted.
    pub const fn local_addr(&self) -> SocketAddr {
        self.addresses.plain
    }

    /// Where calls over TLS are accepted, if anywhere.
    pub const fn tls_addr(&self) -> Option<SocketAddr> {
        self.addresses.tls
    }

    /// Serves `snapshot` from now on, and keeps it on disk for the next start.
    ///
    /// It is ignored when neither its number is higher nor its compilation later than the present one's. A lower number
    /// that was compiled later comes from a control plane whose database was restored or replaced.
    ///
    /// Fails when the snapshot contradicts itself; the present one stays.
    pub fn publish(&self, snapshot: Snapshot) -> Result<(), PublishError> {
        let _one_at_a_time = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let present = self.shared.table.load();
        let newer = present.as_ref().is_none_or(|present| {
            snapshot.number > present.number || snapshot.compiled_at > present.compiled_at
        });
        if !newer {
            return Ok(());
        }
        install(&self.shared, &snapshot)?;
        self.newest.send_replace(Some(Arc::new(snapshot)));
        Ok(())
    }

    /// The spans of traced calls, for whoever exports them. They are given out once.
    pub fn take_spans(&self) -> Option<Spans> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How the gateway is doing.
    pub fn status(&self) -> GatewayStatus {
        let table = self.shared.table.load();
        let compiled_at = table.as_ref().map(|table| table.compiled_at);
        GatewayStatus {
            config_number: table.as_ref().map(|table| table.number),
            config_compiled_at: compiled_at,
            config_age: compiled_at.map(|at| age(self.shared.clock.now(), at)),
            connections: self.shared.connections.load(Ordering::Relaxed),
            workers: self.worker_count,
        }
    }

    /// Appends all metrics in the text format of Prometheus.
    ///
    /// Fails only when `out` does.
    pub fn encode_metrics(&self, out: &mut impl fmt::Write) -> fmt::Result {
        let status = self.status();
        let metrics = &self.shared.metrics;
        metrics.config_number.set(status.config_number.unwrap_or(0));
        metrics.config_age.set(status.config_age.unwrap_or_default().as_secs_f64());
        metrics.connections.set(i64::try_from(status.connections).unwrap_or(i64::MAX));
        metrics.encode(out)
    }

    /// Accepts no more connections, finishes the calls in flight within `grace`, and ends. A second time it does
    /// nothing.
    pub fn shut_down(&self, grace: Duration) {
        self.shared.stopping.cancel();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let end = Instant::now() + grace;
        while Instant::now() < end && threads.workers.iter().any(|worker| !worker.is_finished()) {
            thread::sleep(Duration::from_millis(5));
        }
        self.shared.cutting.cancel();
        for thread in threads.workers.into_iter().chain(threads.supervisor) {
            if thread.join().is_err() {
                tracing::error!("a thread of the gateway ended with a panic");
            }
        }
        if let Some(writer) = threads.access_log {
            // Whoever reads standard output, or a disk, may have stopped: that is not waited for.
            let end = end.max(Instant::now() + LAST_LINES);
            while !writer.is_finished() && Instant::now() < end {
                thread::sleep(Duration::from_millis(5));
            }
            if !writer.is_finished() {
                tracing::warn!("the last lines of the access log could not be written in time");
            }
        }
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Gateway").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Compiles a snapshot and serves it.
fn install(shared: &Shared, snapshot: &Snapshot) -> Result<(), PublishError> {
    let present = shared.table.load();
    let table = Table::compile(snapshot, present.as_deref(), &shared.metrics)?;
    shared.table.store(Some(Arc::new(table)));
    Ok(())
}

/// Serves the snapshot on disk, or sets it aside when it cannot be served.
fn install_last(shared: &Shared, key: &journal::Key) -> Result<(), StartError> {
    let path = supervisor::snapshot_path(&shared.settings.state_dir);
    let unreadable = match journal::read_sealed(&path, key) {
        Ok(None) => return Ok(()),
        Ok(Some(bytes)) => match serde_json::from_slice(&bytes) {
            Ok(snapshot) => match install(shared, &snapshot) {
                Ok(()) => return Ok(()),
                Err(error) => Unreadable::Content(error),
            },
            Err(error) => Unreadable::Form(error),
        },
        Err(error @ SealedError::Io { .. }) => return Err(StartError::Snapshot(error)),
        Err(error @ (SealedError::Damaged | SealedError::Random)) => Unreadable::Sealed(error),
    };
    let aside = path.with_extension("unreadable");
    let kept = fs::rename(&path, &aside);
    tracing::error!(
        error = &unreadable as &dyn std::error::Error,
        path = %path.display(),
        aside = %aside.display(),
        kept = kept.is_ok(),
        "the last snapshot cannot be served; no call is answered until another one is published"
    );
    Ok(())
}

/// Starts the workers; the first listeners decide the ports when they are left open.
fn start_workers(
    shared: &Arc<Shared>,
    keys: &GatewayKeys,
    certificates: Option<&Arc<Certificates>>,
    access_log: Option<&AccessLog>,
) -> Result<(Addresses, Vec<JoinHandle<()>>), StartError> {
    let settings = &shared.settings;
    let mut addresses =
        Addresses { plain: settings.listen, tls: settings.tls.as_ref().map(|tls| tls.listen) };
    let acceptor = match certificates {
        Some(certificates) => {
            let config = Arc::clone(certificates).server_config(&[b"h2", b"http/1.1"]);
            Some(TlsAcceptor::from(Arc::new(config.map_err(StartError::Certificates)?)))
        }
        None => None,
    };
    let mut workers = Vec::new();
    let mut prepared = Vec::new();
    for address in [Some(addresses.plain), addresses.tls].into_iter().flatten() {
        worker::require_free(address).map_err(|source| StartError::Listen { address, source })?;
    }
    for number in 0..settings.workers.max(1) {
        let listeners = listen(&mut addresses, settings, acceptor.as_ref())?;
        let dir = settings.state_dir.join("usage").join(number.to_string());
        let metrics = Arc::clone(&shared.metrics);
        let usage = UsageLog::open(&dir, &keys.usage_key, metrics, shared.epoch)
            .map_err(StartError::Usage)?;
        prepared.push((number, listeners, usage));
    }
    for (number, listeners, usage) in prepared {
        let shared = Arc::clone(shared);
        let access_log = access_log.map(AccessLog::share);
        let worker = thread::Builder::new()
            .name(format!("gateway-{number}"))
            .spawn(move || {
                if let Err(error) = worker::run(Worker::new(shared, usage, access_log), listeners) {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        worker.number = number,
                        "a worker of the gateway could not run"
                    );
                }
            })
            .map_err(StartError::Thread)?;
        workers.push(worker);
    }
    Ok((addresses, workers))
}

fn open_access_log(shared: &Shared) -> Result<Option<(AccessLog, access_log::Writer)>, StartError> {
    let lost = || shared.metrics.access_log_lost.clone();
    let settings = shared.settings.access_log.as_ref();
    let opened = settings.map(|settings| access_log::open(settings, lost())).transpose();
    opened.map_err(StartError::AccessLog)
}

/// Opens the listeners of one worker. Ports that were left open are known afterwards.
fn listen(
    addresses: &mut Addresses,
    settings: &GatewaySettings,
    acceptor: Option<&TlsAcceptor>,
) -> Result<Vec<Listener>, StartError> {
    let open = |address: &mut SocketAddr| {
        let failed = |source| StartError::Listen { address: *address, source };
        let socket = worker::listen(*address).map_err(failed)?;
        *address = socket.local_addr().map_err(failed)?;
        Ok(socket)
    };
    let redirect = settings.tls.as_ref().and_then(|tls| tls.redirect_to);
    let entrance = redirect.map_or(Entrance::Plain, Entrance::Redirect);
    let mut listeners = vec![Listener { socket: open(&mut addresses.plain)?, entrance }];
    if let (Some(address), Some(acceptor)) = (&mut addresses.tls, acceptor) {
        let entrance = Entrance::Tls(acceptor.clone());
        listeners.push(Listener { socket: open(address)?, entrance });
    }
    Ok(listeners)
}

fn age(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}
