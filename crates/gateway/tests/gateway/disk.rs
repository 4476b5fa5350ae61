//! A disk without room under the state and the usage journal: calls go on, what cannot be written is told and counted, and
//! once there is room again nothing is missing.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use gateway::Gateway;
use model::Clock;
use tempfile::TempDir;

use crate::support::{
    Client, TestTarget, deployment, keys, read_usage, settings, snapshot, wait_for,
};

/// A disk of two megabytes.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(folder.path())
            .status();
        let is_mounted = mounted.is_ok_and(|status| status.success());
        assert!(is_mounted, "a file system could not be mounted: run the tests as root");
        Self(folder)
    }

    /// Takes all the room there is; gives it back when the file is removed.
    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("filler");
        let mut file = File::create(&path).unwrap();
        for size in [64 << 10, 4 << 10, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What is still mounted keeps its folder, which is all that could be said of it.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

fn start(state: &Path) -> Gateway {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut settings = settings(&elsewhere);
    state.clone_into(&mut settings.state_dir);
    Gateway::start(settings, &keys(), Clock::system()).unwrap()
}

fn counted(gateway: &Gateway, name: &str) -> u64 {
    let mut text = String::new();
    gateway.encode_metrics(&mut text).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn a_full_disk_costs_no_call_and_nothing_is_lost() {
    const CALLS: usize = 300;
    let target = TestTarget::named("reached");
    let disk = SmallDisk::mount();
    let state = disk.0.path().join("state");
    let gateway = start(&state);
    gateway.take(&snapshot(1, vec![deployment(&[target.address])]).update()).unwrap();
    let mut client = Client::connect(gateway.local_addr());
    assert_eq!(client.get("/lab", 1).status, 200);
    wait_for(|| state.join("structure").exists().then_some(()));

    let filler = disk.fill();
    for _ in 1..CALLS {
        assert_eq!(client.get("/lab", 1).text(), "reached");
    }
    assert!(counted(&gateway, "caduceus_gateway_usage_journal_failures_total ") > 0);
    assert_eq!(counted(&gateway, "caduceus_gateway_usage_records_lost_total "), 0);
    // What it is told meanwhile is served, though it cannot be kept.
    let mut moved = deployment(&[target.address]);
    moved.route = model::Route::new(None, "/moved", false).unwrap();
    gateway.take(&snapshot(2, vec![moved]).update()).unwrap();
    assert_eq!(client.get("/moved", 1).status, 200);
    wait_for(|| (counted(&gateway, "caduceus_gateway_state_failures_total ") > 0).then_some(()));

    std::fs::remove_file(filler).unwrap();
    wait_for(|| (read_usage(&state).len() == CALLS + 1).then_some(()));
    gateway.shut_down(Duration::from_secs(1));
    let again = start(&state);
    assert_eq!(again.status().config_number, Some(2));
    assert_eq!(Client::connect(again.local_addr()).get("/moved", 1).status, 200);
    again.shut_down(Duration::from_secs(1));
}
