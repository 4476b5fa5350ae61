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
use jiff::Timestamp;
use journal::{JournalError, SealedError};
use model::{Clock, Snapshot};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    limits::{Counters, Failures},
    metrics::Metrics,
    settings::{GatewayKeys, GatewaySettings},
    supervisor,
    table::{PublishError, Table},
    usage::UsageLog,
    worker::{self, Epoch, Shared, Worker},
};

/// A running gateway.
pub struct Gateway {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Held while a snapshot is compiled, so that they are taken one after the other.
    publishing: Mutex<()>,
    /// The newest snapshot, to be written to disk.
    newest: watch::Sender<Option<Arc<Snapshot>>>,
    worker_count: usize,
    /// Empty once it was shut down.
    threads: Mutex<Threads>,
}

/// The threads of a running gateway.
#[derive(Default)]
struct Threads {
    workers: Vec<JoinHandle<()>>,
    supervisor: Option<JoinHandle<()>>,
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
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
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
        let metrics = Arc::new(Metrics::new());
        let shared = Arc::new(Shared {
            clock,
            epoch,
            table: Arc::new(ArcSwapOption::empty()),
            counters: Counters::new(),
            failures: Failures::new(settings.failed_credentials_per_minute),
            metrics,
            hasher: keys.credential_key.hasher(),
            connections: AtomicUsize::new(0),
            validations: Semaphore::new(settings.workers.max(1)),
            stopping: CancellationToken::new(),
            cutting: CancellationToken::new(),
            settings,
        });
        install_last(&shared, &keys.state_key)?;
        let (address, workers) = start_workers(&shared, keys)?;
        let (newest, follow) = watch::channel(None);
        let state_key = keys.state_key.clone();
        let supervisor = thread::Builder::new()
            .name("gateway-super".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || supervisor::run(&shared, &state_key, follow)
            })
            .map_err(StartError::Thread)?;
        Ok(Self {
            address,
            shared,
            publishing: Mutex::new(()),
            newest,
            worker_count: workers.len(),
            threads: Mutex::new(Threads { workers, supervisor: Some(supervisor) }),
        })
    }

    /// Where calls are accepted.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
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
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Gateway").field("address", &self.address).finish_non_exhaustive()
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

/// Starts the workers; the first listener decides the port when it is left open.
fn start_workers(
    shared: &Arc<Shared>,
    keys: &GatewayKeys,
) -> Result<(SocketAddr, Vec<JoinHandle<()>>), StartError> {
    let settings = &shared.settings;
    let mut address = settings.listen;
    let mut workers = Vec::new();
    let mut prepared = Vec::new();
    worker::require_free(address).map_err(|source| StartError::Listen { address, source })?;
    for number in 0..settings.workers.max(1) {
        let failed = |source| StartError::Listen { address, source };
        let listener = worker::listen(address).map_err(failed)?;
        address = listener.local_addr().map_err(failed)?;
        let dir = settings.state_dir.join("usage").join(number.to_string());
        let metrics = Arc::clone(&shared.metrics);
        let usage = UsageLog::open(&dir, &keys.usage_key, metrics, shared.epoch)
            .map_err(StartError::Usage)?;
        prepared.push((number, listener, usage));
    }
    for (number, listener, usage) in prepared {
        let shared = Arc::clone(shared);
        let worker = thread::Builder::new()
            .name(format!("gateway-{number}"))
            .spawn(move || {
                if let Err(error) = worker::run(Worker::new(shared, usage), listener) {
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
    Ok((address, workers))
}

fn age(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}
