//! Active health checks, once per process.

use std::{
    collections::HashMap,
    future::{Future as _, poll_fn},
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{
    Request, Uri,
    header::{HOST, USER_AGENT},
};
use model::{AddressPolicy, HealthCheck};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{Target, connect};
use crate::{body::RequestBody, table::Table};

/// The running checks.
pub(crate) struct HealthChecks {
    tasks: JoinSet<()>,
    running: HashMap<u64, (HealthCheck, AbortHandle)>,
    policy: AddressPolicy,
    epoch: Instant,
}

impl HealthChecks {
    pub(crate) fn new(policy: AddressPolicy, epoch: Instant) -> Self {
        Self { tasks: JoinSet::new(), running: HashMap::new(), policy, epoch }
    }

    /// Checks the targets of `table` and no others.
    pub(crate) fn follow(&mut self, table: &Table) {
        while self.tasks.try_join_next().is_some() {}
        let mut wanted: HashMap<u64, (&HealthCheck, &Arc<Target>)> = HashMap::new();
        for deployment in &table.deployments {
            let Some(check) = &deployment.upstream.health_check else { continue };
            let targets = &deployment.upstream.targets;
            wanted.extend(targets.iter().map(|target| (target.number, (check, target))));
        }
        self.running.retain(|number, (check, task)| {
            let stays = wanted.get(number).is_some_and(|(wanted, _)| *wanted == check);
            if !stays {
                task.abort();
            }
            stays
        });
        for (number, (check, target)) in wanted {
            if !self.running.contains_key(&number) {
                let watch =
                    watch(Arc::clone(target), check.clone(), self.policy.clone(), self.epoch);
                let task = self.tasks.spawn_local(watch);
                self.running.insert(number, (check.clone(), task));
            }
        }
    }
}

/// Asks a target again and again, and tells it what was found.
async fn watch(target: Arc<Target>, check: HealthCheck, policy: AddressPolicy, epoch: Instant) {
    let mut ticks = interval(Duration::from_millis(u64::from(check.interval_ms.max(10))));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let patience = Duration::from_millis(u64::from(check.timeout_ms.max(1)));
    let Ok(uri) = format!("{}{}", target.url.base_path(), check.path).parse::<Uri>() else {
        tracing::error!(target.id = %target.id, "the path of the health check is not a path");
        return;
    };
    let (mut well, mut ill) = (0_u32, 0_u32);
    let mut up = true;
    loop {
        ticks.tick().await;
        let now = u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let asked = timeout(patience, ask(&target, uri.clone(), &policy, patience, now)).await;
        if asked == Ok(true) {
            (well, ill) = (well + 1, 0);
        } else {
            (well, ill) = (0, ill + 1);
        }
        if up && ill >= u32::from(check.unhealthy_after.max(1)) {
            up = false;
            target.checked(false);
            tracing::warn!(target.id = %target.id, "a target is unhealthy and takes no more calls");
        } else if !up && well >= u32::from(check.healthy_after.max(1)) {
            up = true;
            target.checked(true);
            tracing::info!(target.id = %target.id, "a target is healthy again");
        }
    }
}

/// Whether the target answers with a status below 400.
async fn ask(
    target: &Arc<Target>,
    uri: Uri,
    policy: &AddressPolicy,
    patience: Duration,
    now: u64,
) -> bool {
    let Ok(mut connection) = connect(target, policy, patience, now).await else { return false };
    let request = Request::get(uri)
        .header(HOST, target.authority.clone())
        .header(USER_AGENT, "caduceus-health-check")
        .body(RequestBody::Empty);
    let Ok(request) = request else { return false };
    let mut answer = pin!(connection.sender.send_request(request));
    let answer =
        poll_fn(|context| connection.drive(context, |context| answer.as_mut().poll(context)));
    answer.await.is_ok_and(|answer| answer.status().as_u16() < 400)
}
