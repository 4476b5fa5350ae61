//! A proxy for TCP that breaks connections in the ways that networks and dying servers do.
//!
//! It stands before a server of a test, passes bytes on untouched at first, and can be told at any moment to do
//! otherwise; connections that are open already obey as soon as the next bytes come.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use socket2::SockRef;

/// How often a thread looks whether it is still wanted.
const TICK: Duration = Duration::from_millis(5);

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: all bytes pass.
    Pass,
    /// Nobody listens.
    Refuse,
    /// Connections are accepted, and nothing ever comes back.
    Hang,
    /// Connections are reset as soon as something is sent.
    Reset,
    /// Connections are reset after so many bytes of the answers.
    ResetAfter(usize),
    /// The side that answers says that it is done before it has answered, and goes on reading.
    HalfClose,
    /// So many bytes of an answer pass in each tick.
    Slow {
        /// How many.
        bytes: usize,
        /// How long a tick takes.
        tick: Duration,
    },
    /// Connections are closed in good order after so many bytes of the answers.
    Truncate(usize),
    /// The first byte of whatever comes back is another.
    Corrupt,
    /// Answers come so much later.
    Delay(Duration),
}

/// A proxy before a server, on a port of its own, until dropped.
#[derive(Debug)]
pub struct FaultProxy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    fault: Mutex<Fault>,
    /// Set for connections that are to be reset.
    open: Mutex<Vec<Weak<AtomicBool>>>,
    accepted: AtomicUsize,
    ended: AtomicBool,
    listening: AtomicBool,
}

impl FaultProxy {
    /// A proxy before the server at `target`.
    pub fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target,
            fault: Mutex::new(Fault::Pass),
            open: Mutex::default(),
            accepted: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            listening: AtomicBool::new(true),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accepting.accept(listener, address));
        Self { address, shared }
    }

    /// Does `fault` from now on. Returns once nobody listens, or somebody does again.
    pub fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
        while self.shared.listening.load(Ordering::SeqCst) == (fault == Fault::Refuse) {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Does `fault` from now on, and resets all connections that are open, as when a server is killed.
    pub fn sever(&self, fault: Fault) {
        self.set(fault);
        self.shared.cut_all();
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        let open = self.shared.open.lock().unwrap();
        open.iter().filter(|connection| connection.strong_count() > 0).count()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.cut_all();
    }
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    fn cut_all(&self) {
        let open = self.open.lock().unwrap().drain(..).collect::<Vec<_>>();
        open.iter().filter_map(Weak::upgrade).for_each(|cut| cut.store(true, Ordering::SeqCst));
    }

    fn accept(self: Arc<Self>, first: TcpListener, address: SocketAddr) {
        let mut listener = Some(first);
        while !self.has_ended() {
            if self.fault() == Fault::Refuse {
                listener = None;
            } else if listener.is_none() {
                listener = TcpListener::bind(address).ok();
            }
            self.listening.store(listener.is_some(), Ordering::SeqCst);
            let accepted = listener.as_ref().map(|listener| {
                listener.set_nonblocking(true).unwrap();
                listener.accept()
            });
            if let Some(Ok((stream, _))) = accepted {
                stream.set_nonblocking(false).unwrap();
                self.accepted.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&self);
                thread::spawn(move || shared.carry(&stream));
            } else {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn carry(self: Arc<Self>, client: &TcpStream) {
        let cut = Arc::new(AtomicBool::new(false));
        self.open.lock().unwrap().push(Arc::downgrade(&cut));
        let Ok(server) = TcpStream::connect(self.target) else { return end_by_reset(client) };
        for stream in [client, &server] {
            stream.set_read_timeout(Some(TICK)).unwrap();
            stream.set_nodelay(true).unwrap();
        }
        let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let (questions, cutting) = (Arc::clone(&self), Arc::clone(&cut));
        thread::spawn(move || {
            questions.carry_questions(&from, &to, &cutting);
            if cutting.load(Ordering::SeqCst) {
                end_by_reset(&from);
            } else {
                let _ = to.shutdown(Shutdown::Write);
            }
        });
        self.carry_answers(&server, client, &cut);
        if cut.load(Ordering::SeqCst) {
            end_by_reset(client);
        } else {
            let _ = client.shutdown(Shutdown::Write);
        }
    }

    fn carry_questions(&self, mut client: &TcpStream, mut server: &TcpStream, cut: &AtomicBool) {
        while let Some(bytes) = self.read(&mut client, cut) {
            let passed = match self.fault() {
                Fault::Hang => Ok(()),
                Fault::Reset | Fault::Refuse => return cut.store(true, Ordering::SeqCst),
                Fault::HalfClose => client.shutdown(Shutdown::Write),
                _ => server.write_all(&bytes),
            };
            if passed.is_err() {
                return;
            }
        }
    }

    fn carry_answers(&self, mut server: &TcpStream, mut client: &TcpStream, cut: &AtomicBool) {
        let mut passed = 0;
        while let Some(mut bytes) = self.read(&mut server, cut) {
            let fault = self.fault();
            match fault {
                Fault::Hang => continue,
                Fault::Delay(time) => thread::sleep(time),
                Fault::Corrupt => bytes.first_mut().into_iter().for_each(|byte| *byte ^= 0x80),
                Fault::ResetAfter(most) | Fault::Truncate(most) => {
                    bytes.truncate(most.saturating_sub(passed));
                }
                _ => {}
            }
            let (step, tick) = match fault {
                Fault::Slow { bytes, tick } => (bytes.max(1), tick),
                _ => (usize::MAX, Duration::ZERO),
            };
            for part in bytes.chunks(step.min(bytes.len().max(1))) {
                if self.has_ended() || client.write_all(part).is_err() {
                    return;
                }
                passed += part.len();
                thread::sleep(tick);
            }
            match fault {
                Fault::ResetAfter(most) if passed >= most => {
                    return cut.store(true, Ordering::SeqCst);
                }
                Fault::Truncate(most) if passed >= most => return,
                _ => {}
            }
        }
    }

    /// The next bytes; none at the end.
    fn read(&self, stream: &mut &TcpStream, cut: &AtomicBool) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 16 << 10];
        loop {
            match stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => {
                    bytes.truncate(read);
                    return Some(bytes);
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if self.has_ended() || cut.load(Ordering::SeqCst) {
                        return None;
                    }
                }
                Err(_) => return None,
            }
        }
    }
}

/// Sees to it that a connection ends with a reset as soon as both its threads have let go of it.
fn end_by_reset(stream: &TcpStream) {
    // Whoever is gone already needs no reset.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
