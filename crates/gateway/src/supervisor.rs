//! The thread beside the workers: it checks targets and keeps the last good snapshot on disk.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use model::Snapshot;
use tokio::{sync::watch, time::sleep};

use crate::{balance::HealthChecks, tls::Certificates, worker::Shared};

/// After a failure to write the snapshot it is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How often the files of certificates are looked at.
const RENEW: Duration = Duration::from_secs(2);

/// Where the last good snapshot is kept.
pub(crate) fn snapshot_path(state_dir: &Path) -> PathBuf {
    state_dir.join("snapshot")
}

/// Runs until the gateway ends.
pub(crate) fn run(
    shared: &Shared,
    state_key: &journal::Key,
    newest: watch::Receiver<Option<Arc<Snapshot>>>,
    certificates: Option<&Certificates>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default());
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            let following = shared.cutting.run_until_cancelled(renew(shared, certificates));
            tokio::join!(follow(shared, state_key, newest), following);
        }),
        Err(error) => tracing::error!(
            error = &error as &dyn std::error::Error,
            "targets are not checked and the snapshot is not kept"
        ),
    }
}

async fn follow(
    shared: &Shared,
    state_key: &journal::Key,
    mut newest: watch::Receiver<Option<Arc<Snapshot>>>,
) {
    let epoch = shared.epoch.instant();
    let mut checks = HealthChecks::new(shared.settings.address_policy.clone(), epoch);
    let path = snapshot_path(&shared.settings.state_dir);
    loop {
        if let Some(table) = shared.table.load_full() {
            checks.follow(&table);
        }
        let snapshot = newest.borrow_and_update().clone();
        let kept = snapshot.is_none_or(|snapshot| keep(&path, state_key, &snapshot));
        let changed = async {
            if kept {
                newest.changed().await
            } else {
                sleep(RETRY).await;
                Ok(())
            }
        };
        if !matches!(shared.cutting.run_until_cancelled(changed).await, Some(Ok(()))) {
            break;
        }
    }
}

/// Loads certificates anew when their files change, and tells until when they are valid.
async fn renew(shared: &Shared, certificates: Option<&Certificates>) {
    let Some(certificates) = certificates else { return };
    loop {
        shared.metrics.show_certificates(&certificates.status());
        sleep(RENEW).await;
        match certificates.reload() {
            Ok(false) => {}
            Ok(true) => tracing::info!("the certificates have been loaded anew"),
            Err(error) => tracing::error!(
                error = &error as &dyn std::error::Error,
                "the certificates have changed and cannot be used; those before stay in use"
            ),
        }
    }
}

/// Writes the snapshot; says whether that succeeded.
fn keep(path: &Path, key: &journal::Key, snapshot: &Snapshot) -> bool {
    let bytes = match serde_json::to_vec(snapshot) {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the snapshot has no JSON form and is not kept"
            );
            return true;
        }
    };
    match journal::write_sealed(path, key, &bytes) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the snapshot could not be kept; a restart would serve an older one"
            );
            false
        }
    }
}
