//! The thread beside the workers: it checks targets, keeps the last good state on disk and minds its age.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::{balance::HealthChecks, keeper::Keeper, tls::Certificates, worker::Shared};

/// After a failure to write the state it is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How often the age of the state is looked at.
const TICK: Duration = Duration::from_millis(250);

/// How often the files of certificates are looked at.
const RENEW: Duration = Duration::from_secs(2);

/// Runs until the gateway ends.
pub(crate) fn run(shared: &Shared, keeper: Keeper, certificates: Option<&Certificates>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default());
    match runtime {
        Ok(runtime) => runtime.block_on(async {
            let renewing = shared.cutting.run_until_cancelled(renew(shared, certificates));
            tokio::join!(follow(shared, keeper), renewing);
        }),
        Err(error) => tracing::error!(
            error = &error as &dyn std::error::Error,
            "targets are not checked and the state is not kept"
        ),
    }
}

async fn follow(shared: &Shared, mut keeper: Keeper) {
    let epoch = shared.epoch.instant();
    let mut checks = HealthChecks::new(shared.settings.address_policy.clone(), epoch);
    let mut checked = None;
    let mut failed_at: Option<Instant> = None;
    loop {
        shared.judge_age();
        if let Some(table) = shared.table.load_full()
            && checked != Some((table.number, table.compiled_at))
        {
            checked = Some((table.number, table.compiled_at));
            checks.follow(&table);
        }
        if failed_at.is_none_or(|at| at.elapsed() >= RETRY) {
            match keeper.keep(&shared.outbox, &shared.callers.roster) {
                Ok(()) => {
                    if failed_at.take().is_some() {
                        tracing::info!("the state is kept again");
                    }
                }
                Err(error) => {
                    shared.metrics.state_failures.inc();
                    if failed_at.replace(Instant::now()).is_none() {
                        tracing::error!(
                            error = &error as &dyn std::error::Error,
                            "the state could not be kept; a restart would serve an older one"
                        );
                    }
                }
            }
        }
        let next = Instant::now() + TICK;
        let changed = async {
            tokio::select! {
                () = shared.outbox.changed.notified() => {}
                () = sleep_until(next) => {}
            }
        };
        if shared.cutting.run_until_cancelled(changed).await.is_none() {
            break;
        }
    }
    if let Err(error) = keeper.keep(&shared.outbox, &shared.callers.roster) {
        tracing::error!(error = &error as &dyn std::error::Error, "the last state is not kept");
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
