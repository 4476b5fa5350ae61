//! Background work: the structure, the index, usage and housekeeping.
//!
//! Each job waits for a commit or a tick, and after a failure tries again at the next one. A failure is logged when it
//! begins and when it is over, not in between.

use std::{path::PathBuf, sync::Arc, time::Duration};

use authz::Action;
use jiff::SignedDuration;
use model::{AuditEntry, AuditOutcome, EventKind, SubscriptionStatus, TenantId};
use serde_json::{Value, json};
use store::{Tx, Viewer, usage::Grain};
use tokio::sync::{Mutex, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{InstallationSettings, Market, MarketError, compile::Compiler, secrets::sha256_hex};

/// What the jobs need to know about this machine.
#[derive(Debug, Clone)]
pub struct JobSettings {
    /// Names this machine among others with the same database.
    pub node: String,
    /// Where the workers of this machine's gateway write usage, when it has one.
    pub usage_folder: Option<PathBuf>,
}

/// The jobs of one control plane.
pub struct Jobs {
    market: Arc<Market>,
    settings: JobSettings,
    compiler: Mutex<Compiler>,
}

/// How long a commit of another replica may go unnoticed.
const TICK: Duration = Duration::from_millis(500);
const USAGE_TICK: Duration = Duration::from_secs(1);
const HOUSEKEEPING_TICK: Duration = Duration::from_secs(30);
/// For how long, and how many of each API, failed calls are kept.
const FAILURE_DAYS: i64 = 7;
const FAILURES_MAX: i64 = 1_000;
const WATCH_TICK: Duration = Duration::from_secs(20);
const SIGNING_KEY_DAYS: i64 = 30;
/// How long a gateway may be away and still hear what was revoked meanwhile, instead of beginning anew.
const ROSTER_DAYS: i64 = 30;
/// How long notices and the letters about them are kept.
const NOTICE_DAYS: i64 = 90;
/// How long usage is kept by the minute, in days.
const MINUTE_DAYS: i64 = 2;
/// How many entries of the audit trail are removed at once.
const AUDIT_BATCH: i64 = 10_000;

const fn days(days: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * days)
}

/// Whether a job is failing, so that each episode is logged once.
struct Episode {
    job: &'static str,
    is_failing: bool,
}

impl Episode {
    const fn of(job: &'static str) -> Self {
        Self { job, is_failing: false }
    }

    fn note<T>(&mut self, result: Result<T, MarketError>) -> Option<T> {
        match result {
            Ok(value) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!(job = self.job, "the job works again");
                }
                Some(value)
            }
            Err(error) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    let chain = error_chain(&error);
                    tracing::error!(job = self.job, error = %chain, "the job fails and keeps trying");
                }
                None
            }
        }
    }
}

impl Jobs {
    /// The jobs of a control plane.
    pub fn new(market: Arc<Market>, settings: JobSettings) -> Self {
        Self { market, settings, compiler: Mutex::new(Compiler::new()) }
    }

    /// Counts usage, compiles the structure and brings the index up to date once, before anything is served. Without its
    /// index the catalogue is still read from the database; only searching has to wait for the job that keeps trying.
    pub async fn run_once(&self) -> Result<(), MarketError> {
        while self.count_usage().await? {}
        self.compile().await?;
        Episode::of("catalogue index").note(self.market.follow_catalogue().await);
        Ok(())
    }

    /// Starts the jobs; they end when `stop` is cancelled.
    pub fn spawn(self, tracker: &TaskTracker, stop: &CancellationToken) {
        let jobs = Arc::new(self);
        tracker.spawn(Arc::clone(&jobs).keep_structure(stop.clone()));
        tracker.spawn(Arc::clone(&jobs).keep_catalogue(stop.clone()));
        tracker.spawn(Arc::clone(&jobs).keep_usage(stop.clone()));
        tracker.spawn(Arc::clone(&jobs).keep_telling(stop.clone()));
        tracker.spawn(Arc::clone(&jobs).keep_watch(stop.clone()));
        tracker.spawn(jobs.keep_house(stop.clone()));
    }

    async fn keep_structure(self: Arc<Self>, stop: CancellationToken) {
        let mut episode = Episode::of("structure");
        let mut commits = self.market.committed.subscribe();
        while wait_for_commit(&mut commits, &stop).await {
            episode.note(self.compile().await);
        }
    }

    async fn compile(&self) -> Result<(), MarketError> {
        let published = self.compiler.lock().await.follow(&self.market).await?;
        self.market.published.send_if_modified(|present| {
            let is_new = present.as_ref().is_none_or(|it| it.reached != published.reached);
            if is_new {
                *present = Some(published);
            }
            is_new
        });
        Ok(())
    }

    async fn count_usage(&self) -> Result<bool, MarketError> {
        match &self.settings.usage_folder {
            Some(folder) => self.market.count_usage(&self.settings.node, folder).await,
            None => Ok(false),
        }
    }

    async fn keep_catalogue(self: Arc<Self>, stop: CancellationToken) {
        let mut episode = Episode::of("catalogue index");
        let mut commits = self.market.committed.subscribe();
        while wait_for_commit(&mut commits, &stop).await {
            episode.note(self.market.follow_catalogue().await);
        }
    }

    async fn keep_usage(self: Arc<Self>, stop: CancellationToken) {
        let mut episode = Episode::of("usage");
        loop {
            let is_more = episode.note(self.count_usage().await).unwrap_or(false);
            if stop.is_cancelled() && !is_more {
                return;
            }
            if !is_more {
                stop.run_until_cancelled(tokio::time::sleep(USAGE_TICK)).await;
            }
        }
    }

    /// Turns events into notices.
    async fn keep_telling(self: Arc<Self>, stop: CancellationToken) {
        let mut episode = Episode::of("notices");
        let mut commits = self.market.committed.subscribe();
        let mut seen = 0;
        while wait_for_commit(&mut commits, &stop).await {
            while episode.note(self.market.tell(&mut seen).await).unwrap_or(false)
                && !stop.is_cancelled()
            {}
        }
    }

    /// Looks for what nobody does, but people want to know.
    async fn keep_watch(self: Arc<Self>, stop: CancellationToken) {
        let mut episode = Episode::of("watch");
        loop {
            episode.note(self.market.watch().await);
            if stop.run_until_cancelled(tokio::time::sleep(WATCH_TICK)).await.is_none() {
                return;
            }
        }
    }

    async fn keep_house(self: Arc<Self>, stop: CancellationToken) {
        let mut episode = Episode::of("housekeeping");
        loop {
            episode.note(self.market.keep_house().await);
            if stop.run_until_cancelled(tokio::time::sleep(HOUSEKEEPING_TICK)).await.is_none() {
                return;
            }
        }
    }
}

/// Waits for a commit since the last time, or a tick; false when it is time to stop.
async fn wait_for_commit(commits: &mut watch::Receiver<u64>, stop: &CancellationToken) -> bool {
    let commit = tokio::time::timeout(TICK, commits.changed());
    stop.run_until_cancelled(commit).await.is_some()
}

impl Market {
    /// Ends what has expired and forgets what is no longer needed.
    async fn keep_house(&self) -> Result<(), MarketError> {
        self.expire_subscriptions().await?;
        self.expire_credentials().await?;
        self.renew_signing_key().await?;
        let now = self.clock.now();
        let mut tx = self.db.begin(Viewer::Installation).await?;
        let settings = self.installation().await?;
        store::session::prune(&mut tx, now - SignedDuration::from_hours(24)).await?;
        store::portal_session::prune(&mut tx).await?;
        store::idempotency::prune(&mut tx, now - SignedDuration::from_hours(24)).await?;
        // A token lives for an hour at most; its key is published for a day longer.
        store::signing_key::prune(&mut tx, now - SignedDuration::from_hours(25)).await?;
        store::roster::prune(&mut tx, now - days(ROSTER_DAYS)).await?;
        if !settings.legal_hold {
            self.forget(&mut tx, &settings).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Removes what was kept long enough.
    async fn forget(
        &self,
        tx: &mut Tx,
        settings: &InstallationSettings,
    ) -> Result<(), MarketError> {
        let now = self.clock.now();
        store::usage::prune(tx, Grain::Minute, now - days(MINUTE_DAYS)).await?;
        let kept = days(settings.usage_retention_days.into());
        store::usage::prune(tx, Grain::Hour, now - kept).await?;
        store::failed_call::prune(tx, now - days(FAILURE_DAYS), FAILURES_MAX).await?;
        store::notice::prune(tx, now - days(NOTICE_DAYS)).await?;
        store::letter::prune(tx, now - days(NOTICE_DAYS)).await?;
        if let Some(kept) = settings.audit_retention_days {
            store::audit::prune(tx, now - days(kept.into()), AUDIT_BATCH).await?;
        }
        Ok(())
    }

    /// Takes credentials off the roster that gateways have long refused by their own clocks.
    async fn expire_credentials(&self) -> Result<(), MarketError> {
        const BATCH: i64 = 1_000;
        loop {
            let mut tx = self.db.begin(Viewer::Installation).await?;
            if store::roster::expire(&mut tx, self.clock.now(), BATCH).await? == 0 {
                return Ok(());
            }
            tx.commit().await?;
            self.note_commit();
        }
    }

    async fn expire_subscriptions(&self) -> Result<(), MarketError> {
        const BATCH: i64 = 100;
        loop {
            let now = self.clock.now();
            let mut tx = self.db.begin(Viewer::Installation).await?;
            let ended = store::subscription::list_ended(&mut tx, now, BATCH).await?;
            if ended.is_empty() {
                return Ok(());
            }
            for mut subscription in ended {
                let before = subscription.status;
                subscription.status = SubscriptionStatus::Expired;
                subscription.updated_at = now;
                subscription.revision += 1;
                store::subscription::update(&mut tx, &subscription).await?;
                let target = subscription.id.to_string();
                let details = json!({ "before": before, "after": subscription.status });
                let entry =
                    self.system_entry(subscription.owner, "subscription.expire", &target, details);
                store::audit::insert(&mut tx, &entry).await?;
                for kind in [EventKind::SubscriptionChanged, EventKind::SubscriptionExpired] {
                    store::event::announce(&mut tx, subscription.owner, kind, &target, now);
                }
            }
            tx.commit().await?;
            self.note_commit();
        }
    }

    async fn renew_signing_key(&self) -> Result<(), MarketError> {
        let mut tx = self.db.read(Viewer::Installation).await?;
        let keys = store::signing_key::list(&mut tx).await?;
        let tenants =
            store::tenant::list(&mut tx, store::Viewer::Installation, store::Page::numbered(1, 1))
                .await?;
        drop(tx);
        let oldest = self.clock.now() - SignedDuration::from_hours(24 * SIGNING_KEY_DAYS);
        let is_due = keys.iter().any(|key| key.retired_at.is_none() && key.created_at < oldest);
        let Some(tenant) = tenants.items.first().filter(|_| is_due) else { return Ok(()) };
        let kid = self.replace_signing_key().await?;
        let mut tx = self.db.begin(Viewer::Installation).await?;
        let action = Action::RotateSigningKey.as_str();
        let entry = self.system_entry(tenant.id, action, &kid, Value::Null);
        store::audit::insert(&mut tx, &entry).await?;
        tx.commit().await?;
        Ok(())
    }

    pub(crate) fn system_entry(
        &self,
        tenant: TenantId,
        action: &str,
        target: &str,
        details: Value,
    ) -> AuditEntry {
        let id = self.ids.next();
        AuditEntry {
            id,
            tenant,
            at: self.clock.now(),
            actor: "system".to_owned(),
            actor_tenant: None,
            action: action.to_owned(),
            target: target.to_owned(),
            outcome: AuditOutcome::Success,
            request_id: format!(
                "job-{}",
                sha256_hex(&[id.to_string().as_bytes()]).get(..12).unwrap_or_default()
            ),
            details,
        }
    }
}

/// An error with all its causes, on one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
