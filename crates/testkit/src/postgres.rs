//! A PostgreSQL server in a temporary folder.

use std::{
    io::Write,
    net::TcpListener,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::Connection;
use tokio::sync::OnceCell;

/// A PostgreSQL server of one's own. It ends, and its folder goes, when it is dropped or the process ends in any way.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    running: Option<(Child, ChildStdin)>,
}

/// Runs the server for as long as its standard input is open, and then removes the folder; `stop` and `kill` keep it.
const KEEPER: &str = r#"
"$1/postgres" -D "$2/data" -p "$3" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off \
    -c full_page_writes=off -c max_connections=400 -c shared_buffers=32MB -c logging_collector=off 2>>"$2/log" &
server=$!
read -r word
case "$word" in
    stop) kill -INT $server; wait $server ;;
    kill) kill -QUIT $server; wait $server ;;
    *) kill -QUIT $server; wait $server; rm -rf "$2" ;;
esac
"#;

impl Postgres {
    /// Starts a server on a free port.
    pub async fn start() -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("caduceus-postgres-").tempdir().unwrap();
        let folder = folder.keep();
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(&folder));
        }
        run(unprivileged(&programs.join("initdb")).arg("-D").arg(folder.join("data")).args([
            "-U",
            "postgres",
            "--auth=trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        ]));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { programs, folder, port, running: None };
        server.resume().await;
        server
    }

    /// URL of a server that all tests of this process share, with the rights of a superuser: the one that
    /// `CADUCEUS_TEST_POSTGRES` names, or else one that is started now.
    pub async fn shared_url() -> String {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        if let Ok(url) = std::env::var("CADUCEUS_TEST_POSTGRES")
            && !url.is_empty()
        {
            return url;
        }
        SHARED.get_or_init(Self::start).await.url()
    }

    /// URL of its maintenance database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Stops it in good order; its data stays.
    pub fn stop(&mut self) {
        self.end("stop\n");
    }

    /// Stops it without a chance to write anything more; its data stays.
    pub fn kill(&mut self) {
        self.end("kill\n");
    }

    /// Starts it again on the same port and data, and waits until it answers.
    pub async fn resume(&mut self) {
        let mut keeper = unprivileged(Path::new("sh"))
            .args(["-c", KEEPER, "sh"])
            .arg(&self.programs)
            .arg(&self.folder)
            .arg(self.port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let input = keeper.stdin.take().unwrap();
        self.running = Some((keeper, input));
        let began = Instant::now();
        while let Err(error) = sqlx::PgConnection::connect(&self.url()).await {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(60), "PostgreSQL: {error}\n{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn end(&mut self, word: &str) {
        let Some((mut keeper, mut input)) = self.running.take() else { return };
        input.write_all(word.as_bytes()).unwrap();
        drop(input);
        keeper.wait().unwrap();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        match self.running.take() {
            Some((mut keeper, input)) => {
                drop(input);
                drop(keeper.wait());
            }
            None => drop(std::fs::remove_dir_all(&self.folder)),
        }
    }
}

/// The folder with the programs of the newest server that is installed.
fn programs() -> PathBuf {
    let version = |folder: &Path| {
        let name = folder.file_name().and_then(|name| name.to_str());
        name.and_then(|name| name.parse::<u32>().ok()).unwrap_or(0)
    };
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = installed
        .map(|entry| entry.path())
        .filter(|folder| folder.join("bin/initdb").exists())
        .max_by_key(|folder| version(folder))
        .map(|folder| folder.join("bin"));
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|folder| folder.join("initdb").exists())
    };
    newest
        .or_else(on_path)
        .unwrap_or_else(|| panic!("PostgreSQL is not installed; run: apt-get install postgresql"))
}

/// A command that does not run as root, under which PostgreSQL refuses to.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(program);
    command.current_dir("/");
    command
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
