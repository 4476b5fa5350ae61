//! Calls a proxy at a fixed rate, whether or not it keeps up, and says how long the calls took from when each was due.
//!
//! `open_loop ADDRESS CALLS_PER_SECOND SECONDS CONNECTIONS KEYS ROUTES` prints one JSON object. A load maker that waits
//! for an answer before it asks again hides that others would have waited as well; this one does not wait.
//!
//! Each line of the file KEYS is a key, which calls one of the routes in turn, or a key and the path that it may call.

use std::{
    cell::RefCell,
    env,
    error::Error,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Mutex, mpsc},
    task::JoinSet,
};

/// How often calls become due; a call is late by half of it on average.
const PERIOD: Duration = Duration::from_micros(200);

#[derive(Default)]
struct Outcome {
    micros: Vec<u64>,
    failed: u64,
}

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, run())
}

#[expect(clippy::print_stdout, reason = "whoever starts it reads the outcome from there")]
async fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, rate, seconds, connections, keys, routes] = arguments.as_slice() else {
        return Err(
            "usage: open_loop ADDRESS CALLS_PER_SECOND SECONDS CONNECTIONS KEYS ROUTES".into()
        );
    };
    let (rate, seconds): (f64, f64) = (rate.parse()?, seconds.parse()?);
    let (connections, routes): (usize, usize) = (connections.parse()?, routes.parse()?);
    let requests = Rc::new(requests(address, keys, routes)?);
    let (due, calls) = mpsc::unbounded_channel();
    let calls = Rc::new(Mutex::new(calls));
    let outcome = Rc::new(RefCell::new(Outcome::default()));
    let mut workers = JoinSet::new();
    for number in 0..connections {
        // No two connections call with the same keys one after the other.
        let first = number * requests.len() / connections;
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (calls, requests) = (Rc::clone(&calls), Rc::clone(&requests));
        workers.spawn_local(serve(stream, calls, requests, first, Rc::clone(&outcome)));
    }
    let pacer = thread::spawn(move || pace(&due, rate, seconds));
    while workers.join_next().await.is_some() {}
    pacer.join().map_err(|_panic| "the pacer failed")?;
    let mut outcome = outcome.take();
    outcome.micros.sort_unstable();
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "far fewer calls than a float can count"
        )]
        let place = (outcome.micros.len() as f64 * share) as usize;
        outcome.micros.get(place.min(outcome.micros.len().saturating_sub(1))).copied().unwrap_or(0)
    };
    println!(
        "{{\"calls\":{},\"failed\":{},\"p50\":{},\"p99\":{},\"p999\":{}}}",
        outcome.micros.len(),
        outcome.failed,
        at(0.5),
        at(0.99),
        at(0.999)
    );
    Ok(())
}

/// Says when each call is due.
fn pace(due: &mpsc::UnboundedSender<Instant>, rate: f64, seconds: f64) {
    let began = Instant::now();
    let mut number = 0.0;
    while number < rate * seconds {
        let at = began + Duration::from_secs_f64(number / rate);
        if let Some(wait) = at.checked_duration_since(Instant::now()) {
            thread::sleep(wait.max(PERIOD));
        }
        if due.send(at).is_err() {
            return;
        }
        number += 1.0;
    }
}

fn requests(address: &str, keys: &str, routes: usize) -> Result<Vec<String>, Box<dyn Error>> {
    let request = |(number, line): (usize, &str)| {
        let (key, path) = match line.split_once(' ') {
            Some((key, path)) => (key, path.to_owned()),
            None => (line, format!("/api-{:03}", number % routes)),
        };
        format!(
            "GET {path}/patients/{number} HTTP/1.1\r\nHost: {address}\r\nX-API-Key: {key}\r\n\
             Accept: application/json\r\nUser-Agent: open-loop\r\n\r\n"
        )
    };
    Ok(std::fs::read_to_string(keys)?.lines().enumerate().map(request).collect())
}

/// Makes the calls of one connection, each as soon as one is due and the connection is free.
async fn serve(
    mut stream: TcpStream,
    calls: Rc<Mutex<mpsc::UnboundedReceiver<Instant>>>,
    requests: Rc<Vec<String>>,
    first: usize,
    outcome: Rc<RefCell<Outcome>>,
) {
    let mut answer = Vec::new();
    let mut number = first;
    loop {
        let Some(due) = calls.lock().await.recv().await else { return };
        number = (number + 7_919) % requests.len();
        let Some(request) = requests.get(number) else { return };
        let answered = call(&mut stream, request, &mut answer).await;
        let took = u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX);
        let mut outcome = outcome.borrow_mut();
        match answered {
            Ok(true) => outcome.micros.push(took),
            Ok(false) => outcome.failed += 1,
            Err(_) => {
                outcome.failed += 1;
                return;
            }
        }
    }
}

/// Makes one call; says whether it was answered with 200.
async fn call(
    stream: &mut TcpStream,
    request: &str,
    answer: &mut Vec<u8>,
) -> std::io::Result<bool> {
    stream.write_all(request.as_bytes()).await?;
    answer.clear();
    loop {
        if stream.read_buf(answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head =
            String::from_utf8_lossy(answer.get(..end).unwrap_or_default()).to_ascii_lowercase();
        let length =
            head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let whole = end + 4 + length.unwrap_or(0_usize);
        if answer.len() >= whole {
            return Ok(head.starts_with("http/1.1 200"));
        }
    }
}
