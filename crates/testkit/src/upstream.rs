//! Upstreams, well-behaved and not.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What an upstream does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers 200 and says what it was asked.
    Healthy,
    /// The same, after a while.
    Slow(Duration),
    /// Takes the request and never answers.
    Hanging,
    /// Takes the request and resets the connection.
    Resetting,
    /// Announces more body than it sends.
    LyingLength,
    /// Answers with this status.
    Failing(u16),
}

/// An upstream on a port of its own.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    behaviour: Mutex<Behaviour>,
    calls: AtomicU64,
}

impl Upstream {
    /// Starts one that behaves like this.
    pub async fn start(name: &str, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            behaviour: Mutex::new(behaviour),
            calls: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&shared)));
        Self { address, shared, tasks }
    }

    /// Starts one that answers.
    pub async fn healthy(name: &str) -> Self {
        Self::start(name, Behaviour::Healthy).await
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests came, health checks left out.
    pub fn calls(&self) -> u64 {
        self.shared.calls.load(Ordering::Relaxed)
    }

    /// Behaves differently from now on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
    }

    /// Dies: the port is closed and all connections end.
    pub async fn stop(&mut self) {
        self.tasks.shutdown().await;
    }

    /// Comes back on the same port.
    pub async fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.tasks.spawn(accept(listener, Arc::clone(&self.shared)));
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

/// One request, as far as an answer needs it.
struct Received {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let mut unread = Vec::new();
    while let Some(received) = receive(&mut stream, &mut unread).await {
        if received.path != "/health" {
            shared.calls.fetch_add(1, Ordering::Relaxed);
        }
        let behaviour = *shared.behaviour.lock().unwrap();
        let answer = match behaviour {
            Behaviour::Healthy => ok(&shared.name, &received),
            Behaviour::Slow(delay) => {
                tokio::time::sleep(delay).await;
                ok(&shared.name, &received)
            }
            Behaviour::Hanging => return std::future::pending().await,
            Behaviour::Resetting => {
                // Closing with unsent data thrown away is a reset on the wire.
                drop(socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
                return;
            }
            Behaviour::LyingLength => {
                let lie = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this";
                drop(stream.write_all(lie.as_bytes()).await);
                return;
            }
            Behaviour::Failing(status) => {
                format!("HTTP/1.1 {status} Failing\r\nContent-Length: 0\r\n\r\n")
            }
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn ok(name: &str, received: &Received) -> String {
    let Received { method, path, headers, body } = received;
    let body = json!({
        "upstream": name, "method": method, "path": path, "headers": headers, "bodyBytes": body.len(),
    })
    .to_string();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Reads one request; none at the end of the connection.
async fn receive(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<Received> {
    let head_end = read_until(stream, unread, b"\r\n\r\n").await?;
    let head: Vec<u8> = unread.drain(..head_end).collect();
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.trim_end().split("\r\n");
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = match headers.get("content-length") {
        Some(length) => length.parse().ok()?,
        None if headers.contains_key("transfer-encoding") => {
            read_until(stream, unread, b"0\r\n\r\n").await?
        }
        None => 0,
    };
    while unread.len() < length {
        fill(stream, unread).await?;
    }
    let body = unread.drain(..length).collect();
    Some(Received { method, path, headers, body })
}

async fn read_until(stream: &mut TcpStream, unread: &mut Vec<u8>, mark: &[u8]) -> Option<usize> {
    loop {
        if let Some(at) = unread.windows(mark.len()).position(|window| window == mark) {
            return Some(at + mark.len());
        }
        fill(stream, unread).await?;
    }
}

async fn fill(stream: &mut TcpStream, unread: &mut Vec<u8>) -> Option<()> {
    let mut piece = [0; 8 * 1024];
    let count = stream.read(&mut piece).await.ok().filter(|count| *count > 0)?;
    unread.extend_from_slice(&piece[..count]);
    Some(())
}
