//! A running gateway, as its owner sees it.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use jiff::Timestamp;
use journal::JournalError;
use model::{Clock, Standing, Structure, Update};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    access_log::{self, AccessLog},
    connection::Entrance,
    keeper::{Keeper, Outbox},
    limits::{Counters, Failures, Quotas},
    metrics::Metrics,
    roster::{Applied, Roster},
    settings::{GatewayKeys, GatewaySettings},
    supervisor,
    table::{Callers, PublishError, Table},
    tls::{CertificateError, Certificates},
    told::Told,
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
    /// Held while an update is taken, so that they are taken one after the other.
    taking: Mutex<()>,
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
    /// It serves everything up to this event; none before it was told anything whole.
    pub config_number: Option<u64>,
    /// When its structure was compiled.
    pub config_compiled_at: Option<Timestamp>,
    /// How long ago it was known to serve the newest.
    pub config_age: Option<Duration>,
    /// Whether that is too long ago.
    pub is_too_old: bool,
    /// Whether it answers calls.
    pub is_serving: bool,
    /// Number of the structure.
    pub structure_number: Option<u64>,
    /// Number of the last change of the roster.
    pub roster_number: u64,
    /// Credentials that it knows.
    pub credentials: usize,
    /// Agreements that it knows.
    pub agreements: usize,
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
    /// The operating system does not let the state on disk be read.
    #[error("cannot read the last state")]
    State(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Gateway {
    /// Starts a gateway. It serves from the last good state at once, if it has one. A state on disk that is damaged, of
    /// another form or sealed under another key is set aside, and the gateway waits for the next one.
    ///
    /// Fails when the address cannot be listened on or the state folder cannot be used.
    pub fn start(
        settings: GatewaySettings,
        keys: &GatewayKeys,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let epoch = Epoch::new(Instant::now());
        let metrics = Arc::new(Metrics::new(settings.workers.max(1), settings.max_route_series));
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
            callers: Arc::new(Callers { roster: Roster::new(), quotas: Quotas::new() }),
            told: Mutex::default(),
            outbox: Outbox::default(),
            is_serving: AtomicBool::new(false),
            judging: Mutex::default(),
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
        let keeper = restore(&shared, &keys.state_key)?;
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
        let supervisor = thread::Builder::new()
            .name("gateway-super".to_owned())
            .spawn({
                let shared = Arc::clone(&shared);
                move || supervisor::run(&shared, keeper, certificates.as_deref())
            })
            .map_err(StartError::Thread)?;
        Ok(Self {
            addresses,
            shared,
            taking: Mutex::new(()),
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

    /// How far it has come, to be told what comes next.
    pub fn standing(&self) -> Standing {
        let head = self.shared.callers.roster.head();
        let told = self.shared.told();
        let table = self.shared.table.load();
        Standing {
            epoch: if head.is_distrusted { 0 } else { head.epoch },
            roster: head.number,
            renewal: head.renewal,
            structure: table.as_ref().map(|table| table.number).max(told.refused_structure),
            reached: told.reached,
            quota_at: told.quota.as_ref().map(|quota| quota.at),
        }
    }

    /// Takes an update, serves by it from now on, and keeps it on disk for the next start. What does not follow on what
    /// it knows is left out; [`Gateway::standing`] says what is wanted.
    ///
    /// Fails when the structure contradicts itself; the present one stays, and the rest is taken.
    pub fn take(&self, update: &Update) -> Result<(), PublishError> {
        let _one_at_a_time = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = update.structure.as_ref().map_or(Ok(()), |structure| self.publish(structure));
        if let Some(page) = &update.roster {
            self.apply(page);
        }
        if let Some(quota) = &update.quota {
            self.shared.callers.quotas.learn(quota);
        }
        self.shared.note(update);
        self.shared.judge_age();
        taken
    }

    /// It is ignored when neither its number is higher nor its compilation later than the present one's. A lower number
    /// that was compiled later comes from a control plane whose database was restored or replaced.
    fn publish(&self, structure: &Arc<Structure>) -> Result<(), PublishError> {
        let present = self.shared.table.load();
        let newer = present.as_ref().is_none_or(|present| {
            structure.number > present.number || structure.compiled_at > present.compiled_at
        });
        if !newer {
            return Ok(());
        }
        let installed = install(&self.shared, structure);
        // A refused one is not asked for again.
        self.shared.told().refused_structure = installed.is_err().then_some(structure.number);
        if installed.is_ok() {
            self.shared.outbox.keep_structure(Arc::clone(structure));
        }
        installed
    }

    fn apply(&self, page: &model::RosterPage) {
        let roster = &self.shared.callers.roster;
        match roster.apply(page) {
            Applied::Followed => {
                if !page.removed.is_empty() || !page.present.is_empty() {
                    self.shared.outbox.keep_page(page);
                }
            }
            Applied::Renewed => self.shared.outbox.keep_roster(),
            Applied::Renewing | Applied::Misplaced => return,
        }
        let head = roster.head();
        if page.digest.is_some_and(|digest| digest != head.digest) {
            self.shared.metrics.roster_divergences.inc();
            // Whatever is wrong with it, it is not fetched over and over.
            if self.shared.may_distrust() {
                tracing::error!(
                    roster.number = head.number,
                    "the roster differs from the control plane's; it is fetched anew"
                );
                roster.distrust();
            }
        }
    }

    /// The spans of traced calls, for whoever exports them. They are given out once.
    pub fn take_spans(&self) -> Option<Spans> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// How the gateway is doing.
    pub fn status(&self) -> GatewayStatus {
        let table = self.shared.table.load();
        let head = self.shared.callers.roster.head();
        let is_too_old = self.shared.is_too_old();
        let told = self.shared.told();
        let is_whole = table.is_some() && head.epoch != 0;
        GatewayStatus {
            config_number: is_whole.then_some(told.reached),
            config_compiled_at: table.as_ref().map(|table| table.compiled_at),
            config_age: told.at.filter(|_| is_whole).map(|at| age(self.shared.clock.now(), at)),
            is_too_old: is_whole && is_too_old,
            is_serving: table.is_some() && self.shared.is_serving.load(Ordering::Relaxed),
            structure_number: table.as_ref().map(|table| table.number),
            roster_number: head.number,
            credentials: head.credentials,
            agreements: head.agreements,
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
        let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        metrics.config_number.set(status.config_number.unwrap_or(0));
        metrics.config_age.set(status.config_age.unwrap_or_default().as_secs_f64());
        metrics.structure_number.set(status.structure_number.unwrap_or(0));
        metrics.roster_number.set(status.roster_number);
        metrics.roster_credentials.set(count(status.credentials));
        metrics.roster_agreements.set(count(status.agreements));
        metrics.connections.set(count(status.connections));
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

/// Compiles a structure and serves it.
fn install(shared: &Shared, structure: &Structure) -> Result<(), PublishError> {
    let present = shared.table.load();
    let table = Table::compile(structure, present.as_deref(), &shared.callers, &shared.metrics)?;
    shared.table.store(Some(Arc::new(table)));
    Ok(())
}

/// Serves the state on disk, or sets aside what cannot be served.
fn restore(shared: &Shared, key: &journal::Key) -> Result<Keeper, StartError> {
    let mut keeper = Keeper::new(&shared.settings.state_dir, key);
    let found =
        keeper.load(&shared.callers.roster).map_err(|error| StartError::State(Box::new(error)))?;
    if let Some(structure) = &found.structure
        && let Err(error) = install(shared, structure)
    {
        keeper.refuse_structure(&error);
    }
    if let Some(note) = found.note {
        if let Some(quota) = &note.quota {
            shared.callers.quotas.learn(quota);
        }
        *shared.told() = Told::from_note(note);
    }
    shared.judge_age();
    Ok(keeper)
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
                if let Err(error) =
                    worker::run(Worker::new(number, shared, usage, access_log), listeners)
                {
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
