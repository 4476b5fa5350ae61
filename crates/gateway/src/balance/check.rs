//! Active health checks, once per process.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Method, uri::PathAndQuery};
use model::{AddressPolicy, HealthCheck};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{RequestHead, Target, connect};
use crate::{body::RequestBody, table::Table};

const READ_BYTES: usize = 4 << 10;

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
    let path = format!("{}{}", target.url.base_path(), check.path).parse::<PathAndQuery>();
    let Ok(path) = path else {
        tracing::error!(target.id = %target.id, "the path of the health check is not a path");
        return;
    };
    let (mut well, mut ill) = (0_u32, 0_u32);
    let mut up = true;
    loop {
        ticks.tick().await;
        let now = u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let asked = timeout(patience, ask(&target, &path, &policy, patience, now)).await;
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
    path: &PathAndQuery,
    policy: &AddressPolicy,
    patience: Duration,
    now: u64,
) -> bool {
    let Ok(mut connection) = connect(target, policy, patience, now).await else { return false };
    if !connection.is_quiet().await {
        return false;
    }
    let fields = b"user-agent: caduceus-health-check\r\n";
    let head = RequestHead { method: &Method::GET, path, host: &target.authority, fields };
    connection.begin(&head, RequestBody::Empty);
    let mut scratch = vec![0; READ_BYTES];
    let answer = poll_fn(|context| connection.poll_answer(context, &mut scratch)).await;
    answer.is_ok_and(|head| head.status.as_u16() < 400)
}
