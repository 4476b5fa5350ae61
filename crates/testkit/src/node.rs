//! The real binary as a gateway alone, following an installation.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::mpsc;

use crate::{
    Client, eventually,
    installation::{START, Word, addresses, listen},
};

/// A running `caduceus serve --role gateway` with its own data folder, which keeps its addresses over restarts. It is
/// killed when dropped.
#[derive(Debug)]
pub struct Node {
    binary: PathBuf,
    process: Option<Child>,
    folder: TempDir,
    control: SocketAddr,
    gateway: SocketAddr,
    log: Arc<Mutex<String>>,
    clients: [Client; 2],
}

impl Node {
    /// An address that nobody listens on yet, and that no connection is given meanwhile: it lies below the ports that the
    /// system gives out.
    pub fn free_address() -> SocketAddr {
        let ports = 10_000..30_000;
        loop {
            let chance = RandomState::new().build_hasher().finish();
            let port = ports.start + u16::try_from(chance % ports.len() as u64).unwrap();
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
                return listener.local_addr().unwrap();
            }
        }
    }

    /// Starts a gateway that enrols itself with a token.
    pub async fn start(binary: &str, feed: SocketAddr, token: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("caduceus-node-").tempdir().unwrap();
        let config = json!({
            "control": { "url": format!("https://{feed}") },
            "gateway": { "workers": 2, "drainDelaySeconds": 1, "drainSeconds": 5 },
            "feed": { "token": token },
            "network": { "allowedRanges": ["127.0.0.0/8"] },
            "log": { "format": "json" },
        });
        std::fs::write(folder.path().join("config.yaml"), config.to_string()).unwrap();
        let (control, gateway) = (Self::free_address(), Self::free_address());
        let clients = [control, gateway].map(Client::at);
        let log = Arc::default();
        let mut node =
            Self { binary: binary.into(), process: None, folder, control, gateway, log, clients };
        node.launch().await;
        node
    }

    /// Starts the process and waits until it listens.
    pub async fn launch(&mut self) {
        let mut process = Command::new(&self.binary)
            .args(["serve", "--role", "gateway", "--config"])
            .arg(self.folder.path().join("config.yaml"))
            .arg("--data-dir")
            .arg(self.folder.path().join("data"))
            .args(["--control-listen", &self.control.to_string()])
            .args(["--gateway-listen", &self.gateway.to_string()])
            .env_remove("CADUCEUS_DATABASE_URL")
            .env_remove("CADUCEUS_DATA_DIR")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (words, mut said) = mpsc::unbounded_channel();
        listen(process.stderr.take().unwrap(), Arc::clone(&self.log), words, addresses);
        self.process = Some(process);
        match tokio::time::timeout(START, said.recv()).await {
            Ok(Some(Word::Listening { control, gateway })) => {
                assert_eq!((control, gateway), (self.control, self.gateway));
            }
            _ => panic!("the gateway did not start:\n{}", self.log()),
        }
    }

    /// Kills the process as a power failure would.
    pub fn kill9(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Asks the process to end, and waits for it.
    pub async fn terminate(&mut self) -> ExitStatus {
        let mut process = self.process.take().unwrap();
        let status = Command::new("kill").args(["-TERM", &process.id().to_string()]).status();
        assert!(status.unwrap().success());
        tokio::task::spawn_blocking(move || process.wait()).await.unwrap().unwrap()
    }

    /// `/livez`, `/readyz`, `/metrics`.
    pub const fn operations(&self) -> &Client {
        &self.clients[0]
    }

    /// The gateway, without a key.
    pub const fn gateway(&self) -> &Client {
        &self.clients[1]
    }

    /// What it says about itself, ready or not.
    pub async fn state(&self) -> Value {
        serde_json::from_str(&self.operations().get("/readyz?verbose").await.text()).unwrap()
    }

    /// Waits until it has heard of everything up to an event.
    pub async fn reaches(&self, number: u64) {
        let what = format!("the gateway serves configuration {number}");
        eventually(&what, Duration::from_secs(20), || async {
            (self.state().await["gateway"]["configNumber"].as_u64()? >= number).then_some(())
        })
        .await;
    }

    /// What the process has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill9();
    }
}
