//! A worker: one thread that accepts connections and carries their calls.

use std::{
    cell::{Cell, RefCell},
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::{ArcSwapOption, Cache};
use aws_lc_rs::hmac;
use http::HeaderValue;
use model::Clock;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    access_log::AccessLog,
    balance::Pool,
    connection::{self, Command, Connections, Entrance},
    date::DateField,
    keeper::Outbox,
    limits::{Counters, Failures},
    metrics::Metrics,
    random::RandomPool,
    settings::GatewaySettings,
    table::{Callers, Table},
    told::Told,
    trace::Tracer,
    usage::UsageLog,
};

/// How finely deadlines are kept.
const TICK: Duration = Duration::from_millis(20);
/// Every so many ticks idle connections are looked for.
const SWEEP_TICKS: u32 = 25;
const SCRATCH: usize = 64 << 10;
const BACKLOG: i32 = 4_096;

/// The moment the process began to measure time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Epoch(Instant);

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) settings: GatewaySettings,
    pub(crate) clock: Clock,
    pub(crate) epoch: Epoch,
    pub(crate) table: Arc<ArcSwapOption<Table>>,
    pub(crate) callers: Arc<Callers>,
    pub(crate) told: Mutex<Told>,
    pub(crate) outbox: Outbox,
    /// Whether what it was told is whole, and young enough.
    pub(crate) is_serving: AtomicBool,
    /// Held while that is decided.
    pub(crate) judging: Mutex<()>,
    pub(crate) counters: Counters,
    pub(crate) failures: Failures,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) hasher: hmac::Key,
    /// Decides which calls are traced, if any are.
    pub(crate) tracer: Option<Tracer>,
    pub(crate) connections: AtomicUsize,
    /// What clients over TLS are told about insisting on it (RFC 6797).
    pub(crate) hsts: Option<HeaderValue>,
    /// How many large bodies may be validated at once, beside the event loops.
    pub(crate) validations: Semaphore,
    /// Cancelled when no more connections are to be accepted.
    pub(crate) stopping: CancellationToken,
    /// Cancelled when calls still in flight are to be cut off.
    pub(crate) cutting: CancellationToken,
}

/// The current table, looked at without touching what other workers touch.
type TableCache = Cache<Arc<ArcSwapOption<Table>>, Option<Arc<Table>>>;

/// What one worker has for itself.
pub(crate) struct Worker {
    /// Tells workers apart, from 0.
    pub(crate) number: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) connections: Connections,
    pub(crate) pool: Pool,
    pub(crate) usage: UsageLog,
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) random: RefCell<RandomPool>,
    pub(crate) date: RefCell<DateField>,
    /// Connections, and streams of connections, that are being served.
    pub(crate) tasks: TaskTracker,
    /// Where what targets send is read into.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    /// Where what clients send is read into; one of them may be read from while a target is.
    pub(crate) client_scratch: RefCell<Box<[u8]>>,
    table: RefCell<TableCache>,
    coarse_now: Cell<u64>,
}

impl Epoch {
    pub(crate) const fn new(at: Instant) -> Self {
        Self(at)
    }

    pub(crate) const fn instant(self) -> Instant {
        self.0
    }

    /// Nanoseconds since the process began.
    pub(crate) fn now(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Worker {
    pub(crate) fn new(
        number: usize,
        shared: Arc<Shared>,
        usage: UsageLog,
        access_log: Option<AccessLog>,
    ) -> Self {
        let settings = &shared.settings;
        Self {
            number,
            connections: Connections::default(),
            pool: Pool::new(settings.max_idle_upstream, settings.upstream_idle_timeout),
            usage,
            access_log,
            random: RefCell::new(RandomPool::new()),
            date: RefCell::default(),
            tasks: TaskTracker::new(),
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            client_scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            table: RefCell::new(Cache::new(Arc::clone(&shared.table))),
            coarse_now: Cell::new(shared.epoch.now()),
            shared,
        }
    }

    /// The time, exactly.
    pub(crate) fn now(&self) -> u64 {
        self.shared.epoch.now()
    }

    /// The time, as of the last tick.
    pub(crate) fn coarse_now(&self) -> u64 {
        self.coarse_now.get()
    }

    /// Looks something up in the current table; there is none while the gateway may not serve.
    pub(crate) fn with_table<T>(&self, look_up: impl FnOnce(Option<&Table>) -> T) -> T {
        let is_serving = self.shared.is_serving.load(Ordering::Relaxed);
        look_up(self.table.borrow_mut().load().as_deref().filter(|_| is_serving))
    }
}

/// Runs a worker until it is stopped and its calls have ended.
pub(crate) fn run(worker: Worker, listeners: Vec<Listener>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(serve(Rc::new(worker), listeners))
}

async fn serve(worker: Rc<Worker>, listeners: Vec<Listener>) -> io::Result<()> {
    let background = TaskTracker::new();
    let writing = background.spawn_local({
        let worker = Rc::clone(&worker);
        async move { worker.usage.keep_writing().await }
    });
    let ticking = background.spawn_local(tick(Rc::clone(&worker)));

    let accepting = TaskTracker::new();
    for listener in listeners {
        let accepting_all = accept_all(Rc::clone(&worker), listener);
        accepting.spawn_local(async move {
            if let Err(error) = accepting_all.await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot accept connections"
                );
            }
        });
    }
    accepting.close();
    accepting.wait().await;
    worker.tasks.close();
    worker.connections.command_all(Command::Drain);
    let cutting = worker.shared.cutting.clone();
    if cutting.run_until_cancelled(worker.tasks.wait()).await.is_none() {
        worker.connections.command_all(Command::Abort);
        // Cut off, they end by themselves.
        let _ = timeout(Duration::from_secs(2), worker.tasks.wait()).await;
    }
    writing.abort();
    ticking.abort();
    worker.usage.finish();
    if let Some(log) = &worker.access_log {
        log.finish();
    }
    Ok(())
}

/// Accepts connections until it is time to stop. Those that wait in the listener's queue then are still accepted:
/// nobody else would.
async fn accept_all(worker: Rc<Worker>, listener: Listener) -> io::Result<()> {
    let Listener { socket, entrance } = listener;
    let queue = socket.try_clone()?;
    let listener = TcpListener::from_std(socket)?;
    let stopping = worker.shared.stopping.clone();
    while let Some(accepted) = stopping.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, peer)) => accept(&worker, stream, peer, &entrance),
            Err(error) => {
                // Out of file descriptors, most likely: the next attempt would fail as well.
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "cannot accept a connection"
                );
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    for (stream, peer) in waiting(&queue) {
        stream.set_nonblocking(true)?;
        accept(&worker, TcpStream::from_std(stream)?, peer, &entrance);
    }
    Ok(())
}

/// The connections that wait in the queue of a listener, at most as many as it holds. It is asked itself, because what is
/// known of its readiness may be old.
fn waiting(
    listener: &std::net::TcpListener,
) -> impl Iterator<Item = (std::net::TcpStream, SocketAddr)> {
    std::iter::repeat_with(|| listener.accept())
        .take(BACKLOG.unsigned_abs() as usize)
        .take_while(|accepted| {
            // A client that has left meanwhile does not stand for those behind it.
            accepted
                .as_ref()
                .map_or_else(|error| error.kind() == io::ErrorKind::ConnectionAborted, |_| true)
        })
        .filter_map(Result::ok)
}

fn accept(worker: &Rc<Worker>, stream: TcpStream, peer: SocketAddr, entrance: &Entrance) {
    let shared = &worker.shared;
    let open = shared.connections.fetch_add(1, Ordering::Relaxed);
    let place = Place(Arc::clone(shared));
    if open >= shared.settings.max_connections {
        shared.metrics.connections_refused.inc();
        return;
    }
    // Without it small answers would wait for an acknowledgement; a client works either way.
    let _ = stream.set_nodelay(true);
    let serving = connection::serve(Rc::clone(worker), stream, peer, entrance.clone());
    worker.tasks.spawn_local(async move {
        serving.await;
        drop(place);
    });
}

/// A connection among those of the process, until dropped.
struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A socket that clients connect to, and what they are met with.
pub(crate) struct Listener {
    pub(crate) socket: std::net::TcpListener,
    pub(crate) entrance: Entrance,
}

/// Keeps the time, and everything that depends on it.
async fn tick(worker: Rc<Worker>) {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let header_timeout = nanos(worker.shared.settings.header_timeout);
    let idle_timeout = nanos(worker.shared.settings.idle_timeout);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut count = 0_u32;
    loop {
        ticks.tick().await;
        let now = worker.now();
        worker.coarse_now.set(now);
        worker.connections.sweep_deadlines(now);
        worker.usage.retry(now);
        if let Some(log) = &worker.access_log {
            log.flush();
        }
        count = count.wrapping_add(1);
        if count.is_multiple_of(SWEEP_TICKS) {
            worker.connections.sweep_idle(now, header_timeout, idle_timeout);
            worker.with_table(|table| {
                let in_use = |endpoint| table.is_some_and(|table| table.is_in_use(endpoint));
                worker.pool.sweep(now, in_use);
            });
        }
    }
}

/// Fails when somebody else listens on `address` already, which sharing the port would hide.
pub(crate) fn require_free(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// Opens a listener that shares its port with those of the other workers.
pub(crate) fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_who_waits_is_let_in() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = |_| std::net::TcpStream::connect(address).unwrap();
        let clients: Vec<_> = (0..500).map(connect).collect();
        assert_eq!(waiting(&listener).count(), clients.len());
        assert_eq!(waiting(&listener).count(), 0);
    }
}
