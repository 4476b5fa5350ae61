//! A mail server that others wrote, and what it took.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use serde_json::Value;

use crate::wait::eventually;

/// A mail server on this machine. It ends when it is dropped.
#[derive(Debug)]
pub struct MailServer {
    process: Child,
    input: ChildStdin,
    changed: mpsc::Receiver<Value>,
    mails: Arc<Mutex<Vec<Value>>>,
    port: u16,
}

const START: Duration = Duration::from_secs(30);

impl MailServer {
    /// Starts a server that takes everything from everybody, without TLS.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with arguments of its own: see `mail/server.py`.
    pub fn start_with(arguments: &[&str]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mail");
        let mut process = Command::new(python(&folder))
            .arg(folder.join("server.py"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mails = Arc::new(Mutex::new(Vec::new()));
        let (words, changed) = mpsc::channel();
        let kept = Arc::clone(&mails);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let word: Value = serde_json::from_str(&line).unwrap();
                if word["to"].is_array() {
                    kept.lock().unwrap().push(word);
                } else {
                    // Nobody listens any more once the test has ended.
                    drop(words.send(word));
                }
            }
        });
        let word: Value = changed.recv_timeout(START).expect("the mail server starts");
        let port = u16::try_from(word["port"].as_u64().unwrap()).unwrap();
        Self { process, input, changed, mails, port }
    }

    /// Where it listens, at 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Has it behave differently from now on: see `mail/server.py`.
    pub fn behave(&mut self, behaviour: &str) {
        writeln!(self.input, "{behaviour}").unwrap();
        let word = self.changed.recv_timeout(START).expect("the mail server listens");
        assert_eq!(word["behaviour"], behaviour);
    }

    /// What it took so far for an address.
    pub fn mails_to(&self, address: &str) -> Vec<Value> {
        let mails = self.mails.lock().unwrap();
        let is_to = |mail: &&Value| mail["to"].as_array().unwrap().iter().any(|to| to == address);
        mails.iter().filter(is_to).cloned().collect()
    }

    /// Waits until it has taken so many e-mails for an address.
    pub async fn wait_for(&self, address: &str, count: usize) -> Vec<Value> {
        let what = format!("{count} e-mails for {address}");
        eventually(&what, Duration::from_secs(30), || async {
            let mails = self.mails_to(address);
            (mails.len() >= count).then_some(mails)
        })
        .await
    }
}

impl Drop for MailServer {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn python(folder: &Path) -> PathBuf {
    let python = folder.join(".venv/bin/python");
    assert!(python.exists(), "./test installs the mail server of the tests into {folder:?}");
    python
}
