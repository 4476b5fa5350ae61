//! What a worker knows about its connections, and the sweep that keeps them within their time.
//!
//! No call sets a timer. Deadlines stand in one list that a task looks through many times a second; slow heads and
//! idle connections are looked for now and then.

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    task::Waker,
};

use http::HeaderValue;

use crate::worker::Worker;

/// What is to become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Serve on.
    Serve,
    /// Finish the call in flight, then close.
    Drain,
    /// Close at once.
    Abort,
}

/// Who is at the other end.
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// The address as it stands in `X-Forwarded-For`.
    pub(crate) text: HeaderValue,
    /// Whether it speaks TLS.
    pub(crate) is_secure: bool,
}

/// What is known about one connection, or about one stream of a connection over HTTP/2.
pub(crate) struct ConnectionState {
    pub(crate) peer: Rc<Peer>,
    slot: usize,
    command: Cell<Command>,
    waker: RefCell<Option<Waker>>,
    /// Calls whose answers are not finished.
    calls: Cell<u32>,
    /// Whether the client is between two requests.
    between: Cell<bool>,
    /// When the client last began or finished something.
    since: Cell<u64>,
    /// The usage that must be written before anything is sent.
    ticket: Cell<u64>,
    /// Whether an answer was cut off.
    broken: Cell<bool>,
    /// Whether streams come over it.
    is_multiplexed: Cell<bool>,
    /// Whether it is a stream over HTTP/2.
    is_stream: Cell<bool>,
}

/// The connections of one worker.
#[derive(Default)]
pub(crate) struct Connections {
    slots: RefCell<Vec<Option<Rc<ConnectionState>>>>,
    /// By slot, when the call in flight must have ended; `u64::MAX` without one.
    deadlines: RefCell<Vec<u64>>,
    free: RefCell<Vec<usize>>,
}

/// Takes a connection off the list when it ends, however it ends.
pub(crate) struct OpenConnection {
    worker: Rc<Worker>,
    pub(crate) state: Rc<ConnectionState>,
}

/// How long after its deadline a call that nobody polls is cut off.
const OVERDUE: u64 = 1_000_000_000;

impl Peer {
    pub(crate) fn new(address: SocketAddr, is_secure: bool) -> Rc<Self> {
        let address = address.ip().to_canonical();
        let text =
            HeaderValue::from_str(&address.to_string()).expect("an address is lawful in a header");
        Rc::new(Self { address, text, is_secure })
    }

    /// The scheme it was spoken to in.
    pub(crate) const fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }
}

impl Connections {
    /// Puts a new connection on the list.
    pub(crate) fn open(worker: &Rc<Worker>, peer: Rc<Peer>) -> OpenConnection {
        let all = &worker.connections;
        let mut slots = all.slots.borrow_mut();
        let slot = all.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(None);
            all.deadlines.borrow_mut().push(u64::MAX);
            slots.len() - 1
        });
        let state = Rc::new(ConnectionState {
            peer,
            slot,
            command: Cell::new(Command::Serve),
            waker: RefCell::default(),
            calls: Cell::new(0),
            between: Cell::new(true),
            since: Cell::new(worker.coarse_now()),
            ticket: Cell::new(0),
            broken: Cell::new(false),
            is_multiplexed: Cell::new(false),
            is_stream: Cell::new(false),
        });
        if let Some(place) = slots.get_mut(slot) {
            *place = Some(Rc::clone(&state));
        }
        OpenConnection { worker: Rc::clone(worker), state }
    }

    /// Tells every connection what to do.
    pub(crate) fn command_all(&self, command: Command) {
        let all: Vec<_> = self.slots.borrow().iter().flatten().map(Rc::clone).collect();
        all.iter().for_each(|connection| connection.tell(command));
    }

    /// Wakes the calls whose deadline has passed.
    pub(crate) fn sweep_deadlines(&self, now: u64) {
        let late: Vec<_> = {
            let deadlines = self.deadlines.borrow();
            let late = deadlines.iter().enumerate().filter(|(_, deadline)| **deadline <= now);
            late.map(|(slot, deadline)| (slot, *deadline)).collect()
        };
        for (slot, deadline) in late {
            let Some(state) = self.slots.borrow().get(slot).cloned().flatten() else { continue };
            // Whoever is polled notices; whoever waits for a client that does not read is not polled.
            state.tell(if deadline + OVERDUE <= now { Command::Abort } else { state.command() });
        }
    }

    /// Closes connections that are idle, or slow to send a head, for too long.
    pub(crate) fn sweep_idle(&self, now: u64, header_timeout: u64, idle_timeout: u64) {
        let all: Vec<_> = self.slots.borrow().iter().flatten().map(Rc::clone).collect();
        for connection in all {
            let waited = now.saturating_sub(connection.since.get());
            let patience = if connection.between.get() { idle_timeout } else { header_timeout };
            if connection.calls.get() == 0 && waited >= patience {
                // Whoever speaks HTTP/2 is told first; what it sends meanwhile is still answered.
                let is_told = connection.command() == Command::Drain;
                let is_polite = connection.is_multiplexed.get() && !is_told;
                connection.tell(if is_polite { Command::Drain } else { Command::Abort });
            }
        }
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let all = &self.worker.connections;
        let slot = self.state.slot;
        if let Some(place) = all.slots.borrow_mut().get_mut(slot) {
            *place = None;
        }
        if let Some(deadline) = all.deadlines.borrow_mut().get_mut(slot) {
            *deadline = u64::MAX;
        }
        all.free.borrow_mut().push(slot);
    }
}

impl ConnectionState {
    pub(crate) fn command(&self) -> Command {
        self.command.get()
    }

    /// Gives a command and sees to it that it is noticed.
    fn tell(&self, command: Command) {
        self.command.set(command);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Remembers whom to wake for a command.
    pub(crate) fn remember(&self, waker: &Waker) {
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    /// A call begins.
    pub(crate) fn begin_call(&self) {
        self.calls.set(self.calls.get() + 1);
    }

    /// Sets when the call in flight must have ended.
    pub(crate) fn set_deadline(&self, connections: &Connections, deadline: u64) {
        if let Some(place) = connections.deadlines.borrow_mut().get_mut(self.slot) {
            *place = deadline;
        }
    }

    /// A call has ended; nothing more is sent before the usage under `ticket` is written.
    pub(crate) fn end_call(&self, connections: &Connections, now: u64, ticket: Option<u64>) {
        self.calls.set(self.calls.get().saturating_sub(1));
        self.since.set(now);
        self.set_deadline(connections, u64::MAX);
        if let Some(ticket) = ticket {
            self.ticket.set(self.ticket.get().max(ticket));
        }
    }

    /// It is a stream over HTTP/2.
    pub(super) fn set_stream(&self) {
        self.is_stream.set(true);
    }

    /// The version of HTTP that its client speaks.
    pub(crate) fn http_version(&self) -> &'static str {
        if self.is_stream.get() { "2" } else { "1.1" }
    }

    /// A stream begins on the connection.
    pub(super) fn begin_stream(&self) {
        self.is_multiplexed.set(true);
        self.begin_call();
    }

    /// A stream of the connection has ended.
    pub(super) fn end_stream(&self, now: u64) {
        self.calls.set(self.calls.get().saturating_sub(1));
        self.since.set(now);
    }

    /// An answer had to be cut off.
    pub(crate) fn set_broken(&self) {
        self.broken.set(true);
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    pub(super) fn ticket(&self) -> u64 {
        self.ticket.get()
    }

    /// Whether a head was begun and not finished when the connection was given up.
    pub(super) fn is_slow_head(&self) -> bool {
        !self.between.get() && self.calls.get() == 0
    }

    /// Bytes came in, after which the client is or is not between two requests.
    pub(super) fn saw_bytes(&self, between: bool, now: u64) {
        // A head that trickles in does not earn more time with every byte.
        if self.between.replace(between) || between {
            self.since.set(now);
        }
    }
}
