//! A gateway in a process of its own, so that it can be killed or given a world of its own.

use std::{
    ffi::OsStr,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use model::RosterPage;
use tempfile::TempDir;

use crate::support::Snapshot;

pub(crate) struct Standalone {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Standalone {
    pub(crate) fn start(snapshot: &Snapshot, state: &TempDir) -> Self {
        Self::run(Command::new(program()), snapshot, state)
    }

    /// Starts it where `hosts` is the file by which names are looked up, instead of the machine's.
    pub(crate) fn start_with_hosts(hosts: &Path, snapshot: &Snapshot, state: &TempDir) -> Self {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c"]);
        command.arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"");
        command.args([hosts.as_os_str(), program().as_os_str()]);
        Self::run(command, snapshot, state)
    }

    fn run(mut command: Command, snapshot: &Snapshot, state: &TempDir) -> Self {
        let file = state.path().join("snapshot.json");
        let update = snapshot.update();
        let roster = RosterPage { digest: None, ..update.roster.unwrap() };
        let state_of = serde_json::json!({ "structure": update.structure.unwrap().as_ref(), "roster": roster });
        std::fs::write(&file, state_of.to_string()).unwrap();
        assert!(
            program().exists(),
            "cargo build -p caduceus-gateway --example standalone makes it"
        );
        let mut child = command
            .args([file.as_os_str(), state.path().as_os_str()])
            .args(["127.0.0.1:0", "2"].map(OsStr::new))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().parse().unwrap() }
    }

    /// Ends it without warning.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The example is built together with the tests, beside their folder.
fn program() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples").join("standalone")
}
