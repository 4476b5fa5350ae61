//! Active health checks, and the names of targets looked up anew, once per process.

use std::{
    collections::HashMap,
    future::poll_fn,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{Method, uri::PathAndQuery};
use model::{AddressPolicy, CheckKind, HealthCheck};
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{Endpoint, Need, RequestHead, Target, endpoint::KEEP, pool::connect_once};
use crate::{body::RequestBody, table::Table};

const READ_BYTES: usize = 4 << 10;

/// The running checks.
pub(crate) struct HealthChecks {
    tasks: JoinSet<()>,
    running: HashMap<u64, (Wanted, AbortHandle)>,
    resolving: HashMap<u64, AbortHandle>,
    policy: AddressPolicy,
    epoch: Instant,
}

/// What decides how a target is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    check: HealthCheck,
    slow_start: u64,
}

/// How long the look-up of a name may take.
const LOOK_UP: Duration = Duration::from_secs(5);

impl HealthChecks {
    pub(crate) fn new(policy: AddressPolicy, epoch: Instant) -> Self {
        Self {
            tasks: JoinSet::new(),
            running: HashMap::new(),
            resolving: HashMap::new(),
            policy,
            epoch,
        }
    }

    /// Checks the targets of `table` and no others.
    pub(crate) fn follow(&mut self, table: &Table) {
        while self.tasks.try_join_next().is_some() {}
        self.follow_names(table);
        let mut wanted: HashMap<u64, (Wanted, &Arc<Target>)> = HashMap::new();
        for deployment in &table.deployments {
            let upstream = &deployment.upstream;
            let Some(check) = upstream.health_check.clone() else { continue };
            let how = Wanted { check, slow_start: upstream.slow_start() };
            let targets = upstream.targets.iter();
            wanted.extend(targets.map(|target| (target.number, (how.clone(), target))));
        }
        self.running.retain(|number, (how, task)| {
            let stays = wanted.get(number).is_some_and(|(wanted, _)| wanted == how);
            if !stays {
                task.abort();
            }
            stays
        });
        for (number, (how, target)) in wanted {
            if !self.running.contains_key(&number) {
                let watch = watch(Arc::clone(target), how.clone(), self.policy.clone(), self.epoch);
                let task = self.tasks.spawn_local(watch);
                self.running.insert(number, (how, task));
            }
        }
    }

    /// Looks up the names of targets again and again, so that connections to addresses they no longer have are given up
    /// even where no new ones are opened.
    fn follow_names(&mut self, table: &Table) {
        let wanted: HashMap<u64, &Arc<Endpoint>> = table
            .deployments
            .iter()
            .flat_map(|deployment| &deployment.upstream.targets)
            .filter(|target| target.endpoint.resolver.is_name())
            .map(|target| (target.endpoint.number, &target.endpoint))
            .collect();
        self.resolving.retain(|number, task| {
            let stays = wanted.contains_key(number);
            if !stays {
                task.abort();
            }
            stays
        });
        for (number, endpoint) in wanted {
            self.resolving.entry(number).or_insert_with(|| {
                self.tasks.spawn_local(resolve(Arc::clone(endpoint), self.epoch))
            });
        }
    }
}

fn nanos_since(epoch: Instant) -> u64 {
    u64::try_from(epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

async fn resolve(endpoint: Arc<Endpoint>, epoch: Instant) {
    let mut ticks = interval(KEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        endpoint.resolver.refresh(LOOK_UP, nanos_since(epoch)).await;
    }
}

/// Asks a target again and again, and tells it what was found.
async fn watch(target: Arc<Target>, how: Wanted, policy: AddressPolicy, epoch: Instant) {
    let Wanted { check, slow_start } = how;
    let mut ticks = interval(Duration::from_millis(u64::from(check.interval_ms.max(10))));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let patience = Duration::from_millis(u64::from(check.timeout_ms.max(1)));
    let path = match check.kind {
        CheckKind::Http => format!("{}{}", target.url.base_path(), check.path),
        CheckKind::Tcp => "/".to_owned(),
    };
    let path = path.parse::<PathAndQuery>();
    let Ok(path) = path else {
        tracing::error!(target.id = %target.id, "the path of the health check is not a path");
        return;
    };
    let (mut well, mut ill) = (0_u32, 0_u32);
    let mut up = true;
    loop {
        ticks.tick().await;
        let now = nanos_since(epoch);
        let need = Need { policy: &policy, patience, most: u32::MAX, only_http1: false, now };
        let asked = timeout(patience, ask(&target, &check, &path, need)).await;
        if asked == Ok(true) {
            (well, ill) = (well + 1, 0);
        } else {
            (well, ill) = (0, ill + 1);
        }
        if up && ill >= u32::from(check.unhealthy_after.max(1)) {
            up = false;
            target.checked(false, slow_start, now);
            tracing::warn!(target.id = %target.id, "a target is unhealthy and takes no more calls");
        } else if !up && well >= u32::from(check.healthy_after.max(1)) {
            up = true;
            target.checked(true, slow_start, now);
            tracing::info!(target.id = %target.id, "a target is healthy again");
        }
    }
}

/// Whether the target answers with a status below 400, or, when that is enough, takes connections.
async fn ask(
    target: &Arc<Target>,
    check: &HealthCheck,
    path: &PathAndQuery,
    need: Need<'_>,
) -> bool {
    let Ok(mut connection) = connect_once(target, need).await else { return false };
    if check.kind == CheckKind::Tcp {
        return true;
    }
    if !connection.is_quiet().await {
        return false;
    }
    let fields = b"user-agent: caduceus-health-check\r\n";
    let host = &target.authority;
    let head = RequestHead { method: &Method::GET, path, host, fields, upgrade: None };
    connection.begin(&head, RequestBody::Empty);
    let mut scratch = vec![0; READ_BYTES];
    let answer = poll_fn(|context| connection.poll_answer(context, &mut scratch)).await;
    answer.is_ok_and(|head| head.status.as_u16() < 400)
}
