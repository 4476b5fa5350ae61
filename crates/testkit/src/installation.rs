//! The real binary, serving.

use std::{
    io::{BufRead, BufReader, Read},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, RwLock},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    Client, Database, Sql,
    tenant::{PASSWORD, Tenant},
    wait::eventually,
};

/// A running `caduceus serve` with its own data folder. It is killed when dropped.
#[derive(Debug)]
pub struct Installation {
    binary: PathBuf,
    // Before the database, so that nothing is connected to it any more when it is dropped.
    process: Option<Child>,
    database: Database,
    folder: TempDir,
    control: Arc<RwLock<SocketAddr>>,
    gateway: Arc<RwLock<SocketAddr>>,
    log: Arc<Mutex<String>>,
    role: &'static str,
    admin: Option<Client>,
    clients: [Client; 3],
}

/// What the running process says about itself.
pub(crate) enum Word {
    Listening { control: SocketAddr, gateway: SocketAddr },
    SetUpToken(String),
}

pub(crate) const START: Duration = Duration::from_secs(60);
pub(crate) const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9);
const ADMIN: &str = "root@installation.example";

impl Installation {
    /// Starts an empty installation that may call upstreams on this machine, and sets it up.
    pub async fn start(binary: &str, database: Database) -> Self {
        Self::start_with(binary, database, json!({})).await
    }

    /// Starts an installation with sections of the configuration changed.
    pub async fn start_with(binary: &str, database: Database, changes: Value) -> Self {
        let mut installation = Self::prepare(binary, database, changes);
        installation.launch(true).await;
        installation
    }

    /// An installation that does not run yet.
    pub fn prepare(binary: &str, database: Database, changes: Value) -> Self {
        let folder = tempfile::Builder::new().prefix("caduceus-test-").tempdir().unwrap();
        let mut config = json!({
            "control": { "requestsPerSecond": 100_000 },
            "gateway": { "workers": 2, "drainSeconds": 5 },
            "network": { "allowedRanges": ["127.0.0.0/8"] },
            "log": { "format": "json" },
        });
        if let Some(url) = database.url() {
            config["database"] = json!({ "url": url });
        }
        let Value::Object(changes) = changes else { panic!("changes are an object") };
        for (section, values) in changes {
            for (name, value) in values.as_object().unwrap() {
                config[&section][name] = value.clone();
            }
        }
        // YAML contains JSON.
        std::fs::write(folder.path().join("config.yaml"), config.to_string()).unwrap();
        let (control, gateway) = (Arc::new(RwLock::new(NOWHERE)), Arc::new(RwLock::new(NOWHERE)));
        let clients = [
            Client::new(Arc::clone(&control), "/api/v1"),
            Client::new(Arc::clone(&control), ""),
            Client::new(Arc::clone(&gateway), ""),
        ];
        Self {
            binary: binary.into(),
            process: None,
            database,
            folder,
            control,
            gateway,
            log: Arc::default(),
            role: "all",
            admin: None,
            clients,
        }
    }

    /// Another process on the same database (a PostgreSQL one) with the same keys, that does not run yet.
    pub fn twin(&self, changes: Value) -> Self {
        let twin = Self::prepare(self.binary.to_str().unwrap(), self.database.shared(), changes);
        std::fs::create_dir_all(twin.data()).unwrap();
        let key = |installation: &Self| installation.data().join("master.key");
        std::fs::copy(key(self), key(&twin)).unwrap();
        twin
    }

    /// Has the next start take another role.
    pub fn set_role(&mut self, role: &'static str) {
        self.role = role;
    }

    /// Starts the process without waiting for the control API, which may have no database.
    pub async fn launch_gateway(&mut self) {
        self.launch(false).await;
    }

    /// Kills the process as a power failure would, and starts it again.
    pub async fn restart(&mut self) {
        self.kill9();
        self.launch(true).await;
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

    /// The control API, as nobody.
    pub const fn anonymous(&self) -> &Client {
        &self.clients[0]
    }

    /// The root of the control listener: `/livez`, `/readyz`, `/metrics`.
    pub const fn operations(&self) -> &Client {
        &self.clients[1]
    }

    /// Signs a person of the tests in to the portal; yields the cookie.
    pub async fn sign_in_to_portal(&self, email: &str) -> String {
        let (email, password) = (email.replace('@', "%40"), PASSWORD.replace(' ', "+"));
        let call = self.operations().call(http::Method::POST, "/sign-in");
        let call = call.body(format!("email={email}&password={password}"));
        let call = call.header("content-type", "application/x-www-form-urlencoded");
        let answer = call.header("sec-fetch-site", "same-origin").await.expect_status(303);
        answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
    }

    /// The gateway, without a key.
    pub const fn gateway(&self) -> &Client {
        &self.clients[2]
    }

    /// The control API, as the platform administrator.
    pub fn admin(&self) -> &Client {
        self.admin.as_ref().unwrap()
    }

    /// Changes the database behind the back of the server.
    pub async fn sql(&self, statements: &str) {
        let sqlite = self.data().join("caduceus.db");
        self.database.change(&sqlite, statements).await;
    }

    /// A connection of one's own to its database, which is on a server.
    pub async fn connect(&self) -> Sql {
        Sql::connect(&self.database).await
    }

    /// What the process has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Identifier of the process.
    pub fn process_id(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// Adds a tenant with a person in each role.
    pub async fn tenant(&self, slug: &str) -> Tenant {
        Tenant::create(self, slug).await
    }

    /// Waits until the gateway serves everything that was answered so far; a change takes less than a second.
    pub async fn settled(&self) {
        let newest = self.admin().get("/deployments?limit=1").await.items();
        let Some(wanted) = newest.first().and_then(|item| item["configVersion"].as_u64()) else {
            return;
        };
        let what = format!("the gateway serves configuration {wanted}");
        eventually(&what, Duration::from_secs(5), || async {
            let state = self.operations().get("/readyz?verbose").await.ok();
            (state["gateway"]["configNumber"].as_u64()? >= wanted).then_some(())
        })
        .await;
    }

    async fn launch(&mut self, wait: bool) {
        let mut process = Command::new(&self.binary)
            .args(["serve", "--role", self.role])
            .arg("--config")
            .arg(self.folder.path().join("config.yaml"))
            .arg("--data-dir")
            .arg(self.data())
            .args(["--control-listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"])
            .env_remove("CADUCEUS_DATABASE_URL")
            .env_remove("CADUCEUS_DATA_DIR")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (words, mut said) = mpsc::unbounded_channel();
        listen(process.stderr.take().unwrap(), Arc::clone(&self.log), words.clone(), addresses);
        listen(process.stdout.take().unwrap(), Arc::default(), words, token);
        self.process = Some(process);
        let is_empty = self.admin.is_none() && wait;
        let mut is_listening = false;
        let mut set_up = None;
        while !is_listening || (is_empty && set_up.is_none()) {
            match tokio::time::timeout(START, said.recv()).await {
                Ok(Some(Word::Listening { control, gateway })) => {
                    *self.control.write().unwrap() = control;
                    *self.gateway.write().unwrap() = gateway;
                    is_listening = true;
                }
                Ok(Some(Word::SetUpToken(token))) => set_up = Some(token),
                Ok(None) => panic!("the server ended:\n{}", self.log()),
                Err(_) => panic!("the server did not start:\n{}", self.log()),
            }
        }
        if let Some(token) = set_up {
            self.set_up(&token).await;
        }
        if wait {
            self.wait_for_control_api().await;
        }
    }

    /// Waits until the control API answers.
    pub async fn wait_for_control_api(&self) {
        eventually("the control API answers", START, || async {
            let answer = self.anonymous().get("/auth/jwks").try_send().await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    async fn set_up(&mut self, token: &str) {
        let body = json!({
            "token": token,
            "tenant": { "slug": "installation", "name": "The Installation" },
            "admin": { "email": ADMIN, "name": "Root", "password": PASSWORD },
        });
        self.anonymous().post("/auth/setup", &body).await.created();
        self.admin = Some(self.anonymous().sign_in(ADMIN, PASSWORD).await);
    }

    /// Invites people into a tenant and signs them in, all at once.
    pub(crate) async fn invite(
        &self,
        tenant: &str,
        slug: &str,
        roles: &[&'static str],
    ) -> Vec<(&'static str, Client)> {
        let mut signing_in = JoinSet::new();
        for role in roles {
            let (admin, nobody) = (self.admin().clone(), self.anonymous().clone());
            let email = format!("{role}@{slug}.example");
            let invitation =
                json!({ "email": email, "name": role, "roles": [role], "tenantId": tenant });
            let role = *role;
            signing_in.spawn(async move {
                let invited = admin.post("/admin/users", &invitation).await.created();
                let body = json!({ "token": invited["invitationToken"], "password": PASSWORD });
                nobody.post("/auth/accept-invitation", &body).await.ok();
                (role, nobody.sign_in(&email, PASSWORD).await)
            });
        }
        signing_in.join_all().await
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(20).collect();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
            // Shown by the test harness beside the failure.
            #[expect(clippy::print_stderr, reason = "read by whoever looks into a failure")]
            {
                eprintln!("the last lines of the server's log:\n{tail}");
            }
        }
    }
}

/// Reads lines until the end, keeps them, and passes on what they say.
pub(crate) fn listen(
    stream: impl Read + Send + 'static,
    kept: Arc<Mutex<String>>,
    words: mpsc::UnboundedSender<Word>,
    understand: fn(&str) -> Option<Word>,
) {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Some(word) = understand(&line) {
                // Nobody waits for it after the start.
                drop(words.send(word));
            }
            let mut kept = kept.lock().unwrap();
            kept.push_str(&line);
            kept.push('\n');
        }
    });
}

pub(crate) fn addresses(line: &str) -> Option<Word> {
    let entry: Value = serde_json::from_str(line).ok()?;
    let address = |name: &str| entry[name].as_str()?.parse().ok();
    if entry["message"] != "listening" {
        return None;
    }
    Some(Word::Listening {
        control: address("control.address")?,
        // A control plane alone has none.
        gateway: address("gateway.address").unwrap_or(NOWHERE),
    })
}

fn token(line: &str) -> Option<Word> {
    let (_, rest) = line.split_once("\"token\":\"")?;
    Some(Word::SetUpToken(rest.split_once('"')?.0.to_owned()))
}
